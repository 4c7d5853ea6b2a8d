"""What stands in for the names that numpy writes into a pickle; numpy's own unpickling code never runs."""

from __future__ import annotations

import math
import mmap
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from birdmml.unpickle.scan import NAMES, Unfit, plain

_KINDS = "biufSUO"
_LONGEST_TEXT = 4096


class Unpickler(pickle.Unpickler):
    """Answers the names of `NAMES` with stand-ins made for this one load, and no other name."""

    def __init__(self, view: mmap.mmap, budget: Budget) -> None:
        super().__init__(view, encoding="latin1")
        self._stand_ins: dict[str, Any] = {
            "ndarray": _Named(_no_call),
            "_reconstruct": _Named(lambda *_: _Array(budget)),
            "_frombuffer": _Named(lambda *args: _from_buffer(budget, *args)),
            "scalar": _Named(lambda *args: _scalar(*args)),
            "dtype": _Named(lambda *args: _DType(*args)),
            "encode": _Named(_encode),
            "bytes": _Named(_no_bytes),
        }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name that numpy writes; raises for every other."""
        if (module, name) not in NAMES:
            raise Unfit(f"asks for {plain(f'{module}.{name}')}, which is no part of an array")
        return self._stand_ins[NAMES[module, name]]


class _Named:
    """What a global stands for: it can be called, and nothing about it can be set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise Unfit("sets the state of a name, which numpy never writes")


def _no_call(*_: Any) -> NoReturn:
    raise Unfit("makes an array in a way that numpy never writes")


@dataclass
class Budget:
    """Bytes that arrays may still take; shared data count each time."""

    left: int

    def take(self, n: int) -> None:
        """Count `n` bytes; raises Unfit where too few are left."""
        self.left -= n
        if self.left < 0:
            raise Unfit("holds more bytes of arrays than are read")


class _DType:
    """Stands in for numpy.dtype: a code such as "f8" or "U12", and in its state nothing but the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or len(text) > 16:
            raise Unfit("holds a dtype that is no plain number or text")
        self.dtype = self._known(text)

    @staticmethod
    def _known(text: str) -> np.dtype[Any]:
        if not (text.lstrip("<>|=")[:1] in tuple(_KINDS) and text.lstrip("<>|=")[1:].isdecimal()):
            raise Unfit(f"holds the dtype {text!r}, which is no plain number or text")
        dtype = np.dtype(text)
        if dtype.itemsize > 4 * _LONGEST_TEXT:
            raise Unfit(f"holds the dtype {text!r}, longer than any name")
        return dtype

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subdtype, names, fields, item size, alignment, flags): the middle is for structures.
        if not isinstance(state, tuple) or not 6 <= len(state) <= 9 or any(x is not None for x in state[2:5]):
            raise Unfit("holds a dtype with fields, which no array of this kind needs")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or state[5] not in (-1, self.dtype.itemsize):
            raise Unfit("holds a dtype whose state does not fit it")
        if order == "<":
            self.dtype = self.dtype.newbyteorder("<")
        elif order == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """Stands in for an array until its state comes: (version, shape, dtype, Fortran order, data)."""

    __slots__ = ("_budget", "value")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Unfit("holds an array whose state is not numpy's")
        shape, dtype, fortran, data = state[-4:]
        self.value = _array(self._budget, shape, dtype, "F" if fortran else "C", data)


def _array(budget: Budget, shape: Any, dtype: Any, order: str, data: Any) -> NDArray[Any]:
    """An array from its parts; raises Unfit unless they fit each other exactly."""
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or len(shape) > 8:
        raise Unfit("holds an array without a plain dtype and shape")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise Unfit(f"holds an array of the shape {str(shape)[:60]}")
    count, wanted = math.prod(shape), dtype.dtype
    if wanted.kind == "O":
        budget.take(8 * count)
        return _objects(shape, count, order, data)
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray) or len(raw) != count * wanted.itemsize:
        have = len(raw) if isinstance(raw, bytes | bytearray) else 0
        raise Unfit(f"holds an array of the shape {shape} and type {wanted} with {have:,} bytes of data")
    budget.take(len(raw))
    flat: NDArray[Any] = np.frombuffer(raw, dtype=wanted) if raw else np.zeros(count, wanted)
    flat.flags.writeable = False
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _objects(shape: tuple[int, ...], count: int, order: str, data: Any) -> NDArray[Any]:
    """An array of strings and numbers that was written object by object."""
    if not isinstance(data, list) or len(data) != count:
        raise Unfit(f"holds an array of objects of the shape {shape} without as many objects")
    out = np.empty(count, dtype=object)
    for i, value in enumerate(data):
        if not isinstance(value, str | bytes | int | float | np.generic | None):
            raise Unfit("holds an array of objects that are no strings or numbers")
        out[i] = value
    return out.reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(budget: Budget, data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    array = _Array(budget)
    array.value = _array(budget, shape, dtype, "F" if order == "F" else "C", data)
    return array


def _scalar(dtype: Any, data: Any = b"", *_: Any) -> Any:
    if not isinstance(dtype, _DType) or dtype.dtype.kind == "O":
        raise Unfit("holds a numpy scalar that is no number or text")
    return _array(Budget(_LONGEST_TEXT * 4), (), dtype, "C", data)[()]


def _no_bytes(*args: Any) -> bytes:
    # How Python 3 writes b"" in the protocols of Python 2.
    if args:
        raise Unfit("makes bytes in a way that no array does")
    return b""


def _encode(text: Any, encoding: Any = "", *_: Any) -> bytes:
    # How Python 3 writes bytes in the protocols of Python 2.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Unfit("encodes text as no array does")
    return text.encode("latin1")


class Plain:
    """Takes the stand-ins out of what was loaded: each object once, no deeper than the limit, no circles."""

    def __init__(self, depth: int) -> None:
        self._depth, self._done = depth, dict[int, Any]()

    def of(self, value: Any, depth: int = 0) -> Any:
        """`value` with arrays in the place of their stand-ins."""
        if isinstance(value, _Array):
            if value.value is None:
                raise Unfit("holds an array without data")
            return value.value
        if isinstance(value, dict | list | tuple):
            if depth >= self._depth:
                raise Unfit(f"nests more than {self._depth} levels deep")
            if id(value) not in self._done:
                self._done[id(value)] = self._container(value, depth + 1)
            return self._done[id(value)]
        if value is None or isinstance(value, str | bytes | bytearray | bool | int | float | np.generic):
            return value
        raise Unfit("holds something that is no array, container, text or number")

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            if any(not isinstance(key, str | int) for key in value):
                raise Unfit("has a dictionary with keys that are no text or number")
            return {key: self.of(inner, depth) for key, inner in value.items()}
        items = [self.of(inner, depth) for inner in value]
        return items if isinstance(value, list) else tuple(items)
