"""What models have said, kept on disk by key: a build that was killed asks none of it again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from birdmml.errors import BuildError

NAME = "said.sqlite"


class Store:
    """Texts by key, in `folder`; every `put` is safe on disk before it returns.

    Raises BuildError where the file is damaged, in use or cannot grow.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, text TEXT, rows INTEGER)"
                " WITHOUT ROWID"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def get(self, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(text, rows of its batch) of those keys that have one."""
        query = "SELECT key, text, rows FROM said WHERE key = ?"
        with self._told():
            found = [self._db.execute(query, (key,)).fetchone() for key in keys]
        return {key: (text, rows) for key, text, rows in filter(None, found)}

    def put(self, texts: Mapping[str, str], rows: int) -> None:
        """Keep what was said in batches of up to `rows`; all or none."""
        values = [(key, text, rows) for key, text in texts.items()]
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", values)
            except BaseException:  # Ctrl-C, too, must not leave it open; raised again.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as e:
            raise BuildError(
                f"{self.path} cannot be used to keep captions ({e}): free space or stop what else uses it, then run "
                "the same command again; what was written is kept"
            ) from e
        except sqlite3.DatabaseError as e:
            raise BuildError(
                f"{self.path} is damaged ({e}): delete it and run the same command again; captions are written anew"
            ) from e
        except OSError as e:
            raise BuildError(
                f"{self.path} cannot be written ({e}): check the folder, then run it again"
            ) from e
