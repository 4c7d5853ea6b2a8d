"""Parts in their order, the holes between them, and reading across them; each is asked for when reading reaches it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from birdmml.errors import SourceError, UsageError
from birdmml.fetch.salvage.account import shown

CHUNK = 16 * 1024  # Compressed bytes a step; deflate's best ratio (1032) bounds what comes out of one.
# `split` names its pieces aa, ab, ... (or 00, 01, ... with -d), so a gap in the names is a missing part.
ENDING = re.compile(r"(?P<stem>.*?)(?P<tail>[a-z]{2}|\d{2,})$")


class Supply(Protocol):
    """A folder, or a downloader that fetches on demand."""

    @property
    def names(self) -> tuple[str, ...]:
        """All parts in the archive's order, those that are missing included."""

    def get(self, index: int) -> Path | None:
        """The part as a file, once it is there and verified; None when it cannot be had: a hole."""

    def release(self, index: int) -> None:
        """It is not needed any more, unless asked for again; it may be said of parts that are not there."""


@runtime_checkable
class Sized(Protocol):
    """A supply that knows how large its parts must be."""

    def expected_size(self, index: int) -> int | None:
        """Bytes of the part when it is whole, if known: a shorter one has lost its end."""


class Files:
    """Parts that lie on the disk. Most of one size, they were cut by `split`: a smaller one has lost its end.

    A path that is not there is a missing part, and so is a place that the names leave out. Raises UsageError for
    names that give no order or belong to different archives, SourceError when no part is there at all.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise UsageError("no parts are named: name the parts of one archive")
        self._placed = _place(paths)
        sizes = {i: p.stat().st_size for i, p in self._placed.items() if p.is_file()}
        self._sizes = {i: n for i, n in sizes.items() if n}
        if not self._sizes:
            raise SourceError(f"none of the {len(paths)} parts is there, or all are empty: check the paths")
        self._full = common_size(list(self._sizes.values()))
        self.names = tuple(
            shown(self._placed[i].name if i in self._placed else _name(self._placed, i))
            for i in range(max(self._placed) + 1)
        )
        self.total = sum(self._sizes.values())

    def get(self, index: int) -> Path | None:
        """The part's path if it is there and not empty."""
        return self._placed[index] if index in self._sizes else None

    def release(self, index: int) -> None:
        """The files are the user's: they stay."""

    def expected_size(self, index: int) -> int | None:
        """What the other parts measure; None for the last, which may be shorter."""
        return self._full if self._full and index < len(self.names) - 1 else None


def common_size(sizes: Sequence[int]) -> int:
    """The size that most parts share, 0 when none is that common."""
    size, n = Counter(sizes).most_common(1)[0]
    return size if n >= 2 and 2 * n >= len(sizes) else 0


def _place(paths: Sequence[Path]) -> dict[int, Path]:
    alone = paths[0] if len(paths) == 1 else None
    if alone and (not ENDING.match(alone.name) or alone.name.endswith(("gz", "tar")) or _opens(alone)):
        return {0: alone}
    placed: dict[int, Path] = {}
    stems = set()
    for path in paths:
        match = ENDING.match(path.name)
        if not match:
            raise UsageError(f"{path.name}: a part's name ends in aa, ab, ... or 00, 01, ...: rename it")
        tail = match["tail"]
        i = int(tail) if tail.isdigit() else 26 * (ord(tail[0]) - 97) + ord(tail[1]) - 97
        stems.add((match["stem"], tail.isdigit()))
        if i in placed:
            raise UsageError(f"{path} and {placed[i]} are both part {tail}: name each part once")
        placed[i] = path
    if min(placed) == 1 and all(digits for _, digits in stems) and _opens(placed[1]):
        placed = {i - 1: path for i, path in placed.items()}  # Counted from one.
    if len(stems) > 1:
        names = ", ".join(sorted(stem for stem, _ in stems)[:3])
        raise UsageError(f"parts of different archives ({names}): salvage one archive at a time")
    if max(placed) >= 26 * 26:
        raise UsageError(f"{placed[max(placed)].name}: more than {26 * 26} parts are not supported")
    return placed


def _opens(path: Path) -> bool:
    """Whether the file begins as a gzip stream or a tar does."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as f:
            head = f.read(512)
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e}): copy the part again") from e
    return len(head) > 3 and (head[:3] == b"\x1f\x8b\x08" or head[257:262] == b"ustar")


def _name(placed: dict[int, Path], i: int) -> str:
    """What the missing part number `i` is called."""
    match = ENDING.match(next(iter(placed.values())).name)
    if not match:
        return f"part {i}"
    tail = match["tail"]
    i += int(tail) - next(iter(placed)) if tail.isdigit() else 0
    return match["stem"] + (f"{i:0{len(tail)}d}" if tail.isdigit() else chr(97 + i // 26) + chr(97 + i % 26))


@dataclass(frozen=True)
class KeptHead:
    """The beginning of a part that was read before, kept so that the part need not come again; its whole size."""

    data: bytes
    size: int


@dataclass(frozen=True)
class Gap:
    """What lies between two runs: `kind` is "missing" or "truncated", `parts` names the files."""

    kind: str
    parts: tuple[str, ...]


class ArchivePart:
    """One part of the archive; one that begins with a kept head is asked for only when more of it is read."""

    def __init__(self, parts: ArchiveParts, index: int, path: Path | None, head: KeptHead | None = None) -> None:
        self.parts, self.index, self.path = parts, index, path
        self.head = head.data if head else b""
        self.size = head.size if head else _size(path)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset`, `size` of them. Raises SourceError when they cannot be read."""
        if offset + size <= len(self.head):
            return self.head[offset : offset + size]
        if self.path is None:
            self.path = self.parts.supply.get(self.index)
            if self.path is None or _size(self.path) != self.size:
                name = self.parts.supply.names[self.index]
                raise SourceError(f"{name} is needed once more and is not there as it was: get it again")
        return _read(self.path, offset, size)


class ArchiveParts:
    """What a supply gives, part by part, and what of it is still held.

    `until` is the last part that matters: when it is missing, too, no further one is asked for.
    """

    def __init__(self, supply: Supply, sizes: dict[int, int] | None = None) -> None:
        self.supply = supply
        self.last = self.until = len(supply.names) - 1
        self.gave_up = False  # Whether `until` was missing.
        self.heads: dict[int, KeptHead] = {}
        self.sizes = {} if sizes is None else sizes  # Of the parts seen, in earlier readings too.
        self._asked: dict[int, ArchivePart | None] = {}

    def part(self, index: int) -> ArchivePart | None:
        """The part, or None when it cannot be had (or is empty); asked for once until it is released."""
        if index not in self._asked:
            head = self.heads.get(index)
            path = None if head else self.supply.get(index)
            part = ArchivePart(self, index, path, head) if head or path else None
            self._asked[index] = part if part and part.size else None
            if part and part.size:
                self.sizes[index] = part.size
        return self._asked[index]

    def short(self, part: ArchivePart) -> bool:
        """Whether the part has lost its end."""
        if isinstance(self.supply, Sized):
            return part.size < (self.supply.expected_size(part.index) or 0)
        return part.index < self.last and part.size < common_size(list(self.sizes.values()))

    def release(self, upto: int) -> None:
        """Parts up to this index are not needed any more."""
        for index in sorted(i for i in self._asked if i <= upto):
            part = self._asked.pop(index)
            if part is not None and part.path is not None:
                self.supply.release(index)

    def entries(self, first: int) -> Iterator[PartRun | Gap]:
        """Runs and gaps from part `first` on; each run is to be read to its end before the next is asked for."""
        index, gone = first, list[str]()
        while index <= self.last:
            part = self.part(index)
            if part is None:
                gone.append(self.supply.names[index])
                index += 1
                if index > self.until:
                    self.gave_up = True
                    break
                continue
            if gone:
                yield Gap("missing", tuple(gone))
                gone = []
            run = PartRun(self, part)
            yield run
            index = run.parts[-1].index + 1
            if self.short(run.parts[-1]):
                yield Gap("truncated", (self.supply.names[index - 1],))
        if gone:
            yield Gap("missing", tuple(gone))


class PartRun:
    """Present parts that follow one another, read as one file; offsets count from its first byte."""

    def __init__(self, parts: ArchiveParts, first: ArchivePart) -> None:
        self._from, self.parts, self._starts = parts, [first], [0]
        self.size = first.size  # Of the parts seen so far.
        self.at_start = first.index == 0

    def _extend(self) -> bool:
        last = self.parts[-1]
        if last.index == self._from.last or self._from.short(last):
            return False
        part = self._from.part(last.index + 1)
        if part is None:
            return False
        self.parts.append(part)
        self._starts.append(self.size)
        self.size += part.size
        return True

    def _at(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    @property
    def last(self) -> bool:
        """Whether the archive's last part was reached."""
        return self.parts[-1].index == self._from.last

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer at the end. Raises SourceError when a part cannot be read."""
        while self.size < offset + size and self._extend():
            pass
        pieces = []
        first = self._at(offset)
        for part, start in zip(self.parts[first:], self._starts[first:], strict=True):
            low, high = max(offset, start), min(offset + size, start + part.size)
            if low < high:
                pieces.append(part.read(low - start, high - low))
        return b"".join(pieces)

    def chunk(self, offset: int) -> bytes:
        """The bytes up to the next multiple of CHUNK in the part, or its end; b"" at the run's end.

        So every reading stops at the same places, wherever it began.
        """
        if offset >= self.size and not self._extend():
            return b""
        part, start = self.parts[i := self._at(offset)], self._starts[i]
        local = offset - start
        return part.read(local, min(CHUNK - local % CHUNK, part.size - local))

    def where(self, offset: int) -> tuple[str, int]:
        """The name of the part that holds byte `offset`, and the offset in it."""
        if offset >= self.size:
            self._extend()
        i = self._at(offset)
        return self._from.supply.names[self.parts[i].index], offset - self._starts[i]

    def place(self, offset: int) -> tuple[ArchivePart, int]:
        """The part read up to just before byte `offset`, and how many of its bytes those are."""
        i = self._at(offset - 1)
        return self.parts[i], offset - self._starts[i]


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e}): copy the part again") from e


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as f:
            f.seek(offset)
            data = f.read(size)
    except OSError as e:
        raise SourceError(f"{path} cannot be read at byte {offset:,} ({e}): copy the part again") from e
    if len(data) != size:
        raise SourceError(f"{path} became shorter while it was read: let the download finish first")
    return data
