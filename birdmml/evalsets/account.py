"""What a preparation found: counts beside the published ones, every difference, everything that was left out."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2

from birdmml.core import files
from birdmml.dataset.shards import WrittenShard
from birdmml.evalsets._annotations import AnnotatedItem, Annotations
from birdmml.evalsets.arrays import Gathered, SampleChange
from birdmml.evalsets.decode import FRAMES, QUALITY, SWEEP_S, EvalsetRow, shrink
from birdmml.evalsets.read import digest, manifest_head
from birdmml.evalsets.shelf import EvalsetListing
from birdmml.media import image
from birdmml.schema import RATE_HZ, Reject

# What report/index.html shows at most, so that a browser opens it.
MAX_THUMBS = 200
MAX_LISTED = 200
THUMB_PX = 64
RowsBySplit = Mapping[str, Mapping[str, Sequence[EvalsetRow]]]  # By collection and split.


@dataclass(frozen=True)
class EvalsetSurvey:
    """What a source holds, before anything is decoded. `entries` are those that are to become rows."""

    listing: EvalsetListing
    annotations: Annotations
    entries: Mapping[str, tuple[AnnotatedItem, ...]]

    @property
    def considered(self) -> int:
        """The tables' rows that are looked at: fewer with --limit."""
        return len(self.annotations.rejects) + sum(map(len, self.entries.values()))


def settings(frame_px: int, limit: int | None) -> dict[str, Any]:
    """What decides the bytes, for the manifest."""
    size = f"short side at most {frame_px} px (Lanczos)" if frame_px else "size as in the video"
    return {
        "frames": FRAMES,
        "sweep_s": list(SWEEP_S),
        "frame_px": frame_px,
        "frame_encoding": f"JPEG, quality {QUALITY}, 4:4:4, {size}",
        "rate_hz": RATE_HZ,
        "audio_encoding": "FLAC, 16 bit, mono",
        "limit": limit,
    }


def differences(published: Mapping[str, Any], counts: Mapping[str, Any]) -> list[str]:
    """A line for each published count that the set does not have; a published "all" is the sum of the splits."""
    lines = []
    for name, want in published.items():
        have = counts.get(name, 0 if isinstance(want, int) else {})
        pairs = [(name, want, have)] if isinstance(want, int) else [
            (f"{name}/{split}", n, sum(have.values()) if split == "all" else have.get(split, 0))
            for split, n in want.items()
        ]  # fmt: skip
        lines += [f"{where}: {b:,} found, {a:,} published ({b - a:+,})" for where, a, b in pairs if a != b]
    return lines


def manifest(
    module: ModuleType, key: str, chosen: Mapping[str, Any], survey: EvalsetSurvey, rows: RowsBySplit,
    shards: Sequence[WrittenShard],
) -> dict[str, Any]:  # fmt: skip
    """The whole manifest of the set named `key`; `chosen` are the settings."""
    classes, kinds = survey.annotations.classes, {c.name: c.kind for c in module.COLLECTIONS}
    collections: dict[str, Any] = {name: {"kind": kinds[name], "splits": {}} for name in rows}
    for name, parts in rows.items():
        for split, part in parts.items():
            mine = [shard.listed() for shard in shards if shard.path.startswith(f"data/{name}/{split}-")]
            collections[name]["splits"][split] = {"rows": len(part), "shards": mine}
    # In the form of PUBLISHED.
    counts = {"classes": len(classes), **{name: {s: len(r) for s, r in parts.items()} for name, parts in rows.items()}}
    limited = [f"limited to {chosen['limit']} rows a split (--limit)"] if chosen["limit"] else []
    return {
        **manifest_head(key, survey.listing.fake, classes),
        "taxa": [dict(t) for t in survey.annotations.taxa],
        "prompt": module.PROMPT,
        "license": module.CARD.license,
        "collections": collections,
        "published": module.PUBLISHED,
        "found": counts,
        "differences": [*limited, *differences(module.PUBLISHED, counts), *survey.annotations.notes],
        "settings": dict(chosen),
        "digest": digest(classes, chosen, collections),
    }


def strays(listing: EvalsetListing, annotations: Annotations) -> list[Reject]:
    """Files that enter no row: refused by the reader, or named by no table."""
    folders, unnamed = {name.rpartition("/")[0] for name in annotations.named}, list[Reject]()
    for file in (file for file in listing.files if file not in annotations.named):
        folder = file.rpartition("/")[0]
        if folder not in folders and "/" in folder:
            unnamed.append(Reject(file, "unknown_class_folder", f"no table names a file in {folder}"))
        else:
            unnamed.append(Reject(file, "not_annotated", "no table names this file"))
    return sorted([*listing.strays, *unnamed], key=lambda r: (r.path, r.reason))


def report(
    manifest: Mapping[str, Any], survey: EvalsetSurvey, rows: RowsBySplit, rejects: Sequence[Reject], max_rejects: float
) -> dict[str, Any]:
    """What report/report.json holds."""
    unused, considered = strays(survey.listing, survey.annotations), survey.considered
    # Videos without an audio track: a missing modality, never silence.
    silent = {
        name: [row.id for part in parts.values() for row in part if not row.decoded.spans.get("audio")]
        for name, parts in rows.items()
        if manifest["collections"][name]["kind"] == "videos"
    }
    share = len(rejects) / considered if considered else 0.0
    kept = ("name", "demo", "settings", "published", "found", "differences", "digest")
    return {
        **{key: manifest[key] for key in kept},
        "claimed": {name: dict(counts) for name, counts in survey.annotations.claimed.items()},
        "notes": list(survey.listing.notes),
        "considered": considered,
        "rejected": len(rejects),
        "reject_share": share,
        "max_rejects": max_rejects,
        "accepted": share <= max_rejects,
        "rejects_by_reason": by_reason(rejects),
        "strays_by_reason": by_reason(unused),
        "without_audio": {name: {"count": len(ids), "ids": ids} for name, ids in silent.items()},
        "rejects": [_plain(r) for r in rejects],
        "strays": [_plain(r) for r in unused],
    }


def by_reason(rejects: Iterable[Reject]) -> dict[str, int]:
    """How many of each, most first."""
    return dict(sorted(Counter(r.reason for r in rejects).items(), key=lambda entry: (-entry[1], entry[0])))


def _plain(reject: Reject) -> dict[str, str]:
    return {"path": reject.path, "reason": reject.reason, "detail": reject.detail}


def write_report(root: Path, report: Mapping[str, Any], classes: list[str], rows: RowsBySplit, folder: Path) -> None:
    """Write report/ below `root`: report.json for programs, rejects.csv for tables, index.html for people.

    Thumbnails come from the media staged in `folder`. Same set, same bytes.
    """
    files.write_json(root / "report" / "report.json", report)
    listed = [(what, r) for what, key in (("row", "rejects"), ("file", "strays")) for r in report[key]]
    lines = [(what, r["path"], r["reason"], r["detail"]) for what, r in listed]
    files.write_text(root / "report" / "rejects.csv", _csv(("what", "path", "reason", "detail"), lines))
    page = _template().render(
        report=report, counts=list(_counts(report)), thumbs=list(_thumbs(classes, rows, folder)), shown=MAX_LISTED
    )
    files.write_text(root / "report" / "index.html", page)


def _csv(head: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([head, *lines])
    return out.getvalue()


def _counts(report: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(collection and split, published, in the tables, written) of everything that has a count."""
    yield "classes", f"{report['published']['classes']:,}", "", f"{report['found']['classes']:,}"
    for name, written in report["found"].items():
        if name == "classes":
            continue
        published, claimed = report["published"].get(name, {}), report["claimed"].get(name, {})
        for split in dict.fromkeys([*written, *published, *claimed]):
            first = f"{published[split]:,}" if split in published else ""
            yield f"{name} {split}", first, f"{_of(claimed, split):,}", f"{_of(written, split):,}"


def _of(counts: Mapping[str, int], split: str) -> int:
    return sum(counts.values()) if split == "all" else counts.get(split, 0)


def _thumbs(classes: list[str], rows: RowsBySplit, folder: Path) -> Iterator[tuple[str, str]]:
    """Class name and a small picture as a data URI, of the first row of each class that has one."""
    first: dict[int, bytes] = {}
    for row in (row for splits in rows.values() for part in splits.values() for row in part):
        pictures = chain(row.media(folder, "frames"), row.media(folder, "image"))
        if row.label not in first and (data := next(pictures, b"")):
            first[row.label] = data
    for label, data in sorted(first.items())[:MAX_THUMBS]:
        small = image.encode_jpeg(shrink(image.decode_image(data, at_least=THUMB_PX), THUMB_PX))
        yield classes[label], f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("prepared.html.j2")


_KEYS = ("name", "demo", "published", "found", "differences", "left_out", "changed", "settings", "digest")


def write(folder: Path, manifest: Mapping[str, Any], gathered: Gathered) -> None:
    """report.json and report.md, rejects.csv and changes.csv (one line a sample)."""
    head = [f.name for f in fields(SampleChange)]
    for name, changes in (("rejects", gathered.rejects), ("changes", gathered.changes)):
        files.write_text(folder / f"{name}.csv", _csv(head, map(astuple, changes)))
    parts = (part for c in manifest["collections"].values() for part in c["splits"].items())
    rows = {split: about["rows"] for split, about in parts}
    files.write_json(folder / "report.json", {k: manifest[k] for k in _KEYS} | {"rows": rows})
    files.write_text(folder / "report.md", _page(manifest, rows))


def _page(manifest: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    parts = [f"# {manifest['name']}", ""]
    if manifest["demo"]:
        parts += ["**Made of a fake: a demonstration, no data.**", ""]
    if note := manifest["settings"].get("note"):
        parts += [f"**{note}**", ""]
    parts += ["| split | rows |", "| --- | --- |", *(f"| {split} | {n:,} |" for split, n in rows.items()), ""]
    parts += ["| count | published | found |", "| --- | --- | --- |"]
    published, counts = flat(manifest["published"]), flat(manifest["found"])
    parts += [f"| {k} | {published.get(k, '-')} | {counts.get(k, '-')} |" for k in {**published, **counts}]
    parts += ["", "## Differences", "", *([f"- {d}" for d in manifest["differences"]] or ["None."]), ""]
    parts += ["## Samples left out (rejects.csv)", "", *_count_lines(manifest["left_out"]), ""]
    parts += ["## Samples changed (changes.csv)", "", *_count_lines(manifest["changed"]), ""]
    return "\n".join(parts)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def _count_lines(counts: Mapping[str, int]) -> list[str]:
    return [f"- {reason}: {n:,}" for reason, n in sorted(counts.items())] or ["None."]
