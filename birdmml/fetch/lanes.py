"""Threads for many downloads: a few for each host, behind a short queue, so that one slow host holds up no other."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")

MOST_LANES = 16  # More hosts than this share lanes: threads stay few, whatever a table lists.
PATIENCE_S = 2.0  # How long to wait for threads that were stopped; a read may hang until its timeout.


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
        until = time.monotonic() + PATIENCE_S
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
        got = self._results.get()
        self._open -= 1
        if isinstance(got, BaseException):
            raise got
        return got
