"""One file on its way: attempts until its bytes are there and right, or it is given up with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NoReturn

import httpx

from birdmml.fetch.ledger import Entry, Ledger, Wanted
from birdmml.fetch.part import Part
from birdmml.fetch.web import Again, Final, Web
from birdmml.fetch.words import is_page, words

Progress = Callable[[str, int, int | None], None]

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$")
_STRONG = re.compile(r'"[\x21\x23-\x7e]{0,200}"')  # RFC 9110 8.8.3; a weak one says nothing of bytes.
_RANGE_REFUSED = re.compile(r"bytes \*/(\d{1,18})$")


@dataclass(frozen=True)
class Patience:
    """When to give up: `retries` attempts in a row that bring nothing; below `slow_bps` bytes a second is nothing."""

    retries: int
    back_off_s: float
    slow_bps: float
    most_bytes: int


class Wrong(Exception):
    """The bytes are not what was promised; `taken` says whether wrong ones are among ours."""

    def __init__(self, reason: str, code: int | None = None, taken: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.code, self.taken = reason, code, taken


class Transfer:
    """The attempts for one planned file. `run` ends with Final, with a done file, or with an error of the disk."""

    def __init__(
        self,
        web: Web,
        ledger: Ledger,
        patience: Patience,
        file: Wanted,
        part: Part,
        entry: Entry,
        progress: Progress | None,
    ) -> None:
        self.web, self.ledger, self.patience = web, ledger, patience
        self.file, self.part, self.progress = file, part, progress
        self.entry, self.attempts, self.etag = entry, entry.attempts, entry.etag
        self.code: int | None = None
        self.total = file.size
        self._ranged = True  # Until the server got a range wrong.
        self._wrong = 0
        self._high = part.size  # Progress is what goes beyond the most that was there.

    def run(self) -> None:
        """Bring the file: at the end the part has been renamed. Raises Final, Stopped or BuildError."""
        idle, reason = 0, ""
        if not (self.file.md5 or self.etag) or self.part.size > self._most():
            self.part.restart()  # Nothing could tell whether these bytes and the next ones are of one file.
            self._high = 0
        while idle <= self.patience.retries:
            self.web.allowed(self.file.url)
            try:
                self._attempt()
                self.web.worked(self.file.url)
                return
            except Final as e:
                self.web.worked(self.file.url, e)
                raise
            except Again as e:
                reason, self.code = e.reason, e.code if e.code is not None else self.code
            except Wrong as e:
                reason = self._start_over(e)
            idle = 0 if self.part.size > self._high else idle + 1
            self._high = max(self._high, self.part.size)
            self.note(reason)
            again = idle <= self.patience.retries
            if spent := self.web.failed(self.file.url, again):
                raise Final("failed", f"{reason}; {spent}", self.code)
            if again:
                self.web.clock.back_off(idle, self.patience.back_off_s)
        raise Final("failed", f"{reason} ({idle} attempts brought nothing)", self.code)

    def _attempt(self) -> None:
        """One request, unless everything is there, and a look at the whole."""
        if not (self.part.size and self.part.size == self.total):
            self.attempts += 1
            with self.web.open(self.file.url, self._range()) as answer:
                self.code = answer.status_code
                if not self._refused_as_whole(answer):
                    self.web.refuse(answer)
                    self._receive(answer)
        self._verify()
        self.part.finish()

    def _range(self) -> dict[str, str]:
        if not (self.part.size and self._ranged and (self.file.md5 or self.etag)):
            return {}
        condition = {"If-Range": self.etag} if self.etag else {}
        return {"Range": f"bytes={self.part.size}-", **condition}

    def _refused_as_whole(self, answer: httpx.Response) -> bool:
        """Whether 416 says that the bytes that are there are all; raises Again for any other 416."""
        if answer.status_code != 416:
            return False
        found = _RANGE_REFUSED.match(answer.headers.get("content-range", ""))
        if self.file.size is None and found and int(found[1]) == self.part.size > 0:
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
            self._page(self.web.said(chain([first], chunks)))
        start = self._start(answer)
        if not start:
            self._begin(answer)
        self.note("", "partial")
        self.part.need(self.total)
        self._append(chain([first], chunks))
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
            raise Wrong(
                f"the server has {total:,} bytes, {self.file.size:,} were promised", self.code, taken=False
            )
        self.total = self.file.size if total is None else total
        if self.total is not None and self.total > self.patience.most_bytes:
            self._too_many()

    def _misfit(self, answer: httpx.Response) -> str:
        """What is wrong with a 206, if anything: it must go on where we are, in the file that we began."""
        found = _RANGE.match(answer.headers.get("content-range", ""))
        total, new = _number(found[3] if found else None), answer.headers.get("etag")
        asked = "range" in answer.request.headers
        if not (
            found
            and asked
            and int(found[1]) == self.part.size
            and self.file.size in (None, total or self.file.size)
        ):
            self._ranged = False
            return "the server sent another range than was asked for"
        if (self.etag and new and new != self.etag) or (self.total and total and self.total != total):
            return "the file on the server has changed"
        self.total = self.total or total
        return ""

    def _begin(self, answer: httpx.Response) -> None:
        """A body from the first byte: what was there goes."""
        if self.part.size:
            self.part.restart()
        etag = answer.headers.get("etag", "")
        self.etag = etag if _STRONG.fullmatch(etag) else None

    def _append(self, chunks: Iterator[bytes]) -> None:
        """Write until the body ends; raises Wrong beyond the promised size, Again when it only trickles."""
        clock, timeout_s = self.web.clock, self.web.timeout_s
        since, before = clock.monotonic(), self.part.size
        for chunk in chunks:
            clock.check()
            if self.part.size + len(chunk) > self._most():
                self._too_many()
            self.part.write(chunk)
            if self.progress:
                self.progress(self.file.key, self.part.size, self.total)
            if clock.monotonic() - since >= timeout_s:
                if self.part.size - before < self.patience.slow_bps * timeout_s:
                    self._high = max(self._high, self.part.size)  # A trickle is no progress.
                    raise Again(f"only {self.part.size - before:,} bytes came in {timeout_s:g} s", self.code)
                since, before = clock.monotonic(), self.part.size

    def _most(self) -> int:
        return min(self.patience.most_bytes, self.patience.most_bytes if self.total is None else self.total)

    def _too_many(self) -> NoReturn:
        """The rest of the body is not read."""
        if self._most() == self.total:
            raise Wrong(f"more than the promised {self.total:,} bytes came", self.code)
        self.part.restart()
        raise Final(
            "failed", f"more than the {self.patience.most_bytes:,} bytes that a file may have", self.code
        )

    def _verify(self) -> None:
        """Raises Wrong unless size and MD5 are the promised ones, Again for a page."""
        if self.file.size not in (None, self.part.size):
            raise Wrong(f"{self.part.size:,} bytes came, {self.file.size:,} were promised", self.code)
        if self.file.md5 not in (None, self.part.md5()):
            raise Wrong(f"the MD5 is {self.part.md5()}, {self.file.md5} was promised", self.code)
        if not (self.file.md5 or self.file.page_ok) and is_page(self.part.head):
            said = words(self.part.head)
            self._forget()
            self._page(said)

    def _page(self, said: str) -> NoReturn:
        raise Again(self.web.scrub(f"a page came instead of the file: {said}", self.file.url), self.code)

    def _start_over(self, wrong: Wrong) -> str:
        """Once; raises Final the second time. Bytes known to be wrong are not kept."""
        self.code = wrong.code if wrong.code is not None else self.code
        self._wrong += 1
        if wrong.taken:
            self._high = 0
            self._forget()
        if self._wrong > 1:
            raise Final("corrupt", f"{wrong.reason}; twice", self.code)
        return f"{wrong.reason}; asked again"

    def _forget(self) -> None:
        """From zero, with nothing known of the file but what was promised."""
        self.part.restart()
        self.total, self.etag = self.file.size, None

    def note(self, reason: str, state: str = "", md5: str | None = None, sha256: str | None = None) -> None:
        """Tell the ledger how far it came."""
        self.ledger.record(
            replace(
                self.entry,
                state=state or ("partial" if self.part.size else "wanted"),
                code=self.code,
                bytes=self.part.size,
                md5=md5,
                sha256=sha256,
                etag=self.etag,
                attempts=self.attempts,
                reason=reason,
            )
        )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
