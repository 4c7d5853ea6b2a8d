"""What a preparation found: counts beside the published ones, every difference, everything that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from birdmml.evalsets._annotations import Annotations, Entry
from birdmml.prepare.decode import FRAMES, QUALITY, SWEEP_S
from birdmml.prepare.shards import EvalsetRow
from birdmml.prepare.shelf import EvalsetListing
from birdmml.prepared import digest, manifest_head
from birdmml.schema import RATE_HZ, Reject
from birdmml.shards import WrittenShard

RowsBySplit = Mapping[str, Mapping[str, Sequence[EvalsetRow]]]  # By collection and split.


@dataclass(frozen=True)
class EvalsetSurvey:
    """What a source holds, before anything is decoded. `entries` are those that are to become rows."""

    listing: EvalsetListing
    annotations: Annotations
    entries: Mapping[str, tuple[Entry, ...]]

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


def written_counts(annotations: Annotations, rows: RowsBySplit) -> dict[str, Any]:
    """The counts of what is written, in the form of PUBLISHED."""
    counts: dict[str, Any] = {"classes": len(annotations.classes)}
    return counts | {name: {s: len(r) for s, r in splits.items()} for name, splits in rows.items()}


def manifest(
    module: ModuleType, name: str, chosen: Mapping[str, Any], survey: EvalsetSurvey, rows: RowsBySplit,
    shards: Sequence[WrittenShard],
) -> dict[str, Any]:  # fmt: skip
    """The whole manifest; `chosen` are the settings."""
    annotations = survey.annotations
    kinds = {c.name: c.kind for c in module.COLLECTIONS}
    collections = {
        collection: {
            "kind": kinds[collection],
            "splits": {
                split: {"rows": len(part), "shards": _listed(shards, f"data/{collection}/{split}-")}
                for split, part in splits.items()
            },
        }
        for collection, splits in rows.items()
    }
    counts = written_counts(annotations, rows)
    limited = [f"limited to {chosen['limit']} rows a split (--limit)"] if chosen["limit"] else []
    return {
        **manifest_head(name, survey.listing.fake, annotations.classes),
        "taxa": [dict(t) for t in annotations.taxa],
        "prompt": module.PROMPT,
        "license": module.CARD.license,
        "collections": collections,
        "published": module.PUBLISHED,
        "found": counts,
        "differences": [*limited, *differences(module.PUBLISHED, counts), *annotations.notes],
        "settings": dict(chosen),
        "digest": digest(annotations.classes, chosen, collections),
    }


def strays(listing: EvalsetListing, annotations: Annotations) -> list[Reject]:
    """Files that enter no row: refused by the reader, or named by no table."""
    folders = {name.rpartition("/")[0] for name in annotations.named}
    unnamed = [
        _stray(file, file.rpartition("/")[0] in folders)
        for file in listing.files
        if file not in annotations.named
    ]
    return sorted([*listing.strays, *unnamed], key=lambda r: (r.path, r.reason))


def _stray(file: str, is_named: bool) -> Reject:
    folder = file.rpartition("/")[0]
    if not is_named and "/" in folder:
        return Reject(file, "unknown_class_folder", f"no table names a file in {folder}")
    return Reject(file, "not_annotated", "no table names this file")


def report(
    manifest: Mapping[str, Any],
    survey: EvalsetSurvey,
    rows: RowsBySplit,
    rejects: Sequence[Reject],
    max_rejects: float,
) -> dict[str, Any]:
    """What report/report.json holds."""
    unused, considered = strays(survey.listing, survey.annotations), survey.considered
    silent = {name: _silent(splits) for name, splits in rows.items() if _has_sound(manifest, name)}
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


def _listed(shards: Sequence[WrittenShard], start: str) -> list[dict[str, Any]]:
    return [shard.listed() for shard in shards if shard.path.startswith(start)]


def by_reason(rejects: Iterable[Reject]) -> dict[str, int]:
    """How many of each, most first."""
    counted = Counter(r.reason for r in rejects)
    return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))


def _has_sound(manifest: Mapping[str, Any], name: str) -> bool:
    return bool(manifest["collections"].get(name, {}).get("kind") == "videos")


def _silent(splits: Mapping[str, Sequence[EvalsetRow]]) -> list[str]:
    """Ids of videos without an audio track."""
    return [row.id for rows in splits.values() for row in rows if not row.decoded.spans.get("audio")]


def _plain(reject: Reject) -> dict[str, str]:
    return {"path": reject.path, "reason": reject.reason, "detail": reject.detail}
