"""Parts in their order, the holes between them, and reading across them; each is asked for when reading reaches it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from birdmml.errors import SourceError
from birdmml.salvage.supply import Sized, Supply, common_size

CHUNK = 16 * 1024  # Compressed bytes a step; deflate's best ratio (1032) bounds what comes out of one.


@dataclass(frozen=True)
class Head:
    """The beginning of a part that was read before, kept so that the part need not come again; its whole size."""

    data: bytes
    size: int


@dataclass(frozen=True)
class Gap:
    """What lies between two runs: `kind` is "missing" or "truncated", `parts` names the files."""

    kind: str
    parts: tuple[str, ...]


class Part:
    """One part of the archive; one that begins with a kept head is asked for only when more of it is read."""

    def __init__(self, parts: Parts, index: int, path: Path | None, head: Head | None = None) -> None:
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


class Parts:
    """What a supply gives, part by part, and what of it is still held.

    `until` is the last part that matters: when it is missing, too, no further one is asked for.
    """

    def __init__(self, supply: Supply) -> None:
        self.supply = supply
        self.last = self.until = len(supply.names) - 1
        self.gave_up = False  # Whether `until` was missing.
        self.heads: dict[int, Head] = {}
        self.sizes: dict[int, int] = {}
        self._asked: dict[int, Part | None] = {}

    def part(self, index: int) -> Part | None:
        """The part, or None when it cannot be had (or is empty); asked for once until it is released."""
        if index not in self._asked:
            head = self.heads.get(index)
            path = None if head else self.supply.get(index)
            part = Part(self, index, path, head) if head or path else None
            self._asked[index] = part if part and part.size else None
            if part and part.size:
                self.sizes[index] = part.size
        return self._asked[index]

    def short(self, part: Part) -> bool:
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

    def entries(self, first: int) -> Iterator[Run | Gap]:
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
            run = Run(self, part)
            yield run
            index = run.parts[-1].index + 1
            if self.short(run.parts[-1]):
                yield Gap("truncated", (self.supply.names[index - 1],))
        if gone:
            yield Gap("missing", tuple(gone))


class Run:
    """Present parts that follow one another, read as one file; offsets count from its first byte."""

    def __init__(self, parts: Parts, first: Part) -> None:
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

    def place(self, offset: int) -> tuple[Part, int]:
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
