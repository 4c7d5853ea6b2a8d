"""From a source's deliveries to chunks of work, without holding more than one chunk of them.

A source that only lists records is asked for bytes in the workers. A source that reads an archive from end to end
hands the bytes over as they come; they wait in a spool file until the chunk's receipt is there, and the source is
told how far its deliveries are safe.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from birdmml import files
from birdmml.build import ingest
from birdmml.build.parts import Part
from birdmml.build.recipe import Limits
from birdmml.build.spool import Spool, Spools, plain_record
from birdmml.schema import Delivery, Photo, Recording, Reject

WHOLE = Part()


class Told(Protocol):
    """What a source says of a reading once all was delivered."""

    def absent(self) -> Iterator[Reject]:
        """What never came."""

    def recovered(self) -> Iterator[str]:
        """Locators of what was read behind a hole."""

    def withdrawn(self) -> Iterator[str]:
        """Locators of what was delivered and must not be used after all."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says about this reading."""

    def unfinished(self) -> str:
        """Why more may be had later ("" if nothing is missing); then finished work is kept."""

    def close(self) -> None:
        """Let go of files and connections."""


class Session(Told, Protocol):
    """One reading of a source. Sources without a `session` of their own get `Listing`.

    A source whose `session` has the parameter `part` can be divided: it delivers what `part.takes`, whole species,
    and its module's `merge_facts`, given the facts of all parts, returns those of the whole (without it, all parts
    must agree).
    """

    total: int | None
    """How many records will come, if that is known."""

    resumes: bool
    """Whether what was acknowledged in an earlier run is not delivered again."""

    def __iter__(self) -> Iterator[Delivery]:
        """Records in the source's order."""

    def acknowledge(self, seq: int) -> None:
        """Everything delivered up to this number is safe on disk."""

    turn: Callable[[], None]
    """Set by the reader: a session calls it where it wants to hear soon what is safe (before it frees a file)."""


S = TypeVar("S", bound=Told)


class Listing:
    """A session over a source that lists its records; at most `limit` of a kind and species.

    Of several parts each takes whole species, so that what holds for a species holds in its part. `listing` is a
    digest of everything the source lists, whichever part takes it.
    """

    def __init__(self, source: ModuleType, settings: Any, limit: int | None, part: Part = WHOLE) -> None:
        self._source, self._settings, self._limit, self._part = source, settings, limit, part
        self.resumes = False
        self.turn: Callable[[], None] = lambda: None
        # Counted in a first pass: it finds broken manifests before any work, and nothing is kept in memory.
        seen = hashlib.sha256()
        self.total: int | None = sum(1 for d in self._deliver(seen) if not isinstance(d.record, Reject))
        self.listing = seen.hexdigest()

    def __iter__(self) -> Iterator[Delivery]:
        return self._deliver(None)

    def _deliver(self, seen: hashlib._Hash | None) -> Iterator[Delivery]:
        taken: dict[tuple[str, bool], int] = defaultdict(int)
        mine = functools.lru_cache(maxsize=1 << 15)(self._part.takes)
        for item in self._source.records(self._settings):
            if seen is not None:
                seen.update(_signed(item))
            if not mine(item.species or item.path if isinstance(item, Reject) else item.species):
                continue
            if not isinstance(item, Reject):
                kind = (item.species, isinstance(item, Photo))
                taken[kind] += 1
                if self._limit is not None and taken[kind] > self._limit:
                    continue
            yield Delivery(item)

    def acknowledge(self, seq: int) -> None:
        """Nothing waits for it."""

    def absent(self) -> Iterator[Reject]:
        """Nothing: each record ends as a medium or a reject."""
        return iter(())

    def recovered(self) -> Iterator[str]:
        """Nothing."""
        return iter(())

    def withdrawn(self) -> Iterator[str]:
        """Nothing."""
        return iter(())

    def facts(self) -> dict[str, Any]:
        """What the source says of itself."""
        facts: dict[str, Any] = self._source.facts(self._settings)
        return facts

    def unfinished(self) -> str:
        """Never."""
        return ""

    def close(self) -> None:
        """Nothing is open."""


def _signed(item: Photo | Recording | Reject) -> bytes:
    """What tells one entry of a listing from another."""
    where = (item.path, item.reason) if isinstance(item, Reject) else (item.locator, item.id)
    return "\x1f".join((type(item).__name__, item.species, *where, "\n")).encode("utf-8", "surrogatepass")


class Keys:
    """The key of a record: equal keys mean equal results."""

    def __init__(self, source: ModuleType, name: str, settings: Any, limits: Limits) -> None:
        own = source.decoding(settings) if hasattr(source, "decoding") else asdict(settings)
        self.base = files.digest([name, own, asdict(limits)])
        self._stamp = getattr(source, "stamp", lambda settings, locator: "")
        self._settings = settings

    def __call__(self, record: Photo | Recording | Reject) -> str:
        """Records, settings, and the size and time of the input file, as 32 hex digits."""
        stamp = "" if isinstance(record, Reject) else self._stamp(self._settings, record.locator)
        return files.digest([self.base, type(record).__name__, plain_record(record), stamp])[:32]


class Chunks:
    """Deliveries as ingest tasks, less what is done already.

    What a source hands over with its bytes, and does not hand over again, is put on disk as a spool before the
    source hears that it is safe; a spool that an earlier build has left is worked off first. `finished(index)` must
    be called as a task's receipt arrives.
    """

    def __init__(
        self, session: Session, template: ingest.Task, keys: Keys, is_done: Callable[[str], bool]
    ) -> None:
        self._session, self._template, self._keys, self._is_done = session, template, keys, is_done
        self._spools = Spools(Path(template.folder).with_name("spool"))
        self._numbers = itertools.count(max(template.chunk, self._spools.next_number()))
        self._flying: list[int] = []
        self._ready: deque[ingest.Task] = deque()
        self._chunk: Spool | None = None
        self._seen = 0
        self.records = 0
        self.reused = 0

    def __iter__(self) -> Iterator[ingest.Task]:
        for number, items, path in self._spools.left():
            yield self._fly(replace(self._template, chunk=number, items=items, spool=path))
        self._session.turn = self._seal
        for delivery in self._session:
            while self._ready:
                yield self._fly(self._ready.popleft())
            self._seen = delivery.seq
            self.records += not isinstance(delivery.record, Reject)
            key = self._keys(delivery.record)
            if self._is_done(key):
                self.reused += 1
                continue
            if self._chunk is None:
                self._chunk = self._spools.new(next(self._numbers))
            self._chunk.put(delivery, key)
            if self._chunk.full:
                self._seal()
        self._seal()
        while self._ready:
            yield self._fly(self._ready.popleft())

    def finished(self, index: int) -> None:
        """The receipt of the index-th task is on disk."""
        self._spools.drop(self._flying[index])

    def _fly(self, task: ingest.Task) -> ingest.Task:
        self._flying.append(task.chunk)
        return task

    def _seal(self) -> None:
        """Make a task of what has come so far, and tell the source that it is safe."""
        if self._chunk is not None:
            chunk, self._chunk = self._chunk, None
            path = chunk.seal(durable=self._session.resumes)
            task = replace(self._template, chunk=chunk.number, items=tuple(chunk.items), spool=path)
            self._ready.append(task)
        self._session.acknowledge(self._seen)


@contextlib.contextmanager
def opened(session: S) -> Iterator[S]:
    """Close the session whatever happens."""
    try:
        yield session
    finally:
        session.close()
