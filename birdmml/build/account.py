"""What a build did, counted: the manifest and the validation record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby, islice
from types import ModuleType
from typing import TYPE_CHECKING, Any

from birdmml import __version__, files, species_list, taxonomy
from birdmml.licenses import UNKNOWN_LICENSE
from birdmml.schema import DATASET_SCHEMA_VERSION, SPLITS

if TYPE_CHECKING:
    from birdmml.build.assemble import Tally
    from birdmml.build.catalog import Catalog
    from birdmml.build.recipe import BuildSettings
    from birdmml.shards import WrittenShard
    from birdmml.species_list import SpeciesList
    from birdmml.taxonomy import Taxonomy

# Listed in validation.json up to here; all of them stand in report/rejects.csv and report/absent.csv.
MAX_LISTED = 10_000


def checks(catalog: Catalog, tally: Tally, max_rejects: float, known: Taxonomy) -> dict[str, Any]:
    """Everything that was looked at and did not, or not as it was, enter the dataset."""
    rejects, absent = catalog.reasons(absent=False), catalog.reasons(absent=True)
    rejected = sum(rejects.values())
    checked = catalog.count("SELECT count(*) FROM media") + rejected
    share = rejected / checked if checked else 0.0
    return {
        "schema_version": DATASET_SCHEMA_VERSION,
        "media_checked": checked,
        "rejected": rejected,
        "reject_share": share,
        "max_rejects": max_rejects,
        "accepted": share <= max_rejects,
        "rejects_by_reason": rejects,
        "rejects": [asdict(r) for r in islice(catalog.rejects(absent=False), MAX_LISTED)],
        "absent_by_reason": absent,
        "absent": [asdict(r) for r in islice(catalog.rejects(absent=True), MAX_LISTED)],
        "unpaired": [asdict(u) for u in tally.unpaired],
        "pairs": {
            "as_in_source": tally.kept,
            "re_paired": tally.repaired,
            "of_these_with_a_photo_used_again": tally.reused,
            "by_rule": tally.by_rule,
        },
        "dropped_tails": {
            "clips": catalog.count("SELECT sum(tails) FROM done"),
            "seconds": round(next(catalog.select("SELECT total(tail_seconds) FROM done"))[0], 3),
        },
        "duplicates": _duplicates(catalog, known),
    }


def of_rows(catalog: Catalog, shards: Sequence[WrittenShard], known: Taxonomy) -> dict[str, Any]:
    """What the written rows add to the validation record."""
    total = _total(shards)
    return {
        "captions_by_origin": _part(total, "origin"),
        "unknown_licenses": {part: total[part, UNKNOWN_LICENSE] for part in ("image", "audio", "caption")},
        "recovered_rows": sum(_part(total, "recovered").values()),
        "by_species": _by_species(catalog, total, known),
    }


def names_in_captions(shards: Sequence[WrittenShard]) -> dict[str, dict[str, float]]:
    """Shares of all rows whose caption, as it is and name-free, has a name of the species, by kind of name."""
    total, rows = _total(shards), sum(s.rows for s in shards)
    return {
        column: {
            kind: total[f"{column} names", kind] / rows for kind in ("common", "scientific", "part", "any")
        }
        for column in ("caption", "caption_name_free")
    }


def _by_species(catalog: Catalog, total: Counter[tuple[str, str]], known: Taxonomy) -> list[dict[str, Any]]:
    """Rows of each species: complete, recovered, and lost because a half of them is nowhere; in taxonomic order."""
    lost = dict(
        catalog.select(
            "SELECT species, count(DISTINCT path) FROM rejects WHERE absent AND species <> '' GROUP BY species"
        )
    )
    rows = [
        {
            "species": s.scientific_name,
            "complete": total["complete", s.scientific_name],
            "recovered": total["recovered", s.scientific_name],
            "lost": lost.get(s.scientific_name, 0),
        }
        for s in known.species
    ]
    return [row for row in rows if row["complete"] or row["recovered"] or row["lost"]]


def _duplicates(catalog: Catalog, known: Taxonomy) -> list[dict[str, Any]]:
    """Media that are byte for byte the same; they stay, on one side of the split."""
    found = catalog.select(
        "SELECT sha256, path, label FROM place JOIN media USING (n) WHERE sha256 IN (SELECT sha256 FROM media "
        # The hashes of hashes are small and sort fast; what shares one is looked at in full.
        "WHERE sha IN (SELECT sha FROM ordered GROUP BY sha HAVING count(*) > 1) "
        "GROUP BY sha256 HAVING count(DISTINCT path) > 1) ORDER BY sha256, m"
    )
    groups = islice(((sha, list(group)) for sha, group in groupby(found, key=lambda row: row[0])), MAX_LISTED)
    return [
        {
            "sha256": sha,
            "paths": list(dict.fromkeys(path for _, path, _ in group)),
            "species": sorted({known.by_label(label).scientific_name for _, _, label in group}),
        }
        for sha, group in groups
    ]


def manifest(
    settings: BuildSettings,
    source: ModuleType,
    facts: Mapping[str, Any],
    catalog: Catalog,
    shards: Sequence[WrittenShard],
    extras: Mapping[str, str],
    captioner: Mapping[str, Any],
) -> dict[str, Any]:
    """What the dataset is and what it was made from; no dates and no paths, so equal builds are equal.

    `captioner` is all that decided the captions written here.
    """
    used = "SELECT count(DISTINCT {}) FROM final JOIN ordered ON m = {}"
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
            "split": settings.rules.mode,
            "split_fractions": list(settings.rules.fractions),
            "split_by_author": settings.rules.by_author,
            "near_radius": settings.rules.near_radius,
            "passes": settings.passes,
            "limit": settings.limit,
            "captioner": dict(captioner),
            **asdict(settings.limits),
        },
        "taxonomy": _taxonomy(settings.species_list),
        "counts": {
            **of_shards(shards),
            "photos": catalog.count("SELECT count(DISTINCT image) FROM final"),
            "recordings": catalog.count(used.format("grp", "audio")),
            "clips": catalog.count("SELECT count(DISTINCT audio) FROM final"),
        },
        "licenses": licenses(shards),
        "splits": splits(shards),
        "files": dict(extras),
    }
    return {**value, "digest": files.digest(value)}


def _taxonomy(chosen: SpeciesList) -> dict[str, Any]:
    """Which table the labels are of: the shipped one, or the dataset's own file, and what it was made from."""
    known = chosen.load()
    said: dict[str, Any] = {"species": len(known.taxonomy), "digest": known.taxonomy.digest}
    if chosen:
        said |= {
            "file": species_list.TABLE,
            "list_sha256": chosen.sha256,
            "completed": len(known.completed),
            "completed_from": taxonomy.digest(),
            "notes": list(known.notes[:MAX_LISTED]),
        }
    return said


def of_shards(shards: Sequence[WrittenShard]) -> dict[str, int]:
    """Rows and species of the written shards."""
    return {"rows": sum(s.rows for s in shards), "species": len(_part(_total(shards), "species"))}


def licenses(shards: Sequence[WrittenShard]) -> dict[str, dict[str, int]]:
    """Rows by licence of each part."""
    total = _total(shards)
    return {part: _part(total, part) for part in ("image", "audio", "caption")}


def splits(shards: Sequence[WrittenShard]) -> dict[str, dict[str, Any]]:
    """Rows, species and shards of each split that has any."""
    by_split = {split: [s for s in shards if s.path.startswith(f"data/{split}-")] for split in SPLITS}
    return {split: _split(mine) for split, mine in by_split.items() if mine}


def _total(shards: Sequence[WrittenShard]) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for shard in shards:
        total.update(shard.tally)
    return total


def _part(total: Counter[tuple[str, str]], what: str) -> dict[str, int]:
    return {value: n for (kind, value), n in sorted(total.items()) if kind == what}


def _split(shards: Sequence[WrittenShard]) -> dict[str, Any]:
    return {
        "rows": sum(s.rows for s in shards),
        "species": len(_part(_total(shards), "species")),
        "shards": [s.listed() for s in shards],
    }
