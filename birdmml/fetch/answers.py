"""Answers of services on the disk, so that a build that goes on asks nothing twice: one SQLite row an address.

Addresses stand there without keys. An answer that will not come is kept, too, with its reason.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from birdmml.errors import BuildError

APPLICATION_ID = 0x6269726A  # "birj"
SCHEMA = (
    """CREATE TABLE answers (
    url TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('done', 'missing', 'failed')),
    code INTEGER,
    etag TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
)""",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
PUT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Kept:
    """One answer: `state` is done, missing (404, 410) or failed; `body` is empty unless done."""

    state: str
    code: int | None
    etag: str = ""
    reason: str = ""
    body: bytes = b""


class Answers:
    """The answers in the file at `path`, created where there is none; a context manager for one process at a time.

    Raises BuildError for a file that is damaged, another program's, in use, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:  # It is not ours to hold open; raised again.
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, self._told():
            self._db.close()

    def get(self, url: str) -> Kept | None:
        """What is known of an address; None where it was never asked. A body that cannot be read counts as that."""
        with self._lock, self._told():
            row = self._db.execute(
                "SELECT state, code, etag, reason, body FROM answers WHERE url = ?", (url,)
            ).fetchone()
        if row is None:
            return None
        try:
            state, code, etag, reason, body = row
            return Kept(state, code, etag, reason, zlib.decompress(body) if body else b"")
        except zlib.error:
            return None

    def put(self, url: str, kept: Kept) -> None:
        """Remember an answer in place of the last one."""
        body = zlib.compress(kept.body, 6) if kept.body else b""
        with self._lock, self._told():
            self._db.execute(PUT, (url, kept.state, kept.code, kept.etag, kept.reason, body))

    def retry_failed(self) -> int:
        """Forget what failed or was missing, so that it is asked again; returns how many."""
        with self._lock, self._told():
            return self._db.execute("DELETE FROM answers WHERE state != 'done'").rowcount

    def counts(self) -> dict[str, int]:
        """How many answers are in each state."""
        with self._lock, self._told():
            found = dict(self._db.execute("SELECT state, count(*) FROM answers GROUP BY state"))
        return {s: found.get(s, 0) for s in ("done", "missing", "failed")}

    def _open(self) -> None:
        known = self._db.execute("PRAGMA application_id").fetchone()[0]
        empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if known != APPLICATION_ID and not (empty and known == 0):
            raise BuildError(f"{self.path} belongs to another program: move it away, then run it again")
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA if empty else ():
            self._db.execute(statement)
        self._db.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as e:
            if "locked" in str(e):
                raise BuildError(f"{self.path} is in use by another run: wait for it, or stop it") from e
            raise BuildError(
                f"{self.path} cannot be written ({e}): make room or check the folder, then run it again"
            ) from e
        except sqlite3.ProgrammingError as e:
            raise BuildError(f"{self.path} was closed while it was in use: run it again") from e
        except sqlite3.Error as e:
            raise BuildError(
                f"{self.path} is damaged ({e}): delete it and run it again; the services are asked anew"
            ) from e
        except OSError as e:
            raise BuildError(
                f"{self.path} cannot be written ({e}): check the folder, then run it again"
            ) from e
