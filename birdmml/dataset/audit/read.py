"""A dataset as it lies on disk: its Parquet files, their columns that are not media, and what its manifest says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.core import files
from birdmml.core.species import Taxonomy
from birdmml.core.species_list import dataset_taxonomy
from birdmml.dataset import format
from birdmml.dataset.audit.groups import Codes
from birdmml.dataset.audit.model import RED, Finding
from birdmml.dataset.shards import BROKEN, first_line
from birdmml.errors import DatasetError
from birdmml.schema import SPLITS

_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
NO_SPLIT = "unsplit"
SPLIT_ORDER = (*SPLITS, NO_SPLIT)

MEDIA = ("image", "audio")
# A column plays a part if it has one of these names, birdmml's own first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "photo", "picture", "img"),
    "audio": ("audio", "sound", "clip", "recording"),
    "id": ("id", "row_id", "uid", "uuid"),
    "label": ("label", "labels", "class", "target"),
    "species": ("species", "scientific_name", "species_name", "common_name"),
    "caption": ("caption", "combined_caption", "text", "description"),
    "caption_name_free": ("caption_name_free",),
    "observation_id": ("observation_id", "observation_uuid", "observation"),
    "recording_id": ("recording_id", "xc_id", "recording"),
    "image_sha256": ("image_sha256",),
    "audio_sha256": ("audio_sha256",),
    "image_author": ("image_author", "photographer", "inat_observer_login"),
    "audio_author": ("audio_author", "recordist", "audio_recorder"),
    "image_license": ("image_license", "license_image"),
    "audio_license": ("audio_license", "license_audio", "license_audio_xc"),
    "caption_license": ("caption_license", "license_caption", "wikipedia_license_url"),
}
LIGHT = tuple(part for part in _NAMES if part not in MEDIA)


@dataclass(frozen=True)
class AuditShard:
    """One readable Parquet file: rows of each row group, part -> column, and its names for labels."""

    path: Path
    name: str
    split: str
    group_rows: tuple[int, ...]
    columns: Mapping[str, str]
    label_names: tuple[str, ...]
    rate_hz: int | None


@dataclass(frozen=True)
class Unreadable:
    """A Parquet file, or a row group of one, that cannot be read, and why."""

    where: str
    why: str


def find(root: Path) -> tuple[list[AuditShard], list[Unreadable]]:
    """The Parquet files below `root`, by name. Raises DatasetError if there is none that can be read."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: name one that holds Parquet shards")
    shards: list[AuditShard] = []
    bad: list[Unreadable] = []
    for path in sorted(root.rglob("*.parquet")):
        parts = path.relative_to(root).parts
        # Hidden files and those of reports are none of the dataset's.
        if not path.is_file() or parts[0] == "report" or any(p.startswith(".") for p in parts):
            continue
        name = path.relative_to(root).as_posix()
        try:
            shards.append(_open(path, name))
        except BROKEN as e:
            bad.append(Unreadable(name, first_line(e)))
    if not shards:
        why = f"; {bad[0].where}: {bad[0].why}" if bad else ""
        raise DatasetError(
            f"{root} holds {'no Parquet file that can be read' if bad else 'no Parquet file'}{why}: "
            "name the folder of a dataset, such as `birdmml build` writes"
        )
    return shards, bad


def open_file(path: Path | str) -> pq.ParquetFile:
    """Open for reading a few rows at a time: no column is read ahead. Raises what BROKEN names."""
    return pq.ParquetFile(path, memory_map=True, pre_buffer=False)


def split_of(name: str) -> str:
    """The split that a file's name or folder tells (`data/train-00000-of-00001.parquet`), else NO_SPLIT."""
    words = re.split(r"[^a-z]+", name.rsplit(".", 1)[0].lower())
    return next((_SPLIT_WORDS[w] for w in reversed(words) if w in _SPLIT_WORDS), NO_SPLIT)


def _open(path: Path, name: str) -> AuditShard:
    with open_file(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        groups = tuple(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))
    columns = _parts(schema)
    features = _features(schema)

    def fact(part: str, key: str) -> object:
        feature = features.get(columns.get(part, ""))
        return feature.get(key) if isinstance(feature, dict) else None

    names, rate = fact("label", "names"), fact("audio", "sampling_rate")
    label_names = tuple(map(str, names)) if isinstance(names, list) else ()
    rate_hz = rate if isinstance(rate, int) and rate > 0 else None
    return AuditShard(path, name, split_of(name), groups, columns, label_names, rate_hz)


def _parts(schema: pa.Schema) -> dict[str, str]:
    # Of two columns with one name, none can be asked for.
    once = [f for f in schema if schema.names.count(f.name) == 1]
    # A medium is bytes, or a struct that has some in a field of that name.
    kinds = {
        f.name: [g.type for g in f.type if g.name == "bytes"] if pa.types.is_struct(f.type) else [f.type] for f in once
    }
    binary = {n for n, of in kinds.items() if any(pa.types.is_binary(t) or pa.types.is_large_binary(t) for t in of)}
    values = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in once}
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    text = {n for n, kind in values.items() if any(check(kind) for check in checks)}
    fitting = {p: [n for n in names if n in (binary if p in MEDIA else text)] for p, names in _NAMES.items()}
    return {part: names[0] for part, names in fitting.items() if names}


def _features(schema: pa.Schema) -> dict[str, object]:
    """Hugging Face's features from the schema's metadata; nothing where they are absent or broken."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


_ROWS = pa.schema([pa.field(part, pa.large_string()) for part in LIGHT])


@dataclass(frozen=True)
class AuditRows:
    """All readable rows: `table` has one text column a part (null where a shard lacks it).

    `shard`, `group` and `at` [N] say where each row lies: which shard, which row group, which row of it.
    """

    shards: Sequence[AuditShard]
    table: pa.Table
    shard: NDArray[np.int32]
    group: NDArray[np.int32]
    at: NDArray[np.int32]
    damaged: tuple[Unreadable, ...]

    def __len__(self) -> int:
        return len(self.shard)

    def has(self, part: str) -> bool:
        """Whether any shard has a column for this part."""
        return any(part in s.columns for s in self.shards)

    def texts(self, part: str) -> list[str]:
        """The values of one part [N]; an empty text where there is none."""
        return [v or "" for v in self.table.column(part).to_pylist()]

    def codes(self, part: str) -> Codes:
        """The values of one part as numbers [N], equal for equal values, -1 for none."""
        return self._coded(part)[0]

    def _coded(self, part: str) -> tuple[Codes, list[str]]:
        array = self.table.column(part).combine_chunks()
        coded = pc.dictionary_encode(pc.if_else(pc.equal(array, ""), None, array))
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        indices = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return np.asarray(indices, dtype=np.int64), coded.dictionary.to_pylist()

    @cached_property
    def split(self) -> NDArray[np.int8]:
        """The split of each row [N], an index into SPLIT_ORDER."""
        of_shard = np.array([SPLIT_ORDER.index(s.split) for s in self.shards], dtype=np.int8)
        return of_shard[self.shard]

    @cached_property
    def _labelled(self) -> tuple[Codes, tuple[str, ...]]:
        """The class of each row and the names of the classes; the label column if there is one, else species."""
        part = "label" if self.has("label") else "species"
        codes, values = self._coded(part)
        names = values
        if part == "label":
            named = next((s.label_names for s in self.shards if s.label_names), ())
            names = [named[int(v)] if v.isdecimal() and len(v) < 10 and int(v) < len(named) else v for v in values]
            if self.has("species"):
                names = self._names_by_row(codes, names)
        # Hugging Face writes -1 where there is no label.
        labelled = [i for i, value in enumerate(values) if part == "species" or value != "-1"]
        order = sorted(labelled, key=lambda i: (names[i], values[i]))
        rank = np.full(len(names) + 1, -1)
        rank[order] = np.arange(len(order))
        return rank[codes], tuple(names[i] for i in order)

    @property
    def label(self) -> Codes:
        """The class of each row [N], an index into `species`, -1 for none."""
        return self._labelled[0]

    @property
    def species(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return self._labelled[1]

    def _names_by_row(self, codes: Codes, names: list[str]) -> list[str]:
        """Where a label has no name of its own: the species that most of its rows name."""
        species, species_names = self._coded("species")
        out = list(names)
        for code, name in enumerate(names):
            if not name.lstrip("-").isdecimal():
                continue
            mine = species[(codes == code) & (species >= 0)]
            if len(mine):
                out[code] = species_names[int(np.bincount(mine).argmax())]
        return out

    def name(self, row: int) -> str:
        """What a finding calls a row: its id, or its place where it has none."""
        if row_id := self.table.column("id")[row].as_py():
            return str(row_id)[:200]
        shard = self.shards[int(self.shard[row])]
        return f"{shard.name} row {sum(shard.group_rows[: self.group[row]]) + int(self.at[row])}"


def read_rows(shards: Sequence[AuditShard], progress: Callable[[int, int], None]) -> AuditRows:
    """Read the light columns of all shards; a row group that cannot be read is listed and left out."""
    tables: list[pa.Table] = []
    places: list[NDArray[np.int64]] = []
    damaged: list[Unreadable] = []
    for number, shard in enumerate(shards):
        wanted = {part: shard.columns[part] for part in LIGHT if part in shard.columns}
        with open_file(shard.path) as file:
            for group, count in enumerate(shard.group_rows):
                try:
                    # Without a column, pyarrow's table has no rows either.
                    read = file.read_row_group(group, columns=sorted(set(wanted.values()))) if wanted else None
                    empty = pa.nulls(count, pa.large_string())
                    columns = [
                        _as_text(read.column(wanted[p])) if read is not None and p in wanted else empty for p in LIGHT
                    ]
                    table = pa.Table.from_arrays(columns, schema=_ROWS)
                except BROKEN as e:
                    damaged.append(Unreadable(f"{shard.name} row group {group} ({count:,} rows)", first_line(e)))
                    continue
                tables.append(table)
                place = np.arange(table.num_rows)
                places.append(np.stack([np.full_like(place, number), np.full_like(place, group), place]))
        progress(number + 1, len(shards))
    where = np.concatenate([np.empty((3, 0), dtype=np.int32), *places], axis=1, dtype=np.int32)
    rows = pa.concat_tables(tables) if tables else _ROWS.empty_table()
    return AuditRows(shards, rows, where[0], where[1], where[2], tuple(damaged))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):
        # Ids that passed through pandas come as 12.0; NaN is none.
        column = pc.if_else(pc.is_finite(column), column, None)
    text = column.cast(pa.large_string())
    return pc.replace_substring_regex(text, r"^(-?\d+)\.0$", r"\1") if pa.types.is_floating(kind) else text


NONE, AGREES, DIFFERS, UNREADABLE = "none", "agrees", "differs", "unreadable"
_REBUILD = "get the dataset again, or build it again; do not trust figures that were published for its digest"


@dataclass(frozen=True)
class ManifestState:
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


def read_manifest(
    root: Path, shards: Sequence[AuditShard], bad: Sequence[Unreadable], progress: Callable[[int, int], None]
) -> ManifestState:
    """Read `root`'s manifest, if there is one, and compare it with the shards found and their bytes."""
    if not (root / format.MANIFEST).exists():
        return ManifestState(NONE)
    try:
        value = format.read(root)
        shards_listed = [shard for split in value["splits"].values() for shard in split["shards"]]
        listed = {str(s["path"]): (str(s["sha256"]), int(s["rows"])) for s in shards_listed}
        sealed = files.digest({k: v for k, v in value.items() if k != "digest"}) == value.get("digest")
    except (DatasetError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        words = f"{format.MANIFEST} cannot be used: {_relative(str(e), root)}"
        return ManifestState(UNREADABLE, (Finding("manifest_unreadable", RED, words, 1, (), _REBUILD),))
    findings = []
    if not sealed:
        words = f"{format.MANIFEST} was changed after the build: its digest does not follow from its contents"
        findings.append(Finding("manifest_digest", RED, words, 1, (), _REBUILD))
    findings += _compare(listed, shards, bad, progress)
    species = None
    try:
        species = dataset_taxonomy(root, value)
    except (DatasetError, AttributeError) as e:
        words = f"the dataset's table of species cannot be used: {_relative(str(e), root)}"
        findings.append(Finding("species_table", RED, words, 1, (), _REBUILD))
    return ManifestState(DIFFERS if findings else AGREES, tuple(findings), **_facts(value), species=species)


def _relative(text: str, root: Path) -> str:
    """The page says nothing of where the folder lies."""
    return text.replace(f"{root}/", "").replace(str(root), "the folder").split(": build")[0][:300]


def _compare(
    listed: Mapping[str, tuple[str, int]],
    shards: Sequence[AuditShard],
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
        ("shard_unlisted", "that the manifest does not list, yet `datasets` reads", sorted(there - set(listed))),
        ("shard_rows", "with other numbers of rows than the manifest says", rows),
    )
    counted = ((slug, words, names, "shard" if len(names) == 1 else "shards") for slug, words, names in kinds)
    return [
        Finding(slug, RED, f"{len(names)} {noun} {words}", len(names), tuple(names[:10]), _REBUILD)
        for slug, words, names, noun in counted
        if names
    ]


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
