"""Makes "birdmml" a name that `datasets.load_dataset` knows, without importing `datasets` before it is used."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

TARGET = "datasets.load"


def install(modules: dict[str, ModuleType], meta_path: list[Any]) -> None:
    """Patch `datasets.load` now if it is loaded, else as soon as it is."""
    if (loaded := modules.get(TARGET)) is not None:
        _patch(loaded)
    elif not any(isinstance(f, _Finder) for f in meta_path):
        meta_path.insert(0, _Finder())


def _patch(module: ModuleType) -> None:
    from birdmml import load

    load.install_name(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; lets the others find `datasets.load` and adds one step behind its loading."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """The real loader, then the patch."""

    def __init__(self, inner: importlib.abc.Loader) -> None:
        self._inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        _patch(module)
