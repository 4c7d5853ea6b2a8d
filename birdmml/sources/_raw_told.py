"""What a build from raw sources says of what did not come: one line each, with its reason and its cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from birdmml.errors import SourceError
from birdmml.schema import Reject
from birdmml.sources._raw_index import Index
from birdmml.sources._raw_settings import Settings
from birdmml.taxonomy import Species

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
    index: Index, species: Sequence[Species], rows: int, settings: Settings, lines: bool
) -> Iterator[Reject]:
    """Everything that did not come, in a stable order; with `lines`, those of the tables that are no rows, too."""
    names = {s.label: s.scientific_name for s in species}
    taxa, today, offered = (index.fact(k) or {} for k in ("taxa", "today", "offered"))
    for s in species:
        yield from _species(index, s, rows, taxa, today, offered.get(str(s.label), 0))
    for label, why, detail, n in index.fact("refused") or []:
        text = _WHY[why].format(detail=detail, least=settings.min_side)
        word = "photo" if n == 1 else "photos"
        yield Reject(
            f"photos.csv.gz: {names[label]}", f"photo_{why}", f"{n:,} {word}: {text}", True, names[label]
        )
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
            slug = {"gone": f"{what}_gone", "failed": f"{what}_failed", "unfit": f"{what}_no_author"}[state]
            yield Reject(
                f"{what} {name}", slug, f"{names[label]}: {detail}{_instead(state)}", True, names[label]
            )
    yield from index.rejects()


def _instead(state: str) -> str:
    return "" if state == "failed" else "; the next choice took its place where there was one"


def _species(
    index: Index, s: Species, rows: int, taxa: dict[str, Any], today: dict[str, Any], offered: int
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
        question = (
            ", ".join(str(i) for i in (s.inat_taxon_id, *s.former_inat_ids) if i is not None)
            or "no id, by its name"
        )
        detail = f"{_TAXA[state]} (asked for {question}){hint}; all {rows:,} rows of it are lacking"
        yield Reject(where, f"taxon_{state}", detail, True, s.scientific_name)
    held = index.held("photos", s.label)
    have = sum(n for state, n in held.items() if state in ("done", "fetched", ""))
    if ids and have < rows:
        tried = sum(held.values())
        more = "" if tried >= offered else f", of which the first {tried:,} choices were tried"
        detail = f"{have:,} of {rows:,} photos could be had ({offered:,} may be taken by the tables{more})"
        yield Reject(f"photos of {s.scientific_name}", "photos_short", detail, True, s.scientific_name)


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of parts as those of one build; raises SourceError where they were made from different tables."""
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
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def by_species(index: Index, species: Sequence[Species]) -> list[dict[str, Any]]:
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
