"""The members of the release's archives, whatever they are: split or whole, tar or zip, or unpacked already."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from birdmml.errors import SourceError
from birdmml.salvage import zipped
from birdmml.salvage.hold import Event, Member, Refusal
from birdmml.salvage.store import Limits
from birdmml.salvage.stream import Stream
from birdmml.sources._release_index import Index
from birdmml.sources._release_paths import PREFIX
from birdmml.sources._release_shelf import Shelf
from birdmml.sources._zenodo import Archive

FOLDERS = {"photo": "photos", "audio": "audio"}
SPOILT = "spoilt"  # A file of this name says that what was read must not be built upon.


class _Parts:
    """The parts of one archive as a supply of a stream; what cannot be had is noted in the index."""

    def __init__(self, shelf: Shelf, archive: Archive, index: Index) -> None:
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
        shelf: Shelf,
        index: Index,
        folder: Path,
        limits: Limits,
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
        self._waiting: deque[tuple[int, Stream, int]] = (
            deque()
        )  # (our number, its stream, the stream's number)
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

    def _tar(self, kind: str, archive: Archive) -> Iterator[tuple[Event, Path | None]]:
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

    def _zip(self, kind: str, archive: Archive) -> Iterator[tuple[Event, Path | None]]:
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
            entries = sorted(
                (e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in scan
            )
        for name, is_folder, is_file in entries:
            path = f"{folder}/{name}"
            if is_folder:
                yield from self._walk(base, path)
            elif is_file:
                yield Member(path, b"", "complete"), base / path
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
            {
                n
                for s in self._streams[kind].values()
                for h in s.report().holes
                if h.kind == "corrupt"
                for n in h.parts
            }
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
