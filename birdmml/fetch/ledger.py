"""What happened to every file that was to be downloaded: one SQLite row a file.

    wanted   to be downloaded            partial  some bytes are there
    done     there and checked           missing  the server has no such file (404, 410)
    corrupt  its bytes are wrong         failed   it did not come; `reason` says why

One process holds a ledger at a time (a second one is refused); its threads share it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from birdmml.core.files import sha256_file
from birdmml.core.sqlite import Database, Wording
from birdmml.fetch.web import redact

STATES = ("wanted", "partial", "done", "missing", "corrupt", "failed")
GIVEN_UP = ("missing", "corrupt", "failed")
APPLICATION_ID = 0x62697264  # "bird": tells our file from another program's.
VERSION = 1
PAGE = 1000  # Rows in one transaction, and rows held at once while iterating.


@dataclass(frozen=True)
class WantedFile:
    """A file to download: its name in the ledger, where it lies, and what is promised of it.

    `size` in bytes and `md5` (lower-case hex) are None where the provider does not say; `page_ok` lets an HTML
    page pass as the file. One that is `fresh` and there is asked for once more, and comes only if it has changed
    (by its ETag). Raises ValueError for a promise that cannot be one.
    """

    key: str
    url: str
    size: int | None = None
    md5: str | None = None
    page_ok: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("a file without a name")
        if self.size is not None and self.size < 0:
            raise ValueError(f"{self.key}: a size of {self.size} bytes")
        if self.md5 is not None and (len(self.md5) != 32 or not set(self.md5) <= set("0123456789abcdef")):
            raise ValueError(f"{self.key}: {self.md5!r} is no MD5 in lower-case hex")

    def problem(self, size: int, md5: Callable[[], str]) -> str:
        """What is wrong with bytes of this size and MD5, or ""."""
        if self.size not in (None, size):
            return f"{size:,} bytes came, {self.size:,} were promised"
        if self.md5 is not None and md5() != self.md5:
            return f"the MD5 is {md5()}, {self.md5} was promised"
        return ""


@dataclass(frozen=True)
class LedgerRow:
    """One row. `bytes` are on the disk, `expected` were promised; `md5` is the promised one, or the measured."""

    key: str
    url: str
    state: str
    code: int | None = None
    bytes: int = 0
    expected: int | None = None
    md5: str | None = None
    sha256: str | None = None
    etag: str | None = None
    attempts: int = 0
    reason: str = ""


COLUMNS = ", ".join(f.name for f in fields(LedgerRow))
_STATE_LIST = ", ".join(f"'{s}'" for s in STATES)
SCHEMA = (
    f"""CREATE TABLE IF NOT EXISTS files (
    key TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({_STATE_LIST})),
    code INTEGER,
    bytes INTEGER NOT NULL DEFAULT 0,
    expected INTEGER,
    md5 TEXT,
    sha256 TEXT,
    etag TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS files_by_state ON files (state, key)",
    # Files whose bytes may not have reached the disk: after a power cut they are looked at once more.
    "CREATE TABLE IF NOT EXISTS unsynced (key TEXT PRIMARY KEY, path TEXT NOT NULL) WITHOUT ROWID",
)
# A row starts anew when what it promised is no longer what is wanted.
PLAN = """INSERT INTO files (key, url, state, expected, md5) VALUES (:key, :url, 'wanted', :size, :md5)
ON CONFLICT (key) DO UPDATE SET
    url = :url, state = 'wanted', code = NULL, bytes = 0, expected = :size, md5 = :md5,
    sha256 = NULL, etag = NULL, attempts = 0, reason = ''
WHERE (:md5 IS NOT NULL AND md5 IS NOT :md5) OR (:size IS NOT NULL AND expected IS NOT :size)
   OR (:md5 IS NULL AND url IS NOT :url)"""
RECORD = """UPDATE files SET state = :state, code = :code, bytes = :bytes, md5 = coalesce(md5, :md5),
    sha256 = :sha256, etag = :etag, attempts = :attempts, reason = :reason WHERE key = :key"""
GET = f"SELECT {COLUMNS} FROM files WHERE key = ?"  # noqa: S608 - the names are our own columns
ITER = f"SELECT {COLUMNS} FROM files WHERE key > ? ORDER BY key LIMIT {PAGE}"  # noqa: S608 - as above
ITER_STATE = f"SELECT {COLUMNS} FROM files WHERE key > ? AND state = ? ORDER BY key LIMIT {PAGE}"  # noqa: S608 - as above
AGAIN = "UPDATE files SET state = 'wanted', code = NULL, bytes = 0, sha256 = NULL, reason = '' WHERE key = ?"
RETRY = "UPDATE files SET state = 'wanted', code = NULL, reason = '' WHERE state IN (?, ?, ?)"


class Ledger(Database):
    """The ledger at `path`, created where there is none; a context manager.

    Every method raises BuildError for a ledger that is damaged, foreign, in use, closed or cannot be written.
    """

    tables = SCHEMA
    pragmas = ("locking_mode = EXCLUSIVE", *Database.pragmas)
    marks = MappingProxyType({"application_id": APPLICATION_ID, "user_version": VERSION})
    wording = Wording(
        unusable="{path} cannot be used as the ledger of downloads ({error}): {hint}, then run it again",
        damaged="{path} is damaged or no ledger ({error}): delete it and run it again; files that are there and "
        "whose MD5 is known are checked, not downloaded again",
        locked="{path} is in use by another run: wait for it, or stop it",
        full="{path} cannot grow, the disk is full: free some space, then run it again; it goes on",
        foreign="{path} belongs to another program or version: move it away, then run it again",
    )
    wait_s = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._translated():
            if path.is_file() and path.stat().st_size:
                with path.open("rb") as f:
                    if f.read(16) != b"SQLite format 3\0":  # SQLite would write over a short one.
                        raise sqlite3.DatabaseError("it is no SQLite file")
        super().__init__(path)

    def plan(self, files: Iterable[WantedFile]) -> int:
        """Enter files as wanted; one that is there already is left alone unless its promise changed.

        Returns how many rows are new or start anew.
        """
        rest, changed = iter(files), 0
        while page := list(islice(rest, PAGE)):
            with self.writing():
                for f in page:
                    row = {"key": f.key, "url": redact(f.url), "size": f.size, "md5": f.md5}
                    changed += self._db.execute(PLAN, row).rowcount
        return changed

    def planned(self, files: Sequence[WantedFile]) -> list[LedgerRow]:
        """Plan a page of files and return their rows, in the same order."""
        self.plan(files)
        return [LedgerRow(*self.fetch_one(GET, (f.key,))) for f in files]

    def record(self, row: LedgerRow) -> None:
        """Note what became of a planned file: all but its address and what was promised of it.

        Raises KeyError for a file that was not planned.
        """
        if not self.run(RECORD, {**asdict(row), "reason": redact(row.reason)}):
            raise KeyError(row.key)

    def again(self, key: str) -> None:
        """Make one file wanted once more; what is known of it is forgotten, but not its ETag."""
        self.run(AGAIN, (key,))

    def unsynced(self, path: Path, row: LedgerRow) -> None:
        """Note a file as done whose bytes are written but not synced; `synced` is to follow."""
        try:  # As it is reached again after the folder was moved.
            where = os.path.relpath(path.absolute(), self.path.parent.absolute())
        except ValueError:  # It is on another drive of Windows.
            where = str(path.absolute())
        with self.writing():
            self._db.execute(RECORD, {**asdict(row), "state": "done"})
            self._db.execute("INSERT OR REPLACE INTO unsynced VALUES (?, ?)", (row.key, where))

    def synced(self, keys: Iterable[str]) -> None:
        """The bytes of these have reached the disk."""
        with self.writing():
            self._db.executemany("DELETE FROM unsynced WHERE key = ?", ((k,) for k in keys))

    def get(self, key: str) -> LedgerRow | None:
        """The row of a file, None where there is none."""
        row = self.fetch_one(GET, (key,))
        return LedgerRow(*row) if row else None

    def iter(self, state: str | None = None) -> Iterator[LedgerRow]:
        """Rows of one state, or all, in the order of their keys; other threads may write meanwhile."""
        after = ""
        while page := self.fetch_all(*((ITER_STATE, (after, state)) if state else (ITER, (after,)))):
            yield from (LedgerRow(*row) for row in page)
            after = page[-1][0]

    def counts(self) -> dict[str, int]:
        """How many files are in each state; every state is named."""
        numbers = dict(self.fetch_all("SELECT state, count(*) FROM files GROUP BY state"))
        return {s: numbers.get(s, 0) for s in STATES}

    def retry_failed(self) -> int:
        """Make failed, missing and corrupt files wanted again; returns how many. What is there of them is kept."""
        return self.run(RETRY, GIVEN_UP)

    def _lay_out(self) -> None:
        super()._lay_out()
        if self._pragma("quick_check(1)") != "ok":
            raise sqlite3.DatabaseError("its pages do not fit together")
        # Files that the last run did not sync must have the bytes it noted; others are wanted again.
        rows = self.fetch_all("SELECT key, path, sha256 FROM unsynced JOIN files USING (key) WHERE state = 'done'")
        for key, where, sha256 in rows:
            path = self.path.parent / where
            # One that was used and deleted since is done all the same.
            if path.is_file() and sha256_file(path) != sha256:
                path.unlink()
                self.again(key)
        self.synced(key for key, _, _ in rows)
