"""The manifest that makes a folder a dataset; a folder without one is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from birdmml.errors import DatasetError
from birdmml.schema import DATASET_SCHEMA_VERSION

MANIFEST = "manifest.json"


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds a finished dataset that birdmml has built."""
    try:
        read(folder)
    except DatasetError:
        return False
    return True


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a built dataset. Raises DatasetError with the next step if there is none."""
    build_it = f"build one with `birdmml build --out {folder}`"
    if not folder.is_dir():
        raise DatasetError(f"no dataset at {folder}: {build_it}")
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise DatasetError(f"{folder} has no {MANIFEST}, so it is no finished dataset: {build_it}") from e
    except (OSError, ValueError, RecursionError) as e:
        raise DatasetError(f"{path} cannot be read ({e}): build the dataset again") from e
    if not isinstance(manifest, dict) or "birdmml_version" not in manifest or "splits" not in manifest:
        raise DatasetError(f"{path} is not a birdmml manifest: name a folder that birdmml has built")
    if (found := manifest.get("schema_version")) != DATASET_SCHEMA_VERSION:
        raise DatasetError(
            f"{path} has schema version {found}, this birdmml reads {DATASET_SCHEMA_VERSION}: "
            "build the dataset again with this version"
        )
    return manifest
