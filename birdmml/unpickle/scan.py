"""First look at a pickle: every opcode is read, none is run."""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Iterator
from typing import IO, Any, cast

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


class Unfit(Exception):
    """Why a pickle is not taken."""


def scan(view: mmap.mmap, most: int) -> None:
    """Read all opcodes, at most `most`, without running one; raises Unfit naming what arrays do not need."""
    try:
        for n, (name, argument, at) in enumerate(_globals(_opcodes(view))):
            if n >= most:
                raise Unfit(f"has more than {most:,} opcodes")
            if name in _LOOKUPS and argument not in NAMES:
                raise Unfit(
                    f"asks for {plain('.'.join(argument))} (byte {at:,}), which is no part of an array"
                )
            if name not in OPCODES:
                raise Unfit(f"uses the opcode {name} (byte {at:,}), which arrays do not need")
    except (ValueError, OverflowError, MemoryError, UnicodeError, IndexError) as e:
        raise Unfit(f"is damaged or no pickle ({plain(str(e) or type(e).__name__)})") from e
    if rest := len(view) - view.tell():
        raise Unfit(f"goes on for {rest:,} bytes behind its end")


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
                raise Unfit(f"puts memo entry {argument} after {n:,} opcodes, which only wastes memory")
            memo[int(argument)] = pushed[-1]
        elif name == "STACK_GLOBAL":
            if pushed[-2] is None or pushed[-1] is None:
                raise Unfit(f"computes a global's name while it is loaded (byte {place:,})")
            name, argument = "GLOBAL", (pushed[-2], pushed[-1])
            pushed = [None, None]
        elif name not in _SILENT:
            text = argument if name in _TEXTS else memo.get(int(argument)) if name in _GETS else None
            pushed = [pushed[-1], text]
            if name in _LOOKUPS:
                argument = tuple(argument.split(" ", 1))
        yield name, argument, place
