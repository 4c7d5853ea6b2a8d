"""How politely hosts are asked: slots, spacing, the waits they ask for, growing waits between attempts, and an end.

`Gate` keeps one host's pace, `Budget` says when a host that fails is asked nothing more, `Lanes` are the threads of
many downloads, so that one slow host holds up no other.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from birdmml.errors import Interrupted, UsageError

LONGEST_BACKOFF_S = 60.0
EPOCH = 1_000_000_000  # A reset time above this is a date, below it a number of seconds.
RETRIES = 10_000
IN_A_ROW = 40
REFUSALS = 200
SILENT_S = 1800.0
LONGEST_GAP_S = 660.0  # The longest wait between two attempts; what lies beyond was no waiting for this host.
LAST_IN_A_ROW = 5
MOST_LANES = 16  # More hosts than this share lanes: threads stay few, whatever a table lists.
THREADS_END_S = 2.0  # How long to wait for threads that were stopped; a read may hang until its timeout.

J = TypeVar("J")
R = TypeVar("R")


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


@dataclass
class _Failures:
    """What a host failed and refused since something last worked there, and the seconds that went by so."""

    last_s: float
    failures: int = 0
    refusals: int = 0
    silent_s: float = 0.0


class Budget:
    """What all downloads of one run share; usable from several threads.

    `retries` are attempts beyond the first, over all files and hosts. Once they are used up a file is given up at
    its first failure. A host is asked nothing more in this run, and what is left of it is given up without a
    request, once nothing worked there `in_a_row` times (5 times after the retries were used up), or for
    `silent_s` seconds, or once it refused `refusals` requests in a row (403: it does not want us).
    """

    def __init__(
        self, retries: int = RETRIES, in_a_row: int = IN_A_ROW, silent_s: float = SILENT_S, refusals: int = REFUSALS
    ) -> None:
        self.retries, self.in_a_row, self.silent_s, self.refusals = retries, in_a_row, silent_s, refusals
        self.left = retries
        self._rows: dict[str, _Failures] = {}
        self._closed: dict[str, str] = {}
        self._lock = threading.Lock()

    def closed(self, host: str) -> str:
        """Why nothing more is asked of a host; "" while it may be asked."""
        with self._lock:
            return self._closed.get(host, "")

    def worked(self, host: str) -> None:
        """The host answered as it should (a file that is not there is an answer, too)."""
        with self._lock:
            self._rows.pop(host, None)

    def refused(self, host: str, now_s: float) -> None:
        """The host answered, but will not give what was asked for: forbidden, wrong twice, redirected astray."""
        with self._lock:
            row = self._rows.setdefault(host, _Failures(now_s))
            row.refusals += 1
            if row.refusals >= self.refusals:
                self._close(host, f"refused {row.refusals} requests in a row")

    def failed(self, host: str, now_s: float, again: bool = True) -> str:
        """Note a failed attempt and, if it is to be made `again`, take a retry; why there is none, or ""."""
        with self._lock:
            row = self._rows.setdefault(host, _Failures(now_s))
            row.failures += 1
            row.silent_s += min(now_s - row.last_s, LONGEST_GAP_S)
            row.last_s = now_s
            most = self.in_a_row if self.left else min(self.in_a_row, LAST_IN_A_ROW)
            silent = row.silent_s > self.silent_s and row.failures >= LAST_IN_A_ROW
            if row.failures >= most or silent:
                return self._close(host, f"failed {row.failures} times in a row")
            if again and not self.left:
                return f"the {self.retries:,} retries of this run are used up"
            self.left -= again
            return ""

    def _close(self, host: str, why: str) -> str:
        return self._closed.setdefault(host, f"{host} {why} and is asked nothing more in this run")


@dataclass(frozen=True)
class Politeness:
    """How hosts are asked, and for how long.

    `agent` is the User-Agent. At most `parallel` answers of one host are read at a time, at most `per_minute`
    requests a minute begin at it; services have a `Pace` of their own in `paces`, by base address. A file is given
    up after `retries` attempts in a row without a new byte (`timeout_s` without any byte, or less than 100 bytes/s
    over it, ends an attempt); waits grow from `back_off_s` to a minute, and a host's own wish (`Retry-After`,
    `X-RateLimit-*`) is granted up to `longest_wait_s`. `budget` bounds what all files and answers together may spend
    on failures (without: each for itself). No file may exceed `most_bytes`.

    `headers` by base address (`{"https://a.org": {"Authorization": ...}}`) go there only, and into no log, error or
    ledger. A redirect into a private network is refused unless `allow_private`, or unless it begins in one. With
    `named`, the base addresses that the user gave, any other address inside a network is refused, whether it stands
    in a table, an answer or a redirect.
    """

    agent: str
    parallel: int = 2
    per_minute: float | None = None
    paces: Mapping[str, Pace] = field(default_factory=dict)
    retries: int = 8
    timeout_s: float = 30.0
    back_off_s: float = 1.0
    longest_wait_s: float = 600.0
    budget: Budget | None = None
    most_bytes: int = 1 << 40
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    allow_private: bool = False
    named: Collection[str] | None = None


class Lanes(Generic[J, R]):
    """Runs `work(job)` in `parallel(host)` threads a lane; results come in the order in which they end."""

    def __init__(self, work: Callable[[J], R], parallel: Callable[[str], int]) -> None:
        self._work, self._parallel = work, parallel
        self._threads_of: list[int] = []
        self._queues: list[queue.SimpleQueue[tuple[J] | None]] = []
        self._threads: list[threading.Thread] = []
        self._lane_of: dict[str, int] = {}
        self._results: queue.SimpleQueue[R | BaseException] = queue.SimpleQueue()
        self._open = 0

    def put(self, host: str, job: J) -> Iterator[R]:
        """Queue a job once there is room; yields what has ended meanwhile, raises what a job raised."""
        number = self._number(host)
        lane = self._queues[number]
        while lane.qsize() >= 2 * self._threads_of[number]:
            yield self._result()
        lane.put((job,))
        self._open += 1
        while not self._results.empty():
            yield self._result()

    def rest(self) -> Iterator[R]:
        """What is still to end."""
        while self._open:
            yield self._result()

    def close(self) -> None:
        """Send the threads home."""
        for lane, threads in zip(self._queues, self._threads_of, strict=True):
            for _ in range(threads):
                lane.put(None)
        until = time.monotonic() + THREADS_END_S
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))

    def _number(self, host: str) -> int:
        """The lane of a host, begun where it is new; hosts that share one get the threads of the widest."""
        number = self._lane_of.setdefault(host, len(self._lane_of) % MOST_LANES)
        if number == len(self._queues):
            self._queues.append(queue.SimpleQueue())
            self._threads_of.append(0)
        while self._threads_of[number] < self._parallel(host):
            thread = threading.Thread(target=self._run, args=(self._queues[number],), daemon=True)
            thread.start()
            self._threads.append(thread)
            self._threads_of[number] += 1
        return number

    def _run(self, lane: queue.SimpleQueue[tuple[J] | None]) -> None:
        while (job := lane.get()) is not None:
            try:
                self._results.put(self._work(job[0]))
            except BaseException as e:  # noqa: BLE001 - raised again by the thread that waits for results
                self._results.put(e)

    def _result(self) -> R:
        result = self._results.get()
        self._open -= 1
        if isinstance(result, BaseException):
            raise result
        return result


def requested_wait_s(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """The seconds for which an answer asks to be left in peace, None when it does not.

    From `Retry-After` (seconds or a date, RFC 9110 10.2.3) of an error, and from `X-RateLimit-Reset` (a date in
    seconds since 1970, or seconds) once `X-RateLimit-Remaining` is 0. Dates are counted from the server's own
    `Date` where it gives one: our clock may be wrong.
    """
    now = _date(headers.get("date", "")) or now
    waits = []
    if status >= 400 and "retry-after" in headers:
        seconds, date = _seconds(headers["retry-after"]), _date(headers["retry-after"])
        waits.append(date - now if seconds is None and date is not None else seconds)
    if headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = _seconds(headers.get("x-ratelimit-reset", ""))
        waits.append(reset - now if reset and reset > EPOCH else reset)
    return max((max(w, 0.0) for w in waits if w is not None), default=None)


def _seconds(text: str) -> float | None:
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
