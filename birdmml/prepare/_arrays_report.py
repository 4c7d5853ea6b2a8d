"""What a set of numbers was made of: counts beside the published ones, and every sample left out or changed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.arrays import Gathered, SampleChange

_KEYS = ("name", "demo", "published", "found", "differences", "left_out", "changed", "settings", "digest")


def write(folder: Path, manifest: Mapping[str, Any], gathered: Gathered) -> None:
    """report.json and report.md, rejects.csv and changes.csv (one line a sample)."""
    files.write_text(folder / "rejects.csv", _csv(gathered.rejects))
    files.write_text(folder / "changes.csv", _csv(gathered.changes))
    about = {k: manifest[k] for k in _KEYS} | {"rows": _rows(manifest)}
    files.write_json(folder / "report.json", about)
    files.write_text(folder / "report.md", _page(manifest))


def _rows(manifest: Mapping[str, Any]) -> dict[str, int]:
    return {
        split: about["rows"] for c in manifest["collections"].values() for split, about in c["splits"].items()
    }


def _csv(changes: Iterable[SampleChange]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [f.name for f in fields(SampleChange)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(c) for c in changes)
    return out.getvalue()


def _page(manifest: Mapping[str, Any]) -> str:
    parts = [f"# {manifest['name']}", ""]
    if manifest["demo"]:
        parts += ["**Made of a fake: a demonstration, no data.**", ""]
    if note := manifest["settings"].get("note"):
        parts += [f"**{note}**", ""]
    parts += ["| split | rows |", "| --- | --- |", *_lines(_rows(manifest)), ""]
    parts += ["| count | published | found |", "| --- | --- | --- |"]
    published, counts = flat(manifest["published"]), flat(manifest["found"])
    parts += [f"| {k} | {published.get(k, '-')} | {counts.get(k, '-')} |" for k in {**published, **counts}]
    parts += ["", "## Differences", "", *([f"- {d}" for d in manifest["differences"]] or ["None."]), ""]
    parts += ["## Samples left out (rejects.csv)", "", *_counts(manifest["left_out"]), ""]
    parts += ["## Samples changed (changes.csv)", "", *_counts(manifest["changed"]), ""]
    return "\n".join(parts)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def _lines(counts: Mapping[str, int]) -> list[str]:
    return [f"| {key} | {value:,} |" for key, value in counts.items()]


def _counts(counts: Mapping[str, int]) -> list[str]:
    return [f"- {reason}: {n:,}" for reason, n in sorted(counts.items())] or ["None."]
