"""Raw inflate over a run of parts, from any bit, with an exact account of which output bytes are certain.

Deflate's parse depends on the bits alone, never on the bytes it has put out. So each output byte is either a
literal or, through any number of copies, one byte of the unknown 32 KiB window at a place that does not depend on
what stands there. Decoding twice, with windows that differ at *every* place, therefore decides: a byte that is equal
in both is certain, one that differs came from what is lost. Two such windows (all 0x00, all 0xFF) leave no room
for coincidence. Once 32 KiB in a row are certain, no copy can reach further back and one decoder goes on alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.salvage.blocks import WINDOW, Start, joined, primed
from birdmml.salvage.parts import Run

CHUNK = 32 * 1024  # Compressed bytes a step; deflate's best ratio (1032) bounds what comes out of one.


@dataclass(frozen=True)
class Piece:
    """Decoded bytes, and [N] True where a byte depends on what is lost (None: nowhere)."""

    data: bytes
    doubt: NDArray[np.bool_] | None = None


class Inflater:
    """Iterate over the pieces from `start`; the window before it is unknown, or empty for a stream's beginning.

    Afterwards `broken` says that the bits made no sense at `bit`, `finished` that the stream ended just before
    byte `offset`, neither that the run was read to its end.
    """

    def __init__(self, run: Run, start: Start, known: bool = False) -> None:
        self.run, self.start = run, start
        self.offset = start.bit // 8
        self.broken = self.finished = False
        self._lead = 0
        self._decoders: list[Any] = [zlib.decompressobj(-15)]
        if not known:
            (one, self._lead), (other, _) = primed(start, 0), primed(start, 255)
            self._decoders = [one, other]
        self._certain = 0

    @property
    def bit(self) -> int:
        """Bit offset in the run up to which the input was used."""
        return 8 * self.offset

    def __iter__(self) -> Iterator[Piece]:
        while not (self.finished or self.broken):
            raw = self.run.read(self.offset, CHUNK)
            if not raw:
                return
            if self.offset == self.start.bit // 8:
                raw = joined(raw, self.start.bit % 8, self._lead)
            before = [d.copy() for d in self._decoders]
            try:
                piece = self._step(raw)
            except zlib.error:
                self._decoders = before
                piece = self._to_the_error(raw)
            if piece.data:
                yield piece

    def _step(self, raw: bytes) -> Piece:
        first, *others = (d.decompress(raw) for d in self._decoders)
        decoder = self._decoders[0]
        self.offset += len(raw) - len(decoder.unused_data)
        self.finished = decoder.eof
        if not others:
            return Piece(first)
        doubt = np.frombuffer(first, np.uint8) != np.frombuffer(others[0], np.uint8)
        last = np.flatnonzero(doubt)[-1:]
        self._certain = len(first) - 1 - int(last[0]) if last.size else self._certain + len(first)
        if self._certain >= WINDOW:
            del self._decoders[1:]
        return Piece(first, doubt if last.size else None)

    def _to_the_error(self, raw: bytes) -> Piece:
        """Byte by byte, so that nothing before the error is lost."""
        pieces = []
        try:
            for i in range(len(raw)):
                pieces.append(self._step(raw[i : i + 1]))
        except zlib.error:
            self.broken = True
        doubts = [np.zeros(len(p.data), np.bool_) if p.doubt is None else p.doubt for p in pieces]
        doubt = np.concatenate([np.zeros(0, np.bool_), *doubts])
        return Piece(b"".join(p.data for p in pieces), doubt if doubt.any() else None)


def gzip_header(data: bytes) -> int | None:
    """Length of the gzip header (RFC 1952) that `data` begins with; None when it is none."""
    if data[:3] != b"\x1f\x8b\x08" or len(data) < 10 or data[3] & 0xE0:
        return None
    flags, at = data[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            at = data.find(b"\0", at) + 1
            if at == 0:
                return None
    at += 2 if flags & 2 else 0
    return at if at <= len(data) else None
