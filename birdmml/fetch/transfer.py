"""One file on its way to the disk: attempts until its bytes are there and right, or it is given up with a reason.

What has come so far lies in a `.part` file, hashed as it comes and renamed when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NoReturn, Self

import httpx

from birdmml.core.files import human_bytes, sync_folder
from birdmml.errors import BuildError
from birdmml.fetch.ask import TooLarge, Trickle, patiently, read, steady
from birdmml.fetch.ledger import Ledger, LedgerRow, WantedFile
from birdmml.fetch.web import Again, Final, Web, Wrong, is_page, words

Progress = Callable[[str, int, int | None], None]

BLOCK = 1 << 20
SMALL_BYTES = 8 << 20  # A larger file goes to the disk as it comes.
HEAD = 1024
FULL = (errno.ENOSPC, errno.EDQUOT)

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$")
_STRONG = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # RFC 9110 8.8.3; a weak one says nothing of bytes.
_RANGE_REFUSED = re.compile(r"bytes \*/(\d{1,18})$")


def free_bytes(folder: Path) -> int:
    """Bytes free for us where `folder` lies or will lie. Raises BuildError where that cannot be told."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        return shutil.disk_usage(there).free
    except OSError as e:
        raise BuildError(f"the free space of {folder} cannot be read ({e}): name another folder") from e


class PartFile:
    """`<to>.part`, open for writing at its end; a context manager that closes it and leaves it there.

    `size` bytes are in it, `head` are the first of them; `md5()` and `sha256()` cover all. Raises BuildError
    when the disk is full (with the bytes needed and free) or the file cannot be read or written.
    """

    def __init__(self, to: Path, promised: int | None) -> None:
        self.to, self.promised = to, promised
        self.path = to.with_name(to.name + ".part")
        with self._on_disk():
            to.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115, PTH123 - closed by __exit__; unbuffered: a kill loses nothing
        self._begin()
        with self._on_disk():
            self._file.seek(0)
            while block := self._file.read(BLOCK):
                self._take(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        while rest:
            with self._on_disk():
                n = self._file.write(rest)
            self._take(rest[:n])
            rest = rest[n:]

    def restart(self) -> None:
        """Forget all bytes."""
        with self._on_disk():
            self._file.truncate(0)
        self._begin()

    def need(self, size: int | None) -> None:
        """Raise BuildError when a file of `size` bytes does not fit on the disk with what is there of it."""
        free = free_bytes(self.to.parent)
        if size is not None and size - self.size > free:
            raise BuildError(self._full(size - self.size, free))

    def finish(self) -> None:
        """Sync, and rename to the file's own name."""
        with self._on_disk():
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(self.to)
        sync_folder(self.to.parent)

    def discard(self) -> None:
        """Delete it."""
        with self._on_disk():
            self._file.close()
            self.path.unlink(missing_ok=True)

    def md5(self) -> str:
        """Hex MD5 of all bytes."""
        return self._md5.hexdigest()

    def sha256(self) -> str:
        """Hex SHA-256 of all bytes."""
        return self._sha256.hexdigest()

    def _begin(self) -> None:
        self.size, self.head = 0, b""
        self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()

    def _take(self, block: bytes | memoryview) -> None:
        if len(self.head) < HEAD:
            self.head += bytes(block[: HEAD - len(self.head)])
        self.size += len(block)
        self._md5.update(block)
        self._sha256.update(block)

    def _full(self, needed: int | None, free: int) -> str:
        more = f"{needed:,} bytes ({human_bytes(needed)}) more are needed" if needed else "more bytes are needed"
        return (
            f"the disk of {self.to.parent} is full: {more} for {self.to.name}, {free:,} ({human_bytes(free)}) are "
            "free: make room, then run it again; it goes on from what is there"
        )

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            if e.errno in FULL:
                needed = self.promised - self.size if self.promised is not None else None
                raise BuildError(self._full(needed, free_bytes(self.to.parent))) from e
            raise BuildError(f"{self.path} cannot be written ({e}): check the folder, then run it again") from e


class _Attempts:
    """What is known of a planned file on its way: `code`, `etag` and `attempts` say how it went."""

    def __init__(self, web: Web, file: WantedFile, entry: LedgerRow) -> None:
        self.web, self.file, self.entry = web, file, entry
        self.attempts, self.etag = entry.attempts, entry.etag
        self.code: int | None = None

    def row(
        self, state: str, reason: str = "", size: int = 0, md5: str | None = None, sha256: str | None = None
    ) -> LedgerRow:
        """The ledger's row for a file of which `size` bytes are here."""
        row = replace(self.entry, state=state, code=self.code, bytes=size, md5=self.entry.md5 or md5)
        return replace(row, sha256=sha256, etag=self.etag, attempts=self.attempts, reason=reason)

    def _check(self, size: int, md5: Callable[[], str]) -> None:
        """Raise Wrong unless size and MD5 are the promised ones."""
        if problem := self.file.problem(size, md5):
            raise Wrong(problem, self.code)

    def _page(self, text: str) -> NoReturn:
        """Raise Again for a page that says `text`."""
        text = self.web.scrub(f"a page came instead of the file: {text}", self.file.url)
        raise Again(text, self.code)


class MemoryTransfer(_Attempts):
    """The attempts for one small file."""

    def run(self) -> bytes:
        """All bytes, checked. Raises Final, TooLarge (above `SMALL_BYTES`) or Stopped."""
        return patiently(self.web, self.file.url, self._attempt)

    def _attempt(self) -> bytes:
        self.attempts += 1
        with self.web.open(self.file.url) as answer:
            self.code = answer.status_code
            self.web.refuse(answer)
            if answer.status_code != 200:
                raise Again(f"HTTP {answer.status_code} brings no file", answer.status_code)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise Again("the server recompressed the file", 200)
            if (_number(answer.headers.get("content-length")) or 0) > SMALL_BYTES:
                raise TooLarge
            self.etag = answer.headers.get("etag", "")[:200] or None
            data = read(self.web, answer.iter_raw(), SMALL_BYTES)
            if not self.file.page_ok and is_page(data[:1024], answer.headers.get("content-type", "")):
                self._page(words(data[:4096]))
        self._check(len(data), lambda: hashlib.md5(data, usedforsecurity=False).hexdigest())
        return data


class Transfer(_Attempts):
    """The attempts for one file. `run` ends with Final, with a done file, or with an error of the disk."""

    def __init__(
        self, web: Web, ledger: Ledger, file: WantedFile, part: PartFile, entry: LedgerRow, progress: Progress | None
    ) -> None:
        super().__init__(web, file, entry)
        self.ledger, self.part, self.progress = ledger, part, progress
        self.total = file.size
        self._ranged = True  # Until the server got a range wrong.
        self._high = part.size  # Progress is what goes beyond the most that was there.

    def run(self) -> None:
        """Bring the file: at the end the part has been renamed. Raises Final, Stopped or BuildError."""
        if not (self.file.md5 or self.etag) or self.part.size > self._most():
            self.part.restart()  # Nothing could tell whether these bytes and the next ones are of one file.
            self._high = 0
        patiently(self.web, self.file.url, self._attempt_noted, self._missed)

    def _attempt_noted(self) -> None:
        """One attempt; what went wrong with it decides what is kept."""
        try:
            self._attempt()
        except Again as e:
            self.code = e.code = e.code if e.code is not None else self.code
            if isinstance(e, Trickle):  # It is no progress.
                self._high = max(self._high, self.part.size)
            if isinstance(e, Wrong):
                e.reason = f"{e.problem}; asked again"
                if e.taken:
                    self._high = 0
                    self._forget()
            raise

    def _missed(self, reason: str) -> bool:
        """Note a failed attempt; whether it brought more than was ever there."""
        progress = self.part.size > self._high
        self._high = max(self._high, self.part.size)
        self.note(reason)
        return progress

    def _attempt(self) -> None:
        """One request, unless everything is there, and a look at all of it."""
        if not (self.part.size and self.part.size == self.total):
            self.attempts += 1
            headers: dict[str, str] = {}
            if self.part.size and self._ranged and (self.file.md5 or self.etag):
                condition = {"If-Range": self.etag} if self.etag else {}
                headers = {"Range": f"bytes={self.part.size}-", **condition}
            with self.web.open(self.file.url, headers) as answer:
                self.code = answer.status_code
                if not self._refused_as_complete(answer):
                    self.web.refuse(answer)
                    self._receive(answer)
        self._check(self.part.size, self.part.md5)
        if not (self.file.md5 or self.file.page_ok) and is_page(self.part.head):
            text = words(self.part.head)
            self._forget()
            self._page(text)
        self.part.finish()

    def _refused_as_complete(self, answer: httpx.Response) -> bool:
        """Whether 416 says that the bytes that are there are all; raises Again for any other 416."""
        if answer.status_code != 416:
            return False
        refusal = _RANGE_REFUSED.match(answer.headers.get("content-range", ""))
        if self.file.size is None and refusal and int(refusal[1]) == self.part.size > 0:
            return True
        self._ranged = False
        self._forget()
        raise Again("HTTP 416: the server has no such range; started over", 416)

    def _receive(self, answer: httpx.Response) -> None:
        """Check what the answer claims to be, then append its body."""
        chunks = answer.iter_raw()
        first = next(chunks, b"")
        begins = first if answer.status_code == 200 else b""
        if not self.file.page_ok and is_page(begins, answer.headers.get("content-type", "")):
            self._page(self.web.first_words(chain([first], chunks)))
        if not self._start(answer):  # A body from the first byte: what was there goes.
            if self.part.size:
                self.part.restart()
            etag = answer.headers.get("etag", "")
            self.etag = etag if _STRONG.fullmatch(etag) else None
        self.note("", "partial")
        self.part.need(self.total)
        for chunk in steady(self.web, chain([first], chunks)):
            if self.part.size + len(chunk) > self._most():
                self._too_many()
            self.part.write(chunk)
            if self.progress:
                self.progress(self.file.key, self.part.size, self.total)
        if self.total is not None and self.part.size < self.total:
            raise Again(f"the answer ended after {self.part.size:,} of {self.total:,} bytes", self.code)

    def _start(self, answer: httpx.Response) -> int:
        """The byte at which the body begins: where we are, or 0. Raises Again for a range that does not fit."""
        encoding = answer.headers.get("content-encoding", "identity")
        if encoding != "identity" and not self.file.md5:
            raise Again(f"the server recompressed the file ({encoding[:20]}) and no MD5 is known", self.code)
        if answer.status_code == 200:
            self._promise(_number(answer.headers.get("content-length")))
            return 0
        if answer.status_code != 206:
            raise Again(f"HTTP {answer.status_code} brings no file", self.code)
        if problem := self._misfit(answer):
            self._forget()
            raise Again(f"{problem}; started over", 206)
        return self.part.size

    def _promise(self, total: int | None) -> None:
        """Take the server's size for an unknown one; raises Wrong, before a byte is lost, where it contradicts."""
        if total is not None and self.file.size not in (None, total):
            raise Wrong(f"the server has {total:,} bytes, {self.file.size:,} were promised", self.code, taken=False)
        self.total = self.file.size if total is None else total
        if self.total is not None and self.total > self.web.politeness.most_bytes:
            self._too_many()

    def _misfit(self, answer: httpx.Response) -> str:
        """What is wrong with a 206, if anything: it must go on where we are, in the file that we began."""
        sent = _RANGE.match(answer.headers.get("content-range", ""))
        total, new = _number(sent[3] if sent else None), answer.headers.get("etag")
        if not (
            sent
            and "range" in answer.request.headers
            and int(sent[1]) == self.part.size
            and self.file.size in (None, total or self.file.size)
        ):
            self._ranged = False
            return "the server sent another range than was asked for"
        if (self.etag and new and new != self.etag) or (self.total and total and self.total != total):
            return "the file on the server has changed"
        self.total = self.total or total
        return ""

    def _most(self) -> int:
        most_bytes = self.web.politeness.most_bytes
        return most_bytes if self.total is None else min(most_bytes, self.total)

    def _too_many(self) -> NoReturn:
        """The rest of the body is not read."""
        if self._most() == self.total:
            raise Wrong(f"more than the promised {self.total:,} bytes came", self.code)
        self.part.restart()
        raise Final("failed", f"more than the {self.web.politeness.most_bytes:,} bytes that a file may have", self.code)

    def _forget(self) -> None:
        """From zero, with nothing known of the file but what was promised."""
        self.part.restart()
        self.total, self.etag = self.file.size, None

    def note(self, reason: str, state: str = "", md5: str | None = None, sha256: str | None = None) -> None:
        """Tell the ledger how far it came."""
        state = state or ("partial" if self.part.size else "wanted")
        self.ledger.record(self.row(state, reason, self.part.size, md5, sha256))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
