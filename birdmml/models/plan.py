"""A training from its options: checked before anything is read, described without training, then done."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from birdmml.core import discover, provenance, settings
from birdmml.core.device import pick_device
from birdmml.core.files import human_bytes
from birdmml.errors import DatasetError, UsageError
from birdmml.load import Built
from birdmml.models import journal
from birdmml.models.estimate import FACTOR, estimate
from birdmml.models.feed import steps_per_epoch
from birdmml.models.foreign import resolved
from birdmml.models.journal import trackers
from birdmml.models.presets import Preset, preset
from birdmml.models.ranks import is_main
from birdmml.models.read import ArrayData, RowSource, about, check_sizes, fitted, opened, rows_of
from birdmml.models.state import Saving
from birdmml.models.train import Trained, tokenizer_for, train
from birdmml.schema import MODALITIES

MAX_SEEDS = 100
COLUMNS = {"image": "image", "audio": "audio", "text": "caption"}


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides a training, checked; made by `plan`."""

    built: Built | ArrayData
    method: str
    config: Any
    preset_name: str
    preset: Preset
    seeds: tuple[int, ...]
    device: str = "auto"
    limit: int | None = None

    def folder(self, out: Path, seed: int) -> Path:
        """Where one seed's training is kept: `out` itself if there is but one."""
        return out if len(self.seeds) == 1 else out / f"seed-{seed}"

    def rows(self, split: str) -> RowSource:
        """The rows of a split, cut to the limit."""
        return rows_of(self.built, split, self.limit)

    def validation(self) -> RowSource | None:
        """The validation rows; None where there are fewer than two."""
        if "validation" not in self.built.manifest["splits"]:
            return None
        rows = self.rows("validation")
        return rows if len(rows) >= 2 else None


def plan(
    data: Path,
    method: str,
    preset_name: str = "tiny",
    overrides: Sequence[str] = (),
    seeds: int = 1,
    first_seed: int = 0,
    device: str = "auto",
    limit: int | None = None,
) -> TrainingPlan:
    """Check the options of a training. Raises UsageError, UnknownName or DatasetError, each with the next step."""
    name = discover.canonical("method", method)
    if not 1 <= seeds <= MAX_SEEDS or first_seed < 0:
        raise UsageError(f"--seeds {seeds} --seed {first_seed}: give 1 to {MAX_SEEDS} seeds, from 0 up")
    if limit is not None and limit < 2:
        raise UsageError(f"--limit {limit}: two rows at least are needed to train")
    pick_device(device)  # Raises now, not after the dataset was read.
    built = opened(data)
    config, sizes = configured(discover.load("method", name), fitted(preset(preset_name), built), overrides)
    check_sizes(sizes, built)  # After overrides: they may contradict the arrays.
    sizes = resolved(sizes)
    check_columns(built)
    numbers = tuple(range(first_seed, first_seed + seeds))
    return TrainingPlan(built, name, config, preset_name.strip().casefold(), sizes, numbers, device, limit)


def configured(module: ModuleType, sizes: Preset, overrides: Sequence[str]) -> tuple[Any, Preset]:
    """A method's Config and the preset with overrides ("method.temperature=0.1", "training.epochs=3") applied."""
    mine = [o.removeprefix("method.") for o in overrides if o.startswith("method.")]
    sizes = settings.override(sizes, [o for o in overrides if not o.startswith("method.")])
    config = module.Config()
    if any(f.name == "dim" for f in dataclasses.fields(config)):
        config = dataclasses.replace(config, dim=sizes.dim)
    return settings.override(config, mine, "method."), sizes


def check_columns(built: Built | ArrayData) -> None:
    """Raise DatasetError where a modality has no column in the training rows.

    Sets of arrays were checked when they were opened.
    """
    if isinstance(built, ArrayData):
        return
    there = built.split("train").names()
    missing = [name for name in MODALITIES if COLUMNS[name] not in there]
    if missing:
        raise DatasetError(
            f"{built.root} has no {', '.join(COLUMNS[m] for m in missing)} column: training needs"
            f" {', '.join(MODALITIES)} in every row, build a dataset with all three"
        )


def run(
    plan: TrainingPlan, out: Path, every: int = 0, resume: bool = False, wanted: Sequence[str] = (), quiet: bool = False
) -> dict[int, Trained]:
    """Train each seed into its folder below `out`, with curves as a picture at the end."""
    if every < 0:
        raise UsageError(f"--every {every}: give a number of steps, or 0 for once an epoch")
    trackers(wanted)
    device = pick_device(plan.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    source = provenance.collect(device.type, card)
    done = {}
    for seed in plan.seeds:
        folder = plan.folder(out, seed)
        dataset = about(plan.built) | {"limit": plan.limit}
        saving = Saving(folder, every, resume, tuple(wanted), plan.validation(), dataset, source)
        done[seed] = train(plan.rows("train"), plan.method, plan.config, plan.preset, seed, plan.device, quiet, saving)
        if is_main():
            journal.draw(folder)
    return done


def describe(plan: TrainingPlan) -> dict[str, Any]:
    """A training in numbers; reads captions, trains nothing."""
    settings, rows = plan.preset.training, plan.rows("train")
    words = tokenizer_for(rows, plan.preset).get_vocab_size()
    memory = estimate(plan.preset, plan.method, plan.config, words)
    steps = steps_per_epoch(len(rows), settings.batch_size)
    validation = plan.validation()
    return {
        "method": plan.method,
        "preset": plan.preset_name,
        "weights": plan.preset.encoders.weights,
        "data": f"{plan.built.root}{' (demo)' if plan.built.demo else ''}",
        "train rows": len(rows),
        "validation rows": 0 if validation is None else len(validation),
        "parameters": ", ".join(f"{k} {n:,}" for k, n in memory.parameters.items()),
        "batch": settings.batch_size,
        "steps": f"{steps * settings.epochs:,} ({steps} an epoch, {settings.epochs} epochs)",
        "seeds": ", ".join(map(str, plan.seeds)),
        "device": str(pick_device(plan.device)),
        "memory": f"about {human_bytes(memory.memory(settings))} a step, within a factor of {FACTOR:g}:"
        f" {human_bytes(memory.fixed_bytes)} for the weights, {human_bytes(memory.row_bytes)} a row",
        "memory_bytes": memory.memory(settings),
        "work": f"about {memory.flops(settings) / 1e9:,.1f} GFLOP a step,"
        f" {memory.flops(settings) * steps * settings.epochs / 1e15:,.3f} PFLOP a seed",
        "flops_per_step": memory.flops(settings),
    }
