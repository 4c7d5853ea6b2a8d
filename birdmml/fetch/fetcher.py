"""Downloads: resumed, checked, at each host's pace, and every file's fate in the ledger.

with Ledger(out / "downloads.sqlite") as ledger, Fetcher(ledger, agent="birdmml/0.1 (mailto:me@here)") as fetcher:
    for outcome in fetcher.fetch_all((file, folder / file.key) for file in files):
        print(outcome.key, outcome.state, outcome.reason)
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from birdmml.errors import BuildError
from birdmml.fetch.lanes import Lanes
from birdmml.fetch.ledger import GIVEN_UP, Entry, Ledger, Wanted
from birdmml.fetch.pace import Clock
from birdmml.fetch.part import BLOCK, Part, free_bytes
from birdmml.fetch.transfer import Patience, Progress, Transfer
from birdmml.fetch.web import Again, Final, Web
from birdmml.fetch.words import redact
from birdmml.files import human_bytes

__all__ = ["Clock", "Fetcher", "Outcome", "Space", "Wanted", "free_bytes", "redact", "space_needed"]

Job = tuple[Wanted, Path]


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
    ) -> None:
        self.ledger = ledger
        self._clock = clock or Clock()
        self._parallel = parallel
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
            if not self._settled(file, to, entry):
                self._bring(file, to, entry, progress)
            return _outcome(self._entry(file.key), to)

    def fetch_all(self, jobs: Iterable[Job], progress: Progress | None = None) -> Iterator[Outcome]:
        """Bring files, at most `parallel` of one host at a time; outcomes come in the order in which they end.

        `jobs` is read as room appears, so millions are fine; `progress` is called from several threads. Raises
        as `fetch` does; then, and when the iterator is closed early, what is under way stops for good.
        """
        lanes: Lanes[Job, Outcome] = Lanes(lambda job: self.fetch(*job, progress), self._parallel)
        try:
            for job in jobs:
                yield from lanes.put(_host(job[0].url), job)
            yield from lanes.rest()
        except BaseException:  # Ctrl-C, too, must not leave threads downloading; raised again.
            self._clock.stop.set()
            raise
        finally:
            lanes.close()

    def get(self, url: str, most_bytes: int = 1 << 24) -> bytes:
        """A small answer (a page of an API) in memory, with the same patience; nothing goes into the ledger.

        Raises BuildError, without the address's keys, when it does not come or is larger than `most_bytes`.
        """
        last = ""
        for failures in range(self._patience.retries + 1):
            try:
                if failures:
                    self._clock.back_off(failures, self._patience.back_off_s)
                return self._read(url, most_bytes)
            except Again as e:
                last = e.reason
            except Final as e:
                raise BuildError(f"{redact(url)}: {e.reason}; check the address and what it asks for") from e
        raise BuildError(f"{redact(url)}: {last}; check the connection, or try again later")

    def _read(self, url: str, most_bytes: int) -> bytes:
        with self._web.open(url) as answer:
            self._web.refuse(answer)
            if answer.status_code != 200:
                raise Final("failed", f"HTTP {answer.status_code} is no answer", answer.status_code)
            body = bytearray()
            for chunk in answer.iter_bytes():
                self._clock.check()
                body += chunk
                if len(body) > most_bytes:
                    raise Final(
                        "failed", f"the answer is larger than {human_bytes(most_bytes)}", answer.status_code
                    )
            return bytes(body)

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
                self.ledger.record(
                    file.key, "done", size=size, sha256=sha256, attempts=entry.attempts, reason="was there"
                )
                return True
        return entry.state in GIVEN_UP

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


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # It will fail in its turn, with the address named.


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
