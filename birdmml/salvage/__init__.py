"""Everything that can be had from a split .tar.gz with parts missing, cut short or broken.

What is written is certain as far as it can be: bytes that depend on a hole are known (see `inflate`), a member counts
only with a sound header before it and the right thing behind it, and not when bits that make no sense follow closely.
What cannot be known: gzip has one checksum, at its very end. Flipped bits that still decode to the same number of
bytes (a literal for another, a distance) show only when the stream is whole, and then not where; with a hole they
never do. Compare the parts with published checksums where there are any. An archive within the archive that begins
behind a hole looks like members of it. Members far smaller than deflate's window of 32 KiB copy from one another, so
doubt behind a hole can last for many; they are counted as lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from birdmml.errors import SourceError
from birdmml.files import write_json
from birdmml.salvage.blocks import PROOF, Start, search
from birdmml.salvage.inflate import Inflater, Piece, gzip_header
from birdmml.salvage.parts import Gap, Run, plan
from birdmml.salvage.store import REPORT, Folder
from birdmml.salvage.store import Limits as Limits
from birdmml.salvage.tar import Reader

Progress = Callable[[str, int, int], None]


@dataclass
class Hole:
    """What was passed over: `kind` is missing, truncated or corrupt; `resumed` is None when nothing followed."""

    kind: str
    parts: tuple[str, ...]
    at: dict[str, Any] | None = None
    resumed: dict[str, Any] | None = None
    uncertain_bytes: int = 0


@dataclass
class Report:
    """What a salvage found; as JSON in salvage.json.

    `checksum` is "matches", "differs", or "unknown" (with a hole no one can tell).
    """

    counts: dict[str, int] = field(default_factory=dict)
    checksum: str = "unknown"
    reached_end: bool = False
    uncertain_bytes: int = 0
    holes: list[Hole] = field(default_factory=list)
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is lost, refused or in doubt."""
        return (
            self.reached_end and self.checksum == "matches" and not (self.holes or self.lost or self.refused)
        )


def salvage(
    parts: Sequence[Path],
    out: Path,
    limits: Limits | None = None,
    dry: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Read what can be read of the archive that `parts` were cut from, and write its whole members below `out`.

    A second run with more parts writes only what is not there. `dry` reads and reports, and writes nothing.
    Raises UsageError and SourceError when the parts make no archive, cannot be read, or `out` cannot be written.
    """
    entries = plan(parts)
    folder = Folder(out, limits or Limits(), dry)
    try:
        if not dry:
            out.mkdir(parents=True, exist_ok=True)
        work = _Salvage(entries, folder, progress)
        work.run()
        report = work.finish()
        if not dry:
            write_json(out / REPORT, {**asdict(report), "whole": report.whole})
        return report
    except OSError as e:
        raise SourceError(f"{out} cannot be written ({e}): mend that and run again, it goes on") from e
    finally:
        if not dry and out.is_dir():
            folder.close()


class _Salvage:
    """One pass over the runs and gaps."""

    def __init__(self, entries: Sequence[Run | Gap], folder: Folder, progress: Progress) -> None:
        self.entries, self.folder, self.progress = entries, folder, progress
        self.reader = Reader(folder)
        self.report = Report()
        self.total = sum(e.size for e in entries if isinstance(e, Run))
        self.done = 0
        self._crc, self._size = 0, 0
        self._member: int | None = None  # Where the next gzip member of the run begins, if one is known to.

    def run(self) -> None:
        for entry in self.entries:
            if isinstance(entry, Gap):
                self._hole(Hole(entry.kind, entry.parts), clean=True)
            else:
                self._read(entry)
                self.done += entry.size
            if self.folder.full:
                break
        self.reader.end(self.report.reached_end)

    def finish(self) -> Report:
        report, folder = self.report, self.folder
        report.uncertain_bytes = sum(h.uncertain_bytes for h in report.holes)
        report.members = {name: asdict(saved) for name, saved in folder.saved.items()}
        report.lost, report.refused = folder.lost_members, folder.refused
        names = ("complete", "recovered", "refused", "written", "already there")
        report.counts = {name: folder.counts[name] for name in names} | {"lost": len(report.lost)}
        return report

    def _hole(self, hole: Hole, clean: bool) -> None:
        self.report.holes.append(hole)
        self.report.checksum = "unknown"
        what = {"missing": "is missing", "truncated": "is cut short", "corrupt": "is broken"}[hole.kind]
        self.reader.gap(clean, f"{', '.join(hole.parts)} {what}")
        self.folder.behind_hole = True

    def _read(self, run: Run) -> None:
        bit = 0
        self._member = 0 if run.at_start else None
        while bit < 8 * run.size and not self.folder.full:
            if self._member is not None:
                bit = self._from_header(run, self._member)
                continue
            start = search(run, bit)
            if start is None:
                return
            hole = self.report.holes[-1]
            part, byte = run.where(start.bit // 8)
            hole.resumed = {"part": part, "byte": byte, "bit": start.bit % 8}
            bit = self._decode(run, Inflater(run, start), hole)

    def _from_header(self, run: Run, offset: int) -> int:
        self._member, self._crc, self._size = None, 0, 0
        header = gzip_header(run.read(offset, 1 << 16))
        if header is None:
            self._broken(run, offset)
            return 8 * offset
        return self._decode(run, Inflater(run, Start(8 * (offset + header)), known=True))

    def _decode(self, run: Run, inflater: Inflater, hole: Hole | None = None) -> int:
        """Read on until the stream ends or breaks; the bit from which to search for the next start."""
        headers, start = self.reader.headers, inflater.start.bit
        for piece in inflater:
            self._count(piece, hole)
            self.folder.position = self.done + inflater.offset
            sound = self.reader.feed(piece.data, piece.doubt)
            self.progress("salvage", self.done + inflater.offset, self.total)
            if self.folder.full:
                return 8 * run.size
            if not sound:
                self._broken(run, inflater.offset)
                return max(inflater.bit, start + 1)
        if inflater.broken:
            if hole is not None and self.reader.headers == headers and inflater.bit - start < 8 * PROOF:
                self.reader.gap(False, "")  # It was no start: the same hole goes on.
                hole.resumed, hole.uncertain_bytes = None, 0
                return start + 1
            self._broken(run, inflater.offset)
            return max(inflater.bit, start + 1)
        return self._ended(run, inflater) if inflater.finished else 8 * run.size

    def _count(self, piece: Piece, hole: Hole | None) -> None:
        if hole is None:
            self._crc, self._size = zlib.crc32(piece.data, self._crc), self._size + len(piece.data)
        elif piece.doubt is not None:
            hole.uncertain_bytes += int(piece.doubt.sum())

    def _ended(self, run: Run, inflater: Inflater) -> int:
        """The deflate stream is over: its trailer, then the archive's end or one more gzip member."""
        left = run.size - inflater.offset
        if not self.report.holes:
            trailer = self._crc.to_bytes(4, "little") + (self._size % 2**32).to_bytes(4, "little")
            sound = run.read(inflater.offset, 8) == trailer and self.report.checksum != "differs"
            self.report.checksum = "matches" if sound else "differs"
        if run is self.entries[-1] and left <= 8:
            self.report.reached_end = left >= 8
            return 8 * run.size
        if gzip_header(run.read(inflater.offset + 8, 1 << 16)):
            self._member = inflater.offset + 8
        else:
            self._broken(run, inflater.offset)
        return max(inflater.bit, inflater.start.bit + 1)

    def _broken(self, run: Run, offset: int) -> None:
        part, byte = run.where(offset)
        self._hole(Hole("corrupt", (part,), at={"part": part, "byte": byte}), clean=False)
        self.folder.distrust()
