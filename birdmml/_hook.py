"""What `import birdmml` adds to importing: a name that `datasets.load_dataset` knows, and last release's module names.

Neither imports anything before it is used.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

TARGET = "datasets.load"
# Old dotted name -> where it is now. For one release: what a documented program of 0.1 imports goes on working.
MOVED = {
    "birdmml.checkpoint": "birdmml.models.checkpoint",
    "birdmml.corrupt": "birdmml.media.corrupt",
    "birdmml.interop": "birdmml.bench",
    "birdmml.interop.mteb": "birdmml.bench.mteb",
    "birdmml.nn": "birdmml.models",
    "birdmml.nn.heads": "birdmml.models.heads",
    "birdmml.nn.losses": "birdmml.models.losses",
    "birdmml.nn.presets": "birdmml.models.presets",
    "birdmml.nn.read": "birdmml.models.read",
    "birdmml.prepared": "birdmml.evalsets.read",
    "birdmml.train": "birdmml.models.train",
}


def install(modules: dict[str, ModuleType], meta_path: list[Any]) -> None:
    """Patch `datasets.load` now if it is loaded, else as soon as it is; and let the old names of modules be found."""
    if not any(isinstance(f, _Moved) for f in meta_path):
        # First: a package under its old name would find its files again, as second copies.
        meta_path.insert(0, _Moved())
    if (loaded := modules.get(TARGET)) is not None:
        _patch(loaded)
    elif not any(isinstance(f, _DatasetsFinder) for f in meta_path):
        meta_path.insert(0, _DatasetsFinder())


def _patch(module: ModuleType) -> None:
    from birdmml import load

    load.install_name(module)


class _DatasetsFinder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; lets the others find `datasets.load` and adds one step behind its loading."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and (loader := spec.loader) is not None:
            run = loader.exec_module

            def run_and_patch(module: ModuleType) -> None:
                run(module)
                _patch(module)

            # On this one loader, not a loader around it: `importlib.resources` and `inspect` ask the real one.
            loader.exec_module = run_and_patch  # type: ignore[method-assign]  # of this one loader alone
        return spec


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Puts the module of today under its old name of MOVED, and under no other; both names are one module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, MOVED[module.__name__]
        warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, stacklevel=2)
        # The import statement hands out what stands in sys.modules after this.
        sys.modules[old] = importlib.import_module(new)
