"""Downloads: resumed, checked, at each host's pace, and every file's fate in the ledger.

with Ledger(out / "downloads.sqlite") as ledger, Fetcher(ledger, Politeness("birdmml/0.1 (mailto:me@here)")) as fetcher:
    for outcome in fetcher.fetch_all((file, folder / file.key) for file in files):
        print(outcome.key, outcome.state, outcome.reason)
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from birdmml.core.files import human_bytes, sync_folder
from birdmml.errors import BuildError
from birdmml.fetch.ask import TooLarge, ask, patiently, unchanged
from birdmml.fetch.ledger import GIVEN_UP, Ledger, LedgerRow, WantedFile
from birdmml.fetch.pace import Clock, Lanes, Politeness
from birdmml.fetch.transfer import BLOCK, FULL, MemoryTransfer, PartFile, Progress, Transfer, free_bytes
from birdmml.fetch.web import Final, Web, redact

BATCH = 256

Job = tuple[WantedFile, Path]


@dataclass(frozen=True)
class FetchOutcome(LedgerRow):
    """What became of one file: its row, whose `state` is done, missing, corrupt or failed, and where it lies if done.

    `code` is the last HTTP status (None where none was needed or came), `attempts` the requests over all runs.
    """

    path: Path | None = None


@dataclass(frozen=True)
class Space:
    """Bytes still to come and free at a folder; `unknown` files have no promised size."""

    needed: int
    free: int
    unknown: int = 0

    @property
    def fits(self) -> bool:
        """Whether what is known to come has room."""
        return self.needed <= self.free

    def __str__(self) -> str:
        more = f" and {self.unknown} files of unknown size" if self.unknown else ""
        return f"{human_bytes(self.needed)}{more} needed, {human_bytes(self.free)} free"


def space_needed(jobs: Iterable[Job], folder: Path) -> Space:
    """What the files still need on the disk of `folder`: promised sizes less what is there of them."""
    needed = unknown = 0
    for file, to in jobs:
        there = next((p.stat().st_size for p in (to, to.with_name(to.name + ".part")) if p.is_file()), 0)
        needed += max((file.size or 0) - there, 0)
        unknown += file.size is None and not to.is_file()
    return Space(needed, free_bytes(folder), unknown)


class Fetcher:
    """Downloads for one ledger, as polite as `politeness` says; a context manager, usable from several threads."""

    def __init__(self, ledger: Ledger, politeness: Politeness, clock: Clock | None = None) -> None:
        self.ledger = ledger
        self._clock = clock or Clock()
        self._busy: set[Path] = set()
        self._lock = threading.Lock()
        self.web = Web(self._clock, politeness)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is under way and close the connections; `.part` files stay for the next run."""
        self._clock.stop.set()
        self.web.close()

    def fetch(self, file: WantedFile, to: Path, progress: Progress | None = None) -> FetchOutcome:
        """Bring one file to `to`, going on from `<to>.part`; nothing is asked of the server for what is settled.

        Settled is what the ledger has as done and lies there with its size, what lies there with the promised
        MD5, and what the ledger has as missing, corrupt or failed (`Ledger.retry_failed` makes these wanted
        again). `progress(key, bytes, size or None)` is called as bytes come, from this thread. Raises
        BuildError when the disk is full, a file cannot be written, or the ledger fails.
        """
        with self._alone(to):
            self._clock.check()
            self.ledger.plan([file])
            entry = self._entry(file.key)
            if not self._settled(file, to, entry) or (file.fresh and self._changed(file, to, entry)):
                self._bring(file, to, entry, progress)
            return _outcome(self._entry(file.key), to)

    def fetch_all(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[FetchOutcome]:
        """Bring files, at most `parallel` of one host at a time; outcomes come in the order in which they end.

        `jobs` is read as room appears, so millions are fine; `progress` is called from several threads. Raises
        as `fetch` does; then, and when the iterator is closed early, what is under way stops for good.
        """
        lanes: Lanes[Job, FetchOutcome] = Lanes(lambda job: self.fetch(*job, progress), self.web.parallel)
        with self._ending(lanes):
            for job in jobs:
                yield from lanes.put(self.web.host(job[0].url), job)
            yield from lanes.rest()

    def fetch_small(self, jobs: Iterable[Job]) -> Iterator[FetchOutcome]:
        """Bring many small files (photos), as `fetch_all` does; cheaper: in memory, synced to the disk in batches.

        A file that breaks off begins anew; one above 8 MiB is brought as `fetch` does it. What is settled comes out
        at once. Raises as `fetch_all` does.
        """
        small = SmallFiles(self.web, self.ledger)
        lanes: Lanes[tuple[Job, LedgerRow], FetchOutcome] = Lanes(
            lambda planned: self._small(small, *planned), self.web.parallel
        )
        with self._ending(lanes):
            rest = iter(jobs)
            while page := list(islice(rest, BATCH)):  # One transaction for the rows of a page.
                for job, entry in zip(page, self.ledger.planned([file for file, _ in page]), strict=True):
                    self._clock.check()
                    if self._settled(*job, entry):
                        yield _outcome(self._entry(entry.key), job[1])
                    else:
                        yield from lanes.put(self.web.host(job[0].url), (job, entry))
            yield from lanes.rest()
            small.sync()

    @contextmanager
    def _ending(self, lanes: Lanes[Any, FetchOutcome]) -> Iterator[None]:
        """Send the threads home at the end; after an error for good."""
        try:
            yield
        except BaseException:  # Ctrl-C, too, must not leave threads downloading; raised again.
            self._clock.stop.set()
            raise
        finally:
            lanes.close()

    def _small(self, small: SmallFiles, job: Job, entry: LedgerRow) -> FetchOutcome:
        file, to = job
        with self._alone(to):
            self._clock.check()
            try:
                return _outcome(small.bring(file, to, entry), to)
            except TooLarge:
                self._bring(file, to, entry, None)
            return _outcome(self._entry(file.key), to)

    def get(self, url: str, most_bytes: int = 1 << 24) -> bytes:
        """A small answer (a page of an API) in memory, with the same patience; nothing goes into the ledger.

        Raises BuildError, without the address's keys, when it does not come or is larger than `most_bytes`.
        """
        try:
            return patiently(self.web, url, lambda: ask(self.web, url, most_bytes)).body
        except Final as e:
            hint = "check the connection, or try again later" if e.passing else "check the address and what it asks for"
            raise BuildError(f"{redact(url)}: {e.reason}; {hint}") from e

    @contextmanager
    def _alone(self, to: Path) -> Iterator[None]:
        """Two threads must not write the same file."""
        with self._lock:
            if to in self._busy:
                raise BuildError(f"{to} is downloaded twice at a time: list each file once")
            self._busy.add(to)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(to)

    def _entry(self, key: str) -> LedgerRow:
        entry = self.ledger.get(key)
        if entry is None:
            raise BuildError(f"{self.ledger.path} lost {key} while it was in use: run it again")
        return entry

    def _settled(self, file: WantedFile, to: Path, entry: LedgerRow) -> bool:
        """Whether a file needs no request."""
        size = to.stat().st_size if to.is_file() else None
        if size is not None and entry.state == "done" and size == entry.bytes:
            return True
        if size is not None and file.md5 is not None and file.size in (None, size):
            md5, sha256 = _hashes(to)
            if md5 == file.md5:
                row = replace(entry, state="done", code=None, bytes=size, sha256=sha256, etag=None)
                self.ledger.record(replace(row, reason="was there"))
                return True
        return entry.state in GIVEN_UP

    def _changed(self, file: WantedFile, to: Path, entry: LedgerRow) -> bool:
        """Whether the server has another file than the one that lies there; where it does not say, it has not."""
        if entry.state != "done" or not to.is_file() or not entry.etag:
            return False
        try:
            same = unchanged(self.web, file.url, entry.etag)
        except Final as e:
            reason = f"kept, for the server did not say whether it changed: {e.reason}"
            self.ledger.record(replace(entry, code=e.code, attempts=entry.attempts + 1, reason=reason))
            return False
        if not same:
            self.ledger.again(file.key)
        return not same

    def _bring(self, file: WantedFile, to: Path, entry: LedgerRow, progress: Progress | None) -> None:
        """Download a file, or learn why not, and tell the ledger."""
        with PartFile(to, file.size) as part:
            part.need(file.size)
            transfer = Transfer(self.web, self.ledger, file, part, entry, progress)
            try:
                transfer.run()
                transfer.note("", "done", md5=part.md5(), sha256=part.sha256())
            except Final as e:
                transfer.code = e.code
                transfer.note(e.reason, e.state)
                if not part.size:
                    part.discard()
            except BaseException as e:  # Ctrl-C, too: the ledger is to say how far it came; raised again.
                with suppress(BuildError):  # The disk may be too full for that as well.
                    transfer.note(str(e) or "interrupted")
                raise


class SmallFiles:
    """Brings small files for one ledger. A row is written once a file; the bytes are synced `BATCH` files at a time.

    A run that is killed loses nothing that has its name. After a power cut the files of the last batch are
    compared with their SHA-256 when the ledger is opened, and those that did not reach the disk come again.
    """

    def __init__(self, web: Web, ledger: Ledger) -> None:
        self._web, self._ledger = web, ledger
        self._unsynced: list[tuple[str, Path]] = []
        self._folders: set[Path] = set()
        self._lock = threading.Lock()

    def bring(self, file: WantedFile, to: Path, entry: LedgerRow) -> LedgerRow:
        """One file, or why not; its new row. Raises TooLarge, Stopped, and BuildError as a full disk does."""
        transfer = MemoryTransfer(self._web, file, entry)
        try:
            data = transfer.run()
        except Final as e:
            transfer.code, transfer.etag = e.code, None
            row = transfer.row(e.state, e.reason)
            self._ledger.record(row)
            return row
        self._write(to, data)
        row = transfer.row("done", size=len(data), sha256=hashlib.sha256(data).hexdigest())
        self._ledger.unsynced(to, row)
        with self._lock:
            self._unsynced.append((file.key, to))
            due = self._unsynced if len(self._unsynced) >= BATCH else []
            if due:
                self._unsynced = []
        self._sync(due)
        return row

    def sync(self) -> None:
        """Bring what is left to the disk."""
        with self._lock:
            due, self._unsynced = self._unsynced, []
        self._sync(due)

    def _sync(self, files: Sequence[tuple[str, Path]]) -> None:
        for _, path in files:
            with suppress(FileNotFoundError):  # It was used and deleted already.
                fd = os.open(path, os.O_RDONLY)
                try:
                    with suppress(OSError):  # Some network file systems refuse.
                        os.fsync(fd)
                finally:
                    os.close(fd)
        for folder in {path.parent for _, path in files}:
            sync_folder(folder)
        if files:
            self._ledger.synced(key for key, _ in files)

    def _write(self, to: Path, data: bytes) -> None:
        part = to.with_name(to.name + ".part")
        try:
            if to.parent not in self._folders:
                to.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(to.parent)
            part.write_bytes(data)
            part.replace(to)
        except OSError as e:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if e.errno in FULL:
                free = free_bytes(to.parent)
                raise BuildError(
                    f"the disk of {to.parent} is full: {to.name} needs {human_bytes(len(data))}, {human_bytes(free)} "
                    "are free: make room, then run it again; it goes on from what is there"
                ) from e
            raise BuildError(f"{to} cannot be written ({e}): check the folder, then run it again") from e


def _hashes(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def _outcome(row: LedgerRow, to: Path) -> FetchOutcome:
    return FetchOutcome(**vars(row), path=to if row.state == "done" else None)
