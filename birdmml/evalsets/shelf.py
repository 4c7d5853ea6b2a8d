"""Where an evaluation set's files lie: a folder, an archive as downloaded, or a folder that holds archives.

Archives are read as streams and never unpacked: the first reading lists what is there (`scan`), the second hands out
the media that are wanted. Links, devices and paths that lead out of the archive are refused and told.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Collection as Many
from dataclasses import dataclass, field
from pathlib import Path

from birdmml.errors import EvalsetError, SourceError
from birdmml.evalsets._annotations import FAKE_MARK
from birdmml.fetch.salvage import zipped
from birdmml.fetch.salvage.account import shown
from birdmml.fetch.salvage.members import Event, Loss, MemberLimits, RecoveredMember, Refusal
from birdmml.fetch.salvage.parts import Files
from birdmml.fetch.salvage.stream import Stream
from birdmml.schema import Reject

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
MAX_TABLE = 64 << 20  # Many times the largest table of these sets: a table is held in memory.
MAX_FILE_BYTES = 512 << 20  # Of one medium: what may be in memory at once.
MAX_WRAPPED = 2  # Folders around the set's own layout.
Progress = Callable[[int], None]
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class EvalsetLayout:
    """Which files matter: `tables` by their names, media by the folders they lie in."""

    tables: tuple[str, ...]
    folders: tuple[str, ...]

    def place(self, name: str) -> str:
        """The path in the layout of a file: "video_ml/1.mp4", "taxa.csv"; "" for what is no part of the set."""
        parts = name.split("/")
        if any(p in _JUNK or p.startswith(".") for p in parts):
            return ""
        for skip in range(min(MAX_WRAPPED + 1, len(parts) - 1)):
            if parts[skip] in self.folders:
                return "/".join(parts[skip:])
        is_table = parts[-1] in (*self.tables, FAKE_MARK) and len(parts) <= MAX_WRAPPED + 2
        return parts[-1] if is_table else ""


@dataclass
class EvalsetListing:
    """What is there. `files` maps a path of the layout to a key that changes with the file's content."""

    files: dict[str, str] = field(default_factory=dict)
    tables: dict[str, bytes] = field(default_factory=dict)
    strays: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fake: bool = False


class EvalsetFiles:
    """Reads `source`; `archives` are parts of file names that tell the set's own archives from others beside them."""

    def __init__(
        self, source: Path, layout: EvalsetLayout, archives: Many[str], limits: MemberLimits | None = None
    ) -> None:
        self.layout, self.limits = layout, limits or MemberLimits(member_bytes=MAX_FILE_BYTES)
        self.root = source if source.is_dir() else None
        self.archives = [source]
        if self.root is not None:  # Those of the set's name, or all where none bears it.
            there = sorted(p for p in source.iterdir() if p.name.casefold().endswith(SUFFIXES) and p.is_file())
            self.archives = [p for p in there if any(part in p.name.casefold() for part in archives)] or there
        self.listing = EvalsetListing()
        self._paths: dict[str, Path] = {}
        self._of: dict[Path, set[str]] = {}

    def scan(self, progress: Progress = lambda done: None) -> EvalsetListing:
        """Look at everything once. Raises EvalsetError where an archive cannot be used at all."""
        if self.root is not None:
            self._tree(self.root)
            tops, tables = {name.split("/")[0] for name in self.listing.files}, set(self.listing.tables)
            if set(self.layout.tables) <= tables and set(self.layout.folders) <= tops:
                self.archives = []  # The folder holds something of all: they are what it was unpacked from.
        done = 0
        for archive in self.archives:
            self._archive(archive, done, progress)
            done += archive.stat().st_size
        return self.listing

    def media(self, wanted: Mapping[str, str]) -> Iterator[tuple[str, bytes | Path]]:
        """Path in the layout, and the file or its bytes, of every wanted path; those of archives in their order."""
        for name in sorted(n for n in wanted if n in self._paths):
            yield name, self._paths[name]
        for archive in self.archives:
            left = self._of[archive] & set(wanted)
            if not left:
                continue
            for event in self._events(archive):
                place = self.layout.place(event.name) if isinstance(event, RecoveredMember) else ""
                if place in left and isinstance(event, RecoveredMember):
                    left.discard(place)
                    yield place, event.data
                if not left:
                    break

    def _tree(self, root: Path, below: str = "") -> None:
        """Files of a folder, in name order."""
        try:
            with os.scandir(root / below) as scan:
                entries = sorted(scan, key=lambda e: e.name)  # The same order on every file system.
        except OSError as e:
            raise EvalsetError(f"{root / below} cannot be read ({e.strerror}): check its permissions") from e
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if name.count("/") <= MAX_WRAPPED + 2:
                    self._tree(root, f"{name}/")
            elif entry.is_symlink() and entry.name in self.layout.folders:
                self._refuse(name, "a link: name the folder that it leads to, or one that holds all")
            elif place := self.layout.place(name):
                if not entry.is_file(follow_symlinks=False):
                    self._refuse(name, "a link or a device")
                    continue
                status = entry.stat(follow_symlinks=False)
                self._add(place, f"{status.st_size}:{status.st_mtime_ns}", root / name)

    def _add(self, place: str, key: str, where: Path | bytes) -> None:
        """One file; the first of a path counts, and another one of other content is told."""
        if place == FAKE_MARK:
            self.listing.fake = True
        elif place in self.layout.tables:
            data = _table(place, where)
            if self.listing.tables.setdefault(place, data) != data:
                self.listing.notes.append(f"{place} is there twice with other content: the first one is used")
        elif place not in self.listing.files:
            self.listing.files[place] = key
            if isinstance(where, Path):
                self._paths[place] = where
        elif self.listing.files[place] != key and isinstance(where, bytes) and place not in self._paths:
            self.listing.strays.append(
                Reject(place, "duplicate_member", "an earlier member of this name has other bytes")
            )

    def _refuse(self, name: str, reason: str) -> None:
        self.listing.strays.append(Reject(name, "refused_member", reason))

    def _archive(self, archive: Path, done: int, progress: Progress) -> None:
        mine = self._of.setdefault(archive, set())
        before = set(self.listing.files)
        for event in self._events(archive, lambda at: progress(done + at), self.listing):
            name = shown(event.name)
            if isinstance(event, Refusal):
                self._refuse(f"{archive.name}: {name}", event.reason)
            elif isinstance(event, Loss):
                self.listing.strays.append(Reject(f"{archive.name}: {name}", "lost_member", event.reason))
            elif place := self.layout.place(event.name):
                self._add(place, f"{len(event.data)}:{zlib.crc32(event.data):08x}", event.data)
                if place in self.listing.files and place not in before:
                    mine.add(place)

    def _events(
        self, archive: Path, progress: Progress = lambda done: None, into: EvalsetListing | None = None
    ) -> Iterator[Event]:
        """Members, refusals and losses of one archive, at most a few members in memory; what is wrong with the whole
        goes `into` the listing's notes. Raises EvalsetError."""
        try:
            if _kind(archive) == "zip":
                yield from zipped.members(archive, self.limits)
                return
            stream = Stream(Files([archive]), self.limits, progress=progress)
            for event in stream:
                yield event
                stream.acknowledge(event.seq)
        except SourceError as e:
            raise EvalsetError(str(e)) from e
        report = stream.report()
        if report.checksum == "differs":
            raise EvalsetError(
                f"{archive}: its checksum differs, so some bytes are wrong, and no one can tell which: get it again"
            )
        if into is not None:
            into.notes += [
                f"{archive.name} is broken at byte {int(h.at['byte']) if h.at else 0:,}" for h in report.holes
            ]
            if not report.reached_end and not report.holes:
                into.notes.append(f"{archive.name} ends too early: it is cut short, get it again")


def _table(place: str, where: Path | bytes) -> bytes:
    try:
        if isinstance(where, Path):
            size = where.stat().st_size
            data = where.read_bytes() if size <= MAX_TABLE else b""
        else:
            size, data = len(where), where
    except OSError as e:
        raise EvalsetError(f"{place} cannot be read ({e.strerror}): check the file and its permissions") from e
    if size > MAX_TABLE:
        raise EvalsetError(f"{place} has {size:,} bytes, which no table of this set has: get the table again")
    return data


def _kind(path: Path) -> str:
    """ "zip" or "tar" (also packed with gzip), by what the file begins with; raises EvalsetError for anything else."""
    try:
        with path.open("rb") as f:
            head = f.read(512)
    except OSError as e:
        raise EvalsetError(f"{path} cannot be read ({e.strerror}): check the path and its permissions") from e
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06") or (zipfile.is_zipfile(path) and head[:3] != b"\x1f\x8b\x08"):
        return "zip"
    if head[:3] == b"\x1f\x8b\x08" or head[257:262] == b"ustar":
        return "tar"
    begins = ascii(head[:16].decode("latin-1"))  # Often a web page that says why there is no archive.
    raise EvalsetError(f"{path} is no .tar.gz, .tar or .zip (it begins with {begins}): download it again")
