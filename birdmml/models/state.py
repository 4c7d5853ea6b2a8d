"""Where training stands, on disk: safetensors and JSON beside a checkpoint, written whole or not at all.

OUT/train.jsonl            what happened, a line a step and an epoch
OUT/steps/step-00000120/   a checkpoint as any other, with the optimiser, the random state and the position
OUT/best/ OUT/last/        the checkpoint with the best validation, and the one at the end
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from birdmml.core import settings
from birdmml.core.files import replace_folder, sha256_file, sync_folder, write_json
from birdmml.errors import CheckpointError, UsageError
from birdmml.models import checkpoint
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.read import RowSource

STEPS, BEST, LAST = "steps", "best", "last"
TENSORS, POSITION = "training.safetensors", "training.json"
KIND = "birdmml training state"
KEPT = 2  # The last, and one before it for when the last is damaged.
# What may differ when training goes on: it changes how fast, not what is learned.
FREE = {"training.workers", "training.cache_gib"}


@dataclass(frozen=True)
class Saving:
    """Where training is kept: every `every` steps (0: after each epoch), and what the checkpoints say of the data.

    The checkpoint that scores best on the `validation` rows is kept beside the last one.
    """

    folder: Path
    every: int = 0
    resume: bool = False
    trackers: tuple[str, ...] = ()
    validation: RowSource | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Position:
    """How far training is. `sums` and `rows` are those of the epoch under way, `history` the means of those done."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    first_loss: float | None = None
    best: float | None = None
    seconds: float = 0.0

    def count(self, values: Mapping[str, float], rows: int) -> None:
        """One batch more."""
        self.batch, self.step, self.rows = self.batch + 1, self.step + 1, self.rows + rows
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * rows

    def close_epoch(self) -> dict[str, float]:
        """One epoch more; its means over rows."""
        means = {name: total / self.rows for name, total in self.sums.items()}
        self.history.append(means)
        self.epoch, self.batch, self.rows, self.sums = self.epoch + 1, 0, 0, {}
        return means


@dataclass(frozen=True)
class Learner:
    """What changes while training, besides the network and the position."""

    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device

    @property
    def learned(self) -> list[Tensor]:
        """Everything the optimiser moves."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]


def save(root: Path, ready: Checkpoint, learner: Learner, position: Position) -> Path:
    """Write step folder `position.step` below `root`, then drop all but the newest two.

    The folder appears under its name only once all of it is on disk. Raises CheckpointError.
    """
    folder = root / STEPS / f"step-{position.step:08d}"
    part = folder.with_name("unfinished")  # No name that `_steps` would take.
    checkpoint.save(part, ready)
    try:
        tensors = {"random.cpu": torch.get_rng_state()}
        if learner.device.type != "cpu":
            tensors["random.device"] = torch.get_device_module(learner.device).get_rng_state()
        for index, values in learner.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value.detach().cpu() for name, value in values.items()}
        save_file({name: value.contiguous() for name, value in tensors.items()}, part / TENSORS)
        meta = {
            "kind": KIND,
            "position": asdict(position),
            "rates": [group["lr"] for group in learner.optimiser.param_groups],
            "scaler": learner.scaler.state_dict(),
            "tensors_sha256": sha256_file(part / TENSORS),
        }
        write_json(part / POSITION, meta)
        for path in part.iterdir():
            # Contents first, then their names: a power cut leaves the state before, or this one in full.
            with path.open("rb") as f:
                os.fsync(f.fileno())
        sync_folder(part)
        replace_folder(part, folder, folder.with_name(f"old-{folder.name}"))
    except (OSError, SafetensorError) as e:
        raise CheckpointError(f"{folder} cannot be written ({e}): free space, or choose another --out") from e
    for old in _steps(root)[:-KEPT]:  # Only once the new one is in place.
        shutil.rmtree(old, ignore_errors=True)
    return folder


def newest(root: Path) -> Path | None:
    """The last step folder below `root`, or None."""
    return max(_steps(root), default=None)


def resolve(folder: Path) -> Path:
    """The checkpoint that a folder stands for: itself, else its `last`, `best` or newest step."""
    for candidate in (folder, folder / LAST, folder / BEST, newest(folder)):
        if candidate is not None and (candidate / checkpoint.META).is_file():
            return candidate
    raise CheckpointError(
        f"{folder / checkpoint.META} not found: give --checkpoint a folder that `birdmml train` or `bench` wrote"
    )


def load(folder: Path, wanted: Checkpoint, learner: Learner) -> Position:
    """Put a step folder's weights, optimiser and random state in place; returns its position.

    Raises CheckpointError if it is damaged, or of other settings or data than `wanted`.
    """
    meta = _read(folder / POSITION)
    saved = checkpoint.load(folder)
    before = dict(_identity(saved))
    for name, ours in _identity(wanted):
        theirs = before.get(name)
        if theirs != ours and name not in FREE:
            raise CheckpointError(
                f"{folder} was trained with {name} {theirs}, now it is {ours}: resume with the same, or choose"
                " another --out"
            )
    wanted.network.load_state_dict(saved.network.state_dict())
    path = folder / TENSORS
    try:
        if sha256_file(path) != meta["tensors_sha256"]:
            raise CheckpointError(f"{path} differs from its recorded SHA-256: delete {folder} to resume earlier")
        tensors = load_file(path)
        position = settings.from_dict(Position, meta["position"])
    except (OSError, SafetensorError, KeyError, UsageError) as e:
        raise CheckpointError(f"{path} cannot be used ({e}): delete {folder} to resume earlier") from e
    _restore(learner, tensors, meta)
    return position


def _restore(learner: Learner, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimiser":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    state_dict = learner.optimiser.state_dict()
    weights = learner.learned
    try:
        for number, moments in state.items():
            for name, value in moments.items():
                if value.ndim:  # the memory order of the weight it belongs to, as the optimiser made it
                    moments[name] = torch.empty_like(weights[number], dtype=value.dtype).copy_(value)
        learner.optimiser.load_state_dict(state_dict | {"state": state})
        for group, rate in zip(learner.optimiser.param_groups, meta["rates"], strict=True):
            group["lr"] = rate
        if meta["scaler"]:
            learner.scaler.load_state_dict(dict(meta["scaler"]))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.device" in tensors and learner.device.type != "cpu":
            torch.get_device_module(learner.device).set_rng_state(tensors["random.device"])
    except (ValueError, KeyError, IndexError, RuntimeError) as e:
        raise CheckpointError(f"the optimiser's state does not fit this model ({e}): start anew") from e


def _identity(c: Checkpoint) -> Iterator[tuple[str, Any]]:
    """What decides a training, by the names that `--set` gives it."""
    yield from (("method", c.method), ("seed", c.seed))
    yield from (("dataset", c.dataset.get("digest")), ("limit", c.dataset.get("limit")))
    yield from _flat(settings.to_dict(c.config), "method.")
    yield from _flat(settings.to_dict(c.preset), "")


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _steps(root: Path) -> list[Path]:
    return sorted(p for p in (root / STEPS).glob("step-*") if (p / POSITION).is_file())


def _read(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} cannot be read ({e}): delete its folder to resume earlier") from e
    if not isinstance(meta, dict) or meta.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a training state: delete its folder to resume earlier")
    return meta
