"""Run tasks in worker processes; a worker that dies costs its task a second try, not the build."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self, TypeVar

from birdmml.errors import BuildError

T = TypeVar("T")
R = TypeVar("R")

MAX_DEATHS = 3


def _start_worker() -> None:
    """Ctrl-C is for the parent, who then ends the workers; a worker whose parent is gone ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # A killed build must not go on writing beside the one that takes over from it.
        os._exit(1)


class Pool:
    """A pool of `workers` processes that is made anew when one of them is killed. With 1: this process."""

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)
        self._pool: ProcessPoolExecutor | None = None

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

        if self.workers == 1:
            for index, task in enumerate(tasks):
                finish(index, function(task))
        else:
            self._run_in_workers(function, tasks, results, finish)
        return [results[i] for i in range(len(tasks))]

    def _run_in_workers(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        results: dict[int, R],
        finish: Callable[[int, R], None],
    ) -> None:
        deaths = 0
        while len(results) < len(tasks):
            before = len(results)
            try:
                self._drain(function, [(i, t) for i, t in enumerate(tasks) if i not in results], finish)
            except BrokenProcessPool as e:
                self._close(kill=True)
                deaths = 1 if len(results) > before else deaths + 1
                if deaths >= MAX_DEATHS:
                    raise BuildError(
                        f"worker processes were killed {deaths} times in a row without finishing a task (out of "
                        "memory?); finished work is kept: run the same command again, with --workers 1 to see more"
                    ) from e

    def _drain(
        self, function: Callable[[T], R], todo: Sequence[tuple[int, T]], finish: Callable[[int, R], None]
    ) -> None:
        """Keep a few tasks a worker in flight: the queue stays short however many tasks there are."""
        if self._pool is None:
            # "spawn": forking a process with threads of Arrow or BLAS in it can hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        flying: dict[Future[R], int] = {}
        queue = iter(todo)
        while True:
            while len(flying) < 2 * self.workers and (entry := next(queue, None)) is not None:
                flying[self._pool.submit(function, entry[1])] = entry[0]
            if not flying:
                return
            ended, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=lambda f: flying[f]):
                finish(flying.pop(future), future.result())

    def _close(self, kill: bool) -> None:
        if self._pool is None:
            return
        if kill:
            # Nothing half done can be seen: every file is written beside its place and renamed.
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
