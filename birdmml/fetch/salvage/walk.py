"""One pass over an archive's parts: picked up behind every hole, its decoded bytes fed to a reader of tar."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from birdmml.fetch.salvage import tar
from birdmml.fetch.salvage.account import Hole
from birdmml.fetch.salvage.inflate import HEADER, Inflater, PlainTar, ResumePoint, Start, gzip_header, search
from birdmml.fetch.salvage.members import Store
from birdmml.fetch.salvage.parts import ArchiveParts, Gap, PartRun

Source = Inflater | PlainTar
WHAT = {"missing": "is missing", "truncated": "is cut short", "corrupt": "is broken"}


class Walk:
    """`store` takes the members; its account may be changed for another between two steps."""

    def __init__(
        self, parts: ArchiveParts, store: Store, progress: Callable[[int], None] = lambda position: None
    ) -> None:
        self.parts, self.store, self.progress = parts, store, progress
        self.reader = tar.Reader(store)
        self.done = 0  # Compressed bytes before the run.
        self.plain: bool | None = None  # Whether it is a tar without compression, once that is known.
        self._member: int | None = None  # Where the next gzip member of the run begins, if one is known to.

    def steps(self, first: int = 0, point: ResumePoint | None = None) -> Iterator[Source | None]:
        """Read from part `first` on, at `point` if one is given.

        Between two pieces of a sound stream it gives what reads them, behind a hole None; the caller may stop.
        """
        for entry in self.parts.entries(first):
            if isinstance(entry, Gap):
                self._hole(Hole(entry.kind, entry.parts), clean=True)
                yield None
            else:
                yield from self._read(entry, point)
                self.done += entry.size
            point = None
            if self.store.full:
                break
        self.reader.end(self.store.account.reached_end)
        self.store.sound()
        yield None

    def _hole(self, hole: Hole, clean: bool) -> None:
        self.store.account.holes.append(hole)
        self.reader.gap(clean, f"{', '.join(hole.parts)} {WHAT[hole.kind]}")
        self.store.behind = hole.place(self.parts.supply.names)
        if clean:
            self.store.sound()

    def _read(self, run: PartRun, point: ResumePoint | None) -> Iterator[Source | None]:
        if self.plain is None or run.at_start:
            self.plain = _is_plain(run, self.parts.supply.names[0])
        if self.plain:
            yield from self._read_plain(run)
            return
        bit: int | None = 0
        self._member = 0 if run.at_start else None
        if point is not None:
            bit = yield from self._decode(run, Inflater.resumed(run, point))
        while bit is not None:
            if self._member is not None:
                bit = yield from self._from_header(run, self._member)
                continue
            start = search(run, bit)
            if start is None:
                return
            part, byte = run.where(start.bit // 8)
            self.store.account.holes[-1].resumed = {"part": part, "byte": byte, "bit": start.bit % 8}
            bit = yield from self._decode(run, Inflater(run, start))

    def _read_plain(self, run: PartRun) -> Iterator[Source | None]:
        bit: int | None = 0
        while bit is not None:
            if self.reader.scanning and self.store.account.holes:
                part, byte = run.where(bit // 8)
                self.store.account.holes[-1].resumed = {"part": part, "byte": byte, "bit": 0}
            bit = yield from self._decode(run, PlainTar(run, bit // 8))
        self.store.account.reached_end = run.last and self.reader.ended

    def _from_header(self, run: PartRun, offset: int) -> Generator[Source | None, None, int | None]:
        self._member = None
        header = gzip_header(run.read(offset, HEADER))
        if header is None:
            self._broken(run, offset)
            return 8 * offset
        return (yield from self._decode(run, Inflater(run, Start(8 * (offset + header)), window_known=True)))

    def _decode(self, run: PartRun, source: Source) -> Generator[Source | None, None, int | None]:
        """Read on until the stream ends or breaks; the bit from which to search for the next start, None at the end."""
        for piece in source:
            if not self.plain:
                self.store.account.sums.add(piece.data)
            if piece.doubt is not None:
                self.store.account.uncertain(int(piece.doubt.sum()))
            self.store.advance(self.done + source.offset)
            sound = self.reader.feed(piece.data, piece.doubt)
            self.progress(self.store.position)
            if self.store.full:
                return None
            if not sound:
                self._broken(run, source.offset)
                return max(8 * source.offset, source.least)
            if not (source.broken or source.finished):
                yield source
        if source.broken:
            self._broken(run, source.offset)
            return max(8 * source.offset, source.least)
        return self._ended(run, source) if source.finished else None

    def _ended(self, run: PartRun, source: Source) -> int | None:
        """The deflate stream is over: its trailer, then the archive's end or one more gzip member."""
        left = run.read(source.offset, 9)
        self.store.account.sums.end(left[:8])
        if run.last and len(left) <= 8:
            self.store.account.reached_end = len(left) == 8
            return None
        if gzip_header(run.read(source.offset + 8, HEADER)):
            self._member = source.offset + 8
        else:
            self._broken(run, source.offset)
        return max(8 * source.offset, source.least)

    def _broken(self, run: PartRun, offset: int) -> None:
        part, byte = run.where(offset)
        self._hole(Hole("corrupt", (part,), at={"part": part, "byte": byte}), clean=False)
        self.store.distrust()


def _is_plain(run: PartRun, name: str) -> bool:
    """By the first bytes, or where they are missing by the name of the first part."""
    head = run.read(0, tar.BLOCK) if run.at_start else b""
    if head[:2] == b"\x1f\x8b":
        return False
    if tar.parse(head):
        return True
    return not run.at_start and ".tar" in name.lower() and not any(z in name.lower() for z in (".gz", ".tgz"))
