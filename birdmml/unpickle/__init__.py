"""Pickles from strangers: arrays and plain containers come out, nothing else is looked up, imported or called.

Twice guarded. First every opcode is read without running any: a global that is no part of a numpy array is refused
by its name, and so are opcodes that make objects, jumps in the memo and files that end early. Then the pickle is
loaded, but the few names that numpy writes are answered by stand-ins, which check a shape against the bytes
that are there; numpy's own unpickling code never runs.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.errors import EvalsetError
from birdmml.unpickle.scan import Unfit, plain, scan
from birdmml.unpickle.stand_ins import Budget, Plain, Unpickler


@dataclass(frozen=True)
class Limits:
    """What a pickle may cost: its bytes, the bytes of all its arrays together, opcodes, levels of containers."""

    file_bytes: int = 16 << 30
    array_bytes: int = 16 << 30
    opcodes: int = 5_000_000
    depth: int = 12


LIMITS = Limits()


def load(path: Path, limits: Limits = LIMITS) -> Any:
    """dicts, lists, tuples, strings, numbers and numpy arrays of a pickle file (protocols 0 to 5).

    Strings of Python 2 are read as Latin-1. Arrays are read-only views of the file's bytes; arrays of objects hold
    strings and numbers only. Raises EvalsetError, in one line, for anything else.
    """
    try:
        with path.open("rb") as f:
            _check_size(f.seek(0, 2), limits)
            with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as view:
                scan(view, limits.opcodes)
                view.seek(0)
                return _load(view, limits)
    except OSError as e:
        raise EvalsetError(
            f"{path} cannot be read ({e.strerror or e}): name the pickle that was downloaded"
        ) from e
    except Unfit as e:
        raise EvalsetError(f"{path} {e}: it was not loaded; get the file from its publisher again") from e


def _load(view: mmap.mmap, limits: Limits) -> Any:
    try:
        return Plain(limits.depth).of(Unpickler(view, Budget(limits.array_bytes)).load())
    except Unfit:
        raise
    except Exception as e:  # a made-up opcode sequence may fail in any way; it is told in one line
        raise Unfit(f"cannot be loaded ({type(e).__name__}: {plain(str(e))})") from e


def _check_size(size: int, limits: Limits) -> None:
    if not size:
        raise Unfit("has no bytes")
    if size > limits.file_bytes:
        have, most = files.human_bytes(size), files.human_bytes(limits.file_bytes)
        raise Unfit(f"has {have}, more than the {most} that are read")
