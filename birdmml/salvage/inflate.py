"""Raw inflate over a run of parts, from any bit, with an exact account of which output bytes are certain.

Deflate's parse depends on the bits alone, never on the bytes it has put out. So each output byte is either a
literal or, through any number of copies, one byte of the unknown 32 KiB window at a place that does not depend on
what stands there. Decoding twice, with windows that differ at *every* place, therefore decides: a byte that is equal
in both is certain, one that differs came from what is lost. Two such windows (all 0x00, all 0xFF) leave no room
for coincidence. Once 32 KiB in a row are certain, no copy can reach further back and one decoder goes on alone.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.salvage.blocks import WINDOW, ZEROS, Start, joined
from birdmml.salvage.parts import CHUNK, Run
from birdmml.salvage.points import Fed, Point, capture, opened, slid

TAIL = 256 * 1024  # Compressed bytes remembered to find a block in: several of the longest that zlib writes.
ONES = b"\xff" * WINDOW


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

    def __init__(self, run: Run, start: Start, window_known: bool = False) -> None:
        self.run, self.offset = run, start.bit // 8
        self.broken = self.finished = False
        self.least = start.bit + 1  # From here a search goes on that is not to find the same start again.
        windows: tuple[bytes, ...] = (b"",) if window_known else (ZEROS, ONES)
        self._origin: Point | None = Point(start.bit % 8, start.stored, b"", windows, 0)
        self._decoders, self._lead = opened(self._origin)
        self._windows = windows
        self._certain = 0
        self._fed: deque[Fed] = deque()
        self._remembered = 0

    @classmethod
    def resumed(cls, run: Run, point: Point) -> Inflater:
        """Where an earlier one had read its parts to the end; the run begins with the part behind them."""
        self = cls(run, Start(0), window_known=True)
        self.least = 0
        self._origin = Point(point.bit, point.stored, b"", point.windows, 0)
        self._decoders, lead = opened(point)
        self._windows, self._certain, self._lead = point.windows, point.certain, -1
        tail = joined(point.tail, point.bit, lead)
        for at in range(0, len(tail), CHUNK):
            raw = tail[at : at + CHUNK]
            self._remember(Fed(raw, tuple(d.copy() for d in self._decoders), self._windows))
            self._windows = tuple(slid(d, raw, w) for d, w in zip(self._decoders, self._windows, strict=True))
        return self

    @property
    def bit(self) -> int:
        """Bit offset in the run up to which the input was used."""
        return 8 * self.offset

    @property
    def sure(self) -> bool:
        """Whether nothing that follows can depend on what is lost."""
        return len(self._decoders) == 1

    def point(self) -> Point | None:
        """Where to take this up again without what was read so far; None when no block begins close enough."""
        if self._origin is not None:
            raw = b"".join(f.raw for f in self._fed)
            first = self._origin
            return Point(first.bit, first.stored, raw, first.windows[: len(self._decoders)], self._certain)
        return capture(list(self._fed), len(self._decoders), self._certain)

    def __iter__(self) -> Iterator[Piece]:
        while not (self.finished or self.broken):
            raw = self.run.chunk(self.offset)
            if not raw:
                return
            if self._lead >= 0:
                raw, self._lead = joined(raw, self._bit_of_first(), self._lead), -1
            before, windows = [d.copy() for d in self._decoders], self._windows
            try:
                piece = self._step(raw)
                self._remember(Fed(raw, tuple(before), windows))
            except zlib.error:
                self._decoders = before
                piece = self._to_the_error(raw)
            if piece.data:
                yield piece

    def _bit_of_first(self) -> int:
        return self._origin.bit if self._origin else 0

    def _remember(self, fed: Fed) -> None:
        self._fed.append(fed)
        self._remembered += len(fed.raw)
        while self._remembered - len(self._fed[0].raw) >= TAIL:
            self._remembered -= len(self._fed.popleft().raw)
            self._origin = None

    def _step(self, raw: bytes) -> Piece:
        outs = [d.decompress(raw) for d in self._decoders]
        decoder, first = self._decoders[0], outs[0]
        self._windows = tuple(
            (w + out[-WINDOW:])[-WINDOW:] for w, out in zip(self._windows, outs, strict=True)
        )
        self.offset += len(raw) - len(decoder.unused_data)
        self.finished = decoder.eof
        if len(outs) == 1:
            return Piece(first)
        doubt = np.frombuffer(first, np.uint8) != np.frombuffer(outs[1], np.uint8)
        last = np.flatnonzero(doubt)[-1:]
        self._certain = len(first) - 1 - int(last[0]) if last.size else self._certain + len(first)
        if self._certain >= WINDOW:
            del self._decoders[1:]
            self._windows = self._windows[:1]
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


class Plain:
    """The same for a tar that is not compressed: the bytes as they are."""

    broken = finished = False
    sure = True

    def __init__(self, run: Run, offset: int = 0) -> None:
        self.run, self.offset = run, offset
        self.least = 8 * offset + 1

    @property
    def bit(self) -> int:
        """Bit offset in the run up to which the input was used."""
        return 8 * self.offset

    def point(self) -> Point:
        """Nothing needs to be known to go on."""
        return Point(0, False, b"", (), 0)

    def __iter__(self) -> Iterator[Piece]:
        while raw := self.run.chunk(self.offset):
            self.offset += len(raw)
            yield Piece(raw)
