"""Which Parquet files a folder has, which split each is of, and which column plays which part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.errors import DatasetError
from birdmml.schema import SPLITS
from birdmml.shards import BROKEN, first_line

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
class Shard:
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


def find(root: Path) -> tuple[list[Shard], list[Unreadable]]:
    """The Parquet files below `root`, by name. Raises DatasetError if there is none that can be read."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: name one that holds Parquet shards")
    shards: list[Shard] = []
    bad: list[Unreadable] = []
    for path in _parquet(root):
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


def _parquet(root: Path) -> Iterator[Path]:
    """Files of the dataset; hidden ones and those of reports are none."""
    for path in sorted(root.rglob("*.parquet")):
        folders = path.relative_to(root).parts
        if path.is_file() and folders[0] != "report" and not any(p.startswith(".") for p in folders):
            yield path


def _open(path: Path, name: str) -> Shard:
    with open_file(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        groups = tuple(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))
    columns = _parts(schema)
    features = _features(schema)
    label = features.get(columns.get("label", ""), {})
    names = label.get("names") if isinstance(label, dict) else None
    audio = features.get(columns.get("audio", ""), {})
    rate = audio.get("sampling_rate") if isinstance(audio, dict) else None
    return Shard(
        path,
        name,
        split_of(name),
        groups,
        columns,
        tuple(map(str, names)) if isinstance(names, list) else (),
        rate if isinstance(rate, int) and rate > 0 else None,
    )


def _parts(schema: pa.Schema) -> dict[str, str]:
    # Of two columns with one name, none can be asked for.
    once = [f for f in schema if schema.names.count(f.name) == 1]
    fits = {f.name: _is_medium(f.type) for f in once}
    text = {f.name for f in once if _is_text(f.type)}
    columns: dict[str, str] = {}
    for part, names in _NAMES.items():
        fitting = [n for n in names if n in fits and (fits[n] if part in MEDIA else n in text)]
        if fitting:
            columns[part] = fitting[0]
    return columns


def _is_medium(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and _is_binary(f.type) for f in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(check(kind) for check in checks)


def _features(schema: pa.Schema) -> dict[str, object]:
    """Hugging Face's features from the schema's metadata; nothing where they are absent or broken."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}
