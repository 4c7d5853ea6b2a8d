"""Where birdmml meets other benchmarks: MTEB."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from birdmml.errors import UsageError

INSTALL = "pip install 'birdmml[mteb]'"


def encoder(checkpoint: Path | str, device: str = "auto", method: str | None = None) -> Any:
    """A trained checkpoint as an MTEB encoder of image, audio, text, and image and audio together.

    Retrieval is scored by the method's own score, whatever it is. `method` is the path of a method of the user's own.
    Raises CheckpointError, and UsageError where MTEB is not installed.
    """
    return _part("model").Encoder(Path(checkpoint), device, method)


def dataset_tasks(data: Path | str, split: str = "test") -> dict[str, Any]:
    """A split of a built dataset as MTEB tasks, by the names that `birdmml bench` has for them.

    "image->text", "image+audio->text by species", "zero-shot V" and so on. Media are read when a task is run. Raises
    DatasetError, EvalsetError for a split without rows, and UsageError where MTEB is not installed.
    """
    tasks: dict[str, Any] = _part("tasks").of_dataset(Path(data), split)
    return tasks


def ssw60_tasks(prepared: Path | str, split: str = "test") -> dict[str, Any]:
    """A prepared SSW60 as MTEB tasks: "audio->image", "image->audio", "zero-shot A", "zero-shot V".

    The first two are MTEB's SSW60A2IRetrieval and SSW60I2ARetrieval on the user's own copy: all photos of iNaturalist
    and then of NABirds, relevant is what shows or sings the same species. Raises EvalsetError, and UsageError where
    MTEB is not installed.
    """
    tasks: dict[str, Any] = _part("tasks").of_ssw60(Path(prepared), split)
    return tasks


def _part(name: str) -> Any:
    try:
        importlib.import_module("mteb")
    except ImportError as e:
        raise UsageError(f"MTEB cannot be imported ({e}): run `{INSTALL}`") from e
    # No part may be called `encoder`: once imported, it would take the place of the function above.
    return importlib.import_module(f"birdmml.bench.mteb.{name}")
