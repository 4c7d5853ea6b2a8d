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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.fetch.salvage.parts import CHUNK, PartRun

WINDOW = 32768
ZEROS, ONES = bytes(WINDOW), b"\xff" * WINDOW
STEP = 64 * 1024  # Bytes looked at in one go; a real stream has a block every 10-60 KB.
PROOF = 128 * 1024  # Compressed bytes that must decode before a start is believed: longer than zlib's blocks.
SHORTEST_STORED = 1024
STRIDE = 4096  # Compressed bytes decoded at a time where the output is only compared or thrown away.
WITNESS = 512  # Compressed bytes that a point must have to be checked by.
TAIL = 256 * 1024  # Compressed bytes remembered to find a block in: several of the longest that zlib writes.
HEADER = 1 << 16  # Bytes looked at for a gzip header; names and comments in it have no limit of their own.
# A dynamic block without data, in the order of the stream: its header (HLIT 0, HDIST 1, HCLEN 14), the code for the
# lengths (symbols 1 and 18 get one bit each), 138 + 118 zeros, ones for "end" and two distances, and "end" itself.
EMPTY_ODD = "00100000100000111" + "000000100" + "000" * 14 + "100" + "11111111" + "11101011" + "000" + "0"

# Kraft sums, in 128ths, of four 3-bit code lengths at once; length 0 means "not used".
_LENGTHS = (np.arange(4096)[:, None] >> (3 * np.arange(4))) & 7
_KRAFT = np.where(_LENGTHS > 0, 128 >> _LENGTHS, 0).sum(axis=1).astype(np.int32)


@dataclass(frozen=True)
class Start:
    """Bit offset of a block in its run; of a stored block, the offset of its length field."""

    bit: int
    stored: bool = False


def primed(start: Start, window: bytes) -> tuple[Any, int]:
    """A decoder about to read `start` with these bytes before it (up to 32 KiB), and a few bits.

    The input is not shifted, since stored blocks end on the archive's own byte edges. Instead empty blocks lead up
    to the place within the byte: fixed ones (ten bits each) and, for odd places, a dynamic one (91 bits). The bits
    returned belong in front of it, see `joined`.
    """
    decoder = zlib.decompressobj(-15, zdict=window)
    if start.stored:
        decoder.decompress(b"\0")  # The block's header and padding, which end on this byte's edge.
        return decoder, 0
    bit, empty = start.bit % 8, "0100000000"
    bits = EMPTY_ODD if bit % 2 else ""
    while len(bits) % 8 != bit:
        bits += empty
    value, bytes_before = int(bits[::-1] or "0", 2), len(bits) // 8
    decoder.decompress((value & ((1 << 8 * bytes_before) - 1)).to_bytes(bytes_before, "little"))
    return decoder, value >> 8 * bytes_before


def joined(raw: bytes, bit: int, lead: int) -> bytes:
    """`raw` with the first `bit` bits of its first byte replaced by `lead`."""
    return bytes([raw[0] >> bit << bit | lead]) + raw[1:] if raw and bit else raw


def dynamic_headers(data: bytes, positions: int) -> NDArray[np.int64]:
    """Bit offsets below 8 * `positions` where a dynamic, non-final block could start, ascending.

    It opens (RFC 1951, 3.2.7) with BFINAL, BTYPE = 10, HLIT, HDIST, HCLEN and the lengths of the code length code,
    which must form a complete prefix code: Kraft's sum is one. That check runs over all bit offsets at once.
    `data` should go on for ten bytes behind the last position; what lies behind its end counts as zero.
    """
    x = np.frombuffer(data + bytes(24), np.uint8)
    n = positions + 11
    words = np.zeros(n, np.uint64)
    for i in range(8):
        words |= x[i : i + n].astype(np.uint64) << np.uint64(8 * i)
    low = words[:positions].astype(np.uint32)  # 17 + 7 bits are all that the first look needs
    starts = []
    for bit in range(8):
        v = low >> np.uint32(bit)
        ok = ((v & 7) == 4) & ((v & 0xF0) != 0xF0) & ((v & 0x1E00) != 0x1E00)
        starts.append(np.flatnonzero(ok) * 8 + bit)
    at = np.concatenate(starts)
    first = at + 17
    lengths = words[first >> 3] >> (first & 7).astype(np.uint64)
    used = ((low[at >> 3] >> (at & 7).astype(np.uint32)) >> 13 & 15).astype(np.uint64) + np.uint64(4)
    lengths &= (np.uint64(1) << (np.uint64(3) * used)) - np.uint64(1)
    total = sum(_KRAFT[(lengths >> np.uint64(12 * i)) & np.uint64(4095)] for i in range(5))
    return np.sort(at[total == 128])


def stored_headers(data: bytes, positions: int) -> NDArray[np.int64]:
    """Byte offsets below `positions` of a length of at least 1 KiB that is followed by its complement."""
    x = np.frombuffer(data + bytes(4), np.uint8)[: positions + 3].astype(np.uint16)
    pairs = x[:-1] | (x[1:] << np.uint16(8))
    return np.flatnonzero(((pairs[:-2] ^ pairs[2:]) == 0xFFFF) & (pairs[:-2] >= SHORTEST_STORED))


def search(run: PartRun, bit: int) -> Start | None:
    """The first place at or behind `bit` where the run can be picked up; None when there is none."""
    offset = bit // 8
    while data := run.read(offset, STEP + 16):
        for start in candidates(data, min(STEP, len(data)), offset):
            if start.bit >= bit and decodes(run, start):
                return start
        offset += STEP
    return None


def candidates(data: bytes, positions: int, offset: int = 0) -> Iterator[Start]:
    """Places in the first `positions` bytes that look like a block, ascending; `data` begins at byte `offset`."""
    dynamic = [(int(b), False) for b in dynamic_headers(data, positions)]
    stored = [(8 * int(b), True) for b in stored_headers(data, positions)]
    for bit, is_stored in sorted(dynamic + stored):
        if is_stored or _opens(data, bit):
            yield Start(8 * offset + bit, is_stored)


def _opens(data: bytes, bit: int) -> bool:
    """Whether zlib accepts the first symbols: nearly every false start ends here."""
    try:
        decoder, lead = primed(Start(bit), ZEROS)
        decoder.decompress(joined(data[bit // 8 : bit // 8 + 1024], bit % 8, lead))
    except zlib.error:
        return False
    return True


def decodes(run: PartRun, start: Start) -> bool:
    """Whether the run decodes from `start` for a long stretch, or to its end."""
    decoder, lead = primed(start, ZEROS)
    offset = first = start.bit // 8
    if start.stored:
        head = run.read(offset, 2)
        following = offset + 4 + int.from_bytes(head, "little")
        if len(run.read(following, 8)) < 8:
            return False  # No second header to confirm it, and 16 bits alone prove little.
    end = offset + PROOF
    try:
        while offset < end and (raw := run.read(offset, 8192)):
            decoder.decompress(joined(raw, start.bit % 8, lead) if offset == first else raw)
            offset += len(raw)
            if decoder.eof:
                # An end is believed where the archive ends, eight bytes of trailer on, or another stream begins.
                behind = run.read(offset - len(decoder.unused_data), 8 + HEADER)
                return len(behind) <= 16 or gzip_header(behind[8:]) is not None
    except zlib.error:
        return False
    return True


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


@dataclass(frozen=True)
class Fed:
    """Compressed bytes [N], and the decoders and windows as they were before them."""

    raw: bytes
    decoders: tuple[Any, ...]
    windows: tuple[bytes, ...]


@dataclass(frozen=True)
class ResumePoint:
    """Where a decoder can be taken up again: at the start of a block, with the last 32 KiB put out before it.

    zlib's whole state cannot be stored; there it is no more than that. `tail` begins with the byte that holds the
    block's start at `bit`; one window (32 KiB) for each decoder. `certain` counts the bytes put out last that do not
    depend on what is lost. No windows: nothing is compressed.
    """

    bit: int
    stored: bool
    tail: bytes
    windows: tuple[bytes, ...]
    certain: int


def opened(point: ResumePoint) -> tuple[list[Any], int]:
    """Decoders about to read the point's tail, and the bits that belong in front of it."""
    pairs = [primed(Start(point.bit, point.stored), window) for window in point.windows]
    return [decoder for decoder, _ in pairs], pairs[0][1]


def capture(fed: Sequence[Fed], decoders: int, certain: int) -> ResumePoint | None:
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
                return ResumePoint(start.bit % 8, start.stored, raw[start.bit // 8 :], windows, certain)
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


@dataclass(frozen=True)
class Piece:
    """Decoded bytes, and [N] True where a byte depends on what is lost (None: nowhere)."""

    data: bytes
    doubt: NDArray[np.bool_] | None = None


class Inflater:
    """Iterate over the pieces from `start`; the window before it is unknown, or empty for a stream's beginning.

    Afterwards `broken` says that the bits made no sense at byte `offset`, `finished` that the stream ended just before
    byte `offset`, neither that the run was read to its end.
    """

    def __init__(self, run: PartRun, start: Start, window_known: bool = False) -> None:
        self.run, self.offset = run, start.bit // 8
        self.broken = self.finished = False
        self.least = start.bit + 1  # From here a search goes on that is not to find the same start again.
        windows: tuple[bytes, ...] = (b"",) if window_known else (ZEROS, ONES)
        self._origin: ResumePoint | None = ResumePoint(start.bit % 8, start.stored, b"", windows, 0)
        self._decoders, self._lead = opened(self._origin)
        self._windows = windows
        self._certain = 0
        self._fed: deque[Fed] = deque()
        self._remembered = 0

    @classmethod
    def resumed(cls, run: PartRun, point: ResumePoint) -> Inflater:
        """Where an earlier one had read its parts to the end; the run begins with the part behind them."""
        self = cls(run, Start(0), window_known=True)
        self.least = 0
        self._origin = ResumePoint(point.bit, point.stored, b"", point.windows, 0)
        self._decoders, lead = opened(point)
        self._windows, self._certain, self._lead = point.windows, point.certain, -1
        tail = joined(point.tail, point.bit, lead)
        for at in range(0, len(tail), CHUNK):
            raw = tail[at : at + CHUNK]
            self._remember(Fed(raw, tuple(d.copy() for d in self._decoders), self._windows))
            # In short strides: 16 KiB of a bomb unpack to 16 MiB, of which only the last window is wanted.
            for i in range(0, len(raw), STRIDE):
                self._slide([d.decompress(raw[i : i + STRIDE]) for d in self._decoders])
        return self

    @property
    def sure(self) -> bool:
        """Whether nothing that follows can depend on what is lost."""
        return len(self._decoders) == 1

    def point(self) -> ResumePoint | None:
        """Where to take this up again without what was read so far; None when no block begins close enough."""
        if self._origin is not None:
            raw = b"".join(f.raw for f in self._fed)
            first = self._origin
            return ResumePoint(first.bit, first.stored, raw, first.windows[: len(self._decoders)], self._certain)
        return capture(list(self._fed), len(self._decoders), self._certain)

    def __iter__(self) -> Iterator[Piece]:
        while not (self.finished or self.broken):
            raw = self.run.chunk(self.offset)
            if not raw:
                return
            if self._lead >= 0:
                raw, self._lead = joined(raw, self._origin.bit if self._origin else 0, self._lead), -1
            before, windows = [d.copy() for d in self._decoders], self._windows
            try:
                piece = self._step(raw)
                self._remember(Fed(raw, tuple(before), windows))
            except zlib.error:
                self._decoders = before
                piece = self._to_the_error(raw)
            if piece.data:
                yield piece

    def _remember(self, fed: Fed) -> None:
        self._fed.append(fed)
        self._remembered += len(fed.raw)
        while self._remembered - len(self._fed[0].raw) >= TAIL:
            self._remembered -= len(self._fed.popleft().raw)
            self._origin = None

    def _slide(self, outs: list[bytes]) -> None:
        self._windows = tuple((w + out[-WINDOW:])[-WINDOW:] for w, out in zip(self._windows, outs, strict=True))

    def _step(self, raw: bytes) -> Piece:
        outs = [d.decompress(raw) for d in self._decoders]
        decoder, first = self._decoders[0], outs[0]
        self._slide(outs)
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


class PlainTar:
    """The same for a tar that is not compressed: the bytes as they are."""

    broken = finished = False
    sure = True
    least = 0

    def __init__(self, run: PartRun, offset: int = 0) -> None:
        self.run, self.offset = run, offset

    def point(self) -> ResumePoint:
        """Nothing needs to be known to go on."""
        return ResumePoint(0, False, b"", (), 0)

    def __iter__(self) -> Iterator[Piece]:
        while raw := self.run.chunk(self.offset):
            self.offset += len(raw)
            yield Piece(raw)
