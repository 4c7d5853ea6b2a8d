"""From a source to the catalog: what it delivers is decoded and checked, and what an earlier run has done is kept."""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from birdmml import __version__
from birdmml.core import files
from birdmml.core.pool import Pool, Progress
from birdmml.dataset import decode
from birdmml.dataset.catalog import Catalog
from birdmml.dataset.decode import ChunkItem
from birdmml.dataset.place import BuildPart
from birdmml.errors import UsageError
from birdmml.schema import Delivery, Photo, Recording, Reject

if TYPE_CHECKING:
    from birdmml.dataset.recipe import BuildSettings


MAX_BYTES = 64 << 20  # Of a spool: what a source that deletes as it goes must keep until the next seal.
ONLY_PART = BuildPart()
_KINDS: dict[str, type[Photo] | type[Recording]] = {"Photo": Photo, "Recording": Recording}


class Spool:
    """One chunk being filled with what a source hands over, bytes and all: on disk until the chunk's receipt is there.

    A spool is a data file and a list of its records; the list comes last, so a spool with a list is whole. A source
    that deletes what it has handed over may do so once the spool is sealed.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number, self.items = path, number, list[ChunkItem]()
        self._file: BinaryIO | None = None
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is time for the next one."""
        return len(self.items) >= decode.CHUNK_RECORDS or self._bytes >= MAX_BYTES

    def put(self, delivery: Delivery, key: str) -> None:
        """One more record, with its bytes if they came with it."""
        where = None
        if delivery.data is not None:
            if self._file is None:
                self.path.parent.mkdir(exist_ok=True)
                self._file = self.path.open("wb")
            where = (self._bytes, len(delivery.data))
            self._file.write(delivery.data)
            self._bytes += len(delivery.data)
        self.items.append(ChunkItem(delivery.record, key, where))

    def seal(self, durable: bool) -> str:
        """Close it; the path of its data, "" if there are none. `durable` if it must outlive a crash."""
        if self._file is not None:
            if durable:
                self._file.flush()
                os.fsync(self._file.fileno())  # Before the list, which says that these bytes are there.
            self._file.close()
        if durable:
            lines = [[type(i.record).__name__, decode.plain(i.record), i.key, i.spooled] for i in self.items]
            with files.atomic_write(self.path.with_suffix(".json")) as f:
                f.write(json.dumps(lines).encode())
        return str(self.path) if self._file is not None else ""


def _spooled(path: Path) -> Iterator[ChunkItem]:
    """The records in a spool's list."""
    for kind, value, key, where in json.loads(path.read_bytes()):
        record = Reject(**value) if kind == "Reject" else decode.restored(_KINDS[kind], value)
        yield ChunkItem(record, key, tuple(where) if where else None)


class SourceAccount(Protocol):
    """What a source says of a reading once all was delivered."""

    def absent(self) -> Iterator[Reject]:
        """What never came."""
        return iter(())

    def recovered(self) -> Iterator[str]:
        """Locators of what was read behind a hole."""
        return iter(())

    def withdrawn(self) -> Iterator[str]:
        """Locators of what was delivered and must not be used after all."""
        return iter(())

    def facts(self) -> dict[str, Any]:
        """What the manifest says about this reading."""

    def unfinished(self) -> str:
        """Why more may be had later ("" if nothing is missing); then finished work is kept."""
        return ""

    def close(self) -> None:
        """Let go of files and connections."""
        return  # A body of its own, or the type checker takes the method for an abstract one.


class SourceSession(SourceAccount, Protocol):
    """One reading of a source. Sources without a `session` of their own get `ListingSession`.

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
        return

    turn: Callable[[], None]
    """Set by the reader: a session calls it where it wants to hear soon what is safe (before it frees a file)."""


class ListingSession(SourceSession):
    """A session over a source that lists its records; at most `limit` of a kind and species.

    Of several parts each takes whole species, so that what holds for a species holds in its part. `listing` is a
    digest of everything the source lists, whichever part takes it. Nothing is ever absent, recovered or withdrawn:
    each record ends as a medium or a reject. Nothing is open, and nothing waits to be acknowledged.
    """

    def __init__(self, source: ModuleType, settings: Any, limit: int | None, part: BuildPart = ONLY_PART) -> None:
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
        mine = functools.lru_cache(maxsize=1 << 15)(self._part.takes)  # A source names its species again and again.
        for item in self._source.records(self._settings):
            if seen is not None:
                where = (item.path, item.reason) if isinstance(item, Reject) else (item.locator, item.id)
                words = "\x1f".join((type(item).__name__, item.species, *where, "\n"))
                # Paths may hold bytes that are no UTF-8, which Python keeps as surrogates.
                seen.update(words.encode("utf-8", "surrogatepass"))
            if not mine(item.species or item.path if isinstance(item, Reject) else item.species):
                continue
            if not isinstance(item, Reject):
                kind = (item.species, isinstance(item, Photo))
                taken[kind] += 1
                if self._limit is not None and taken[kind] > self._limit:
                    continue
            yield Delivery(item)

    def facts(self) -> dict[str, Any]:
        """What the source says of itself."""
        facts: dict[str, Any] = self._source.facts(self._settings)
        return facts


class Keys:
    """The key of a record: equal keys mean equal results."""

    def __init__(self, source: ModuleType, settings: BuildSettings) -> None:
        self._settings = settings.source_settings
        own = source.decoding(self._settings) if hasattr(source, "decoding") else asdict(self._settings)
        self.base = files.digest([settings.source, own, asdict(settings.limits)])
        self._stamp = getattr(source, "stamp", lambda settings, locator: "")

    def __call__(self, record: Photo | Recording | Reject) -> str:
        """Records, settings, and the size and time of the input file, as 32 hex digits."""
        stamp = "" if isinstance(record, Reject) else self._stamp(self._settings, record.locator)
        return files.digest([self.base, type(record).__name__, decode.plain(record), stamp])[:32]


def work_key(source: ModuleType, settings: BuildSettings) -> str:
    """The key of a build's finished work: a build with an equal one can go on from it."""
    return files.digest([__version__, Keys(source, settings).base])


class Chunks:
    """Deliveries as ingest tasks, less what is done already; no more than one chunk of them is held.

    A source that only lists records is asked for bytes in the workers. What a source hands over with its bytes, and
    does not hand over again, is put on disk as a spool before the source hears that it is safe; a spool that an
    earlier build has left is worked off first. `finished(index)` must be called as a task's receipt arrives.
    """

    def __init__(
        self, session: SourceSession, template: decode.ChunkTask, keys: Keys, is_done: Callable[[str], bool]
    ) -> None:
        self._session, self._template, self._keys, self._is_done = session, template, keys, is_done
        self._spools = Path(template.folder).with_name("spool")
        unused = [int(path.name[:6]) + 1 for path in self._spools.glob("??????.*")]
        self._numbers = itertools.count(max([template.chunk, *unused]))
        self._flying: list[int] = []
        self._ready: deque[decode.ChunkTask] = deque()
        self._chunk: Spool | None = None
        self._seen = 0
        self.records = 0
        self.reused = 0

    def __iter__(self) -> Iterator[decode.ChunkTask]:
        for path in self._spools.glob("??????.bin"):
            if not path.with_suffix(".json").exists():
                path.unlink()  # It was still being filled: its records come again.
        for path in sorted(self._spools.glob("??????.json")):
            data = path.with_suffix(".bin")
            self._fly(int(path.stem), _spooled(path), str(data) if data.exists() else "")
            yield self._ready.popleft()
        self._session.turn = self._seal
        for delivery in self._session:
            while self._ready:
                yield self._ready.popleft()
            self._seen = delivery.seq
            self.records += not isinstance(delivery.record, Reject)
            key = self._keys(delivery.record)
            if self._is_done(key):
                self.reused += 1
                continue
            if self._chunk is None:
                number = next(self._numbers)
                self._chunk = Spool(self._spool(number), number)
            self._chunk.put(delivery, key)
            if self._chunk.full:
                self._seal()
        self._seal()
        yield from self._ready

    def finished(self, index: int) -> None:
        """The receipt of the index-th task is on disk: its spool is not needed."""
        path = self._spool(self._flying[index])
        path.with_suffix(".json").unlink(missing_ok=True)  # First: data without a list count as nothing.
        path.unlink(missing_ok=True)

    def _spool(self, number: int) -> Path:
        return self._spools / f"{number:06d}.bin"

    def _fly(self, number: int, items: Iterable[ChunkItem], spool: str) -> None:
        self._flying.append(number)
        self._ready.append(replace(self._template, chunk=number, items=tuple(items), spool=spool))

    def _seal(self) -> None:
        """Make a task of what has come so far, and tell the source that it is safe."""
        if self._chunk is not None:
            chunk, self._chunk = self._chunk, None
            self._fly(chunk.number, chunk.items, chunk.seal(durable=self._session.resumes))
        self._session.acknowledge(self._seen)


def session_of(
    source: ModuleType,
    settings: BuildSettings,
    folder: Path,
    progress: Progress,
    retry_failed: bool = False,
    part: BuildPart = ONLY_PART,
) -> SourceSession:
    """The source's own session, or a plain listing of its records; raises UsageError if it cannot be divided."""
    if not hasattr(source, "session"):
        return ListingSession(source, settings.source_settings, settings.limit, part)
    if part.count > 1:
        refuse_undividable(source, settings)
    more = {"part": part} if _takes_part(source) else {}
    session: SourceSession = source.session(
        settings.source_settings, folder, settings.limit, retry_failed, progress, **more
    )
    return session


def refuse_undividable(source: ModuleType, settings: BuildSettings) -> None:
    """Raises UsageError if the source's work cannot be divided into parts."""
    if hasattr(source, "session") and not _takes_part(source):
        raise UsageError(
            f"the {settings.source} source reads one stream from end to end and cannot be divided: leave "
            "--num-shards and --runner out, and give one machine more --workers"
        )


def _takes_part(source: ModuleType) -> bool:
    return "part" in inspect.signature(source.session).parameters


def take_up(
    source: ModuleType,
    settings: BuildSettings,
    session: SourceSession,
    folder: Path,
    progress: Progress,
    catalog: Catalog,
    pool: Pool,
) -> tuple[int, int]:
    """Decode and check what a session delivers; every record's end is in the catalog.

    Records whose receipts lie in `folder` already are taken as they are. Returns how many records came, and how many
    of them an earlier run had done.
    """
    before = 0
    for _, done in decode.receipts(folder):
        # A session that resumes does not deliver again what it knows to be safe: all of it belongs to this build.
        catalog.add(done, wanted=session.resumes)
        before += len(done)
    template = decode.ChunkTask(
        decode.next_chunk(folder), str(folder), settings.source, settings.source_settings, settings.limits, ()
    )
    chunks = Chunks(session, template, Keys(source, settings), catalog.want)
    total = session.total or 0

    def done_one(index: int, done: list[decode.DecodedRecord]) -> None:
        catalog.add(done, wanted=True)
        chunks.finished(index)
        progress("decode and check", chunks.records, max(total, chunks.records))

    progress("decode and check", 0, total)
    pool.feed(decode.ingest, chunks, done_one)
    return chunks.records, before if session.resumes else chunks.reused
