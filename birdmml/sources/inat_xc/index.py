"""What a build from raw sources must not forget: the photos and recordings it asks for, and what became of each.

One SQLite file in the build's work folder, used from several threads. A row's state is "" (to be fetched), fetched
(here, not yet safe in the build), done, gone (another takes its place), failed (may come another time), or unfit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from birdmml.core.species import Species
from birdmml.core.sqlite import WorkFile
from birdmml.errors import SourceError
from birdmml.schema import Article, Reject
from birdmml.sources.inat_xc.inaturalist import Candidate
from birdmml.sources.inat_xc.settings import RawSettings

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


class RawIndex(WorkFile):
    """The file at `path`, created where there is none."""

    tables = _TABLES

    def begin(self, retry_failed: bool) -> None:
        """What came but was not safe is asked for again (and is here); with `retry_failed`, what failed, too."""
        again = ("fetched", "failed" if retry_failed else "fetched")
        for kind in KINDS:
            self.run(f"UPDATE {kind} SET state = '', reason = '' WHERE state IN (?, ?)", again)  # noqa: S608  # KINDS
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

    def _pages(self, query: str, after: list[Any], width: int, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """All rows of a query that goes on behind the first `width` columns of the last row."""
        while page := self.fetch_all(query, (*after, *values)):
            yield from page
            after = list(page[-1][:width])


_TAXA = {
    "unknown": "iNaturalist's table has no such taxon",
    "inactive": "iNaturalist's table has its taxon as inactive: it was split or lumped",
    "ambiguous": "several active taxa of iNaturalist's table have this name: which is meant cannot be known",
}
_WHY = {
    "license": "licence {detail!r} is not allowed (--licenses)",
    "small": "the shorter side is below {least} px",
    "extension": "the file extension {detail!r} is none",
    "two_species": "the photo is listed for two species: which it shows cannot be known",
}


def absent(
    index: RawIndex, species: Sequence[Species], rows: int, settings: RawSettings, lines: bool
) -> Iterator[Reject]:
    """Everything that did not come, in a stable order; with `lines`, those of the tables that are no rows, too."""
    names = {s.label: s.scientific_name for s in species}
    taxa, today, offered = (index.fact(k) or {} for k in ("taxa", "today", "offered"))
    for s in species:
        yield from _species(index, s, rows, taxa, today, offered.get(str(s.label), 0))
    for label, why, detail, n in index.fact("refused") or []:
        text = _WHY[why].format(detail=detail, least=settings.min_side)
        word = "photo" if n == 1 else "photos"
        yield Reject(f"photos.csv.gz: {names[label]}", f"photo_{why}", f"{n:,} {word}: {text}", True, names[label])
    selected = index.fact("found") or {}
    for table, n in selected.get("lines_that_are_no_rows", {}).items() if lines else ():
        yield Reject(f"{table}.csv.gz", "bad_line", f"{n:,} lines are no rows of the table", True)
    for label, n in (index.fact("duplicates") or {}).items():
        detail = f"{n:,} rows repeat a photo id; each photo counts once"
        name = names[int(label)]
        yield Reject(f"photos.csv.gz: {name}", "duplicate_photo_id", detail, True, name)
    for kind, what in (("photos", "photo"), ("recordings", "recording")):
        for label, name, state, reason in index.ended(kind, "gone", "failed", "unfit"):
            detail = reason or "no observer is known, and without an author it cannot enter"
            slug = f"{what}_{'no_author' if state == 'unfit' else state}"
            # What failed keeps its place: it may come another time, and the choice must not depend on that.
            instead = "" if state == "failed" else "; the next choice took its place where there was one"
            yield Reject(f"{what} {name}", slug, f"{names[label]}: {detail}{instead}", True, names[label])
    yield from index.rejects()


def _species(
    index: RawIndex, s: Species, rows: int, taxa: dict[str, Any], today: dict[str, Any], offered: int
) -> Iterator[Reject]:
    """What of a whole species is lacking."""
    state, ids = taxa.get(str(s.label), ["unknown", []])
    where = f"taxa.csv.gz: {s.scientific_name}"
    if state == "former":
        reason = f"the table still has the former taxon {', '.join(map(str, ids))}, which was taken"
        yield Reject(where, "taxon_former", reason, True, s.scientific_name)
    elif state:
        named = today.get(str(s.label), [])
        hint = f"; today's id of that name there: {', '.join(map(str, named))}" if named else ""
        ids_of = (s.inat_taxon_id, *s.former_inat_ids)
        question = ", ".join(str(i) for i in ids_of if i is not None) or "no id, by its name"
        detail = f"{_TAXA[state]} (asked for {question}){hint}; all {rows:,} rows of it are lacking"
        yield Reject(where, f"taxon_{state}", detail, True, s.scientific_name)
    held = index.held("photos", s.label)
    have = sum(n for state, n in held.items() if state in ("done", "fetched", ""))
    if ids and have < rows:
        tried = sum(held.values())
        more = "" if tried >= offered else f", of which the first {tried:,} choices were tried"
        detail = f"{have:,} of {rows:,} photos could be had ({offered:,} may be taken by the tables{more})"
        yield Reject(f"photos of {s.scientific_name}", "photos_short", detail, True, s.scientific_name)


def merge_facts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the parts of a divided build say, as one would say it; raises SourceError where their tables differ."""
    first = parts[0]
    for number, part in enumerate(parts):
        if part["tables"] != first["tables"]:
            raise SourceError(
                f"parts 0 and {number} were made from different iNaturalist tables: make all parts from the same ones"
            )
    totals = {
        "photos_that_may_be_taken": sum(p["found"]["photos_that_may_be_taken"] for p in parts),
        "photos_refused": _sums(p["found"]["photos_refused"] for p in parts),
        "duplicate_photo_ids": sum(p["found"]["duplicate_photo_ids"] for p in parts),
        "lines_that_are_no_rows": first["found"]["lines_that_are_no_rows"],
    }
    species = sorted((s for p in parts for s in p["by_species"]), key=lambda s: int(s["label"]))
    counts = {kind: _sums(p[kind] for p in parts) for kind in ("photos", "recordings")}
    return {"demo": False, "tables": first["tables"], "found": totals, **counts, "by_species": species}


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def by_species(index: RawIndex, species: Sequence[Species]) -> list[dict[str, Any]]:
    """For the manifest: how each species was found, and what of it came."""
    taxa, offered = index.fact("taxa") or {}, index.fact("offered") or {}
    rows = []
    for s in species:
        state, ids = taxa.get(str(s.label), ["unknown", []])
        listing = index.listing(s.label) or {}
        _, article = index.article(s.label)
        rows.append(
            {
                "label": s.label,
                "species": s.scientific_name,
                "taxon_ids": ids,
                "taxon_state": state or "active",
                "photos_offered": offered.get(str(s.label), 0),
                "xeno_canto_name": listing.get("matched", ""),
                "notes": listing.get("notes", []),
                "article_revision": article.revision if article else None,
            }
        )
    return rows
