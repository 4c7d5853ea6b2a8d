"""Run tasks in worker processes, and say how far they are; a worker that dies costs its task a second try."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from birdmml.errors import BuildError

T = TypeVar("T")
R = TypeVar("R")

# How work says how far it is: (stage, done, total).
Progress = Callable[[str, int, int], None]

MAX_DEATHS = 3
# Names of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def _start_worker() -> None:
    """Ctrl-C is for the parent, who then ends the workers; a worker whose parent is gone ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Let glibc use large blocks again instead of asking the system for each picture: a fifth of the wall time.
    with contextlib.suppress(OSError, AttributeError, TypeError):  # Another C library does as it likes.
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            mallopt(parameter, 1 << 30)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def give_memory_back() -> None:
    """Give the system what was freed: glibc keeps the pages of a stage that is over, and the next asks for more."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # Another C library does as it likes.
        ctypes.CDLL(None).malloc_trim(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # A killed build must not go on writing beside the one that takes over from it.
        os._exit(1)


class Placed(Protocol):
    """A task that writes files, and can be told to write them below another folder."""

    def below(self, root: Path) -> Self:
        """The same task with its files below `root`."""


P = TypeVar("P", bound=Placed)


class Writers(Protocol):
    """What runs tasks that write files of a dataset, wherever it runs them."""

    def run(
        self, function: Callable[[P], R], tasks: Sequence[P], done: Callable[[int, R], None] | None = None
    ) -> list[R]:
        """`function` of every task, in the order of `tasks`; `done(index, result)` as each one ends."""


class Pool:
    """A pool of `workers` processes that is made anew when one of them is killed. With 1: this process."""

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)
        self._pool: ProcessPoolExecutor | None = None
        self._deaths = 0  # Of workers, since a task was last finished.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._close(kill=kind is not None)

    def run(
        self, function: Callable[[T], R], tasks: Sequence[T], done: Callable[[int, R], None] | None = None
    ) -> list[R]:
        """`function` of every task, in the order of `tasks`; `done(index, result)` as each one ends.

        What a task raises is raised here. Raises BuildError if the same tasks keep killing their workers.
        """
        results: dict[int, R] = {}

        def finish(index: int, result: R) -> None:
            results[index] = result
            if done is not None:
                done(index, result)

        self.feed(function, tasks, finish)
        return [results[i] for i in range(len(tasks))]

    def feed(self, function: Callable[[T], R], tasks: Iterable[T], done: Callable[[int, R], None]) -> None:
        """`function` of every task as they come; only a few are held at a time, and no results."""
        queue = enumerate(tasks)
        if self.workers == 1:
            for index, task in queue:
                done(index, function(task))
            return
        flying: dict[Future[R], tuple[int, T]] = {}
        again: list[tuple[int, T]] = []
        self._deaths = 0
        while True:
            try:
                self._fly(function, queue, again, flying, done)
                return
            except BrokenProcessPool as e:
                self._deaths += 1
                again[:0] = sorted(flying.values(), key=lambda entry: entry[0])
                flying.clear()
                self._close(kill=True)
                if self._deaths >= MAX_DEATHS:
                    raise BuildError(
                        f"worker processes were killed {self._deaths} times in a row without finishing a task (out of "
                        "memory?); finished work is kept: run the same command again, with --workers 1 to see more"
                    ) from e

    def _fly(
        self,
        function: Callable[[T], R],
        queue: Iterator[tuple[int, T]],
        again: list[tuple[int, T]],
        flying: dict[Future[R], tuple[int, T]],
        done: Callable[[int, R], None],
    ) -> None:
        """Keep a few tasks a worker in flight until none are left; those of a broken pool stay in `flying`."""
        while True:
            while len(flying) < 2 * self.workers:
                entry = again[0] if again else next(queue, None)
                if entry is None:
                    break
                if not again:
                    again.append(entry)  # Held here until it flies: submitting to a dead pool raises.
                if self._pool is None:
                    # "spawn": forking a process with threads of Arrow or BLAS in it can hang.
                    context = multiprocessing.get_context("spawn")
                    self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
                flying[self._pool.submit(function, entry[1])] = entry
                again.pop(0)
            if not flying:
                return
            ended, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=lambda f: flying[f][0]):
                result = future.result()
                index, _ = flying.pop(future)
                self._deaths = 0
                done(index, result)

    def _close(self, kill: bool) -> None:
        if self._pool is None:
            return
        if kill:
            # Nothing half done can be seen: every file is written beside its place and renamed.
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


def silent(stage: str, done: int, total: int) -> None:
    """A Progress that nobody listens to."""


def counter(progress: Progress, stage: str, total: int) -> Callable[[int, object], None]:
    """What a pool calls as each task ends."""
    ended = itertools.count()  # Tasks end in any order: their indexes do not say how many are done.
    progress(stage, next(ended), total)
    return lambda index, result: progress(stage, next(ended), total)
