"""Asking with patience: one loop of attempts for every request, and small answers that are read into memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from birdmml.core.files import human_bytes
from birdmml.fetch.web import Again, Final, Web, Wrong, is_page

T = TypeVar("T")
BLOCK = 1 << 16
SLOW_BPS = 100.0  # What comes more slowly, bytes a second, does not come at all.
UNCHANGED = 304


class TooLarge(Exception):
    """Not for memory."""


class Trickle(Again):
    """Bytes come, but too slowly to wait for the rest."""


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its body (empty for 304), its ETag and type ("" where it has none)."""

    code: int
    body: bytes
    etag: str
    kind: str


def patiently(web: Web, url: str, attempt: Callable[[], T], missed: Callable[[str], bool] | None = None) -> T:
    """What `attempt` gives, which is made again after Again, and once after Wrong. Raises Final and Stopped.

    `missed` is told the reason of each attempt that failed and says whether it brought something all the same: then
    the attempts are counted anew.
    """
    politeness, clock, budget, host = web.politeness, web.clock, web.budget, web.host(url)
    idle, code, wrong = 0, None, False
    while True:
        if closed := budget.closed(host):
            raise Final("failed", closed, passing=True)
        try:
            result = _attempted(attempt, wrong)
            budget.worked(host)
            return result
        except Final as e:
            # "It is not here" is a proper answer of a host that works; any other end is a refusal.
            if e.state == "missing":
                budget.worked(host)
            else:
                budget.refused(host, clock.monotonic())
            raise
        except Again as e:
            reason, code = e.reason, e.code if e.code is not None else code
            wrong = wrong or isinstance(e, Wrong)
        idle = 0 if missed and missed(reason) else idle + 1
        again = idle <= politeness.retries
        if spent := budget.failed(host, clock.monotonic(), again):
            raise Final("failed", f"{reason}; {spent}", code, passing=True)
        if not again:
            nothing = " brought nothing" if missed else ""
            raise Final("failed", f"{reason} ({idle} attempts{nothing})", code, passing=True)
        clock.back_off(idle, politeness.back_off_s)


def _attempted(attempt: Callable[[], T], wrong: bool) -> T:
    """One attempt; what was `wrong` before must not be wrong again."""
    try:
        return attempt()
    except Wrong as e:
        if wrong:
            raise Final(e.state, f"{e.problem}; twice", e.code) from e
        raise


def ask(web: Web, url: str, most_bytes: int, headers: Mapping[str, str] = {}, errors: Collection[int] = ()) -> Reply:
    """The answer to one GET: 200, 304 where `headers` ask for it, or one of `errors`. Raises Again, Final, Stopped."""
    with web.open(url, headers) as answer:
        code = answer.status_code
        if code not in errors:
            web.refuse(answer)
        fine = {200, *errors} | ({UNCHANGED} if "If-None-Match" in headers else set())
        if code not in fine:
            raise Final("failed", f"HTTP {code} is no answer", code)
        try:
            chunks, encoding = answer.iter_raw(), answer.headers.get("content-encoding", "identity")
            if encoding != "identity":
                chunks = unpacked(chunks, encoding)
            body = b"" if code == UNCHANGED else read(web, chunks, most_bytes)
        except TooLarge:
            raise Final("failed", f"the answer is larger than {human_bytes(most_bytes)}", code) from None
        return Reply(code, body, answer.headers.get("etag", "")[:200], answer.headers.get("content-type", ""))


def unchanged(web: Web, url: str, etag: str) -> bool:
    """Whether the server's file still has this ETag; its body is not read. Raises Final where it does not say."""

    def look() -> bool:
        with web.open(url, {"If-None-Match": etag}) as answer:
            web.refuse(answer)
            if answer.status_code not in (200, UNCHANGED):
                raise Final("failed", f"HTTP {answer.status_code} is no answer", answer.status_code)
            if answer.status_code == 200 and is_page(b"", answer.headers.get("content-type", "")):
                raise Again("a page came instead of the file", 200)
            return answer.status_code == UNCHANGED or answer.headers.get("etag") == etag

    return patiently(web, url, look)


def steady(web: Web, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks of a body; raises Trickle when it only trickles, and Stopped."""
    clock, timeout_s = web.clock, web.politeness.timeout_s
    since, size = clock.monotonic(), 0
    for chunk in chunks:
        clock.check()
        yield chunk
        size += len(chunk)
        if clock.monotonic() - since >= timeout_s:
            if size < SLOW_BPS * timeout_s:
                raise Trickle(f"only {size:,} bytes came in {timeout_s:g} s")
            since, size = clock.monotonic(), 0


def read(web: Web, chunks: Iterator[bytes], most_bytes: int) -> bytes:
    """A body; raises TooLarge beyond `most_bytes`, Trickle when it only trickles."""
    body = bytearray()
    for chunk in steady(web, chunks):
        body += chunk
        if len(body) > most_bytes:
            raise TooLarge
    return bytes(body)


def unpacked(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """A body that the service compressed, a block at a time however much is in it; gzip only, else raises Again."""
    if encoding.strip().casefold() not in ("gzip", "x-gzip"):
        raise Again("the answer is compressed and cannot be opened")
    gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for chunk in chunks:
            while chunk:
                yield gzip.decompress(chunk, BLOCK)
                chunk = gzip.unconsumed_tail
    except zlib.error as e:
        raise Again("the answer is compressed and cannot be opened") from e
    if not gzip.eof:
        raise Again("the answer ended before it was whole")
