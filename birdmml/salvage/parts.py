"""The parts of one split archive: their order, the holes between them, and reading across them.

`split` names its pieces aa, ab, ... (or 00, 01, ... with -d), so a gap in the names is a missing part. It also
cuts pieces of one size: when most have it, a smaller one that is not the last has lost its end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdmml.errors import SourceError, UsageError

ENDING = re.compile(r"(?P<stem>.*?)(?P<tail>[a-z]{2}|\d{2,})$")


@dataclass(frozen=True)
class Part:
    """One file, its place in the archive, and its size in bytes."""

    path: Path
    index: int
    size: int


@dataclass(frozen=True)
class Gap:
    """What lies between two runs: `kind` is "missing" or "truncated", `parts` names the files."""

    kind: str
    parts: tuple[str, ...]


class Run:
    """Present parts that follow one another, read as one file; offsets count from its first byte."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.size = sum(p.size for p in parts)
        self.at_start = parts[0].index == 0
        self._starts = [sum(p.size for p in parts[:i]) for i in range(len(parts))]

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer at the end. Raises SourceError when a part cannot be read."""
        pieces = []
        for part, start in zip(self.parts, self._starts, strict=True):
            low, high = max(offset, start), min(offset + size, start + part.size)
            if low < high:
                pieces.append(_read(part.path, low - start, high - low))
        return b"".join(pieces)

    def where(self, offset: int) -> tuple[str, int]:
        """The name of the part that holds byte `offset`, and the offset in it."""
        for part, start in zip(reversed(self.parts), reversed(self._starts), strict=True):
            if offset >= start:
                return part.path.name, offset - start
        raise ValueError(f"offset {offset} lies before the run")


def plan(paths: Sequence[Path]) -> list[Run | Gap]:
    """Runs and gaps in the order of the archive.

    A path that is not there is a missing part. Raises UsageError for names that give no order or belong to
    different archives, SourceError when no part is there at all.
    """
    placed = _place(paths)
    present = {i: Part(p, i, p.stat().st_size) for i, p in placed.items() if p.is_file()}
    present = {i: p for i, p in present.items() if p.size}
    if not present:
        raise SourceError(f"none of the {len(paths)} parts is there, or all are empty: check the paths")
    full, last = _full_size(list(present.values())), max(placed)
    entries: list[Run | Gap] = []
    run: list[Part] = []
    gone: list[str] = []
    for i in range(last + 1):
        if i not in present:
            run = _close(run, entries)
            gone.append(placed[i].name if i in placed else _name(placed, i))
            continue
        if gone:
            entries.append(Gap("missing", tuple(gone)))
            gone = []
        run.append(present[i])
        if present[i].size < full and i != last:
            run = _close(run, entries)
            entries.append(Gap("truncated", (present[i].path.name,)))
    _close(run, entries)
    if gone:
        entries.append(Gap("missing", tuple(gone)))
    return entries


def _close(run: list[Part], entries: list[Run | Gap]) -> list[Part]:
    if run:
        entries.append(Run(run))
    return []


def _place(paths: Sequence[Path]) -> dict[int, Path]:
    alone = paths[0] if len(paths) == 1 else None
    if alone and (not ENDING.match(alone.name) or alone.name.endswith(("gz", "tar")) or _opens(alone)):
        return {0: alone}
    placed: dict[int, Path] = {}
    stems = set()
    for path in paths:
        found = ENDING.match(path.name)
        if not found:
            raise UsageError(f"{path.name}: a part's name ends in aa, ab, ... or 00, 01, ...: rename it")
        stems.add((found["stem"], found["tail"].isdigit()))
        i = _index(found["tail"])
        if i in placed:
            raise UsageError(f"{path} and {placed[i]} are both part {found['tail']}: name each part once")
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
    """Whether the file begins as a gzip stream does."""
    return path.is_file() and path.stat().st_size > 3 and _read(path, 0, 3) == b"\x1f\x8b\x08"


def _index(tail: str) -> int:
    return int(tail) if tail.isdigit() else 26 * (ord(tail[0]) - 97) + ord(tail[1]) - 97


def _name(placed: dict[int, Path], i: int) -> str:
    """What the missing part number `i` is called."""
    found = ENDING.match(next(iter(placed.values())).name)
    if not found:
        return f"part {i}"
    tail = found["tail"]
    i += int(tail) - next(iter(placed)) if tail.isdigit() else 0
    return found["stem"] + (f"{i:0{len(tail)}d}" if tail.isdigit() else chr(97 + i // 26) + chr(97 + i % 26))


def _full_size(parts: Sequence[Part]) -> int:
    """The size that most parts share, 0 when none is that common."""
    size, n = Counter(p.size for p in parts).most_common(1)[0]
    return size if n >= 2 and 2 * n >= len(parts) else 0


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
