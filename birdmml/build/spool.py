"""Bytes that a source has handed over, on disk until their chunk's receipt is there.

A spool is a data file and a list of its records; the list comes last, so a spool with a list is whole. A source that
deletes what it has handed over may do so once the spool is sealed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from birdmml import files
from birdmml.build import ingest
from birdmml.build.ingest import Item
from birdmml.schema import Caption, Credit, Delivery, Photo, Recording, Reject

MAX_BYTES = 64 << 20
_KINDS: dict[str, type[Photo] | type[Recording] | type[Reject]] = {
    "Photo": Photo,
    "Recording": Recording,
    "Reject": Reject,
}


class Spool:
    """One chunk being filled."""

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number, self.items = path, number, list[Item]()
        self._file: BinaryIO | None = None
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Whether it is time for the next one."""
        return len(self.items) >= ingest.CHUNK_RECORDS or self._bytes >= MAX_BYTES

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
        self.items.append(Item(delivery.record, key, where))

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

    def left(self) -> Iterator[tuple[int, tuple[Item, ...], str]]:
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


def _items(path: Path) -> Iterator[Item]:
    for kind, value, key, where in json.loads(path.read_bytes()):
        if kind != "Reject":
            caption = value["caption"]
            value["credit"] = Credit(**value["credit"])
            if caption:
                value["caption"] = Caption(caption["text"], caption["origin"], Credit(**caption["credit"]))
        yield Item(_KINDS[kind](**value), key, tuple(where) if where else None)
