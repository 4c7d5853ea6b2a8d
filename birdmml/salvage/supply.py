"""Where the parts of one archive come from, and in which order.

`split` names its pieces aa, ab, ... (or 00, 01, ... with -d), so a gap in the names is a missing part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from birdmml.errors import SourceError, UsageError
from birdmml.salvage.names import shown

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
        stems.add((match["stem"], match["tail"].isdigit()))
        i = _index(match["tail"])
        if i in placed:
            raise UsageError(f"{path} and {placed[i]} are both part {match['tail']}: name each part once")
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


def _index(tail: str) -> int:
    return int(tail) if tail.isdigit() else 26 * (ord(tail[0]) - 97) + ord(tail[1]) - 97


def _name(placed: dict[int, Path], i: int) -> str:
    """What the missing part number `i` is called."""
    match = ENDING.match(next(iter(placed.values())).name)
    if not match:
        return f"part {i}"
    tail = match["tail"]
    i += int(tail) - next(iter(placed)) if tail.isdigit() else 0
    return match["stem"] + (f"{i:0{len(tail)}d}" if tail.isdigit() else chr(97 + i // 26) + chr(97 + i % 26))
