"""The members of the release's archives, whatever they are: split or whole, tar or zip, or unpacked already."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from birdmml import __version__
from birdmml.core import files
from birdmml.core.pool import Progress
from birdmml.errors import BuildError, SourceError
from birdmml.fetch.download import Fetcher, Space, space_needed
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness
from birdmml.fetch.salvage import zipped
from birdmml.fetch.salvage.members import Event, MemberLimits, RecoveredMember, Refusal
from birdmml.fetch.salvage.stream import Stream
from birdmml.sources.release.index import ReleaseIndex
from birdmml.sources.release.table import PREFIX
from birdmml.sources.release.zenodo import (
    RecordFile,
    Release,
    ReleaseArchive,
    ZenodoRecord,
    fetch_record,
    read_record,
    record_url,
    sort_release,
)

# ---- Where the release's files come from: a folder of the user's, or the record, downloaded part by part.
# Both say which files there should be, hand one over when it is asked for, checked against its MD5, and say of each
# that cannot be had why: missing (it is nowhere), corrupt (its MD5 is another one), failed (not to be downloaded).


AGENT = f"birdmml/{__version__} (dataset builder; https://arxiv.org/abs/2511.21331)"
RECORD = "record.json"


class ReleaseFiles(Protocol):
    """The files of one release; `states` has those that cannot be had, by name."""

    release: Release
    states: dict[str, str]

    def path(self, file: RecordFile) -> Path | None:
        """The file, whole and checked; None when it cannot be had, and `states` says why."""

    def damaged(self, file: RecordFile) -> Path | None:
        """The file although it is corrupt, if it is there."""

    def done(self, file: RecordFile) -> None:
        """It is not needed any more, unless asked for again."""

    def close(self) -> None:
        """Let go."""


class LocalFiles:
    """Files that the user has, in DIR or DIR/files; nothing is downloaded, changed or deleted.

    A record.json (the answer of Zenodo's API) beside them says what there should be, and the MD5 of each.
    """

    def __init__(self, root: Path, index: ReleaseIndex | None = None) -> None:
        if not root.is_dir():
            raise SourceError(f"--from {root} is no folder: name the one with bird-mml.csv and the archives")
        self._index = index
        places = [p for p in (root, root / "files") if p.is_dir()]
        self._here = {p.name: p for place in reversed(places) for p in sorted(place.iterdir()) if p.is_file()}
        self._here.pop(RECORD, None)
        self.states: dict[str, str] = {}
        self.release = sort_release(self._record(root))

    def _record(self, root: Path) -> ZenodoRecord:
        listed = next((p for p in (root / RECORD, root / "files" / RECORD) if p.is_file()), None)
        record = read_record(listed.read_bytes()) if listed else ZenodoRecord("local", str(root.name), ())
        keys = {f.key for f in record.files}
        more = [RecordFile(n, p.stat().st_size, None, "") for n, p in sorted(self._here.items()) if n not in keys]
        if not (record.files or more):
            raise SourceError(f"--from {root} holds no file: put bird-mml.csv and the archives there")
        return replace(record, files=(*record.files, *more))

    def lacking(self) -> list[str]:
        """Names of files that the record lists and that are not here."""
        return [f.key for f in every(self.release) if f.key not in self._here]

    def path(self, file: RecordFile) -> Path | None:
        """The file if it is there with the MD5 that the record states; without a record it is taken as it is."""
        path = self._here.get(file.key)
        state = "missing" if path is None else "" if self._sound(path, file) else "corrupt"
        if state:
            self.states[file.key] = state
            return None
        self.states.pop(file.key, None)
        return path

    def _sound(self, path: Path, file: RecordFile) -> bool:
        if file.md5 is None:
            return True
        info = path.stat()
        stamp = [info.st_size, info.st_mtime_ns, file.md5]
        if self._index is not None and (stamped := self._index.fact(f"md5:{file.key}")) and stamped[:3] == stamp:
            return bool(stamped[3])
        with path.open("rb") as f:
            right = info.st_size == file.size and hashlib.file_digest(f, "md5").hexdigest() == file.md5
        if self._index is not None:
            self._index.note(f"md5:{file.key}", [*stamp, right])
        return right

    def damaged(self, file: RecordFile) -> Path | None:
        """The file as it is."""
        return self._here.get(file.key)

    def done(self, file: RecordFile) -> None:
        """The files are the user's: they stay."""

    def close(self) -> None:
        """Nothing is open."""


class DownloadedFiles:
    """The record's files, each brought when it is asked for and deleted when it was read.

    What was downloaded and what became of it stands in `folder`/ledger.sqlite.
    """

    def __init__(self, base: str, record: str, folder: Path, retry_failed: bool, progress: Progress) -> None:
        self._folder, self._tell = folder, progress
        self.states: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(folder / "ledger.sqlite")
        if retry_failed:
            self._ledger.retry_failed()
        self._fetcher = Fetcher(self._ledger, Politeness(AGENT))
        try:
            self.release = sort_release(self._record(base, record))
            self._ledger.plan(_wanted(f) for f in every(self.release))
        except BaseException:  # Connections are closed whatever happens; raised again.
            self.close()
            raise

    def _record(self, base: str, record: str) -> ZenodoRecord:
        kept = self._folder / RECORD
        try:
            data = self._fetcher.get(record_url(base, record))
        except BuildError:
            if not kept.is_file():
                raise
            return read_record(kept.read_bytes(), base)  # An interrupted build goes on with what it was told.
        record_there = read_record(data, base)
        with files.atomic_write(kept) as f:
            f.write(data)
        return record_there

    def path(self, file: RecordFile) -> Path | None:
        """Download the file, or go on downloading it; progress is told in bytes."""

        def heard(key: str, done: int, total: int | None) -> None:
            self._tell(f"download {key}", done, total or done)

        outcome = self._fetcher.fetch(_wanted(file), self._folder / "files" / file.key, heard)
        if outcome.state != "done":
            self.states[file.key] = f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state
            return None
        self.states.pop(file.key, None)
        return outcome.path

    def damaged(self, file: RecordFile) -> Path | None:
        """Nothing: what does not fit its MD5 is not kept."""
        return None

    def done(self, file: RecordFile) -> None:
        """Delete it: so that the disk never holds the whole archive."""
        (self._folder / "files" / file.key).unlink(missing_ok=True)

    def close(self) -> None:
        """Close connections and the ledger; what is half there stays for the next run."""
        self._fetcher.close()
        self._ledger.close()

    def space(self) -> Space:
        """What is still to be downloaded in all, and the room there is for one part at a time."""
        return space_needed([(_wanted(f), self._folder / "files" / f.key) for f in every(self.release)], self._folder)


def every(release: Release) -> list[RecordFile]:
    """The files that a build reads."""
    return [release.csv, *(f for archive in (*release.photos, *release.audio) for f in archive.files)]


def look(base: str, record: str, folder: Path) -> Release:
    """What the record has, without downloading any of it; `folder` is one that may be thrown away."""
    with Ledger(folder / "look.sqlite") as ledger, Fetcher(ledger, Politeness(AGENT)) as fetcher:
        return sort_release(fetch_record(fetcher, base, record))


def _wanted(file: RecordFile) -> WantedFile:
    return WantedFile(file.key, file.url, file.size, file.md5)


def needed(release: Release) -> str:
    """The sizes in words."""
    largest = max((f.size for f in every(release)), default=0)
    total = sum(f.size for f in every(release))
    return f"{files.human_bytes(total)} in {len(every(release))} files, the largest {files.human_bytes(largest)}"


FOLDERS = {"photo": "photos", "audio": "audio"}
SPOILT = "spoilt"  # A file of this name says that what was read must not be built upon.


class _Parts:
    """The parts of one archive as a supply of a stream; what cannot be had is noted in the index."""

    def __init__(self, shelf: ReleaseFiles, archive: ReleaseArchive, index: ReleaseIndex) -> None:
        self._shelf, self._index = shelf, index
        self._files = {f.key: f for f in archive.files}
        self.names = tuple(sorted([*self._files, *archive.missing]))

    def get(self, index: int) -> Path | None:
        """Bring and check the part."""
        name = self.names[index]
        file = self._files.get(name)
        path = self._shelf.path(file) if file else None
        self._index.note(f"gone:{name}", None if path else self._shelf.states.get(name, "missing"))
        return path

    def release(self, index: int) -> None:
        """Let the shelf delete it, if it is the shelf's."""
        if file := self._files.get(self.names[index]):
            self._shelf.done(file)


class Archives:
    """All archives of a release, one stream after another; `turn` is called where a part could go."""

    def __init__(
        self,
        shelf: ReleaseFiles,
        index: ReleaseIndex,
        folder: Path,
        limits: MemberLimits,
        root: Path | None,
        turn: Callable[[], None],
    ) -> None:
        self._shelf, self._index, self._folder = shelf, index, folder
        self._limits, self._turn = limits, turn
        self._of = {"photo": shelf.release.photos, "audio": shelf.release.audio}
        self._streams: dict[str, dict[str, Stream]] = {"photo": {}, "audio": {}}
        self._opened: set[str] = set()
        self._cut: set[str] = set()  # Archives that end too early.
        self._root = root
        self._waiting: deque[tuple[int, Stream, int]] = deque()  # (our number, its stream, the stream's number)
        self._current: Stream | None = None
        self.current = ""  # The archive that is being read.

    def events(self, kind: str) -> Iterator[tuple[Event, Path | None]]:
        """Members, refusals and losses of one kind; with a path where the member is a file (its data are empty).

        Raises SourceError where an archive says itself that a byte in it is wrong, and not which.
        """
        for archive in self._of[kind]:
            if archive.name.casefold().endswith(".zip"):
                yield from self._zip(kind, archive)
            else:
                yield from self._tar(kind, archive)
        for event, path in self._tree(kind):
            self._opened.add(kind)
            yield event, path

    def _tar(self, kind: str, archive: ReleaseArchive) -> Iterator[tuple[Event, Path | None]]:
        state = self._folder / "streams" / archive.name
        stream = Stream(_Parts(self._shelf, archive, self._index), self._limits, state, self._turn)
        self._streams[kind][archive.name] = stream
        self._current, self.current = stream, archive.name
        for event in stream:
            yield event, None
        self._current, self.current = None, ""
        if not stream.report().reached_end:
            self._cut.add(archive.name)
        self._turn()
        if stream.report().checksum == "differs":
            (self._folder / SPOILT).touch()
            raise SourceError(
                f"{archive.name}: its checksum differs, so some of its bytes are wrong, and no one can tell which: "
                "get its parts again, with record.json beside them to know which one is broken"
            )
        if any(not self._index.fact(f"gone:{f.key}") for f in archive.files):
            self._opened.add(kind)

    def _zip(self, kind: str, archive: ReleaseArchive) -> Iterator[tuple[Event, Path | None]]:
        if archive.split:
            raise SourceError(
                f"{archive.name} is a zip in parts, which cannot be read past a missing one: put its parts "
                f"together (cat {archive.files[0].key[:-2]}?? > {archive.name}) and name the folder with --from"
            )
        file, read = archive.files[0], f"read:{archive.files[0].key}"
        if self._index.fact(read) == [file.size, file.md5]:
            self._opened.add(kind)
            return
        path = sound = self._shelf.path(file)
        self._index.note(f"gone:{file.key}", None if path else self._shelf.states.get(file.key, "missing"))
        # Each member of a zip has a checksum of its own, so a damaged one still gives all that is sound.
        path = path or self._shelf.damaged(file)
        if path is None:
            return
        self._opened.add(kind)
        for event in zipped.members(path, self._limits):
            yield event, None
        self._index.note(read, [file.size, file.md5] if sound else None)
        self._turn()
        self._shelf.done(file)

    def _tree(self, kind: str) -> Iterator[tuple[Event, Path | None]]:
        """Files of an unpacked archive, folder by folder in name order."""
        for base in (self._root, self._root / PREFIX) if self._root else ():
            if (base / FOLDERS[kind]).is_dir():
                yield from self._walk(base, FOLDERS[kind])

    def _walk(self, base: Path, folder: str) -> Iterator[tuple[Event, Path | None]]:
        with os.scandir(base / folder) as scan:
            entries = sorted((e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in scan)
        for name, is_folder, is_file in entries:
            path = f"{folder}/{name}"
            if is_folder:
                yield from self._walk(base, path)
            elif is_file:
                yield RecoveredMember(path, b"", "complete"), base / path
            else:
                yield Refusal(path, "a link or a device"), base / path

    def heard(self, event: Event, seq: int) -> None:
        """All deliveries of this event have numbers up to `seq`."""
        if self._current is not None:
            self._waiting.append((seq, self._current, event.seq))

    def acknowledge(self, seq: int) -> None:
        """What has numbers up to `seq` is safe."""
        safe: dict[int, tuple[Stream, int]] = {}
        while self._waiting and self._waiting[0][0] <= seq:
            _, stream, number = self._waiting.popleft()
            safe[id(stream)] = (stream, number)
        for stream, number in safe.values():
            stream.acknowledge(number)

    def opened(self, kind: str) -> bool:
        """Whether anything of this kind could be read."""
        return kind in self._opened

    def unavailable(self, kind: str) -> list[str]:
        """Names of files that could not be had, with the reason where it is not that they are nowhere."""
        missing = []
        for archive in self._of[kind]:
            last = max([*(f.key for f in archive.files), *archive.missing])
            if archive.name in self._cut and not self._index.fact(f"gone:{last}"):
                missing.append(f"the end of {archive.name}")
            for name in sorted([*(f.key for f in archive.files), *archive.missing]):
                if state := self._index.fact(f"gone:{name}"):
                    missing.append(name if state == "missing" else f"{name} ({state})")
        return missing

    def behind(self, kind: str) -> Iterator[str]:
        """Names of members that lie behind a hole that is still there."""
        for name, stream in self._streams[kind].items():
            if holes := stream.report().holes:
                first = min(hole.begins(stream.supply.names) for hole in holes)
                yield from self._index.behind(kind, name, first)

    def broken(self, kind: str) -> list[str]:
        """Parts that turned out to be broken inside while they were read."""
        return sorted(
            {n for s in self._streams[kind].values() for h in s.report().holes if h.kind == "corrupt" for n in h.parts}
        )

    def unverified(self, kind: str) -> int:
        """Members that no checksum covers: neither the MD5 of their parts nor, because of a hole, the archive's."""
        return sum(
            self._streams[kind][archive.name].report().unverified
            for archive in self._of[kind]
            if archive.name in self._streams[kind] and any(f.md5 is None for f in archive.files)
        )

    def uncertain(self, kind: str) -> int:
        """Bytes behind holes that could not be decided, and were not used."""
        return sum(s.report().uncertain_bytes for s in self._streams[kind].values())
