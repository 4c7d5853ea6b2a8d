"""Many small files: each in memory on its way, whole before it has its name, synced to the disk in batches."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from birdmml.errors import BuildError
from birdmml.fetch.attempts import TooLarge, patiently, read
from birdmml.fetch.ledger import Entry, Ledger, Wanted
from birdmml.fetch.part import FULL, free_bytes
from birdmml.fetch.transfer import Patience
from birdmml.fetch.web import Again, Final, Web
from birdmml.fetch.words import is_page, words
from birdmml.files import human_bytes, sync_folder

MOST_BYTES = 8 << 20  # A larger file goes to the disk as it comes.
BATCH = 256

Job = tuple[Wanted, Path]


class Body:
    """The attempts for one file. `bring` gives its bytes; `code`, `etag` and `attempts` say how it went."""

    def __init__(self, web: Web, patience: Patience, file: Wanted, attempts: int = 0) -> None:
        self.web, self.patience, self.file = web, patience, file
        self.attempts = attempts
        self.code: int | None = None
        self.etag: str | None = None
        self._wrong = 0

    def bring(self, most_bytes: int = MOST_BYTES) -> bytes:
        """All bytes, checked. Raises Final, TooLarge or Stopped."""
        return patiently(self.web, self.patience, self.file.url, lambda: self._checked(most_bytes))

    def _checked(self, most_bytes: int) -> bytes:
        data = self._attempt(most_bytes)
        if problem := self._problem(data):
            self._wrong += 1
            if self._wrong > 1:
                raise Final("corrupt", f"{problem}; twice", self.code)
            raise Again(problem, self.code)
        return data

    def _attempt(self, most_bytes: int) -> bytes:
        self.attempts += 1
        with self.web.open(self.file.url) as answer:
            self.code = answer.status_code
            self.web.refuse(answer)
            if answer.status_code != 200:
                raise Again(f"HTTP {answer.status_code} brings no file", answer.status_code)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise Again("the server recompressed the file", 200)
            length = answer.headers.get("content-length", "")
            if length.isascii() and length.isdigit() and int(length[:18]) > most_bytes:
                raise TooLarge
            self.etag = answer.headers.get("etag", "")[:200] or None
            data = read(self.web, answer.iter_raw(), most_bytes, self.patience.slow_bps)
            if not self.file.page_ok and is_page(data[:1024], answer.headers.get("content-type", "")):
                said = self.web.scrub(words(data[:4096]), self.file.url)
                raise Again(f"a page came instead of the file: {said}", 200)
            return data

    def _problem(self, data: bytes) -> str:
        """What is wrong with the bytes, or ""."""
        if self.file.size not in (None, len(data)):
            return f"{len(data):,} bytes came, {self.file.size:,} were promised"
        if self.file.md5 is not None:
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if md5 != self.file.md5:
                return f"the MD5 is {md5}, {self.file.md5} was promised"
        return ""


class Small:
    """Brings small files for one ledger. A row is written once a file; the bytes are synced `BATCH` files at a time.

    A run that is killed loses nothing that has its name. After a power cut the files of the last batch are
    compared with their SHA-256 when the ledger is opened, and those that did not reach the disk come again.
    """

    def __init__(self, web: Web, ledger: Ledger, patience: Patience) -> None:
        self._web, self._ledger, self._patience = web, ledger, patience
        self._unsynced: list[tuple[str, Path]] = []
        self._folders: set[Path] = set()
        self._lock = threading.Lock()

    def bring(self, file: Wanted, to: Path, entry: Entry) -> Entry:
        """One file, or why not; its new row. Raises TooLarge, Stopped, and BuildError as a full disk does."""
        body = Body(self._web, self._patience, file, entry.attempts)
        row = replace(entry, state="failed", bytes=0, sha256=None, etag=None)
        try:
            data = body.bring()
        except Final as e:
            row = replace(row, state=e.state, code=e.code, attempts=body.attempts, reason=e.reason)
            self._ledger.record(row)
            return row
        self._write(to, data)
        sha256 = hashlib.sha256(data).hexdigest()
        row = replace(row, state="done", code=body.code, bytes=len(data), sha256=sha256, etag=body.etag)
        row = replace(row, attempts=body.attempts, reason="")
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


def pages(
    jobs: Iterable[Job], known: Callable[[Sequence[Wanted]], list[Entry]]
) -> Iterator[tuple[Job, Entry]]:
    """Jobs with their rows, planned `BATCH` at a time."""
    rest = iter(jobs)
    while page := list(islice(rest, BATCH)):
        yield from zip(page, known([file for file, _ in page]), strict=True)
