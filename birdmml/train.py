"""Train one method on one dataset: a single visible loop, on `accelerate`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer
from tqdm import tqdm

from birdmml import discover
from birdmml.errors import TrainingError, UsageError
from birdmml.nn.augment import augment
from birdmml.nn.feed import Feed, RowSource, batches, epoch_order, steps_per_epoch, to_device
from birdmml.nn.network import Network
from birdmml.nn.presets import Preset, Training
from birdmml.nn.text import train_tokenizer

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Trained:
    """A trained network; `history` has the mean loss terms of each epoch."""

    network: Network
    tokenizer: Tokenizer
    seconds: float
    rows_per_second: float
    history: tuple[dict[str, float], ...]


def pick_device(name: str) -> torch.device:
    """ "auto" takes cuda, then mps, then cpu. Raises UsageError for a device that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if there[d]))
    if name not in there:
        raise UsageError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if not there[name]:
        raise UsageError(f"device {name} is not available here: use --device auto")
    return torch.device(name)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads on the CPU meanwhile; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    rows: RowSource,
    method: str,
    config: Any,
    preset: Preset,
    seed: int,
    device: str = "auto",
    quiet: bool = False,
) -> Trained:
    """Train `method` on `rows` from scratch. One seed fixes initial weights, order and dropout.

    Raises TrainingError with the step and the row ids where the loss is not finite.
    """
    chosen, settings = pick_device(device), preset.training
    if len(rows) < 2:
        raise TrainingError(f"{len(rows)} training rows: a contrastive loss needs two at least, build more")
    accelerator = _accelerator(chosen)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(rows.column("caption"), preset.encoders.text.vocabulary)
    network = Network(preset, discover.load("method", method), config, tokenizer.get_vocab_size()).to(chosen)
    feed = Feed(rows, network.preprocessor, tokenizer, settings.cache_gib)
    started = time.perf_counter()
    steps = steps_per_epoch(len(rows), settings.batch_size) * settings.epochs
    with cpu_threads(settings.cpu_threads):
        with _bar("decoding", len(rows), "row", quiet) as bar:
            feed.fill(lambda done, _: bar.update(done - bar.n))
        with _bar("training", steps, "step", quiet) as bar:
            history = _loop(network, feed, rows, settings, seed, accelerator, bar)
    seconds = time.perf_counter() - started
    return Trained(network.eval(), tokenizer, seconds, len(rows) * settings.epochs / seconds, history)


def _loop(
    network: Network,
    feed: Feed,
    rows: RowSource,
    settings: Training,
    seed: int,
    accelerator: Accelerator,
    bar: tqdm[Any],
) -> tuple[dict[str, float], ...]:
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=accelerator.device.type in ("cpu", "cuda", "mps"),
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, settings.epochs, eta_min=settings.final_learning_rate
    )
    model, optimiser = accelerator.prepare(network, optimiser)
    history: list[dict[str, float]] = []
    for epoch in range(settings.epochs):
        model.train()
        means = _Means()
        for indices in batches(epoch_order(len(feed), seed, epoch), settings.batch_size):
            inputs = augment(to_device(feed.batch(indices), accelerator.device), settings.augment)
            with accelerator.autocast():
                terms = model(inputs)
            # One transfer a step: each value read from a GPU by itself would wait for it again.
            values = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
            if not math.isfinite(values["loss"]):
                raise _diverged(values, len(history), bar.n, rows, indices.tolist())
            accelerator.backward(terms["loss"])
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            means.add(values, len(indices))
            bar.update()
            bar.set_postfix(epoch=epoch + 1, loss=f"{values['loss']:.3f}", refresh=False)
        schedule.step()
        history.append(means.values())
    return tuple(history)


class _Means:
    """Means of named values, weighted by rows."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._rows = 0

    def add(self, values: dict[str, float], rows: int) -> None:
        self._rows += rows
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * rows

    def values(self) -> dict[str, float]:
        return {name: total / self._rows for name, total in self._sums.items()}


def _accelerator(device: torch.device) -> Accelerator:
    accelerator = Accelerator(
        mixed_precision="bf16" if device.type == "cuda" else "no", cpu=device.type == "cpu"
    )
    if accelerator.num_processes > 1:
        raise UsageError(
            f"{accelerator.num_processes} processes were launched, and training on several is not written yet:"
            " start it without `accelerate launch` or `torchrun`"
        )
    if accelerator.device.type != device.type:
        raise UsageError(f"this process already trains on {accelerator.device}: start a new one for {device}")
    return accelerator


def _diverged(
    values: dict[str, float], epoch: int, step: int, rows: RowSource, indices: list[int]
) -> TrainingError:
    ids = rows.column("id")
    shown = ", ".join(str(ids[i]) for i in indices[:8]) + (", ..." if len(indices) > 8 else "")
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    return TrainingError(
        f"the loss is not finite in epoch {epoch + 1}, step {step + 1} (terms {', '.join(bad)}; rows {shown}):"
        " lower training.learning_rate, or look at these rows"
    )


def _bar(what: str, total: int, unit: str, quiet: bool) -> tqdm[Any]:
    # In a log file a line every few seconds is enough.
    pause = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(desc=what, total=total, unit=unit, disable=quiet, mininterval=pause, leave=False)
