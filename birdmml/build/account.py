"""What a build did, counted: the manifest and the validation record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import TYPE_CHECKING, Any

from birdmml import __version__, files, taxonomy
from birdmml.build.staging import Receipt
from birdmml.schema import DATASET_SCHEMA_VERSION, SPLITS, UNKNOWN_LICENSE, Medium, Reject, Triplet

if TYPE_CHECKING:
    from birdmml.build.assemble import Unpaired
    from birdmml.build.run import BuildSettings
    from birdmml.build.write import Shard


def validation(
    media: Sequence[Medium],
    rows: Sequence[Triplet],
    rejects: Sequence[Reject],
    unpaired: Sequence[Unpaired],
    receipts: Sequence[Receipt],
    max_rejects: float,
) -> dict[str, Any]:
    """Everything that was looked at and did not, or not as it was, enter the dataset."""
    checked = len(media) + len(rejects)
    share = len(rejects) / checked if checked else 0.0
    return {
        "schema_version": DATASET_SCHEMA_VERSION,
        "media_checked": checked,
        "reject_share": share,
        "max_rejects": max_rejects,
        "accepted": share <= max_rejects,
        "rejects_by_reason": dict(sorted(Counter(r.reason for r in rejects).items())),
        "rejects": [asdict(r) for r in rejects],
        "unpaired": [asdict(u) for u in unpaired],
        "dropped_tails": {
            "clips": sum(r.tails for r in receipts),
            "seconds": round(sum(r.tail_seconds for r in receipts), 3),
        },
        "duplicates": _duplicates(media),
        "captions_by_origin": dict(sorted(Counter(r.caption.origin for r in rows).items())),
        "unknown_licenses": _unknown_licenses(rows),
    }


def _duplicates(media: Sequence[Medium]) -> list[dict[str, Any]]:
    """Media that are byte for byte the same; they stay, on one side of the split."""
    same: dict[str, list[Medium]] = {}
    for medium in media:
        same.setdefault(medium.sha256, []).append(medium)
    return [
        {
            "sha256": sha,
            "paths": [m.source_path for m in group],
            "species": sorted({m.species for m in group}),
        }
        for sha, group in same.items()
        if len(group) > 1
    ]


def _unknown_licenses(rows: Sequence[Triplet]) -> dict[str, int]:
    return {
        "image": sum(r.image.credit.license == UNKNOWN_LICENSE for r in rows),
        "audio": sum(r.audio.credit.license == UNKNOWN_LICENSE for r in rows),
        "caption": sum(r.caption.credit.license == UNKNOWN_LICENSE for r in rows),
    }


def manifest(
    settings: BuildSettings,
    source: ModuleType,
    rows: Sequence[Triplet],
    shards: Sequence[Shard],
    extras: Mapping[str, str],
) -> dict[str, Any]:
    """What the dataset is and what it was made from; no dates and no paths, so equal builds are equal."""
    facts = source.facts(settings.source_settings)
    value: dict[str, Any] = {
        "schema_version": DATASET_SCHEMA_VERSION,
        "name": f"birdmml-{settings.source}",
        "demo": bool(facts.get("demo", False)),
        "birdmml_version": __version__,
        "source": {
            "name": settings.source,
            "card": asdict(source.CARD),
            "settings": source.public_settings(settings.source_settings),
            "facts": facts,
        },
        "settings": {
            "seed": settings.seed,
            "split_fractions": list(settings.fractions),
            "passes": settings.passes,
            "limit": settings.limit,
            **asdict(settings.limits),
        },
        "taxonomy": {"species": len(taxonomy.all_species()), "digest": taxonomy.digest()},
        "counts": {
            "rows": len(rows),
            "species": len({r.species for r in rows}),
            "photos": len({r.image.id for r in rows}),
            "recordings": len({r.audio.group for r in rows}),
            "clips": len({r.audio.id for r in rows}),
        },
        "licenses": {
            "image": _licenses([r.image.credit.license for r in rows]),
            "audio": _licenses([r.audio.credit.license for r in rows]),
            "caption": _licenses([r.caption.credit.license for r in rows]),
        },
        "splits": {
            split: _split(split, rows, shards) for split in SPLITS if any(r.split == split for r in rows)
        },
        "files": dict(extras),
    }
    return {**value, "digest": files.digest(value)}


def _licenses(found: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(found).items()))


def _split(split: str, rows: Sequence[Triplet], shards: Sequence[Shard]) -> dict[str, Any]:
    mine = [r for r in rows if r.split == split]
    return {
        "rows": len(mine),
        "species": len({r.species for r in mine}),
        "shards": [asdict(s) for s in shards if s.path.startswith(f"data/{split}-")],
    }
