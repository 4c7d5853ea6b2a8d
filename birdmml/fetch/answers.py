"""Answers of services on the disk, so that a build that goes on asks nothing twice: one SQLite row an address.

Addresses stand there without keys. An answer that will not come is kept, too, with its reason.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from types import MappingProxyType

from birdmml.core.sqlite import Database, Wording

APPLICATION_ID = 0x6269726A  # "birj"
TABLE = """CREATE TABLE IF NOT EXISTS answers (
    url TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('done', 'missing', 'failed')),
    code INTEGER,
    etag TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
)"""
GET = "SELECT state, code, etag, reason, body FROM answers WHERE url = ?"
PUT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Kept:
    """One answer: `state` is done, missing (404, 410) or failed; `body` is empty unless done."""

    state: str
    code: int | None
    etag: str = ""
    reason: str = ""
    body: bytes = b""


class Answers(Database):
    """The answers in the file at `path`, created where there is none; a context manager for one process at a time.

    Raises BuildError for a file that is damaged, another program's, in use, or cannot be written.
    """

    tables = (TABLE,)
    pragmas = ("locking_mode = EXCLUSIVE", *Database.pragmas)
    marks = MappingProxyType({"application_id": APPLICATION_ID})
    wording = Wording(
        unusable="{path} cannot be written ({error}): make room or check the folder, then run it again",
        damaged="{path} is damaged ({error}): delete it and run it again; the services are asked anew",
        locked="{path} is in use by another run: wait for it, or stop it",
        foreign="{path} belongs to another program: move it away, then run it again",
    )
    wait_s = 0

    def get(self, url: str) -> Kept | None:
        """What came from an address; None where it was never asked. A body that cannot be read counts as that."""
        row = self.fetch_one(GET, (url,))
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
        self.run(PUT, (url, kept.state, kept.code, kept.etag, kept.reason, body))

    def retry_failed(self) -> int:
        """Forget what failed or was missing, so that it is asked again; returns how many."""
        return self.run("DELETE FROM answers WHERE state != 'done'")

    def counts(self) -> dict[str, int]:
        """How many answers are in each state."""
        numbers = dict(self.fetch_all("SELECT state, count(*) FROM answers GROUP BY state"))
        return {s: numbers.get(s, 0) for s in ("done", "missing", "failed")}
