"""What a build from raw sources must not forget: the photos and recordings it asks for, and what became of each.

One SQLite file in the build's work folder, used from several threads. A row's state is "" (to be fetched), fetched
(here, not yet safe in the build), done, gone (another takes its place), failed (may come another time), or unfit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from birdmml.core.sqlite import WorkFile
from birdmml.schema import Article, Reject
from birdmml.sources._inat_select import Candidate

_TABLES = (
    WorkFile.FACTS,
    """CREATE TABLE IF NOT EXISTS photos (label INTEGER, place INTEGER, name TEXT, doc TEXT, state TEXT DEFAULT '',
    reason TEXT DEFAULT '', PRIMARY KEY (label, place)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS recordings (label INTEGER, place INTEGER, name TEXT, doc TEXT, clips INTEGER,
    state TEXT DEFAULT '', reason TEXT DEFAULT '', PRIMARY KEY (label, place)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS listings (label INTEGER PRIMARY KEY, doc TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS articles (label INTEGER PRIMARY KEY, doc TEXT) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS rejects (label INTEGER, origin TEXT, path TEXT, reason TEXT, detail TEXT,
    species TEXT)""",
    "CREATE INDEX IF NOT EXISTS rejects_of ON rejects (label, origin)",
)
_PAGE = 1000
KINDS = ("photos", "recordings")

Row = tuple[int, int, str, str, str]  # label, place, name, doc, state


class Index(WorkFile):
    """The file at `path`, created where there is none."""

    tables = _TABLES

    def begin(self, retry_failed: bool) -> None:
        """What came but was not safe is asked for again (and is here); with `retry_failed`, what failed, too."""
        states = ("fetched", "failed") if retry_failed else ("fetched",)
        for kind in KINDS:
            for state in states:
                self.run(f"UPDATE {kind} SET state = '', reason = '' WHERE state = ?", (state,))  # noqa: S608  # KINDS
        if retry_failed:
            self.run("DELETE FROM listings WHERE json_extract(doc, '$.failed')")
            self.run("DELETE FROM articles WHERE doc = 'null'")
        self.commit()

    def add_photos(self, candidates: Iterable[Candidate]) -> None:
        """Take the choices in, in place of any that were there."""
        with self._lock:
            self.run("DELETE FROM photos")
            self.run_many(
                "INSERT INTO photos (label, place, name, doc, state) VALUES (?, ?, ?, ?, ?)",
                (
                    (c.label, c.rank, str(c.photo_id), json.dumps(asdict(c)), "" if c.author else "unfit")
                    for c in candidates
                ),
            )

    def add_listing(
        self, label: int, doc: Any, takes: Sequence[tuple[str, str, int]], rejects: Iterable[Reject]
    ) -> None:
        """What a species' list of recordings holds: (name, doc, clips) in the order of choice; known ones stay."""
        with self._lock:
            self.run_many(
                "INSERT OR IGNORE INTO recordings (label, place, name, doc, clips) VALUES (?, ?, ?, ?, ?)",
                ((label, place, *take) for place, take in enumerate(takes)),
            )
            self.run("INSERT OR REPLACE INTO listings VALUES (?, ?)", (label, json.dumps(doc)))
            self.reject(label, "listing", rejects)

    def listing(self, label: int) -> Any:
        """What was noted with `add_listing`; None before."""
        row = self.fetch_one("SELECT doc FROM listings WHERE label = ?", (label,))
        return json.loads(row[0]) if row else None

    def add_article(self, label: int, article: Article | None) -> None:
        """An article, or that there is none."""
        doc = json.dumps(asdict(article)) if article else "null"
        self.run("INSERT OR REPLACE INTO articles VALUES (?, ?)", (label, doc))

    def article(self, label: int) -> tuple[bool, Article | None]:
        """Whether it was asked for, and the article."""
        row = self.fetch_one("SELECT doc FROM articles WHERE label = ?", (label,))
        doc = json.loads(row[0]) if row else None
        return row is not None, Article(**doc) if doc else None

    def articles(self) -> Iterator[Article]:
        """All that there are."""
        for (doc,) in self.fetch_all("SELECT doc FROM articles WHERE doc <> 'null' ORDER BY label"):
            yield Article(**json.loads(doc))

    def reject(self, label: int, origin: str, rejects: Iterable[Reject]) -> None:
        """Things of a species that did not come, in place of what `origin` said before (label -1: of none)."""
        with self._lock:
            self.run("DELETE FROM rejects WHERE label = ? AND origin = ?", (label, origin))
            self.run_many(
                "INSERT INTO rejects VALUES (?, ?, ?, ?, ?, ?)",
                ((label, origin, r.path, r.reason, r.detail, r.species) for r in rejects),
            )

    def rejects(self) -> Iterator[Reject]:
        """Those, species by species."""
        query = (
            "SELECT label, origin, rowid, path, reason, detail, species FROM rejects "  # noqa: S608  # a number
            f"WHERE (label, origin, rowid) > (?, ?, ?) ORDER BY label, origin, rowid LIMIT {_PAGE}"
        )
        for *_, path, reason, detail, species in self._pages(query, [-2, "", 0], 3):
            yield Reject(path, reason, detail, absent=True, species=species)

    def photos_for(self, label: int, n: int) -> list[Row]:
        """Those of the first `n` photos that can still be had which are to be fetched."""
        photos = self.fetch_all(
            "SELECT label, place, name, doc, state FROM photos WHERE label = ? AND state NOT IN ('gone', 'unfit') "
            "ORDER BY place LIMIT ?", (label, n),
        )  # fmt: skip
        return [row for row in photos if row[4] == ""]

    def recordings_for(self, label: int, clips: int, least: int) -> list[Row]:
        """Those to be fetched of the recordings that give `clips` clips, and are `least` many if there are so many."""
        wanted: list[Row] = []
        count = total = 0
        for *row, n in self.fetch_all(
            "SELECT label, place, name, doc, state, clips FROM recordings WHERE label = ? "
            "AND state NOT IN ('gone', 'unfit') ORDER BY place", (label,),
        ):  # fmt: skip
            if total >= clips and count >= least:
                break
            count, total = count + 1, total + n
            if row[4] == "":
                wanted.append((row[0], row[1], row[2], row[3], row[4]))
        return wanted

    def mark(self, kind: str, label: int, place: int, state: str, reason: str = "") -> None:
        """What became of a row."""
        self.run(
            f"UPDATE {kind} SET state = ?, reason = ? WHERE label = ? AND place = ?",  # noqa: S608  # one of KINDS
            (state, reason, label, place),
        )

    def ended(self, kind: str, *states: str) -> Iterator[tuple[int, str, str, str]]:
        """(label, name, state, reason) of all rows in these states."""
        marks = ", ".join("?" * len(states))
        query = (
            f"SELECT label, place, name, state, reason FROM {kind} WHERE (label, place) > (?, ?) "  # noqa: S608  # one of KINDS
            f"AND state IN ({marks}) ORDER BY label, place LIMIT {_PAGE}"
        )
        for label, _, name, state, reason in self._pages(query, [-1, -1], 2, states):
            yield label, name, state, reason

    def counts(self, kind: str) -> dict[str, int]:
        """How many rows are in each state, but for those that were never asked for."""
        query = f"SELECT state, count(*) FROM {kind} WHERE state <> '' GROUP BY state ORDER BY state"  # noqa: S608  # one of KINDS
        return dict(self.fetch_all(query))

    def held(self, kind: str, label: int) -> dict[str, int]:
        """The same for one species, all states."""
        query = f"SELECT state, count(*) FROM {kind} WHERE label = ? GROUP BY state"  # noqa: S608  # one of KINDS
        return dict(self.fetch_all(query, (label,)))

    def unanswered(self) -> dict[str, int]:
        """How many lists and articles a service failed to give."""
        failures = self.fetch_all(
            "SELECT origin, count(DISTINCT label) FROM rejects WHERE reason IN ('list_failed', 'article_failed') "
            "GROUP BY origin ORDER BY origin"
        )
        return {{"listing": "lists of recordings", "article": "articles"}[o]: n for o, n in failures}

    def _pages(
        self, query: str, after: list[Any], width: int, values: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """All rows of a query that goes on behind the first `width` columns of the last row."""
        while page := self.fetch_all(query, (*after, *values)):
            yield from page
            after = list(page[-1][:width])
