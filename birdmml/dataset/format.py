"""What a built dataset looks like: its columns (name, type, meaning), its manifest, and its Parquet schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from birdmml.core.species import shipped
from birdmml.errors import BirdmmlError, DatasetError
from birdmml.schema import DATASET_SCHEMA_VERSION, RATE_HZ


@dataclass(frozen=True)
class Column:
    """One column: `kind` is image, audio, label, string, int, float or bool."""

    name: str
    kind: str
    meaning: str


def _credit(part: str) -> tuple[Column, ...]:
    template = " (a template: where its terms are)" if part == "caption" else ""
    return (
        Column(f"{part}_license", "string", f"SPDX id of the {part}'s licence, or `unknown`"),
        Column(f"{part}_license_original", "string", f"the {part}'s licence as its source writes it"),
        Column(f"{part}_author", "string", f"who made the {part}"),
        Column(f"{part}_url", "string", f"where the {part} comes from{template}"),
    )


COLUMNS: tuple[Column, ...] = (
    Column("id", "string", "row id, unique in the dataset"),
    Column("image", "image", "the photo: JPEG bytes and a file name"),
    Column("audio", "audio", "the clip: mono FLAC bytes and a file name"),
    Column("caption", "string", "a text about the bird"),
    Column("caption_name_free", "string", "the caption without the names that give the species away"),
    Column("species", "string", "scientific name"),
    Column("common_name", "string", "English name"),
    Column("label", "label", "index into the 150 species of the taxonomy, the same in every build"),
    Column("ebird_code", "string", "eBird species code"),
    Column("order", "string", "taxonomic order"),
    Column("family", "string", "taxonomic family"),
    Column("image_id", "string", "id of the photo"),
    Column("observation_id", "string", "photos of one observation share it; it never spans two splits"),
    Column("image_width", "int", "pixels, as stored"),
    Column("image_height", "int", "pixels, as stored"),
    Column("image_phash", "string", "64-bit perceptual hash, hex"),
    Column("image_sha256", "string", "SHA-256 of the stored image bytes"),
    Column("image_reencoded", "bool", "false where the source's JPEG was passed through untouched"),
    Column("audio_id", "string", "id of the clip"),
    Column("recording_id", "string", "clips of one recording share it; it never spans two splits"),
    Column("audio_start_s", "float", "where the clip starts in its recording, s"),
    Column("audio_valid_seconds", "float", "seconds of real sound; the rest of the clip is padding"),
    Column("audio_rms_dbfs", "float", "RMS level of the valid part, dB relative to full scale"),
    Column("audio_clipped_share", "float", "share of samples at full scale"),
    Column("audio_sha256", "string", "SHA-256 of the stored audio bytes"),
    Column("image_recovered", "bool", "read behind a hole in the source's archive; every byte is certain"),
    Column("audio_recovered", "bool", "read behind a hole in the source's archive; every byte is certain"),
    Column("caption_origin", "string", "provided, template, hf (models wrote it) or demo"),
    Column(
        "metadata",
        "string",
        "what else the source says of the row, as JSON, with what was written of it (`written_caption`); or empty",
    ),
    *_credit("image"),
    *_credit("audio"),
    *_credit("caption"),
)

NAMES: tuple[str, ...] = tuple(c.name for c in COLUMNS)
# It makes a folder a dataset or an evaluation set; it is written last, so a folder without one is neither.
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FolderKind:
    """What a folder may hold: its name, the version of its manifest, and what users are told where it is not sound.

    `again` is how to get a sound one. Words about a shard have {path}, {why} and {again} in them.
    """

    name: str
    version: int
    error: type[BirdmmlError]
    again: str
    missing: str = "{path} is missing though the manifest lists it: {again}"
    unreadable: str = "{path} is not a readable Parquet file ({why}): {again}"
    damaged: str = "{path} is damaged ({why}): {again}"


DATASET = FolderKind(
    "dataset",
    DATASET_SCHEMA_VERSION,
    DatasetError,
    "build the dataset again",
    damaged="a shard is damaged ({why}): run `birdmml validate`, then build again",
)


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds a finished dataset that birdmml has built."""
    try:
        read(folder)
    except DatasetError:
        return False
    return True


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a built dataset. Raises DatasetError with the next step if there is none."""
    manifest = read_json(folder, DATASET, f"build one with `birdmml build --out {folder}`")
    if not isinstance(manifest, dict) or "birdmml_version" not in manifest or "splits" not in manifest:
        raise DatasetError(f"{folder / MANIFEST} is not a birdmml manifest: name a folder that birdmml has built")
    check_version(folder, manifest, DATASET)
    return manifest


def read_json(folder: Path, kind: FolderKind, get_one: str) -> Any:
    """What a folder's manifest holds, whatever it is; raises the error of `kind` if there is none or it is garbled."""
    if not folder.is_dir():
        raise kind.error(f"no {kind.name} at {folder}: {get_one}")
    path = folder / MANIFEST
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise kind.error(f"{folder} has no {MANIFEST}, so it is no finished {kind.name}: {get_one}") from e
    except (OSError, ValueError, RecursionError) as e:
        raise kind.error(f"{path} cannot be read ({e}): {kind.again}") from e


def check_version(folder: Path, manifest: Mapping[str, Any], kind: FolderKind) -> None:
    """Raise the error of `kind` for a manifest that another version of birdmml has written."""
    if (version := manifest.get("schema_version")) != kind.version:
        raise kind.error(
            f"{folder / MANIFEST} has schema version {version}, this birdmml reads {kind.version}: "
            f"{kind.again} with this version"
        )


_MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ARROW = {
    "image": _MEDIUM,
    "audio": _MEDIUM,
    "label": pa.int64(),
    "string": pa.string(),
    "int": pa.int32(),
    "float": pa.float32(),
    "bool": pa.bool_(),
}


def arrow_schema(rate_hz: int = RATE_HZ, species: Sequence[str] = ()) -> pa.Schema:
    """The schema that every shard has; `species` are the labels' names (none: those of the shipped 150)."""
    names = list(species) or shipped().scientific_names
    # Hugging Face's features, written without `datasets`, whose encoder wants torchcodec and takes seconds to import.
    fields = [pa.field(c.name, _ARROW[c.kind]) for c in COLUMNS]
    info = {"info": {"features": {c.name: _feature(c.kind, rate_hz, names) for c in COLUMNS}}}
    return pa.schema(fields, metadata={"huggingface": json.dumps(info)})


def _feature(kind: str, rate_hz: int, names: list[str]) -> dict[str, Any]:
    features: dict[str, dict[str, Any]] = {
        "image": {"_type": "Image"},
        # Not decoded on access: that would need torchcodec, and rows must be readable without it.
        "audio": {"sampling_rate": rate_hz, "decode": False, "_type": "Audio"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    return features.get(kind) or {"dtype": str(_ARROW[kind]).replace("float", "float32"), "_type": "Value"}
