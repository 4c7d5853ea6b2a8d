"""What every request for a small answer shares: attempts until it is there, and a body that is read into memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from birdmml.fetch.transfer import Patience
from birdmml.fetch.web import Again, Final, Web

T = TypeVar("T")
BLOCK = 1 << 16


class TooLarge(Exception):
    """Not for memory."""


def patiently(web: Web, patience: Patience, url: str, attempt: Callable[[], T]) -> T:
    """What `attempt` gives, which is made again after Again. Raises Final and Stopped."""
    reason, code = "", None
    for failures in range(1, patience.retries + 2):
        web.allowed(url)
        try:
            result = attempt()
            web.worked(url)
            return result
        except Final as e:
            web.worked(url, e)
            raise
        except Again as e:
            reason, code = e.reason, e.code if e.code is not None else code
        again = failures <= patience.retries
        if spent := web.failed(url, again):
            raise Final("failed", f"{reason}; {spent}", code, passing=True)
        if again:
            web.clock.back_off(failures, patience.back_off_s)
    raise Final("failed", f"{reason} ({failures} attempts)", code, passing=True)


def read(web: Web, chunks: Iterator[bytes], most_bytes: int, slow_bps: float = 100.0) -> bytes:
    """A body; raises TooLarge beyond `most_bytes`, Again when it only trickles (below `slow_bps` bytes/s)."""
    clock, body = web.clock, bytearray()
    since, before = clock.monotonic(), 0
    for chunk in chunks:
        clock.check()
        body += chunk
        if len(body) > most_bytes:
            raise TooLarge
        if clock.monotonic() - since >= web.timeout_s:
            if len(body) - before < slow_bps * web.timeout_s:
                raise Again(f"only {len(body) - before:,} bytes came in {web.timeout_s:g} s")
            since, before = clock.monotonic(), len(body)
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
