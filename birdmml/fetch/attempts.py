"""What every request for a small answer shares: attempts until it is there, and a body that is read into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from birdmml.fetch.transfer import Patience
from birdmml.fetch.web import Again, Final, Web

T = TypeVar("T")


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
        except Final:
            web.worked(url)
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
