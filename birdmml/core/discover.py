"""A file with a CARD in a plug-in folder is a plug-in: its name is the file's, its summary the docstring's first line.

Listing reads the files without importing them; only the chosen one is loaded. A method may also be a file of
the user's own, named by its path: `--method path/to/my_method.py`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from birdmml.core.files import PACKAGE
from birdmml.errors import UnknownName, UsageError, nearest

FOLDERS = {
    "source": "sources",
    "method": "models/methods",
    "suite": "bench/suites",
    "evaluation set": "evalsets",
    "captioner": "dataset/captioners",
}
# Other spellings in use: VB100 is "VE100" on the poster.
ALIASES = {"evaluation set": {"ve100": "vb100"}}
# What makes a file of such a folder a plug-in: licence, citation and modalities of what it offers.
CARD = re.compile(r"^CARD\b", re.MULTILINE)
GUIDE = "see docs/method.md"
_MODEL_PARTS = ("loss", "embed", "pairs", "score")


@functools.cache
def _plugins(kind: str) -> dict[str, Path]:
    """name -> the file of each plug-in of a kind: one of its folder, or a folder's __init__, with a CARD at its top."""
    folder = PACKAGE / FOLDERS[kind]
    files = {path.stem: path for path in folder.glob("*.py")} | {p.parent.name: p for p in folder.glob("*/__init__.py")}
    return {name: path for name, path in sorted(files.items()) if CARD.search(path.read_text(encoding="utf-8"))}


def names(kind: str) -> tuple[str, ...]:
    """The plug-ins of one kind (a key of FOLDERS), sorted."""
    return tuple(_plugins(kind))


def summary(kind: str, name: str) -> str:
    """The first docstring line of a plug-in, read without importing it."""
    text = _plugins(kind)[name].read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def is_file(kind: str, name: str) -> bool:
    """Whether the name is the path of a user's own file, which methods may be."""
    return kind == "method" and name.strip().endswith(".py")


def canonical(kind: str, name: str) -> str:
    """The plug-in's file name for what a user typed (`tri-clip`, `Tri_CLIP`), or the path of the user's own file.

    Raises UnknownName, or UsageError for a path where no file is.
    """
    if is_file(kind, name):
        path = Path(name.strip())
        if path.is_file():
            return path.as_posix()
        beside = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        near = f"; beside it there are {', '.join(nearest(path.name, beside))}" if beside else ""
        raise UsageError(f"no file {path}{near}: give the path of a method's file, or a name of `birdmml list`")
    key = name.strip().casefold().replace("-", "_")
    key = ALIASES.get(kind, {}).get(key, key)
    if key not in names(kind):
        spelled = [n.replace("_", "-") if kind == "suite" else n for n in names(kind)]
        raise UnknownName(kind, name, spelled, hint="see `birdmml list`")
    return key


def load(kind: str, name: str) -> ModuleType:
    """Import the one plug-in asked for; raises UnknownName with the nearest names.

    A user's own file is run as it is now. Raises UsageError where it cannot be, or lacks a part of the contract.
    """
    key = canonical(kind, name)
    if is_file(kind, key):
        return run_file(Path(key), _check, GUIDE)
    return importlib.import_module(f"birdmml.{FOLDERS[kind].replace('/', '.')}.{key}")


def label(name: str) -> str:
    """What results call a plug-in: its name, or the user's file without its folders."""
    return Path(name).name if name.endswith(".py") else name


def origin(module: ModuleType) -> dict[str, str] | None:
    """{"path", "sha256"} of the user's own file that a module was made from; None for birdmml's own."""
    source: dict[str, str] | None = getattr(module, "_birdmml_origin", None)
    return source


def run_file(path: Path, check: Callable[[ModuleType, Path], None], guide: str) -> ModuleType:
    """Run a user's own file, which they name for that, and let `check` look for the parts of its contract.

    Raises UsageError, one line that ends with `guide`, where it cannot be run or what `check` raises.
    """
    try:
        content = path.read_bytes()
    except OSError as e:
        raise UsageError(f"{path} cannot be read ({e.strerror or e})") from e
    sha256 = hashlib.sha256(content).hexdigest()
    # Known by place and content: the same file is run once, a changed one anew, and an equal one elsewhere says where.
    name = f"birdmml_own_{hashlib.sha256(str(path).encode() + content).hexdigest()[:16]}.{path.stem}"
    if name not in sys.modules:
        module = ModuleType(name, None)
        module.__file__ = str(path)
        module.__dict__["_birdmml_origin"] = {"path": path.as_posix(), "sha256": sha256}
        sys.modules[name] = module  # dataclasses look their own module up
        try:
            try:
                # The user names this file to be run, as `python file.py` does.
                exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # named by the user
            except (Exception, SystemExit) as e:  # Anything may go wrong in a user's file.
                raise UsageError(f"{path} cannot be imported ({error_line(e, path)}); {guide}") from e
            check(module, path)
        except BaseException:  # Whatever stops it, a half-made module must not stay; raised again.
            del sys.modules[name]
            raise
    return sys.modules[name]


def error_line(error: BaseException, path: Path) -> str:
    """An error of a user's file in one line, with the line of that file: "line 3: ValueError: ..."."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f"line {line}: " if line else ""
    return where + " ".join(f"{type(error).__name__}: {error}".split())


def _check(module: ModuleType, path: Path) -> None:
    missing = [part for part in ("CARD", "Config", "Model") if not hasattr(module, part)]
    if missing:
        raise UsageError(f"{path} has no {', no '.join(missing)}: a method needs CARD, Config and Model; {GUIDE}")
    if not (isinstance(module.Config, type) and dataclasses.is_dataclass(module.Config)):
        raise UsageError(f"{path}: Config is no dataclass: put @dataclass(frozen=True) above it; {GUIDE}")
    try:
        module.Config()
    except (TypeError, ValueError) as e:
        raise UsageError(f"{path}: every field of Config needs a default ({e}); {GUIDE}") from e
    lacking = [part for part in _MODEL_PARTS if not callable(getattr(module.Model, part, None))]
    if lacking:
        raise UsageError(f"{path}: Model has no {', no '.join(lacking)}; {GUIDE}")
    if "same" not in inspect.signature(module.Model.loss).parameters:
        raise UsageError(f"{path}: Model.loss lacks the argument same=None, the rows of one species; {GUIDE}")
