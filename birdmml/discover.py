"""A file in a plug-in folder is a plug-in: its name is the file's, its summary the docstring's first line.

Listing reads the files without importing them; only the chosen one is loaded.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from birdmml.errors import UnknownName

FOLDERS = {
    "source": "sources",
    "method": "methods",
    "suite": "suites",
    "evaluation set": "evalsets",
}


def names(kind: str) -> tuple[str, ...]:
    """The plug-ins of one kind (a key of FOLDERS), sorted."""
    folder = Path(__file__).parent / FOLDERS[kind]
    return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))


def summary(kind: str, name: str) -> str:
    """The first docstring line of a plug-in, read without importing it."""
    text = (Path(__file__).parent / FOLDERS[kind] / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def canonical(kind: str, name: str) -> str:
    """The plug-in's file name for what a user typed (`tri-clip`, `Tri_CLIP`); raises UnknownName."""
    key = name.strip().casefold().replace("-", "_")
    if key not in names(kind):
        known = [n.replace("_", "-") if kind == "suite" else n for n in names(kind)]
        raise UnknownName(kind, name, known, hint="see `birdmml list`")
    return key


def load(kind: str, name: str) -> ModuleType:
    """Import the one plug-in asked for; raises UnknownName with the nearest names."""
    return importlib.import_module(f"birdmml.{FOLDERS[kind]}.{canonical(kind, name)}")
