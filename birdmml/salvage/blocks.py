"""Where a deflate stream can be picked up: the search for the start of a block, bit by bit.

A dynamic block (RFC 1951, 3.2.7) opens with BFINAL, BTYPE = 10, HLIT, HDIST, HCLEN and the lengths of the code
length code, which must form a complete prefix code (Kraft's sum is one). That check runs over all bit offsets at
once; what passes is tried with zlib. Stored blocks are found by their length and its complement.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.salvage.parts import Run

WINDOW = 32768
ZEROS = bytes(WINDOW)
STEP = 64 * 1024  # Bytes looked at in one go; a real stream has a block every 10-60 KB.
PROOF = 128 * 1024  # Compressed bytes that must decode before a start is believed: longer than zlib's blocks.
SHORTEST_STORED = 1024
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


def search(run: Run, bit: int) -> Start | None:
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


def decodes(run: Run, start: Start) -> bool:
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
