"""What was ingested, as a table on disk: memory does not grow with the dataset.

Filled from the receipts of chunks, in whatever order they come; `freeze` then gives every medium its place in one
canonical order (species, kind, id), and everything after it follows from that order alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.core.species import Taxonomy, shipped
from birdmml.core.sqlite import Database
from birdmml.dataset import decode
from birdmml.schema import SPLITS, Medium, Reject

_PROPERTIES = """kind INTEGER, id TEXT, label INTEGER, length INTEGER, grp INTEGER, sha INTEGER, pair INTEGER,
author INTEGER, phash INTEGER, partner TEXT, source_row INTEGER, wish INTEGER"""
_TABLES = (
    "CREATE TABLE done (key TEXT PRIMARY KEY, wanted INTEGER, tails INTEGER, tail_seconds REAL) WITHOUT ROWID",
    f"CREATE TABLE media (n INTEGER PRIMARY KEY, key TEXT, record TEXT, {_PROPERTIES}, path TEXT, sha256 TEXT, "
    "recovered INTEGER DEFAULT 0, doc TEXT)",
    "CREATE TABLE rejects (key TEXT, path TEXT, reason TEXT, detail TEXT, absent INTEGER, species TEXT)",
    "CREATE TABLE place (m INTEGER PRIMARY KEY, n INTEGER)",
    f"CREATE TABLE ordered (m INTEGER PRIMARY KEY, n INTEGER, record TEXT, {_PROPERTIES})",
    "CREATE TABLE rows (split INTEGER, key BLOB, id TEXT, image INTEGER, audio INTEGER, length INTEGER)",
    "CREATE TABLE final (i INTEGER PRIMARY KEY, split INTEGER, id TEXT, image INTEGER, audio INTEGER, length INTEGER)",
)
_INSERT = f"INSERT INTO media VALUES (NULL, {', '.join('?' * 16)}, 0, ?)"  # noqa: S608  # question marks
# The canonical order; the path settles what has equal ids.
_ORDER = "label, kind, id, path"
_NARROW = "n, record, kind, id, label, length, grp, sha, pair, author, phash, partner, source_row, wish"
# What SQLite keeps of the table in memory, KiB, while it is filled here and there, and then; a sort uses as much again.
_CACHE_KIB, _SORT_KIB = 32_768, 8_192


@dataclass(frozen=True)
class MediaColumns:
    """All media in canonical order, as columns [M]: what splitting and pairing need to know.

    `kind` is 0 for images and 1 for audio; `group`, `sha`, `pair`, `author` and `phash` are 64-bit hashes (0: none);
    `partner` and `row` belong to photos: the index of the partner's first clip (-1: none is there, -2: none
    was named) and the place in the source's order (-1: none); `wish` is the source's own split (-1: none).
    """

    label: NDArray[np.int16]
    kind: NDArray[np.int8]
    length: NDArray[np.int64]
    group: NDArray[np.uint64]
    sha: NDArray[np.uint64]
    pair: NDArray[np.uint64]
    author: NDArray[np.uint64]
    phash: NDArray[np.uint64]
    partner: NDArray[np.int64]
    row: NDArray[np.int64]
    wish: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def species_runs(self) -> Iterator[tuple[int, int, int]]:
        """(label, first index, end) of the media of each species, which lie together."""
        starts = np.flatnonzero(np.diff(self.label, prepend=-1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(self)], strict=True):
            yield int(self.label[start]), start, end


@dataclass(frozen=True)
class PlannedRow:
    """One row to be written: indices of its media, and where it goes."""

    split: int
    key: bytes
    id: str
    image: int
    audio: int
    length: int


class Catalog(Database):
    """The table. Made anew by each build from the receipts that are there, so it need not survive a crash.

    `species` gives the labels to what is added (None: the shipped 150).
    """

    tables = _TABLES
    pragmas = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}")

    def __init__(self, path: Path, readonly: bool = False, species: Taxonomy | None = None) -> None:
        self._species = species or shipped()
        if not readonly:
            path.unlink(missing_ok=True)
        super().__init__(path, readonly)
        if not readonly:
            self._db.execute("BEGIN")

    def add(self, done: Iterable[decode.DecodedRecord], wanted: bool) -> None:
        """Take up what became of some records; of a record that is known, the first word counts."""
        for record in done:
            fresh = self._db.execute(
                "INSERT OR IGNORE INTO done VALUES (?, ?, ?, ?)",
                (record.key, int(wanted), record.tails, record.tail_seconds),
            )
            if fresh.rowcount:
                self._db.executemany(_INSERT, (self._columns(record.key, m) for m in record.media))
                self.reject(record.rejects, record.key)

    def reject(self, rejects: Iterable[Reject], key: str = "") -> None:
        """Rejects of the record with this key, "" for those that no ingested record stands for."""
        self._db.executemany(
            "INSERT INTO rejects VALUES (?, ?, ?, ?, ?, ?)",
            ((key, r.path, r.reason, r.detail, int(r.absent), r.species) for r in rejects),
        )

    def want(self, key: str) -> bool:
        """Whether the record with this key is done already; then it belongs to this build."""
        return self._db.execute("UPDATE done SET wanted = 1 WHERE key = ?", (key,)).rowcount > 0

    def recover(self, paths: Iterable[str]) -> None:
        """Mark the media with these source paths as read behind a hole."""
        self._with_paths("UPDATE media SET recovered = 1", paths)

    def withdraw(self, paths: Iterable[str]) -> None:
        """Forget the media with these source paths."""
        self._with_paths("DELETE FROM media", paths)

    def _with_paths(self, what: str, paths: Iterable[str]) -> None:
        self._db.execute("CREATE TEMP TABLE paths (path TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.executemany("INSERT OR IGNORE INTO paths VALUES (?)", ((p,) for p in paths))
        self._db.execute(f"{what} WHERE path IN (SELECT path FROM paths)")  # noqa: S608  # one of two constants
        self._db.execute("DROP TABLE paths")

    def freeze(self) -> MediaColumns:
        """Forget records that this build does not want, fix the order, and give the columns out."""
        self._db.execute(f"PRAGMA cache_size=-{_SORT_KIB}")
        self._db.execute("PRAGMA shrink_memory")
        if self.count("SELECT EXISTS (SELECT 1 FROM done WHERE NOT wanted)"):
            unwanted = "key IN (SELECT key FROM done WHERE NOT wanted)"
            for table in ("media", "rejects", "done"):
                self._db.execute(f"DELETE FROM {table} WHERE {unwanted}")  # noqa: S608  # constants
        # Sorted once, without the documents: what follows reads it from end to end and not here and there.
        self._db.execute(f"INSERT INTO ordered ({_NARROW}) SELECT {_NARROW} FROM media ORDER BY {_ORDER}")  # noqa: S608  # constants
        self._db.execute("INSERT INTO place SELECT m, n FROM ordered")
        self._db.execute("CREATE INDEX place_n ON place (n)")
        self._db.execute("CREATE TEMP TABLE first (record TEXT PRIMARY KEY, m INTEGER) WITHOUT ROWID")
        if self.count("SELECT EXISTS (SELECT 1 FROM ordered WHERE partner IS NOT NULL)"):
            self._db.execute("INSERT INTO first SELECT record, min(m) - 1 FROM ordered WHERE kind = 1 GROUP BY record")
        label, kind, length, *hashes, row, wish, partner = _arrays(
            self._db.execute(
                "SELECT label, kind, length, grp, sha, pair, author, phash, source_row, wish, "
                "CASE WHEN partner IS NULL THEN -2 ELSE coalesce(first.m, -1) END "
                "FROM ordered LEFT JOIN first ON first.record = ordered.partner ORDER BY ordered.m"
            ),
            self.count("SELECT count(*) FROM ordered"),
            (np.int16, np.int8, np.int64, *[np.int64] * 5, np.int64, np.int8, np.int64),
        )
        # SQLite knows no unsigned integers: the same bits are read as such.
        group, sha, pair, author, phash = (column.view(np.uint64) for column in hashes)
        return MediaColumns(label, kind, length, group, sha, pair, author, phash, partner, row, wish)

    def ids(self, first: int, last: int) -> list[str]:
        """Ids of the media with indices `first` .. `last` - 1."""
        query = "SELECT id FROM ordered WHERE m > ? AND m <= ? ORDER BY m"  # SQLite counts from 1.
        return [row[0] for row in self._db.execute(query, (first, last))]

    def add_rows(self, rows: Iterable[PlannedRow]) -> None:
        """Rows in any order."""
        values = ((r.split, r.key, r.id, r.image + 1, r.audio + 1, r.length) for r in rows)
        self._db.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", values)

    def order_rows(self) -> None:
        """Give every row its number, and let other processes read."""
        self._db.execute(
            "INSERT INTO final (split, id, image, audio, length) "
            "SELECT split, id, image, audio, length FROM rows ORDER BY split, key, id"
        )
        self._db.execute("DELETE FROM rows")
        self._db.execute("COMMIT")

    def flush(self) -> None:
        """Let other machines read: what this one has written leaves its memory for the file system."""
        with self.path.open("rb+") as f:
            os.fsync(f.fileno())

    def lengths(self) -> Iterator[tuple[int, int, int]]:
        """(number, split, bytes of media) of each row, in order."""
        return iter(self._db.execute("SELECT i, split, length FROM final ORDER BY i"))

    def rows(self, first: int, last: int) -> Iterator[tuple[str, int, Medium, bool, Medium, bool]]:
        """(id, split, image, recovered, audio, recovered) of rows number `first` to `last`, both included."""
        query = (
            "SELECT final.id, split, a.doc, a.recovered, b.doc, b.recovered FROM final "
            "JOIN place p ON p.m = image JOIN media a ON a.n = p.n "
            "JOIN place q ON q.m = audio JOIN media b ON b.n = q.n WHERE i BETWEEN ? AND ? ORDER BY i"
        )
        for row_id, split, image, image_recovered, audio, audio_recovered in self._db.execute(query, (first, last)):
            yield row_id, split, _medium(image), bool(image_recovered), _medium(audio), bool(audio_recovered)

    def want_captions(self) -> int:
        """Note the photos of rows that show no caption, neither the photo's nor the recording's; how many."""
        self._db.execute(
            "CREATE TEMP TABLE wordless AS SELECT DISTINCT image AS m FROM final JOIN place p ON p.m = image "
            "JOIN media a ON a.n = p.n JOIN place q ON q.m = audio JOIN media b ON b.n = q.n "
            "WHERE json_extract(a.doc, '$.caption') IS NULL AND json_extract(b.doc, '$.caption') IS NULL"
        )
        self._db.execute("CREATE UNIQUE INDEX wordless_m ON wordless (m)")
        return self.count("SELECT count(*) FROM wordless")

    def uncaptioned(self) -> Iterator[tuple[int, Medium]]:
        """(place, photo) of what `want_captions` has noted, in canonical order; a page at a time in memory."""
        query = (
            "SELECT w.m, doc FROM wordless w JOIN place p ON p.m = w.m JOIN media USING (n) WHERE w.m > ? "
            "ORDER BY w.m LIMIT 256"
        )
        last = 0
        while page := self.fetch_all(query, (last,)):
            yield from ((m, _medium(doc)) for m, doc in page)
            last = page[-1][0]

    def media_at(self, places: Sequence[int]) -> list[Medium]:
        """The media at places that `uncaptioned` has given."""
        query = "SELECT doc FROM place JOIN media USING (n) WHERE m = ?"
        return [_medium(self.fetch_one(query, (m,))[0]) for m in places]

    def put_captions(self, media: Iterable[tuple[int, Medium]]) -> None:
        """(place, the medium as it shall be), once rows are in order and before they are read."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "UPDATE media SET doc = ? WHERE n = (SELECT n FROM place WHERE m = ?)",
            ((_document(medium), place) for place, medium in media),
        )
        self._db.execute("COMMIT")

    def light(self) -> tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]:
        """Split, image index and audio index of every row, [N] each."""
        size = self.count("SELECT count(*) FROM final")
        rows = self._db.execute("SELECT split, image - 1, audio - 1 FROM final ORDER BY i")
        split, image, audio = _arrays(rows, size, (np.int8, np.int64, np.int64))
        return split, image, audio

    def rejects(self, absent: bool) -> Iterator[Reject]:
        """Rejects of media, or what is absent; in an order of their own."""
        query = (
            "SELECT path, reason, detail, absent, species FROM rejects WHERE absent = ? ORDER BY path, reason, detail"
        )
        for path, reason, detail, gone, species in self._db.execute(query, (int(absent),)):
            yield Reject(path, reason, detail, bool(gone), species)

    def reasons(self, absent: bool) -> dict[str, int]:
        """How many rejects of each reason."""
        query = "SELECT reason, count(*) FROM rejects WHERE absent = ? GROUP BY reason ORDER BY reason"
        return dict(self.fetch_all(query, (int(absent),)))

    def count(self, query: str, values: Sequence[Any] = ()) -> int:
        """One number; for `account`, who knows the tables."""
        return int(self.fetch_one(query, values)[0] or 0)

    def select(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query; for `account`, who knows the tables."""
        return iter(self._db.execute(query, values))

    def _columns(self, key: str, m: Medium) -> tuple[Any, ...]:
        kind = int(m.kind == "audio")
        author = f"{kind}:{m.credit.author}" if m.credit.author else ""
        phash = int.from_bytes(bytes.fromhex(m.phash), "big", signed=True) if m.phash else 0
        wish = SPLITS.index(m.split) if m.split in SPLITS else -1
        label = self._species.resolve(m.species).label
        return (
            key, m.record, kind, m.id, label, m.length, hash64(f"{kind}:{m.group}"),
            hash64(m.sha256), hash64(m.pair or ""), hash64(author), phash, m.partner, m.row, wish, m.source_path,
            m.sha256, _document(m),
        )  # fmt: skip


def _document(medium: Medium) -> str:
    return json.dumps(decode.plain(medium), ensure_ascii=False)


def _medium(document: str) -> Medium:
    return decode.restored(Medium, json.loads(document))


def hash64(text: str) -> int:
    """A 64-bit hash of a text, as SQLite's signed integer; 0 for no text."""
    if not text:
        return 0
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True) or 1


def _arrays(cursor: sqlite3.Cursor, size: int, kinds: Sequence[type[np.generic]]) -> list[NDArray[Any]]:
    """The integer columns of a query with `size` rows; nothing is held twice."""
    columns = [np.empty(size, dtype=kind) for kind in kinds]
    start = 0
    for block in iter(lambda: cursor.fetchmany(8192), []):
        for column, values in zip(columns, zip(*block, strict=True), strict=True):
            column[start : start + len(block)] = values
        start += len(block)
    return columns
