"""From a source's deliveries to chunks of work, without holding more than one chunk of them.

A source that only lists records is asked for bytes in the workers. A source that reads an archive from end to end
hands the bytes over as they come; they wait in a spool file until the chunk's receipt is there, and the source is
told how far its deliveries are safe.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Protocol

from birdmml import files
from birdmml.build import ingest
from birdmml.schema import Delivery, Photo, Recording, Reject

SPOOL_BYTES = 64 << 20


class Session(Protocol):
    """One reading of a source. Sources without a `session` of their own get `Listing`."""

    total: int | None
    """How many records will come, if that is known."""

    resumes: bool
    """Whether what was acknowledged in an earlier run is not delivered again."""

    def __iter__(self) -> Iterator[Delivery]:
        """Records in the source's order."""

    def acknowledge(self, seq: int) -> None:
        """Everything delivered up to this number is safe on disk."""

    def absent(self) -> Iterator[Reject]:
        """What never came, once all was delivered."""

    def recovered(self) -> Iterator[str]:
        """Locators of what was read behind a hole."""

    def facts(self) -> dict[str, Any]:
        """What the manifest says about this reading."""

    def unfinished(self) -> str:
        """Why more may be had later ("" if nothing is missing); then finished work is kept."""

    def close(self) -> None:
        """Let go of files and connections."""


class Listing:
    """A session over a source that lists its records; at most `limit` of a kind and species."""

    def __init__(self, source: ModuleType, settings: Any, limit: int | None) -> None:
        self._source, self._settings, self._limit = source, settings, limit
        self.resumes = False
        # Counted in a first pass: it finds broken manifests before any work, and nothing is kept in memory.
        self.total: int | None = sum(1 for d in self if not isinstance(d.record, Reject))

    def __iter__(self) -> Iterator[Delivery]:
        taken: dict[tuple[str, bool], int] = defaultdict(int)
        for item in self._source.records(self._settings):
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

    def facts(self) -> dict[str, Any]:
        """What the source says of itself."""
        facts: dict[str, Any] = self._source.facts(self._settings)
        return facts

    def unfinished(self) -> str:
        """Never."""
        return ""

    def close(self) -> None:
        """Nothing is open."""


class Keys:
    """The key of a record: equal keys mean equal results."""

    def __init__(self, source: ModuleType, name: str, settings: Any, limits: ingest.Limits) -> None:
        own = source.decoding(settings) if hasattr(source, "decoding") else asdict(settings)
        self.base = files.digest([name, own, asdict(limits)])
        self._stamp = getattr(source, "stamp", lambda settings, locator: "")
        self._settings = settings

    def __call__(self, record: Photo | Recording | Reject) -> str:
        """Records, settings, and the size and time of the input file, as 32 hex digits."""
        stamp = "" if isinstance(record, Reject) else self._stamp(self._settings, record.locator)
        return files.digest([self.base, type(record).__name__, _plain(record), stamp])[:32]


def _plain(record: Photo | Recording | Reject) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, without its deep copies: this runs for every record."""
    value = dict(record.__dict__)
    if not isinstance(record, Reject):
        caption = record.caption
        value["credit"] = record.credit.__dict__
        value["caption"] = {**caption.__dict__, "credit": caption.credit.__dict__} if caption else None
    return value


@dataclass
class _Chunk:
    items: list[ingest.Item]
    spool: BinaryIO | None = None
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class Chunks:
    """Deliveries as ingest tasks, less what is done already.

    `finished(index)` must be called as a task's receipt arrives: then its spool goes and the session hears of it.
    """

    def __init__(
        self, session: Session, template: ingest.Task, keys: Keys, is_done: Callable[[str], bool]
    ) -> None:
        self._session, self._template, self._keys, self._is_done = session, template, keys, is_done
        self._flying: dict[int, tuple[int, str]] = {}  # Task number -> its first seq and its spool.
        self._chunk = _Chunk([])
        self._seen = 0
        self.count = 0
        self.records = 0
        self.reused = 0

    def __iter__(self) -> Iterator[ingest.Task]:
        for delivery in self._session:
            self._seen = delivery.seq
            self.records += not isinstance(delivery.record, Reject)
            key = self._keys(delivery.record)
            if self._is_done(key):
                self.reused += 1
                continue
            self._put(delivery, key)
            if len(self._chunk.items) >= ingest.CHUNK_RECORDS or self._chunk.bytes >= SPOOL_BYTES:
                yield self._task()
        if self._chunk.items:
            yield self._task()
        self._tell()

    def finished(self, index: int) -> None:
        """The receipt of the index-th task is on disk."""
        _, spool = self._flying.pop(index)
        if spool:
            Path(spool).unlink(missing_ok=True)
        self._tell()

    def _tell(self) -> None:
        unsafe = [first for first, _ in self._flying.values()]
        if self._chunk.items:
            unsafe.append(self._chunk.first_seq)
        self._session.acknowledge(min(unsafe) - 1 if unsafe else self._seen)

    def _put(self, delivery: Delivery, key: str) -> None:
        chunk, where = self._chunk, None
        if delivery.data is not None:
            if chunk.spool is None:
                chunk.spool = self._spool_path().open("wb")
            where = (chunk.bytes, len(delivery.data))
            chunk.spool.write(delivery.data)
            chunk.bytes += len(delivery.data)
        if not chunk.items:
            chunk.first_seq = delivery.seq
        chunk.items.append(ingest.Item(delivery.record, key, where))

    def _spool_path(self) -> Path:
        folder = Path(self._template.folder).with_name("spool")
        folder.mkdir(exist_ok=True)
        return folder / f"{self._template.chunk + self.count:06d}.bin"

    def _task(self) -> ingest.Task:
        chunk, self._chunk = self._chunk, _Chunk([])
        spool = ""
        if chunk.spool is not None:
            chunk.spool.close()
            spool = chunk.spool.name
        self._flying[self.count] = (chunk.first_seq, spool)
        number = self._template.chunk + self.count
        self.count += 1
        return replace(self._template, chunk=number, items=tuple(chunk.items), spool=spool)


@contextlib.contextmanager
def opened(session: Session) -> Iterator[Session]:
    """Close the session whatever happens."""
    try:
        yield session
    finally:
        session.close()
