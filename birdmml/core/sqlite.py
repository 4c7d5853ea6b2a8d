"""One way to keep something in a SQLite file: how it is opened, laid out and locked, and what its errors mean."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from birdmml.errors import BuildError, SourceError


@dataclass(frozen=True)
class Wording:
    """What the user is told of a file that fails, by cause; `{path}`, `{error}` and `{hint}` stand in the texts.

    `damaged` where the file itself is at fault, `unusable` where its surroundings are; another process in it
    (`locked`) and a full disk (`full`) have words of their own only where they are given.
    """

    unusable: str
    damaged: str
    locked: str = ""
    full: str = ""
    foreign: str = ""

    def error(self, path: Path, e: sqlite3.Error | OSError) -> BuildError:
        """The error of a file as one with a next step."""
        text = self.damaged
        if isinstance(e, OSError):
            text = "{path} cannot be written ({error}): check the folder, then run it again"
        elif isinstance(e, sqlite3.ProgrammingError):
            text = "{path} was closed while it was in use: run it again"
        elif isinstance(e, sqlite3.OperationalError):
            causes = (self.locked if "locked" in str(e) else "", self.full if "full" in str(e) else "")
            text = next(filter(None, causes), self.unusable)
        hint = "check the folder" if os.access(path.parent, os.W_OK) else "the folder cannot be written"
        return BuildError(text.format(path=path, error=e, hint=hint))


class Database:
    """The SQLite file at `path`, created where there is none; a context manager, usable from several threads.

    A subclass says what is in it: `tables` that are laid out where they are missing, `pragmas` for the connection,
    the `marks` (pragmas, too) that tell its files from other programs'. With `wording`, errors are BuildErrors;
    without, they are SQLite's own, for who holds the folder to translate. `readonly` takes a finished file as it is.
    """

    tables: ClassVar[Sequence[str]]
    pragmas: ClassVar[Sequence[str]] = ("journal_mode = WAL", "synchronous = NORMAL")
    marks: ClassVar[Mapping[str, int]] = {}
    wording: ClassVar[Wording | None] = None
    wait_s: ClassVar[float] = 5.0  # For another process that is writing.

    def __init__(self, path: Path, readonly: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        if readonly:
            self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
            return
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=self.wait_s, isolation_level=None, check_same_thread=False)
            try:
                self._lay_out()
            except BaseException:  # It is not ours to hold open; raised again.
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring everything into the one file and let other processes have it."""
        with self._lock, self._translated():
            self._db.close()

    def fetch_all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._lock, self._translated():
            return self._db.execute(query, values).fetchall()

    def fetch_one(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first row of a query, None where there is none."""
        with self._lock, self._translated():
            return self._db.execute(query, values).fetchone()

    def run(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """Carry out one statement; how many rows it changed."""
        with self._lock, self._translated():
            return self._db.execute(statement, values).rowcount

    def run_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Carry out one statement for each of many rows."""
        with self._lock, self._translated():
            self._db.executemany(statement, values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of it or nothing, whatever is raised inside."""
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:  # Ctrl-C, too, must not leave it open; raised again.
                if self._db.in_transaction:  # SQLite itself undoes what met a full disk.
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _lay_out(self) -> None:
        """Check that the file is ours, and make what is missing in it."""
        empty = not self.fetch_one("SELECT count(*) FROM sqlite_master")[0]
        ours = all(self._pragma(name) == value for name, value in self.marks.items())
        if not ours and self.wording and not (empty and self._pragma("application_id") == 0):
            raise BuildError(self.wording.foreign.format(path=self.path))
        for pragma in self.pragmas:
            self._db.execute(f"PRAGMA {pragma}")
        with self.writing():
            for statement in self.tables:
                self._db.execute(statement)
            for name, value in self.marks.items() if empty else ():
                self._db.execute(f"PRAGMA {name} = {value}")

    def _pragma(self, text: str) -> Any:
        return self._db.execute(f"PRAGMA {text}").fetchone()[0]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # A value that may not be: a mistake of ours, not of the file.
        except (sqlite3.Error, OSError) as e:
            if self.wording is None:
                raise
            raise self.wording.error(self.path, e) from e


class WorkFile(Database):
    """What a source keeps in a build's work folder: small facts by name beside its own tables.

    Nothing is safe before `commit`. Raises SourceError for a file that cannot be opened.
    """

    FACTS = "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
    pragmas = ("journal_mode = WAL", "synchronous = FULL")

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path)
            self._db.execute("BEGIN")
        except sqlite3.DatabaseError as e:
            full = isinstance(e, sqlite3.OperationalError)  # Else the file itself is at fault.
            how = "free some space, or mend what it says" if full else f"delete {path.parent.parent}"
            raise SourceError(f"{path} cannot be used ({e}): {how}, and run the same command again") from e

    def commit(self) -> None:
        """Put everything on disk."""
        with self._lock:
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")

    def fact(self, name: str) -> Any:
        """Something small that was noted, None if it was not."""
        row = self.fetch_one("SELECT value FROM facts WHERE name = ?", (name,))
        return json.loads(row[0]) if row else None

    def note(self, name: str, value: Any) -> None:
        """Note something small."""
        self.run("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
