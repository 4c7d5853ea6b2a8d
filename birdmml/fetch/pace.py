"""How fast a host is asked: slots, spacing, the waits it asks for, and a growing wait between attempts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from birdmml.errors import Interrupted, UsageError

LONGEST_BACKOFF_S = 60.0
EPOCH = 1_000_000_000  # A reset time above this is a date, below it a number of seconds.


class Stopped(Interrupted):
    """Somebody asked the downloads to stop (Ctrl-C, an error in another thread)."""


class Clock:
    """Time and chance as the downloads see them; tests put their own in."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def monotonic(self) -> float:
        """Seconds from anywhere."""
        return time.monotonic()

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def jitter(self) -> float:
        """A number in [0, 1)."""
        return random.random()

    def sleep(self, seconds: float) -> None:
        """Wait; ends early when stopped."""
        self.stop.wait(seconds)

    def check(self) -> None:
        """Raise Stopped once somebody asked to stop."""
        if self.stop.is_set():
            raise Stopped("the downloads were stopped: run it again, it goes on from what is there")

    def back_off(self, failures: int, base_s: float) -> None:
        """Wait after the n-th failure in a row: base, twice base, ... up to a minute, less up to half by chance."""
        longest = min(LONGEST_BACKOFF_S, base_s * 2.0 ** min(max(failures - 1, 0), 30))
        self.sleep(longest * (1 - self.jitter() / 2))
        self.check()


@dataclass(frozen=True)
class Pace:
    """What one service allows: so many requests a second (None: any number) and answers at a time."""

    per_second: float | None = None
    parallel: int = 2

    def __post_init__(self) -> None:
        if self.parallel < 1 or (self.per_second is not None and not 0 < self.per_second < float("inf")):
            raise UsageError(
                f"a pace of {self.per_second} requests a second, {self.parallel} at a time: both must be above 0"
            )

    def shared(self, parts: int) -> Pace:
        """The share of each of `parts` that run at a time: together they ask no faster than this pace."""
        per_second = self.per_second / parts if self.per_second is not None else None
        return Pace(per_second, max(1, self.parallel // parts))


class Gate:
    """One host: at most `parallel` answers in flight, requests spaced, and none while it asked for peace."""

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self._clock = clock
        self._slots = threading.BoundedSemaphore(pace.parallel)
        self._lock = threading.Lock()
        self._spacing_s = 1.0 / pace.per_second if pace.per_second else 0.0
        self._free_at = self._peace_until = float("-inf")

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A request and its answer; waits for its turn. Raises Stopped."""
        with self._slots:
            while (wait_s := self._turn()) > 0:
                self._clock.sleep(wait_s)
                self._clock.check()
            yield

    def hold(self, seconds: float) -> None:
        """Ask nothing of this host for so long."""
        with self._lock:
            self._peace_until = max(self._peace_until, self._clock.monotonic() + seconds)

    def _turn(self) -> float:
        """Seconds still to wait; at zero the turn is taken."""
        self._clock.check()
        with self._lock:
            now = self._clock.monotonic()
            wait_s = max(self._free_at, self._peace_until) - now
            if wait_s <= 0:
                self._free_at = now + self._spacing_s
            return wait_s


def wait_asked(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """The seconds for which an answer asks to be left in peace, None when it does not.

    From `Retry-After` (seconds or a date, RFC 9110 10.2.3) of an error, and from `X-RateLimit-Reset` (a date in
    seconds since 1970, or seconds) once `X-RateLimit-Remaining` is 0. Dates are counted from the server's own
    `Date` where it gives one: our clock may be wrong.
    """
    now = _date(headers.get("date", "")) or now
    waits = []
    if status >= 400 and "retry-after" in headers:
        waits.append(_after(headers["retry-after"], now))
    if headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = _seconds(headers.get("x-ratelimit-reset", ""))
        waits.append(reset - now if reset and reset > EPOCH else reset)
    return max((max(w, 0.0) for w in waits if w is not None), default=None)


def _after(text: str, now: float) -> float | None:
    seconds = _seconds(text)
    if seconds is not None:
        return seconds
    date = _date(text)
    return date - now if date is not None else None


def _seconds(text: str) -> float | None:
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
