"""From a source to the catalog: what it delivers is decoded and checked, and what an earlier run has done is kept."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import itertools
import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from birdmml.core import files
from birdmml.core.pool import Pool, Progress
from birdmml.dataset import decode
from birdmml.dataset.catalog import Catalog
from birdmml.dataset.decode import ChunkItem
from birdmml.dataset.place import BuildPart
from birdmml.dataset.recipe import Limits
from birdmml.errors import UsageError
from birdmml.schema import Caption, Credit, Delivery, Photo, Recording, Reject

if TYPE_CHECKING:
    from birdmml.dataset.recipe import BuildSettings


# ---- Bytes that a source has handed over, on disk until their chunk's receipt is there.
# A spool is a data file and a list of its records; the list comes last, so a spool with a list is whole. A source that
# deletes what it has handed over may do so once the spool is sealed.


MAX_BYTES = 64 << 20
_KINDS: dict[str, type[Photo] | type[Recording] | type[Reject]] = {
    "Photo": Photo,
    "Recording": Recording,
    "Reject": Reject,
}


class Spool:
    """One chunk being filled."""

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
                os.fsync(self._file.fileno())
            self._file.close()
        if durable:
            told = [[type(i.record).__name__, plain_record(i.record), i.key, i.spooled] for i in self.items]
            with files.atomic_write(self.path.with_suffix(".json")) as f:
                f.write(json.dumps(told).encode())
        return str(self.path) if self._file is not None else ""


class Spools:
    """The folder of spools."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self, number: int) -> Spool:
        """An empty spool for the chunk of this number."""
        return Spool(self._path(number), number)

    def next_number(self) -> int:
        """A number that no spool has."""
        return max((int(p.name[:6]) for p in self.folder.glob("??????.*")), default=-1) + 1

    def left(self) -> Iterator[tuple[int, tuple[ChunkItem, ...], str]]:
        """(number, items, path of the data) of spools that an interrupted build has sealed and not worked off.

        Those that it was still filling are deleted: their records come again.
        """
        for path in self.folder.glob("??????.bin"):
            if not path.with_suffix(".json").exists():
                path.unlink()
        for path in sorted(self.folder.glob("??????.json")):
            data = path.with_suffix(".bin")
            yield int(path.stem), tuple(_items(path)), str(data) if data.exists() else ""

    def drop(self, number: int) -> None:
        """The chunk's receipt is there: its spool is not needed."""
        path = self._path(number)
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.bin"


def plain_record(record: Photo | Recording | Reject) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, without its deep copies: this runs for every record."""
    value = dict(record.__dict__)
    if not isinstance(record, Reject):
        caption = record.caption
        value["credit"] = record.credit.__dict__
        value["caption"] = {**caption.__dict__, "credit": caption.credit.__dict__} if caption else None
    return value


def _items(path: Path) -> Iterator[ChunkItem]:
    for kind, value, key, where in json.loads(path.read_bytes()):
        if kind != "Reject":
            caption = value["caption"]
            value["credit"] = Credit(**value["credit"])
            if caption:
                value["caption"] = Caption(caption["text"], caption["origin"], Credit(**caption["credit"]))
        yield ChunkItem(_KINDS[kind](**value), key, tuple(where) if where else None)


# ---- From a source's deliveries to chunks of work, without holding more than one chunk of them.
# A source that only lists records is asked for bytes in the workers. A source that reads an archive from end to end
# hands the bytes over as they come; they wait in a spool file until the chunk's receipt is there, and the source is
# told how far its deliveries are safe.


ONLY_PART = BuildPart()


class SourceAccount(Protocol):
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


class SourceSession(SourceAccount, Protocol):
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


S = TypeVar("S", bound=SourceAccount)


class ListingSession:
    """A session over a source that lists its records; at most `limit` of a kind and species.

    Of several parts each takes whole species, so that what holds for a species holds in its part. `listing` is a
    digest of everything the source lists, whichever part takes it.
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
        self, session: SourceSession, template: decode.ChunkTask, keys: Keys, is_done: Callable[[str], bool]
    ) -> None:
        self._session, self._template, self._keys, self._is_done = session, template, keys, is_done
        self._spools = Spools(Path(template.folder).with_name("spool"))
        self._numbers = itertools.count(max(template.chunk, self._spools.next_number()))
        self._flying: list[int] = []
        self._ready: deque[decode.ChunkTask] = deque()
        self._chunk: Spool | None = None
        self._seen = 0
        self.records = 0
        self.reused = 0

    def __iter__(self) -> Iterator[decode.ChunkTask]:
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

    def _fly(self, task: decode.ChunkTask) -> decode.ChunkTask:
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


@dataclass(frozen=True)
class Taken:
    """How many records came, and how many of them an earlier run had done."""

    records: int
    resumed: int


class Inlet(Protocol):
    """Where the media of a build come from; `told` is what its source says at the end."""

    @property
    def told(self) -> SourceAccount:
        """What the source says once all records are there."""

    def fill(self, catalog: Catalog, pool: Pool) -> Taken:
        """Put every record's end into the catalog."""


def session_of(
    source: ModuleType,
    settings: BuildSettings,
    folder: Path,
    tell: Progress,
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
        settings.source_settings, folder, settings.limit, retry_failed, tell, **more
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


class Own:
    """What a session of this run delivers; records whose receipts lie in `folder` already are taken as they are."""

    def __init__(
        self, source: ModuleType, settings: BuildSettings, session: SourceSession, folder: Path, tell: Progress
    ) -> None:
        self.told = self._session = session
        self._settings, self._folder, self._tell = settings, folder, tell
        self._keys = Keys(source, settings.source, settings.source_settings, settings.limits)

    def fill(self, catalog: Catalog, pool: Pool) -> Taken:
        """Decode and check; every record's end is in the catalog."""
        session, settings, folder = self._session, self._settings, self._folder
        known = 0
        for _, done in decode.receipts(folder):
            catalog.add(done, wanted=session.resumes)
            known += len(done)
        template = decode.ChunkTask(
            decode.next_chunk(folder), str(folder), settings.source, settings.source_settings, settings.limits, ()
        )
        chunks = Chunks(session, template, self._keys, catalog.want)
        total = session.total or 0

        def done_one(index: int, done: list[decode.DecodedRecord]) -> None:
            catalog.add(done, wanted=True)
            chunks.finished(index)
            self._tell("decode and check", chunks.records, max(total, chunks.records))

        self._tell("decode and check", 0, total)
        pool.feed(decode.ingest, chunks, done_one)
        return Taken(chunks.records, known if session.resumes else chunks.reused)


def amend(told: SourceAccount, catalog: Catalog) -> None:
    """What the source knows only at its end: what never came, what must not be used, what lay behind a hole."""
    catalog.reject(told.absent())
    catalog.withdraw(told.withdrawn())
    catalog.recover(told.recovered())
