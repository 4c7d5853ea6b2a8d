"""Places where a decoder can be taken up again later without anything read before.

zlib's state cannot be stored, but at the start of a block it is no more than the last 32 KiB put out. So a point is a
start of a block not far back, the window before it, and the compressed bytes from there on.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from birdmml.salvage.blocks import STEP, WINDOW, Start, candidates, joined, primed

STRIDE = 4096  # Compressed bytes decoded at a time where the output is only compared or thrown away.
WITNESS = 512  # Compressed bytes that a point must have to be checked by.


@dataclass(frozen=True)
class Fed:
    """Compressed bytes [N], and the decoders and windows as they were before them."""

    raw: bytes
    decoders: tuple[Any, ...]
    windows: tuple[bytes, ...]


@dataclass(frozen=True)
class Point:
    """`tail` begins with the byte that holds the block's start at `bit`; one window (32 KiB) for each decoder.

    `certain` counts the bytes put out last that do not depend on what is lost. No windows: nothing is compressed.
    """

    bit: int
    stored: bool
    tail: bytes
    windows: tuple[bytes, ...]
    certain: int


def opened(point: Point) -> tuple[list[Any], int]:
    """Decoders about to read the point's tail, and the bits that belong in front of it."""
    pairs = [primed(Start(point.bit, point.stored), window) for window in point.windows]
    return [decoder for decoder, _ in pairs], pairs[0][1]


def slid(decoder: Any, raw: bytes, window: bytes) -> bytes:
    """The window after `decoder`, whose window it is, has read `raw`."""
    for i in range(0, len(raw), STRIDE):
        window = (window + decoder.decompress(raw[i : i + STRIDE])[-WINDOW:])[-WINDOW:]
    return window


def capture(fed: Sequence[Fed], decoders: int, certain: int) -> Point | None:
    """The last block start in what was fed from which all `decoders` can go on; None when there is none."""
    raw = b"".join(f.raw for f in fed)
    for low in range((len(raw) - 1) // STEP * STEP, -1, -STEP):
        stretch = raw[low : low + STEP + 2048]
        for start in reversed(list(candidates(stretch, min(STEP, len(stretch)), low))):
            if start.bit // 8 > len(raw) - WITNESS:
                continue
            points = [_try(fed, raw, start, i) for i in range(decoders)]
            windows = tuple(w for w in points if w is not None)
            if len(windows) == decoders:
                return Point(start.bit % 8, start.stored, raw[start.bit // 8 :], windows, certain)
    return None


def _try(fed: Sequence[Fed], raw: bytes, start: Start, number: int) -> bytes | None:
    """The window before `start` if a block of decoder `number` begins there, else None.

    A copy of the decoder is given an empty last block in place of what begins at `start`. It must then be done,
    and what it has put out is all that comes before. A decoder taken up from there must agree with the real one.
    """
    at, base = start.bit // 8, 0
    for origin in fed:
        if at < base + len(origin.raw):
            break
        base += len(origin.raw)
    ending = b"\0\0\xff\xff\x03\0"  # No bytes in this stored block, and the last block, empty.
    if not start.stored:
        bit = start.bit % 8
        ending = (raw[at] & ((1 << bit) - 1) | 3 << bit).to_bytes(3, "little")
    real, ended = origin.decoders[number].copy(), origin.decoders[number].copy()
    try:
        early = real.decompress(raw[base:at])
        before = ended.decompress(raw[base:at] + ending)
        if not ended.eof:
            return None
        window = (origin.windows[number] + before[-WINDOW:])[-WINDOW:]
        agree = _agree(real, early, before, start, window, raw[at:])
    except zlib.error:
        return None
    return window if agree else None


def _agree(real: Any, early: bytes, before: bytes, start: Start, window: bytes, tail: bytes) -> bool:
    """Whether the real decoder puts out the same bytes as one that begins at `start`."""
    fresh, lead = primed(start, window)
    led = joined(tail, start.bit % 8, lead)
    one, other = b"", before[len(early) :]
    for i in range(0, len(tail), STRIDE):
        one += real.decompress(tail[i : i + STRIDE])
        other += fresh.decompress(led[i : i + STRIDE])
        n = min(len(one), len(other))
        if one[:n] != other[:n]:
            return False
        one, other = one[n:], other[n:]
    return one == other
