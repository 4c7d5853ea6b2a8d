"""Downloads: resumed, checked, at each host's pace, and every file's fate in the ledger.

with Ledger(out / "downloads.sqlite") as ledger, Fetcher(ledger, agent="birdmml/0.1 (mailto:me@here)") as fetcher:
    for outcome in fetcher.fetch_all((file, folder / file.key) for file in files):
        print(outcome.key, outcome.state, outcome.reason)
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from birdmml.errors import BuildError
from birdmml.fetch.ask import Reply, ask, unchanged
from birdmml.fetch.attempts import TooLarge
from birdmml.fetch.budget import Budget
from birdmml.fetch.lanes import Lanes
from birdmml.fetch.ledger import GIVEN_UP, Entry, Ledger, Wanted
from birdmml.fetch.pace import Clock, Pace
from birdmml.fetch.part import BLOCK, Part, free_bytes
from birdmml.fetch.small import Job, Small, pages
from birdmml.fetch.transfer import Patience, Progress, Transfer
from birdmml.fetch.web import Final, Web
from birdmml.fetch.words import redact
from birdmml.files import human_bytes

__all__ = ["Clock", "Fetcher", "Outcome", "Space", "Wanted", "free_bytes", "redact", "space_needed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `state` is done, missing, corrupt or failed.

    `path` is where it lies (None unless done), `code` the last HTTP status (None where none was needed or came),
    `bytes` what is on the disk, `md5` the promised one or the measured, `attempts` the requests over all runs.
    """

    key: str
    state: str
    path: Path | None
    code: int | None
    bytes: int
    md5: str | None
    sha256: str | None
    attempts: int
    reason: str


@dataclass(frozen=True)
class Space:
    """Bytes still to come and free at a folder; `unknown` files have no promised size."""

    needed: int
    free: int
    unknown: int = 0

    @property
    def fits(self) -> bool:
        """Whether what is known to come has room."""
        return self.needed <= self.free

    def __str__(self) -> str:
        more = f" and {self.unknown} files of unknown size" if self.unknown else ""
        return f"{human_bytes(self.needed)}{more} needed, {human_bytes(self.free)} free"


def space_needed(jobs: Iterable[Job], folder: Path) -> Space:
    """What the files still need on the disk of `folder`: promised sizes less what is there of them."""
    needed = unknown = 0
    for file, to in jobs:
        there = next((p.stat().st_size for p in (to, to.with_name(to.name + ".part")) if p.is_file()), 0)
        needed += max((file.size or 0) - there, 0)
        unknown += file.size is None and not to.is_file()
    return Space(needed, free_bytes(folder), unknown)


class Fetcher:
    """Downloads for one ledger; a context manager, usable from several threads.

    At most `parallel` answers of one host are read at a time, at most `per_minute` requests a minute begin at
    it. A file is given up after `retries` attempts in a row without a new byte (`timeout_s` without any byte, or
    less than 100 bytes/s over it, ends an attempt); waits grow from `back_off_s` to a minute, and a host's own
    wish (`Retry-After`, `X-RateLimit-*`) is granted up to `longest_wait_s`. `headers` by base address
    (`{"https://a.org": {"Authorization": ...}}`) go there only, and into no log, error or ledger. No file may exceed
    `most_bytes`. A redirect into a private network is refused unless `allow_private`, or unless it begins in one.

    Services have a `Pace` of their own in `paces`, by base address. With `named`, the base addresses that the user
    gave, any other address inside a network is refused, whether it stands in a table, an answer or a redirect.
    `budget` bounds what all files and answers together may spend on failures (without: each for itself).
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        agent: str,
        parallel: int = 2,
        retries: int = 8,
        per_minute: float | None = None,
        headers: Mapping[str, Mapping[str, str]] | None = None,
        timeout_s: float = 30.0,
        back_off_s: float = 1.0,
        longest_wait_s: float = 600.0,
        most_bytes: int = 1 << 40,
        allow_private: bool = False,
        clock: Clock | None = None,
        paces: Mapping[str, Pace] = {},
        named: Collection[str] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.ledger = ledger
        self._clock = clock or Clock()
        self._patience = Patience(retries, back_off_s, 100.0, most_bytes)
        self._busy: set[Path] = set()
        self._lock = threading.Lock()
        self._web = Web(
            self._clock,
            agent=agent,
            headers=headers or {},
            parallel=parallel,
            per_minute=per_minute,
            timeout_s=timeout_s,
            longest_wait_s=longest_wait_s,
            allow_private=allow_private,
            paces=paces,
            named=named,
            budget=budget,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is under way and close the connections; `.part` files stay for the next run."""
        self._clock.stop.set()
        self._web.close()

    def fetch(self, file: Wanted, to: Path, progress: Progress | None = None) -> Outcome:
        """Bring one file to `to`, going on from `<to>.part`; nothing is asked of the server for what is settled.

        Settled is what the ledger has as done and lies there with its size, what lies there with the promised
        MD5, and what the ledger has as missing, corrupt or failed (`Ledger.retry_failed` makes these wanted
        again). `progress(key, bytes, size or None)` is called as bytes come, from this thread. Raises
        BuildError when the disk is full, a file cannot be written, or the ledger fails.
        """
        with self._alone(to):
            self._clock.check()
            self.ledger.plan([file])
            entry = self._entry(file.key)
            if not self._settled(file, to, entry) or (file.fresh and self._changed(file, to, entry)):
                self._bring(file, to, entry, progress)
            return _outcome(self._entry(file.key), to)

    def fetch_all(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[Outcome]:
        """Bring files, at most `parallel` of one host at a time; outcomes come in the order in which they end.

        `jobs` is read as room appears, so millions are fine; `progress` is called from several threads. Raises
        as `fetch` does; then, and when the iterator is closed early, what is under way stops for good.
        """
        lanes: Lanes[Job, Outcome] = Lanes(lambda job: self.fetch(*job, progress), self._web.parallel)
        try:
            for job in jobs:
                yield from lanes.put(self._web.host(job[0].url), job)
            yield from lanes.rest()
        except BaseException:  # Ctrl-C, too, must not leave threads downloading; raised again.
            self._clock.stop.set()
            raise
        finally:
            lanes.close()

    def fetch_small(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Bring many small files (photos), as `fetch_all` does; cheaper: in memory, synced to the disk in batches.

        A file that breaks off begins anew; one above 8 MiB is brought as `fetch` does it. What is settled comes out
        at once. Raises as `fetch_all` does.
        """
        small = Small(self._web, self.ledger, self._patience)
        lanes: Lanes[tuple[Job, Entry], Outcome] = Lanes(
            lambda planned: self._small(small, *planned), self._web.parallel
        )
        try:
            for (file, to), entry in pages(jobs, self.ledger.planned):
                self._clock.check()
                if self._settled(file, to, entry):
                    yield _outcome(self._entry(file.key), to)
                else:
                    yield from lanes.put(self._web.host(file.url), ((file, to), entry))
            yield from lanes.rest()
            small.sync()
        except BaseException:  # Ctrl-C, too, must not leave threads downloading; raised again.
            self._clock.stop.set()
            raise
        finally:
            lanes.close()

    def _small(self, small: Small, job: Job, entry: Entry) -> Outcome:
        file, to = job
        with self._alone(to):
            self._clock.check()
            try:
                return _outcome(small.bring(file, to, entry), to)
            except TooLarge:
                self._bring(file, to, entry, None)
            return _outcome(self._entry(file.key), to)

    def get(self, url: str, most_bytes: int = 1 << 24) -> bytes:
        """A small answer (a page of an API) in memory, with the same patience; nothing goes into the ledger.

        Raises BuildError, without the address's keys, when it does not come or is larger than `most_bytes`.
        """
        try:
            return self.ask(url, most_bytes).body
        except Final as e:
            hint = (
                "check the connection, or try again later"
                if e.passing
                else "check the address and what it asks for"
            )
            raise BuildError(f"{redact(url)}: {e.reason}; {hint}") from e

    def ask(
        self,
        url: str,
        most_bytes: int,
        headers: Mapping[str, str] = {},
        errors: Collection[int] = (),
        check: Callable[[Reply], Any] = lambda reply: None,
    ) -> Reply:
        """As `birdmml.fetch.ask.ask` does it, at this fetcher's pace and on its budget."""
        return ask(self._web, self._patience, url, most_bytes, headers, errors, check)

    def hide(self, *secrets: str) -> None:
        """Keep these out of every error, ledger and log from now on."""
        self._web.hide(*secrets)

    def scrub(self, text: str) -> str:
        """A text without them, and without the keys of addresses in it."""
        return self._web.scrub(text)

    @contextmanager
    def _alone(self, to: Path) -> Iterator[None]:
        """Two threads must not write the same file."""
        with self._lock:
            if to in self._busy:
                raise BuildError(f"{to} is downloaded twice at a time: list each file once")
            self._busy.add(to)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(to)

    def _entry(self, key: str) -> Entry:
        entry = self.ledger.get(key)
        if entry is None:
            raise BuildError(f"{self.ledger.path} lost {key} while it was in use: run it again")
        return entry

    def _settled(self, file: Wanted, to: Path, entry: Entry) -> bool:
        """Whether a file needs no request."""
        size = to.stat().st_size if to.is_file() else None
        if size is not None and entry.state == "done" and size == entry.bytes:
            return True
        if size is not None and file.md5 is not None and file.size in (None, size):
            md5, sha256 = _hashes(to)
            if md5 == file.md5:
                row = replace(entry, state="done", code=None, bytes=size, sha256=sha256, etag=None)
                self.ledger.record(replace(row, reason="was there"))
                return True
        return entry.state in GIVEN_UP

    def _changed(self, file: Wanted, to: Path, entry: Entry) -> bool:
        """Whether the server has another file than the one that lies there; where it does not say, it has not."""
        if entry.state != "done" or not to.is_file() or not entry.etag:
            return False
        try:
            same = unchanged(self._web, self._patience, file.url, entry.etag)
        except Final as e:
            reason = f"kept, for the server did not say whether it changed: {e.reason}"
            self.ledger.record(replace(entry, code=e.code, attempts=entry.attempts + 1, reason=reason))
            return False
        if not same:
            self.ledger.again(file.key)
        return not same

    def _bring(self, file: Wanted, to: Path, entry: Entry, progress: Progress | None) -> None:
        """Download a file, or learn why not, and tell the ledger."""
        with Part(to, file.size) as part:
            part.need(file.size)
            transfer = Transfer(self._web, self.ledger, self._patience, file, part, entry, progress)
            try:
                transfer.run()
                transfer.note("", "done", md5=part.md5(), sha256=part.sha256())
            except Final as e:
                transfer.code = e.code
                transfer.note(e.reason, e.state)
                if not part.size:
                    part.discard()
            except BaseException as e:  # Ctrl-C, too: the ledger is to say how far it came; raised again.
                with suppress(BuildError):  # The disk may be too full for that as well.
                    transfer.note(str(e) or "interrupted")
                raise


def _hashes(path: Path) -> tuple[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def _outcome(e: Entry, to: Path) -> Outcome:
    path = to if e.state == "done" else None
    return Outcome(e.key, e.state, path, e.code, e.bytes, e.md5, e.sha256, e.attempts, e.reason)
