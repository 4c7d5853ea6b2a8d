"""What a build did, counted (manifest, validation record), and what a dataset says of itself in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from types import ModuleType
from typing import TYPE_CHECKING, Any

from birdmml import __version__
from birdmml.core import files, species, species_list
from birdmml.core.licenses import UNKNOWN_LICENSE, normalise
from birdmml.core.text import RELATIONS
from birdmml.schema import DATASET_SCHEMA_VERSION, SPLITS

if TYPE_CHECKING:
    from birdmml.core.species import Taxonomy
    from birdmml.core.species_list import SpeciesList
    from birdmml.dataset.catalog import Catalog
    from birdmml.dataset.pair import Tally
    from birdmml.dataset.recipe import BuildSettings
    from birdmml.dataset.shards import WrittenShard


# Listed in validation.json up to here; all of them stand in report/rejects.csv and report/absent.csv.
MAX_LISTED = 10_000


def checks(catalog: Catalog, tally: Tally, max_rejects: float, taxonomy: Taxonomy) -> dict[str, Any]:
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
        "duplicates": _duplicates(catalog, taxonomy),
    }


def of_rows(catalog: Catalog, shards: Sequence[WrittenShard], taxonomy: Taxonomy) -> dict[str, Any]:
    """What the written rows add to the validation record."""
    total = _total(shards)
    return {
        "captions_by_origin": _part(total, "origin"),
        "unknown_licenses": {part: total[part, UNKNOWN_LICENSE] for part in ("image", "audio", "caption")},
        "recovered_rows": sum(_part(total, "recovered").values()),
        "by_species": _by_species(catalog, total, taxonomy),
    }


def names_in_captions(shards: Sequence[WrittenShard]) -> dict[str, dict[str, float]]:
    """Shares of all rows whose caption, as it is and name-free, has a name of the species, by kind of name."""
    total, rows = _total(shards), sum(s.rows for s in shards)
    return {
        column: {kind: total[f"{column} names", kind] / rows for kind in ("common", "scientific", "part", "any")}
        for column in ("caption", "caption_name_free")
    }


def _by_species(catalog: Catalog, total: Counter[tuple[str, str]], taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Rows of each species: complete, recovered, and lost because a half of them is nowhere; in taxonomic order."""
    # A recording that never came is lost once, however many rows it was listed in.
    query = "SELECT species, count(DISTINCT path) FROM rejects WHERE absent AND species <> '' GROUP BY species"
    lost = dict(catalog.select(query))
    rows = []
    for name in taxonomy.scientific_names:
        counts = {"complete": total["complete", name], "recovered": total["recovered", name], "lost": lost.get(name, 0)}
        if any(counts.values()):
            rows.append({"species": name, **counts})
    return rows


def _duplicates(catalog: Catalog, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Media that are byte for byte the same; they stay, on one side of the split."""
    media = catalog.select(
        "SELECT sha256, path, label FROM place JOIN media USING (n) WHERE sha256 IN (SELECT sha256 FROM media "
        # The hashes of hashes are small and sort fast; what shares one is looked at in full.
        "WHERE sha IN (SELECT sha FROM ordered GROUP BY sha HAVING count(*) > 1) "
        "GROUP BY sha256 HAVING count(DISTINCT path) > 1) ORDER BY sha256, m"
    )
    groups = islice(((sha, list(group)) for sha, group in groupby(media, key=lambda row: row[0])), MAX_LISTED)
    return [
        {
            "sha256": sha,
            "paths": list(dict.fromkeys(path for _, path, _ in group)),
            "species": sorted({taxonomy.by_label(label).scientific_name for _, _, label in group}),
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
        # Beside the shards, which are under `splits`.
        "files": dict(extras),
    }
    return {**value, "digest": files.digest(value)}  # Over all the rest, the hashes of the shards included.


def _taxonomy(chosen: SpeciesList) -> dict[str, Any]:
    """Which table the labels are of: the shipped one, or the dataset's own file, and what it was made from."""
    table = chosen.load()
    facts: dict[str, Any] = {"species": len(table.taxonomy), "digest": table.taxonomy.digest}
    if chosen:
        facts |= {
            "file": species_list.TABLE,
            "list_sha256": chosen.sha256,
            "completed": len(table.completed),
            "completed_from": species.digest(),
            "notes": list(table.notes[:MAX_LISTED]),
        }
    return facts


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
    return {
        split: {**of_shards(mine), "shards": [s.listed() for s in mine]} for split, mine in by_split.items() if mine
    }


def _total(shards: Sequence[WrittenShard]) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for shard in shards:
        total.update(shard.tally)
    return total


def _part(total: Counter[tuple[str, str]], what: str) -> dict[str, int]:
    return {value: n for (kind, value), n in sorted(total.items()) if kind == what}


DEMO = (
    "Demo, generated by a program: photos are drawn, songs synthesised, captions composed. This is not Bird-MML,"
    " and no number measured on it says anything about birds."
)
_PERSONAL = (
    "image_author, audio_author and caption_author hold the names under which authors published their works.",
    "Nobody has checked photos for people and recordings for speech.",
)


@dataclass(frozen=True)
class Statements:
    """What Croissant and the datasheet say of one dataset; every figure is from its manifest or validation record."""

    description: str
    collection: str
    preprocessing: tuple[str, ...]
    annotation: tuple[str, ...]
    tools: tuple[str, ...]
    biases: tuple[str, ...]
    limitations: tuple[str, ...]
    personal: tuple[str, ...]
    licenses: tuple[str, ...]
    missing: str


def of(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> Statements:
    """The same manifest and validation give the same sentences."""
    origins = sorted(validation["captions_by_origin"].items())
    tools = {"template": "birdmml's caption templates", "demo": "birdmml's demo generator"}
    gone = sum(validation["absent_by_reason"].values())
    return Statements(
        description=_description(manifest),
        collection=_collection(manifest),
        preprocessing=tuple(_preprocessing(manifest)),
        annotation=(
            "The species is the source's own, brought to one taxonomy; it was not identified again.",
            *(f"Captions of origin {origin!r}: {rows:,}." for origin, rows in origins),
        ),
        tools=tuple(f"{tools.get(o, o)} ({rows:,} captions)" for o, rows in origins if rows and o != "provided"),
        biases=tuple(_biases(manifest, validation)),
        limitations=tuple(_limitations(manifest, validation)),
        personal=("None: nobody was photographed, recorded or named.",) if manifest["demo"] else _PERSONAL,
        licenses=tuple(
            # The commonest first.
            f"{part}: "
            + ", ".join(f"{name} {n:,}" for name, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))
            for part, counts in manifest["licenses"].items()
        ),
        missing=(
            f"{validation['rejected']:,} of {validation['media_checked']:,} photos and clips were not accepted"
            f" (report/rejects.csv); {gone:,} that the source lists were not there (report/absent.csv)."
        ),
    )


def _description(manifest: Mapping[str, Any]) -> str:
    counts, clip_s = manifest["counts"], manifest["settings"]["clip_s"]
    text = (
        f"{counts['rows']:,} triplets of a photo, a {clip_s} s clip of sound and a caption, of"
        f" {counts['species']:,} species of birds. Photo, clip and caption of a row show the same species, not"
        " necessarily the same bird."
    )
    return f"{DEMO} {text}" if manifest["demo"] else text


def _collection(manifest: Mapping[str, Any]) -> str:
    source = manifest["source"]
    card = source["card"]
    cited = f" {card['citation']}" if card["citation"] else ""
    where = f" {card['url']}" if card["url"] else ""
    return (
        f"Taken over by birdmml {manifest['birdmml_version']} from the source {source['name']!r}:"
        f" {card['summary'].rstrip('.')}.{cited}{where}"
    )


def _preprocessing(manifest: Mapping[str, Any]) -> Iterator[str]:
    rules = manifest["settings"]
    yield "Every photo and recording was decoded and checked; what failed is listed with its reason, never replaced."
    yield (
        f"Photos with a side over {rules['max_image_side']} px were scaled down to it; other JPEG files were kept as"
        " they were (image_reencoded says which)."
    )
    yield (
        f"Recordings were cut into clips of {rules['clip_s']} s, mono, {rules['rate_hz']} Hz, FLAC; shorter ones were"
        " padded with silence (audio_valid_seconds says how much is sound)."
    )
    yield "caption_name_free is the caption with the names that give the species away replaced."


def _biases(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> Iterator[str]:
    rows = sorted(s["complete"] + s["recovered"] for s in validation["by_species"])
    rows = [n for n in rows if n]  # A species may be listed for what it lost alone.
    if rows:
        yield f"Rows a species: least {rows[0]:,}, median {rows[len(rows) // 2]:,}, most {rows[-1]:,}."
    counts = manifest["counts"]
    if counts["rows"] > min(counts["photos"], counts["clips"]):
        yield (
            f"Media are used again: {counts['photos']:,} photos and {counts['clips']:,} clips make"
            f" {counts['rows']:,} rows."
        )
    if not manifest["demo"]:
        yield "Birds are not photographed and recorded evenly: the places and times of the source are the dataset's."


def _limitations(manifest: Mapping[str, Any], validation: Mapping[str, Any]) -> Iterator[str]:
    if manifest["demo"]:
        yield DEMO
    leaks = validation["leakage"]["splits"]
    for key, word in RELATIONS if leaks else ():
        share = leaks["as_built"].get(key, {}).get("test_share")
        if share:
            yield f"Test rows that share {word} with a training row: {100 * share:.1f} %."
    for column, shares in validation["leakage"]["captions"].items():
        yield f"{column} names the species in {100 * shares['any']:.1f} % of the rows."
    for part, n in validation["unknown_licenses"].items():
        if n:
            yield f"Rows whose {part} has an unknown licence: {n:,}."
    if unsure := sum(manifest["source"].get("facts", {}).get("unverified", {}).values()):
        yield f"Files that no checksum of the source covers: {unsure:,}."
    if removed := manifest.get("filtered"):
        yield f"Rows removed because of their licences: {removed['rows_removed']:,} (report/filtered.csv)."


def license_address(spdx: str) -> str:
    """The text of a licence: the Creative Commons page of an id that has one; the id itself for any other."""
    if spdx == "CC0-1.0":  # The one whose page lies elsewhere.
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    head, _, version = spdx.removeprefix("CC-").rpartition("-")
    if spdx.startswith("CC-") and head and version:
        return f"https://creativecommons.org/licenses/{head.lower()}/{version}/"
    return spdx


def license_addresses(manifest: Mapping[str, Any]) -> list[str]:
    """The licences of all parts, sorted, each once; `unknown` is none."""
    licenses = {spdx for part in manifest["licenses"].values() for spdx, rows in part.items() if rows}
    return sorted(license_address(normalise(s)) for s in licenses if normalise(s) != UNKNOWN_LICENSE)
