"""Where the release's files come from: a folder of the user's, or the record, downloaded part by part.

Both say which files there should be, hand one over when it is asked for, checked against its MD5, and say of each that
cannot be had why: missing (it is nowhere), corrupt (its MD5 is another one), failed (it could not be downloaded).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from birdmml import __version__, files
from birdmml.errors import BuildError, SourceError
from birdmml.fetch.download import Fetcher, Politeness, Space, space_needed
from birdmml.fetch.ledger import Ledger, Wanted
from birdmml.sources._release_index import Index
from birdmml.sources._zenodo import (
    File,
    Record,
    Release,
    fetch_record,
    read_record,
    record_url,
    sort_release,
)

AGENT = f"birdmml/{__version__} (dataset builder; https://arxiv.org/abs/2511.21331)"
RECORD = "record.json"
Tell = Callable[[str, int, int], None]


class Shelf(Protocol):
    """The files of one release; `states` has those that cannot be had, by name."""

    release: Release
    states: dict[str, str]

    def path(self, file: File) -> Path | None:
        """The file, whole and checked; None when it cannot be had, and `states` says why."""

    def damaged(self, file: File) -> Path | None:
        """The file although it is corrupt, if it is there."""

    def done(self, file: File) -> None:
        """It is not needed any more, unless asked for again."""

    def close(self) -> None:
        """Let go."""


class Folder:
    """Files that the user has, in DIR or DIR/files; nothing is downloaded, changed or deleted.

    A record.json (the answer of Zenodo's API) beside them says what there should be, and the MD5 of each.
    """

    def __init__(self, root: Path, index: Index | None = None) -> None:
        if not root.is_dir():
            raise SourceError(f"--from {root} is no folder: name the one with bird-mml.csv and the archives")
        self._index = index
        places = [p for p in (root, root / "files") if p.is_dir()]
        self._here = {p.name: p for place in reversed(places) for p in sorted(place.iterdir()) if p.is_file()}
        self._here.pop(RECORD, None)
        self.states: dict[str, str] = {}
        self.release = sort_release(self._record(root))

    def _record(self, root: Path) -> Record:
        listed = next((p for p in (root / RECORD, root / "files" / RECORD) if p.is_file()), None)
        record = read_record(listed.read_bytes()) if listed else Record("local", str(root.name), ())
        keys = {f.key for f in record.files}
        more = [File(n, p.stat().st_size, None, "") for n, p in sorted(self._here.items()) if n not in keys]
        if not (record.files or more):
            raise SourceError(f"--from {root} holds no file: put bird-mml.csv and the archives there")
        return replace(record, files=(*record.files, *more))

    def lacking(self) -> list[str]:
        """Names of files that the record lists and that are not here."""
        return [f.key for f in every(self.release) if f.key not in self._here]

    def path(self, file: File) -> Path | None:
        """The file if it is there with the MD5 that the record states; without a record it is taken as it is."""
        path = self._here.get(file.key)
        state = "missing" if path is None else "" if self._sound(path, file) else "corrupt"
        if state:
            self.states[file.key] = state
            return None
        self.states.pop(file.key, None)
        return path

    def _sound(self, path: Path, file: File) -> bool:
        if file.md5 is None:
            return True
        info = path.stat()
        stamp = [info.st_size, info.st_mtime_ns, file.md5]
        if (
            self._index is not None
            and (stamped := self._index.fact(f"md5:{file.key}"))
            and stamped[:3] == stamp
        ):
            return bool(stamped[3])
        with path.open("rb") as f:
            right = info.st_size == file.size and hashlib.file_digest(f, "md5").hexdigest() == file.md5
        if self._index is not None:
            self._index.note(f"md5:{file.key}", [*stamp, right])
        return right

    def damaged(self, file: File) -> Path | None:
        """The file as it is."""
        return self._here.get(file.key)

    def done(self, file: File) -> None:
        """The files are the user's: they stay."""

    def close(self) -> None:
        """Nothing is open."""


class Download:
    """The record's files, each brought when it is asked for and deleted when it was read.

    What was downloaded and what became of it stands in `folder`/ledger.sqlite.
    """

    def __init__(self, base: str, record: str, folder: Path, retry_failed: bool, progress: Tell) -> None:
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

    def _record(self, base: str, record: str) -> Record:
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

    def path(self, file: File) -> Path | None:
        """Download the file, or go on downloading it; progress is told in bytes."""

        def heard(key: str, done: int, total: int | None) -> None:
            self._tell(f"download {key}", done, total or done)

        outcome = self._fetcher.fetch(_wanted(file), self._folder / "files" / file.key, heard)
        if outcome.state != "done":
            self.states[file.key] = f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state
            return None
        self.states.pop(file.key, None)
        return outcome.path

    def damaged(self, file: File) -> Path | None:
        """Nothing: what does not fit its MD5 is not kept."""
        return None

    def done(self, file: File) -> None:
        """Delete it: so that the disk never holds the whole archive."""
        (self._folder / "files" / file.key).unlink(missing_ok=True)

    def close(self) -> None:
        """Close connections and the ledger; what is half there stays for the next run."""
        self._fetcher.close()
        self._ledger.close()

    def space(self) -> Space:
        """What is still to be downloaded in all, and the room there is for one part at a time."""
        return space_needed(
            [(_wanted(f), self._folder / "files" / f.key) for f in every(self.release)], self._folder
        )


def every(release: Release) -> list[File]:
    """The files that a build reads."""
    return [release.csv, *(f for archive in (*release.photos, *release.audio) for f in archive.files)]


def look(base: str, record: str, folder: Path) -> Release:
    """What the record has, without downloading any of it; `folder` is one that may be thrown away."""
    with Ledger(folder / "look.sqlite") as ledger, Fetcher(ledger, Politeness(AGENT)) as fetcher:
        return sort_release(fetch_record(fetcher, base, record))


def _wanted(file: File) -> Wanted:
    return Wanted(file.key, file.url, file.size, file.md5)


def needed(release: Release) -> str:
    """The sizes in words."""
    largest = max((f.size for f in every(release)), default=0)
    total = sum(f.size for f in every(release))
    return (
        f"{files.human_bytes(total)} in {len(every(release))} files, the largest {files.human_bytes(largest)}"
    )
