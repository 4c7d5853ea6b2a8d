"""Trained models by what decided them: trained once, found again by another suite or another run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from birdmml.core import discover, files, provenance, settings
from birdmml.errors import CheckpointError, UsageError
from birdmml.load import Built
from birdmml.models import checkpoint
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.presets import Preset
from birdmml.models.read import ArrayData, about, rows_of
from birdmml.models.train import train

FOLDER = "models"


@dataclass(frozen=True)
class Recipe:
    """What decides a trained model, but for its seed; made and checked once, by the plan."""

    built: Built | ArrayData
    method: str
    config: Any
    preset_name: str
    preset: Preset
    limit: int | None = None
    method_file: Mapping[str, str] | None = None

    @cached_property
    def label(self) -> str:
        """What results call the method."""
        return discover.label(self.method)

    @cached_property
    def data(self) -> dict[str, Any]:
        """What results and checkpoints say of the dataset."""
        return about(self.built)

    def key(self, seed: int, device: str = "") -> str:
        """Equal keys: the same training. The code, the packages and the kind of device belong to it."""
        return files.digest(
            [
                provenance.code_digest(),  # Changed code may train another model: then it is trained again.
                provenance.packages(),
                self.label,
                dict(self.method_file or {}),
                settings.to_dict(self.config),
                settings.to_dict(self.preset),
                self.built.digest,
                self.built.caption,
                self.limit,
                seed,
                device,
            ]
        )

    @property
    def name(self) -> str:
        """The folder of its seeds: readable, and another one for other settings, data or code."""
        return "-".join([*name_parts(self), self.key(-1)[:8]])


def name_parts(recipe: Recipe) -> list[str]:
    """["confu", "tiny", "demo"]: what names a model or a result, before its digest."""
    marks = ["demo"] if recipe.built.demo else []
    marks += ["limited"] if recipe.limit else []
    marks += ["reference"] if getattr(recipe.config, "variant", "") == "reference" else []
    stem = Path(recipe.method).stem if discover.is_file("method", recipe.method) else recipe.method
    return [stem.replace("_", "-"), recipe.preset_name, *marks]


def folder_of(recipe: Recipe, out: Path, seed: int) -> Path:
    """Where `obtain` keeps a model."""
    return out / FOLDER / recipe.name / f"seed-{seed}"


def obtain(
    recipe: Recipe, seed: int, out: Path, source: Mapping[str, Any], device: str, quiet: bool = False
) -> tuple[Checkpoint, bool]:
    """The model of a seed, and whether it was there already; else it is trained and kept below `out`.

    `device` is one that is there ("cpu"), not "auto": models of different kinds of device are kept apart.
    """
    folder, key = folder_of(recipe, out, seed), recipe.key(seed, device)
    try:
        if (folder / checkpoint.META).is_file() and checkpoint.read_meta(folder)["training"].get("key") == key:
            return checkpoint.load(folder, recipe.method), True
    except CheckpointError:
        pass  # Damaged: trained again, and replaced.
    rows = rows_of(recipe.built, "train", recipe.limit)
    done = train(rows, recipe.method, recipe.config, recipe.preset, seed, device, quiet)
    used, planned = done.network.method_file, recipe.method_file
    if planned is not None and (used is None or used["sha256"] != planned["sha256"]):
        raise UsageError(f"{recipe.method} was changed while it was used: run the same command again")
    training = {
        "key": key,
        "seconds": round(done.seconds, 2),
        "rows_per_second": round(done.rows_per_second, 1),
        "history": [{k: round(v, 6) for k, v in epoch.items()} for epoch in done.history],
    }
    data = recipe.data | {"limit": recipe.limit}
    parts = (recipe.method, recipe.config, recipe.preset, seed, done.network, done.tokenizer, data, training, source)
    ready = Checkpoint(*parts)
    return dataclasses.replace(ready, weights_sha256=checkpoint.save(folder, ready)), False
