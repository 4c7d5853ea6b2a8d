"""What a dataset's manifest says of it, held against the files; a manifest that lies must not stop an audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmml import files, manifest
from birdmml.audit.model import RED, Finding
from birdmml.audit.shards import Shard, Unreadable
from birdmml.errors import DatasetError
from birdmml.species_list import dataset_taxonomy
from birdmml.taxonomy import Taxonomy

NONE, AGREES, DIFFERS, UNREADABLE = "none", "agrees", "differs", "unreadable"
_REBUILD = "get the dataset again, or build it again; do not trust figures that were published for its digest"


@dataclass(frozen=True)
class Told:
    """The manifest as far as it can be used: `state` is none, agrees, differs or unreadable."""

    state: str
    findings: tuple[Finding, ...] = ()
    name: str | None = None
    demo: bool = False
    digest: str | None = None
    rate_hz: int | None = None
    clip_s: float | None = None
    ceilings: Mapping[str, float] = field(default_factory=dict)
    species: Taxonomy | None = None


def read(
    root: Path, shards: Sequence[Shard], bad: Sequence[Unreadable], progress: Callable[[int, int], None]
) -> Told:
    """Read `root`'s manifest, if there is one, and compare it with the shards found and their bytes."""
    if not (root / manifest.MANIFEST).exists():
        return Told(NONE)
    try:
        value = manifest.read(root)
        listed = _listed(value)
        sealed = files.digest({k: v for k, v in value.items() if k != "digest"}) == value.get("digest")
    except (DatasetError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        words = f"{manifest.MANIFEST} cannot be used: {_relative(str(e), root)}"
        return Told(UNREADABLE, (Finding("manifest_unreadable", RED, words, 1, (), _REBUILD),))
    findings = []
    if not sealed:
        words = (
            f"{manifest.MANIFEST} was changed after the build: its digest does not follow from its contents"
        )
        findings.append(Finding("manifest_digest", RED, words, 1, (), _REBUILD))
    findings += _compare(listed, shards, bad, progress)
    species = None
    try:
        species = dataset_taxonomy(root, value)
    except (DatasetError, AttributeError) as e:
        words = f"the dataset's table of species cannot be used: {_relative(str(e), root)}"
        findings.append(Finding("species_table", RED, words, 1, (), _REBUILD))
    return Told(DIFFERS if findings else AGREES, tuple(findings), **_facts(value), species=species)


def _relative(text: str, root: Path) -> str:
    """The page says nothing of where the folder lies."""
    return text.replace(f"{root}/", "").replace(str(root), "the folder").split(": build")[0][:300]


def _listed(value: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Path -> (sha256, rows) of every shard in a manifest; raises as a malformed one makes it."""
    return {
        str(shard["path"]): (str(shard["sha256"]), int(shard["rows"]))
        for split in value["splits"].values()
        for shard in split["shards"]
    }


def _compare(
    listed: Mapping[str, tuple[str, int]],
    shards: Sequence[Shard],
    bad: Sequence[Unreadable],
    progress: Callable[[int, int], None],
) -> list[Finding]:
    there = {s.name for s in shards} | {b.where for b in bad}
    changed, rows = [], []
    for number, shard in enumerate(shards, 1):
        sha, count = listed.get(shard.name, (None, None))
        if sha is not None and files.sha256_file(shard.path) != sha:
            changed.append(shard.name)
        if count is not None and sum(shard.group_rows) != count:
            rows.append(f"{shard.name}: {sum(shard.group_rows):,} rows, the manifest says {count:,}")
        progress(number, len(shards))
    kinds = (
        ("shard_changed", "whose bytes are not those of the manifest", changed),
        ("shard_missing", "that the manifest lists and the folder lacks", sorted(set(listed) - there)),
        (
            "shard_unlisted",
            "that the manifest does not list, yet `datasets` reads",
            sorted(there - set(listed)),
        ),
        ("shard_rows", "with other numbers of rows than the manifest says", rows),
    )
    return [
        Finding(slug, RED, f"{len(found)} {_shards(found)} {words}", len(found), tuple(found[:10]), _REBUILD)
        for slug, words, found in kinds
        if found
    ]


def _shards(found: Sequence[str]) -> str:
    return "shard" if len(found) == 1 else "shards"


def _facts(value: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit uses of a manifest, each only if it is of the right kind."""
    settings, facts = _mapping(value.get("settings")), _mapping(_mapping(value.get("source")).get("facts"))
    rate, clip = (_number(settings.get(k), 1e6) for k in ("rate_hz", "clip_s"))
    ceilings = {str(k): _number(v, 1.0) for k, v in _mapping(facts.get("ceilings")).items()}
    return {
        "name": str(value["name"]) if value.get("name") else None,
        "demo": value.get("demo") is True,
        "digest": str(value.get("digest")),
        "rate_hz": int(rate) if rate else None,
        "clip_s": clip or None,
        "ceilings": {k: v for k, v in ceilings.items() if v is not None},
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object, most: float) -> float | None:
    """`value` as a number from 0 to `most`, else None; True and NaN are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return float(value)
