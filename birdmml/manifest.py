"""The manifest that makes a folder a dataset or an evaluation set; a folder without one is neither."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.errors import BirdmmlError, DatasetError
from birdmml.schema import DATASET_SCHEMA_VERSION

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
        raise DatasetError(
            f"{folder / MANIFEST} is not a birdmml manifest: name a folder that birdmml has built"
        )
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
