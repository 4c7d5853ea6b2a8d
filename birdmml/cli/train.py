"""`birdmml train`: train a method and keep its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli._options import flag, option, values_of
from birdmml.cli._result import facts
from birdmml.cli._show import DEMO_BANNER, needs_data, print_either, writable
from birdmml.errors import Interrupted, TrainingError, UsageError
from birdmml.schema import MODALITIES

if TYPE_CHECKING:
    from birdmml.models.plan import TrainingPlan
    from birdmml.models.train import Trained


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Fields are those of the preset's `training`; None: as the preset has it."""

    epochs: int | None = option(None, "Passes over the training rows.")
    batch_size: int | None = option(None, "Rows a step, over all processes.")
    chunk_size: int | None = option(None, "Rows through the encoders at once; the loss sees the whole batch.")
    precision: str | None = option(None, "auto, fp32, bf16 or fp16.")
    false_negatives: str | None = option(None, "Rows of one species as negatives: keep or mask.")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """Encoders of others, and how they start and learn."""

    image_encoder: str | None = option(None, "A transformers vision model: a folder, or a name on the hub.")
    audio_encoder: str | None = option(None, "A spectrogram or vision model for the log-mel.")
    text_encoder: str | None = option(None, "A text model, with its tokenizer.")
    weights: str | None = option(None, "Where named models start: pretrained or scratch; must be said.")
    freeze: str | None = option(None, "Encoders that do not learn: image,text.")

    def overrides(self) -> list[str]:
        """The settings that name encoders. Raises UsageError where it is not said how they start."""
        models = {kind: getattr(self, f"{kind}_encoder") for kind in MODALITIES}
        names = {kind: name for kind, name in models.items() if name}
        if names and self.weights is None:
            raise UsageError(
                f"--{next(iter(names))}-encoder is given: say --weights pretrained to start from its own, or"
                " --weights scratch to start from random ones"
            )
        overrides = [f"encoders.{kind}_model.name={json.dumps(name)}" for kind, name in names.items()]
        # All at once: pretrained weights without a model, or the other way round, would be refused.
        overrides += [f"encoders.weights={self.weights}"] if self.weights is not None else []
        frozen = [part.strip() for part in (self.freeze or "").split(",") if part.strip()]
        return overrides + ([f"encoders.frozen={json.dumps(frozen)}"] if frozen else [])


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a method on a built dataset; killed, it goes on with --resume as if nothing had happened.

    \b
    birdmml train --method confu --out ./model
    birdmml bench --checkpoint ./model
    """

    method: str = option("confu", "What to train; see `birdmml list`.")
    data: Path = option(Path("data"), "A dataset that `birdmml build` made.")
    out: Path = option(Path("model"), "Where the checkpoints and the journal go.")
    preset: str = option("tiny", "Sizes: tiny, small or paper.")
    resume: bool = flag("--resume", "Go on where --out ends, if it was begun.")
    every: int = option(0, "Keep the state every N steps; 0: after each epoch.")
    seeds: int = option(1, "How many models to train, a folder each.")
    seed: int = option(0, "The first model's seed.")
    device: str = option("auto", "auto, cpu, cuda or mps.")
    settings: TrainingOptions
    encoders: EncoderOptions
    limit: int | None = option(None, "At most N rows a split.")
    tracker: list[str] = option([], "Any tracker of accelerate; TensorBoard is used if installed.")
    assign: list[str] = option([], "Any setting: training.clip_norm=1, method.temperature=0.1.", "--set")
    dry_run: bool = option(False, "Say sizes, memory and work of the training; write nothing.")
    as_json: bool = flag("--json", "Print JSON.")

    def _run(self) -> None:
        needs_data(self.data)  # Before torch is imported: a wrong path must not take seconds.
        from birdmml.models.plan import describe, plan, run
        from birdmml.models.ranks import is_main

        overrides = [*self.assign, *(f"training.{name}={value}" for name, value in values_of(self.settings).items())]
        overrides += self.encoders.overrides()
        training = plan(self.data, self.method, self.preset, overrides, self.seeds, self.seed, self.device, self.limit)
        if self.dry_run:
            about = describe(training)
            print_either(self.as_json, about, [facts(about)])
            return
        writable(self.out)
        main = is_main()  # Of several processes one alone talks.
        if main and not self.as_json:
            typer.echo("\n".join(_opening(training)))
        with _resumable(self.out):
            models = run(training, self.out, self.every, self.resume, self.tracker, self.as_json)
        if main:
            about, lines = _report(training, self.out, models)
            typer.echo(json.dumps(about, indent=2) if self.as_json else "\n".join(lines))


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """One line for Ctrl-C, for want of memory and for a disk that takes no checkpoint: each says how to go on."""
    from birdmml.core.device import lacks_memory

    try:
        yield
    except KeyboardInterrupt as e:
        raise Interrupted(f"interrupted: {out} keeps what was done; add --resume to go on") from e
    except OSError as e:
        if lacks_memory(e):
            raise TrainingError(
                "out of memory on cpu: lower training.batch_size or training.workers, or set --chunk-size"
            ) from e
        raise TrainingError(f"{out} cannot be written ({e.strerror or e}): free space, then go on with --resume") from e


def _opening(plan: TrainingPlan) -> list[str]:
    lines = [DEMO_BANNER] if plan.built.demo else []
    seeds, rows = ", ".join(map(str, plan.seeds)), len(plan.rows("train"))
    lines.append(
        f"training {plan.method}, preset {plan.preset_name}, seed {seeds}, on {rows:,} rows of {plan.built.root}"
    )
    if rows < plan.preset.training.batch_size:  # A contrastive loss over fewer rows is an easier task.
        lines.append(f"only {rows} rows: each batch is all of them, not {plan.preset.training.batch_size}")
    if plan.validation() is None:
        lines.append("no validation rows: there will be no best checkpoint, only the last")
    return lines


def _report(plan: TrainingPlan, out: Path, models: dict[int, Trained]) -> tuple[dict[str, Any], list[str]]:
    """What a training ends with: for programs, and in lines."""
    about, lines = {}, []
    for seed, trained in models.items():
        folder = plan.folder(out, seed)
        best = f", {folder / 'best'}" if (folder / "best").is_dir() else ""
        about[str(seed)] = {
            "folder": str(folder),
            "seconds": trained.seconds,
            "rows_per_second": trained.rows_per_second,
            "history": trained.history,
        }
        lines += [
            f"seed {seed}: loss {trained.history[-1]['loss']:.3f} after {len(trained.history)} epochs,"
            f" {trained.seconds:.0f} s, {trained.rows_per_second:.0f} rows/s",
            f"  models    {folder / 'last'}{best}",
            f"  journal   {folder / 'train.jsonl'}",
            f"  curves    {folder / 'curves.png'}",
            f"  next      birdmml bench --checkpoint {folder} --data {plan.built.root}",
        ]
    return about, lines
