"""The journal of a training: a bar and a line an epoch to read, JSON lines and trackers to keep, curves to see."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import torch
from accelerate import Accelerator
from tqdm import tqdm

from birdmml.core.files import human_bytes
from birdmml.errors import TrainingError, UsageError
from birdmml.models.state import Position
from birdmml.results.pictures import blank, frame, save

FILE, CURVES_FILE = "train.jsonl", "curves.png"
# What stands in an epoch's line besides loss terms and validation.
NOT_TERMS = {"kind", "step", "epoch", "rate", "gradient", "rows_per_second", "memory_bytes", "eta_s"}
PROJECT = "birdmml"


class Journal:
    """Steps and epochs as JSON lines, in trackers, and on standard error; without a folder only the last."""

    def __init__(
        self, folder: Path | None, accelerator: Accelerator, position: Position, steps: int, quiet: bool
    ) -> None:
        self._path = None if folder is None else folder / FILE
        self._accelerator, self._quiet, self._steps = accelerator, quiet, steps
        self._started, self._first = time.perf_counter(), position.step
        if self._path is not None:
            _keep_until(self._path, position)
        self._bar = bar("training", steps, "step", quiet, position.step)

    def step(self, position: Position, values: Mapping[str, float], rate: float) -> None:
        """One step: loss terms, gradient norm, learning rate."""
        self._bar.update()
        self._bar.set_postfix(epoch=position.epoch + 1, loss=f"{values['loss']:.3f}", refresh=False)
        self._write("step", position.step, {"epoch": position.epoch + 1, "rate": rate} | dict(values))

    def epoch(self, position: Position, means: Mapping[str, float], recalls: Mapping[str, float], speed: float) -> None:
        """One epoch: mean terms, validation, rows a second, memory; and how long the rest takes."""
        spent = time.perf_counter() - self._started
        left = spent / max(1, position.step - self._first) * (self._steps - position.step)
        device = self._accelerator.device
        # The peak decides what fits; of a process without a GPU only what it holds now is known.
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
        values = {**means, **{f"validation {k}": v for k, v in recalls.items()}}
        more = {"epoch": position.epoch, "rows_per_second": speed, "memory_bytes": peak, "eta_s": left}
        self._write("epoch", position.step, values | more)
        if self._path is not None and not self._quiet:
            terms = "  ".join(f"{k} {v:.3f}" for k, v in sorted(values.items(), key=lambda kv: kv[0] != "loss"))
            self._bar.write(
                f"epoch {position.epoch}  {terms}  {speed:.0f} rows/s  {human_bytes(peak)}  {left:.0f} s left",
                file=sys.stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        # However the training ends, what is said afterwards stands on a line of its own.
        self._bar.close()
        if kind is None and self._accelerator.trackers:
            self._accelerator.end_training()

    def _write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self._path is None:
            return
        rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in values.items()}
        line = json.dumps({"kind": kind, "step": step} | rounded)
        try:
            with self._path.open("a", encoding="utf-8") as f:
                f.write(line + "\n")
        except OSError as e:
            raise TrainingError(f"{self._path} cannot be written ({e}): free space and --resume") from e
        if self._accelerator.trackers:
            self._accelerator.log({f"{kind}/{k}": v for k, v in values.items()}, step=step)


def bar(what: str, total: int, unit: str, quiet: bool, start: int = 0) -> tqdm[Any]:
    """A progress bar on standard error."""
    # In a log file a line every few seconds is enough.
    pause = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(desc=what, total=total, initial=start, unit=unit, disable=quiet, mininterval=pause, leave=False)


def trackers(wanted: Sequence[str]) -> list[str]:
    """The trackers to use: those asked for, and TensorBoard where it is installed. Raises UsageError."""
    from accelerate.tracking import get_available_trackers

    there = [str(getattr(t, "value", t)) for t in get_available_trackers()]
    for name in wanted:
        if name not in there:
            shown = ", ".join(there) or "none"
            raise UsageError(f"tracker {name!r} is not installed (there are: {shown}): install it, or leave it out")
    return list(dict.fromkeys([*wanted, *(["tensorboard"] if importlib.util.find_spec("tensorboard") else [])]))


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's journal; a last line cut short by a kill is left out."""
    lines = []
    for line in (folder / FILE).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # What follows a damaged line is not to be trusted either.
    return lines


def _keep_until(path: Path, position: Position) -> None:
    """Drop the lines after the position that training resumes from: they will be written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    kept = [
        line
        for line in read(path.parent)
        if line["step"] <= position.step and (line["kind"] == "step" or line["epoch"] <= position.epoch)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def draw(folder: Path) -> Path | None:
    """Write curves.png beside train.jsonl and return its path; None where no epoch was finished."""
    lines = read(folder) if (folder / FILE).is_file() else []
    epochs = [line for line in lines if line["kind"] == "epoch"]
    if not epochs:
        return None
    names = list(epochs[-1])
    panels = {
        "loss": [n for n in names if n in ("loss", "validation loss")],
        "terms": [n for n in names if n not in NOT_TERMS and n != "loss" and not n.startswith("validation")],
        "validation recall": [n for n in names if n.startswith("validation recall")],
        "rows a second": ["rows_per_second"],
    }
    panels = {title: picked for title, picked in panels.items() if picked}
    canvas = blank(4.2 * len(panels), 3.2)
    axes = canvas.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            at, values = [line["epoch"] for line in epochs], [line.get(name) for line in epochs]
            axis.plot(at, values, marker=".", lw=1.2, ms=4, label=name)
        frame(axis, title, "epoch")
        axis.tick_params(labelsize=8)
        axis.set_ylim(bottom=0)
        if len(names) > 1:
            axis.legend(frameon=False, fontsize=7)
    path = folder / CURVES_FILE
    save(canvas, path, dpi=120)
    return path
