"""What models have said, kept on disk by key: a build that was killed asks none of it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from birdmml.core.sqlite import Database, Wording

NAME = "said.sqlite"


class CaptionStore(Database):
    """Texts by key, in `folder`; every `put` is safe on disk before it returns.

    Raises BuildError where the file is damaged, in use or cannot grow.
    """

    tables = ("CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, text TEXT, rows INTEGER) WITHOUT ROWID",)
    wording = Wording(
        unusable="{path} cannot be used to keep captions ({error}): free space or stop what else uses it, then run "
        "the same command again; what was written is kept",
        damaged="{path} is damaged ({error}): delete it and run the same command again; captions are written anew",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / NAME)

    def get(self, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
        """(text, rows of its batch) of those keys that have one."""
        rows = (self.fetch_one("SELECT key, text, rows FROM said WHERE key = ?", (key,)) for key in keys)
        return {key: (text, batch) for key, text, batch in filter(None, rows)}

    def put(self, texts: Mapping[str, str], rows: int) -> None:
        """Keep what was said in batches of up to `rows`; all or none."""
        with self.writing():
            values = ((key, text, rows) for key, text in texts.items())
            self._db.executemany("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", values)
