"""What is printed of a prepared evaluation set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LISTED = 10


def lines(root: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """A prepared set in a few lines: what it is, its licence, counts beside the published ones, its digest."""
    parts = [p for c in manifest["collections"].values() for p in c["splits"].values()]
    size = sum(s["bytes"] for p in parts for s in p["shards"])
    if manifest["demo"]:
        yield "MADE FROM A FAKE: noise, not birds; its figures say nothing."
    yield f"{root}: {manifest['name']}, {sum(p['rows'] for p in parts):,} rows; {size / 2**20:,.1f} MiB"
    yield from _provider(manifest)
    yield from counts({"classes": len(manifest["classes"]), **rows(manifest)})
    yield from differs(manifest["differences"])
    yield from _left_out(root, manifest)
    yield f"  digest      {manifest['digest']}"


def counts(found: Mapping[str, Any]) -> Iterator[str]:
    """The classes, and a line a collection."""
    yield f"  classes     {found['classes']:,}"
    for name, splits in found.items():
        if name != "classes":
            yield f"  {name:<11} " + ", ".join(f"{split} {n:,}" for split, n in splits.items())


def rows(manifest: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """{collection: {split: its rows}}."""
    collections = manifest["collections"].items()
    return {name: {s: part["rows"] for s, part in told["splits"].items()} for name, told in collections}


def differs(differences: list[str]) -> Iterator[str]:
    """The first differences from what the provider published, and how many more there are."""
    yield from (f"  differs     {line}" for line in differences[:LISTED])
    if len(differences) > LISTED:
        yield f"  differs     ... and {len(differences) - LISTED:,} more"


def _provider(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the set is and under which licence, where this birdmml knows it."""
    from birdmml import discover
    from birdmml.errors import UnknownName

    try:
        card = discover.load("evaluation set", str(manifest["name"])).CARD
    except UnknownName:
        yield f"  licence     {manifest.get('license', 'unknown')}; this birdmml does not know the set"
        return
    yield f"  what        {card.summary}"
    yield f"  licence     {manifest.get('license', card.license)}; {card.url}"


def _left_out(root: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What was rejected or changed: sets of arrays say it in the manifest, those of media in their report."""
    told = manifest.get("left_out")
    if told is None:
        path = root / "report" / "report.json"
        try:
            told = json.loads(path.read_bytes())["rejects_by_reason"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            yield f"  rejected    not known: {path} cannot be read ({type(e).__name__})"
            return
    yield from (f"  rejected    {n:,} rows: {reason}" for reason, n in told.items())
    yield from (f"  changed     {n:,} rows: {reason}" for reason, n in manifest.get("changed", {}).items())
    if manifest["differences"] == [] and not told:
        yield "  as published"
