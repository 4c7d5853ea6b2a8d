"""Pickles from strangers: arrays and plain containers come out, nothing else is looked up, imported or called.

Twice guarded. First every opcode is read without running any: a global that is no part of a numpy array is refused
by its name, and so are opcodes that make objects, jumps in the memo and files that end early. Then the pickle is
loaded, but the few names that numpy writes are answered by stand-ins, which check a shape against the bytes
that are there; numpy's own unpickling code never runs.
"""

from __future__ import annotations

import math
import mmap
import pickle
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from birdmml.core import files
from birdmml.errors import EvalsetError

# Every opcode of protocols 0 to 5, but for those that look up persistent ids and extensions, make instances, use
# buffers from elsewhere, or make sets.
OPCODES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 NONE NEWTRUE NEWFALSE UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT EMPTY_LIST "
    "APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS POP DUP MARK "
    "POP_MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD PROTO FRAME "
    "STOP".split()
)
_BY_CODE = {op.code.encode("latin1"): op for op in pickletools.opcodes}
_TEXTS = frozenset("SHORT_BINUNICODE BINUNICODE BINUNICODE8 UNICODE".split())
_PUTS = frozenset("PUT BINPUT LONG_BINPUT".split())
_GETS = frozenset("GET BINGET LONG_BINGET".split())
_SILENT = frozenset("PROTO FRAME".split())
_LOOKUPS = frozenset("GLOBAL INST".split())
# numpy 1 and 2, Python 2 and 3 spell the same few things differently.
_MODULES = ("numpy.core", "numpy._core")
NAMES = {
    **{(f"{m}.multiarray", n): n for m in _MODULES for n in ("_reconstruct", "scalar")},
    **{(f"{m}.numeric", "_frombuffer"): "_frombuffer" for m in _MODULES},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{(m, "bytes"): "bytes" for m in ("__builtin__", "builtins")},
}


_KINDS = "biufSUO"
_LONGEST_TEXT = 4096


class UnsafePickle(Exception):
    """Why a pickle is not taken."""


def scan(view: mmap.mmap, most: int) -> None:
    """Read all opcodes, at most `most`, without running one; raises Unfit naming what arrays do not need."""
    try:
        for n, (name, argument, at) in enumerate(_globals(_opcodes(view))):
            if n >= most:
                raise UnsafePickle(f"has more than {most:,} opcodes")
            if name in _LOOKUPS and argument not in NAMES:
                raise UnsafePickle(f"asks for {plain('.'.join(argument))} (byte {at:,}), which is no part of an array")
            if name not in OPCODES:
                raise UnsafePickle(f"uses the opcode {name} (byte {at:,}), which arrays do not need")
    except (ValueError, OverflowError, MemoryError, UnicodeError, IndexError) as e:
        raise UnsafePickle(f"is damaged or no pickle ({plain(str(e) or type(e).__name__)})") from e
    if rest := len(view) - view.tell():
        raise UnsafePickle(f"goes on for {rest:,} bytes behind its end")


def plain(text: str) -> str:
    """A stranger's words, fit for one line of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:120])


def _opcodes(view: mmap.mmap) -> Iterator[tuple[str, Any, int]]:
    """(opcode, argument, place) up to STOP, by the readers of pickletools; raises ValueError where there is no opcode.

    `pickletools.genops` itself takes Python 2's strings for ASCII, and so fails on arrays in protocol 0.
    """
    while True:
        place, code = view.tell(), view.read(1)
        op = _BY_CODE.get(code)
        if op is None:
            raise ValueError(f"no opcode at byte {place:,}" if code else "it ends early")
        if op.name == "STRING":
            if not view.readline().endswith(b"\n"):
                raise ValueError("it ends early")
            yield op.name, None, place
        else:
            # The readers want no more of a file than a map of it has.
            yield op.name, op.arg.reader(cast(IO[bytes], view)) if op.arg else None, place
        if op.name == "STOP":
            return


def _globals(ops: Iterator[Any]) -> Iterator[tuple[str, Any, int]]:
    """(opcode, argument, place); STACK_GLOBAL becomes a GLOBAL, whose two names must be the texts just pushed."""
    memo: dict[int, str | None] = {}
    pushed: list[str | None] = [None, None]
    for n, (name, argument, place) in enumerate(ops):
        if name == "MEMOIZE":
            memo[len(memo)] = pushed[-1]
        elif name in _PUTS:
            # The loader's memo is as long as its largest index.
            if not 0 <= int(argument) <= n + 1:
                raise UnsafePickle(f"puts memo entry {argument} after {n:,} opcodes, which only wastes memory")
            memo[int(argument)] = pushed[-1]
        elif name == "STACK_GLOBAL":
            if pushed[-2] is None or pushed[-1] is None:
                raise UnsafePickle(f"computes a global's name while it is loaded (byte {place:,})")
            name, argument = "GLOBAL", (pushed[-2], pushed[-1])
            pushed = [None, None]
        elif name not in _SILENT:
            text = argument if name in _TEXTS else memo.get(int(argument)) if name in _GETS else None
            pushed = [pushed[-1], text]
            if name in _LOOKUPS:
                argument = tuple(argument.split(" ", 1))
        yield name, argument, place


class Unpickler(pickle.Unpickler):
    """Answers the names of `NAMES` with stand-ins made for this one load, and no other name."""

    def __init__(self, view: mmap.mmap, budget: ArrayBudget) -> None:
        super().__init__(view, encoding="latin1")
        self._stand_ins: dict[str, Any] = {
            "ndarray": _Named(_ndarray),
            "_reconstruct": _Named(lambda *_: _Array(budget)),
            "_frombuffer": _Named(lambda *args: _from_buffer(budget, *args)),
            "scalar": _Named(_scalar),
            "dtype": _Named(_DType),
            "encode": _Named(_encode),
            "bytes": _Named(_bytes),
        }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name that numpy writes; raises for every other."""
        if (module, name) not in NAMES:
            raise UnsafePickle(f"asks for {plain(f'{module}.{name}')}, which is no part of an array")
        return self._stand_ins[NAMES[module, name]]


class _Named:
    """What a global stands for: it can be called, and nothing about it can be set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise UnsafePickle("sets the state of a name, which numpy never writes")


def _ndarray(*_: Any) -> NoReturn:
    raise UnsafePickle("makes an array in a way that numpy never writes")


@dataclass
class ArrayBudget:
    """Bytes that arrays may still take; shared data count each time."""

    left: int

    def take(self, n: int) -> None:
        """Count `n` bytes; raises Unfit where too few are left."""
        self.left -= n
        if self.left < 0:
            raise UnsafePickle("holds more bytes of arrays than are read")


class _DType:
    """Stands in for numpy.dtype: a code such as "f8" or "U12", and in its state nothing but the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or len(text) > 16:
            raise UnsafePickle("holds a dtype that is no plain number or text")
        kind, size = text.lstrip("<>|=")[:1], text.lstrip("<>|=")[1:]
        if kind not in tuple(_KINDS) or not size.isdecimal():
            raise UnsafePickle(f"holds the dtype {text!r}, which is no plain number or text")
        self.dtype = np.dtype(text)
        if self.dtype.itemsize > 4 * _LONGEST_TEXT:
            raise UnsafePickle(f"holds the dtype {text!r}, longer than any name")

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subdtype, names, fields, item size, alignment, flags): the middle is for structures.
        if not isinstance(state, tuple) or not 6 <= len(state) <= 9 or any(x is not None for x in state[2:5]):
            raise UnsafePickle("holds a dtype with fields, which no array of this kind needs")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or state[5] not in (-1, self.dtype.itemsize):
            raise UnsafePickle("holds a dtype whose state does not fit it")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array:
    """Stands in for an array until its state comes: (version, shape, dtype, Fortran order, data)."""

    __slots__ = ("_budget", "value")

    def __init__(self, budget: ArrayBudget) -> None:
        self._budget = budget
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise UnsafePickle("holds an array whose state is not numpy's")
        shape, dtype, fortran, data = state[-4:]
        self.value = _array(self._budget, shape, dtype, bool(fortran), data)


def _array(budget: ArrayBudget, shape: Any, dtype: Any, fortran: bool, data: Any) -> NDArray[Any]:
    """An array from its parts; raises Unfit unless they fit each other exactly."""
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or len(shape) > 8:
        raise UnsafePickle("holds an array without a plain dtype and shape")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise UnsafePickle(f"holds an array of the shape {str(shape)[:60]}")
    count, wanted = math.prod(shape), dtype.dtype
    flat: NDArray[Any]
    if wanted.kind == "O":
        budget.take(8 * count)
        if not isinstance(data, list) or len(data) != count:
            raise UnsafePickle(f"holds an array of objects of the shape {shape} without as many objects")
        if any(not isinstance(value, str | bytes | int | float | np.generic | None) for value in data):
            raise UnsafePickle("holds an array of objects that are no strings or numbers")
        flat = np.empty(count, dtype=object)
        for i, value in enumerate(data):  # One by one: given the list, numpy would look into its values.
            flat[i] = value
    else:
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, bytes | bytearray) or len(raw) != count * wanted.itemsize:
            have = len(raw) if isinstance(raw, bytes | bytearray) else 0
            raise UnsafePickle(f"holds an array of the shape {shape} and type {wanted} with {have:,} bytes of data")
        budget.take(len(raw))
        flat = np.frombuffer(raw, dtype=wanted) if raw else np.zeros(count, wanted)
        flat.flags.writeable = False
    return flat.reshape(shape, order="F" if fortran else "C")


def _from_buffer(budget: ArrayBudget, data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    array = _Array(budget)
    array.value = _array(budget, shape, dtype, order == "F", data)
    return array


def _scalar(dtype: Any, data: Any = b"", *_: Any) -> Any:
    if not isinstance(dtype, _DType) or dtype.dtype.kind == "O":
        raise UnsafePickle("holds a numpy scalar that is no number or text")
    return _array(ArrayBudget(_LONGEST_TEXT * 4), (), dtype, False, data)[()]


def _bytes(*args: Any) -> bytes:
    # How Python 3 writes b"" in the protocols of Python 2.
    if args:
        raise UnsafePickle("makes bytes in a way that no array does")
    return b""


def _encode(text: Any, encoding: Any = "", *_: Any) -> bytes:
    # How Python 3 writes bytes in the protocols of Python 2.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickle("encodes text as no array does")
    return text.encode("latin1")


class StandInRemover:
    """Takes the stand-ins out of what was loaded: each object once, no deeper than the limit, no circles."""

    def __init__(self, depth: int) -> None:
        self._depth, self._done = depth, dict[int, Any]()

    def of(self, value: Any, depth: int = 0) -> Any:
        """`value` with arrays in the place of their stand-ins."""
        if isinstance(value, _Array):
            if value.value is None:
                raise UnsafePickle("holds an array without data")
            return value.value
        if isinstance(value, dict | list | tuple):
            if depth >= self._depth:
                raise UnsafePickle(f"nests more than {self._depth} levels deep")
            if id(value) not in self._done:
                if isinstance(value, dict):
                    if any(not isinstance(key, str | int) for key in value):
                        raise UnsafePickle("has a dictionary with keys that are no text or number")
                    inner: Any = {key: self.of(item, depth + 1) for key, item in value.items()}
                else:
                    inner = type(value)(self.of(item, depth + 1) for item in value)
                self._done[id(value)] = inner
            return self._done[id(value)]
        if value is None or isinstance(value, str | bytes | bytearray | bool | int | float | np.generic):
            return value
        raise UnsafePickle("holds something that is no array, container, text or number")


@dataclass(frozen=True)
class PickleLimits:
    """What a pickle may cost: its bytes, the bytes of all its arrays together, opcodes, levels of containers."""

    file_bytes: int = 16 << 30
    array_bytes: int = 16 << 30
    opcodes: int = 5_000_000
    depth: int = 12


LIMITS = PickleLimits()


def load(path: Path, limits: PickleLimits = LIMITS) -> Any:
    """dicts, lists, tuples, strings, numbers and numpy arrays of a pickle file (protocols 0 to 5).

    Strings of Python 2 are read as Latin-1. Arrays are read-only views of the file's bytes; arrays of objects hold
    strings and numbers only. Raises EvalsetError, in one line, for anything else.
    """
    try:
        with path.open("rb") as f:
            if not (size := f.seek(0, 2)):
                raise UnsafePickle("has no bytes")
            if size > limits.file_bytes:
                have, most = files.human_bytes(size), files.human_bytes(limits.file_bytes)
                raise UnsafePickle(f"has {have}, more than the {most} that are read")
            with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as view:
                scan(view, limits.opcodes)
                view.seek(0)
                return StandInRemover(limits.depth).of(Unpickler(view, ArrayBudget(limits.array_bytes)).load())
    except OSError as e:
        raise EvalsetError(f"{path} cannot be read ({e.strerror or e}): name the pickle that was downloaded") from e
    except UnsafePickle as e:
        raise EvalsetError(f"{path} {e}: it was not loaded; get the file from its publisher again") from e
    except Exception as e:  # A made-up sequence of opcodes may fail in any way: it is reported in one line.
        reason = f"cannot be loaded ({type(e).__name__}: {plain(str(e))})"
        raise EvalsetError(f"{path} {reason}: it was not loaded; get the file from its publisher again") from e
