"""Train one method on one dataset: a single visible loop, on one process or several."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from birdmml.core import discover
from birdmml.core.device import lacks_memory, pick_device
from birdmml.errors import TrainingError, UsageError
from birdmml.models import checkpoint, state
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.estimate import too_large
from birdmml.models.feed import Feed, batches, steps_per_epoch, to_device
from birdmml.models.foreign import load_weights, resolved, tokenizer_of
from birdmml.models.heads import TOWER
from birdmml.models.journal import Journal, bar
from birdmml.models.network import Network
from birdmml.models.preprocess import augment
from birdmml.models.presets import Preset
from birdmml.models.ranks import ProcessRanks, global_batch_norm, launched, precision
from birdmml.models.read import RowSource, captions
from birdmml.models.state import Learner, Position, Saving
from birdmml.models.step import (
    Numerics,
    Terms,
    checkpoint_activations,
    chunks_of,
    numerics,
    optimiser,
    rates,
    set_rate,
    step,
    validate,
)
from birdmml.models.step import score as validation_score
from birdmml.models.text import train_tokenizer

# A loss this many times the first one does not come back.
DIVERGED = 10.0
MAX_SHOWN = 64


@dataclass(frozen=True)
class Trained:
    """A trained network; `history` has the mean loss terms of each epoch."""

    network: Network
    tokenizer: Tokenizer
    seconds: float
    rows_per_second: float
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class _Run:
    """Everything that stays the same from the first step to the last."""

    ready: Checkpoint
    feed: Feed
    species: Tensor | None
    learner: Learner
    how: Numerics
    ranks: ProcessRanks
    validation: Feed | None
    saving: Saving | None

    @property
    def network(self) -> Network:
        """The network under training."""
        return self.ready.network

    @property
    def least(self) -> int:
        """The fewest rows of a batch."""
        return max(2, self.ranks.size)

    def same(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Which pairs of a batch's rows share a species, bool [B, B]; None where that is not asked for."""
        if self.species is None:
            return None
        labels = self.species[torch.from_numpy(rows)].to(self.learner.device)
        return labels[:, None] == labels[None, :]

    def described(self, position: Position) -> Checkpoint:
        """The checkpoint of this moment, with what is known of the training."""
        training = {
            "seconds": round(position.seconds, 2),
            "steps": position.step,
            "epochs": position.epoch,
            "history": [{k: round(v, 6) for k, v in epoch.items()} for epoch in position.history],
        }
        return dataclasses.replace(self.ready, training=training)


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
    saving: Saving | None = None,
) -> Trained:
    """Train `method` on `rows` from scratch. One seed fixes initial weights, order and dropout.

    With `saving` it is kept on disk and can go on where it was killed; where that has validation rows, the best
    model is kept, too. Raises UsageError for a folder that holds a training already, TrainingError with the step and
    the row ids where training diverges.
    """
    settings = preset.training
    accelerator = launched(pick_device(device), saving)
    ranks = ProcessRanks(accelerator.process_index, accelerator.num_processes)
    if len(rows) < 2:
        raise TrainingError(f"{len(rows)} training rows: a contrastive loss needs two at least, build more")
    if ranks.size > (most := min(len(rows), settings.batch_size)):
        raise UsageError(f"{ranks.size} processes for batches of {most} rows: launch fewer, or raise --batch-size")
    how = numerics(precision(settings.precision, accelerator.device), accelerator.device)
    torch.manual_seed(seed)  # Until the weights are made nothing else may draw.
    preset = resolved(preset)  # Configs of named models go into the checkpoint, which needs no hub to load.
    tokenizer = tokenizer_for(rows, preset)
    no_room = (
        f"out of memory on {accelerator.device} while the model was made: choose smaller encoders or a smaller --preset"
    )
    with _memory_error(lambda: no_room):
        network = Network(preset, discover.load("method", method), config, tokenizer.get_vocab_size())
        load_weights(network.encoders, preset.encoders)
        network.to(accelerator.device)
    dataset, source = ({}, {}) if saving is None else (saving.dataset, saving.provenance)
    validation = None if saving is None else saving.validation
    run = _Run(
        Checkpoint(method, config, preset, seed, network, tokenizer, dataset, {}, source),
        Feed(rows, network.preprocessor, tokenizer, settings),
        torch.tensor(rows.column("label")) if settings.false_negatives == "mask" else None,
        Learner(optimiser(network, settings), how.scaler, accelerator.device),
        how,
        ranks,
        Feed(validation, network.preprocessor, tokenizer) if validation is not None and ranks.main else None,
        saving,
    )
    last = None if saving is None else state.newest(saving.folder)
    if saving is not None and last is not None and not saving.resume:
        raise UsageError(f"{saving.folder} holds a training already: add --resume to go on, or choose another --out")
    position = Position() if last is None else state.load(last, run.ready, run.learner)
    if settings.activation_checkpointing:
        checkpoint_activations(network)
    if settings.compile:
        for encoder in network.encoders.values():
            encoder.compile()
    started, before = time.perf_counter(), position.seconds
    silent = quiet or not ranks.main
    with cpu_threads(settings.cpu_threads), global_batch_norm(network, ranks), _memory_error(lambda: _would_fit(run)):
        with bar("decoding", len(rows), "row", silent) as shown:
            run.feed.fill(lambda done, _: shown.update(done - shown.n))
        steps = settings.epochs * steps_per_epoch(len(rows), settings.batch_size, run.least)
        folder = saving.folder if saving is not None and ranks.main else None
        with Journal(folder, accelerator, position, steps, silent) as journal:
            _loop(run, position, journal)
    seconds = before + time.perf_counter() - started
    return Trained(network.eval(), tokenizer, seconds, len(rows) * settings.epochs / seconds, tuple(position.history))


def tokenizer_for(rows: RowSource, preset: Preset) -> Tokenizer:
    """The named text model's own tokenizer, else one trained on the captions."""
    if preset.encoders.text_model.name:
        return tokenizer_of(preset.encoders.text_model.name)
    return train_tokenizer(captions(rows), preset.encoders.text.vocabulary)


def _loop(run: _Run, position: Position, journal: Journal) -> None:
    network, settings = run.network, run.ready.preset.training
    schedule = rates(settings)
    for epoch in range(position.epoch, settings.epochs):
        network.train()  # Validation left it in eval.
        for name, encoder in network.encoders.items():
            # Frozen is frozen: no dropout, no moving batch statistics.
            encoder.train(name.split(TOWER)[0] not in run.ready.preset.encoders.frozen)
        set_rate(run.learner.optimiser, schedule[epoch])
        at, before = time.perf_counter(), position.rows
        _epoch(run, position, journal, schedule[epoch])
        speed = (position.rows - before) / (time.perf_counter() - at)
        means = position.close_epoch()
        figures = {} if run.validation is None else validate(network, run.validation, settings.batch_size)
        journal.epoch(position, means, figures, speed)
        _keep_epoch(run, position, figures)


def _epoch(run: _Run, position: Position, journal: Journal, rate: float) -> None:
    """The batches of one epoch, or those that are left of it."""
    order = run.feed.order(run.ready.seed, position.epoch)
    todo = list(batches(order, run.ready.preset.training.batch_size, run.least))[position.batch :]
    at = time.perf_counter()
    for batch, mine in zip(todo, run.feed.stream([run.ranks.share(b) for b in todo]), strict=True):
        values, norm = _step(run, position, batch, mine)
        position.count(values, len(batch))
        now = time.perf_counter()
        position.seconds, at = position.seconds + now - at, now
        journal.step(position, values | {"gradient": norm}, rate)
        if run.saving is not None and run.saving.every and position.step % run.saving.every == 0:
            _keep(run, position)


def _step(
    run: _Run, position: Position, batch: NDArray[np.int64], mine: Mapping[str, Tensor]
) -> tuple[dict[str, float], float]:
    """Learn from one global batch, of which this process holds `mine`; its loss terms and gradient norm."""
    settings, seed, ranks = run.ready.preset.training, run.ready.seed, run.ranks
    ranks.reseed(seed, position.step)
    inputs = augment(to_device(mine, run.learner.device), settings.augment)
    same = run.same(batch)

    def loss_of(features: dict[str, Tensor]) -> Terms:
        with ranks.same_random(seed, position.step):
            return run.network.model.loss(ranks.gather(features, len(batch)), same)

    parts = chunks_of(len(batch), settings.chunk_size, ranks)
    terms = step(run.network, inputs, loss_of, run.how, parts)
    ranks.average_gradients(run.learner.learned)
    run.how.scaler.unscale_(run.learner.optimiser)
    norm = torch.nn.utils.get_total_norm([p.grad for p in run.learner.learned if p.grad is not None])
    if settings.clip_norm:
        torch.nn.utils.clip_grads_with_norm_(run.learner.learned, settings.clip_norm, norm)
    # One transfer a step: each value read from a GPU by itself would wait for it again.
    *values, length = torch.stack([*terms.values(), norm]).tolist()
    named = dict(zip(terms, values, strict=True))
    _check(run, position, named, length, batch)
    run.how.scaler.step(run.learner.optimiser)
    run.how.scaler.update()
    run.learner.optimiser.zero_grad(set_to_none=True)
    return named, length


@contextmanager
def _memory_error(words: Callable[[], str]) -> Iterator[None]:
    """Lack of memory inside becomes a TrainingError of these words, which are sought only then."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as e:
        if not lacks_memory(e):
            raise
        raise TrainingError(words()) from e


def _would_fit(run: _Run) -> str:
    """What to say when a step ran out of memory: how many rows there is room for."""
    c, device = run.ready, run.learner.device
    try:
        return too_large(c.preset, c.method, c.config, c.tokenizer.get_vocab_size(), device)
    except (MemoryError, OSError, RuntimeError):  # Too little is left even to count with.
        return f"out of memory on {device}: lower training.batch_size, or set --chunk-size"


def _check(run: _Run, position: Position, values: dict[str, float], norm: float, batch: NDArray[np.int64]) -> None:
    """Raise TrainingError where the loss or the gradient is not finite, or the loss has run away."""
    position.first_loss = values["loss"] if position.first_loss is None else position.first_loss
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    # float16 overflows now and then by design: the scaler leaves such a step out.
    if not bad and not math.isfinite(norm) and run.how.dtype is not torch.float16:
        bad = ["gradient"]
    if bad:
        what = f"the loss is not finite (terms {', '.join(bad)})"
    elif values["loss"] > DIVERGED * max(position.first_loss, 1.0):
        what = f"the loss has risen from {position.first_loss:.3g} to {values['loss']:.3g}"
    else:
        return
    ids = run.feed.rows.column("id")
    shown = ", ".join(str(ids[i]) for i in batch[:MAX_SHOWN]) + (", ..." if len(batch) > MAX_SHOWN else "")
    good = None if run.saving is None else state.newest(run.saving.folder)
    raise TrainingError(
        f"{what} in epoch {position.epoch + 1}, step {position.step + 1}, rows {shown}; last good checkpoint:"
        f" {good or 'none'}; lower training.learning_rate, or look at these rows"
    )


def _keep(run: _Run, position: Position) -> None:
    """Write the state of this moment; all ranks wait for it."""
    if run.saving is not None and run.ranks.main:
        state.save(run.saving.folder, run.described(position), run.learner, position)
    run.ranks.wait()  # None may run ahead and be killed while rank 0 still writes.


def _keep_epoch(run: _Run, position: Position, figures: Mapping[str, float]) -> None:
    """After an epoch: the best so far, the state unless it is written every N steps, and at the end the last."""
    if run.saving is None:
        return
    score = validation_score(figures) if figures else None
    if score is not None and (position.best is None or score > position.best):
        position.best = score
        checkpoint.save(run.saving.folder / state.BEST, run.described(position))  # Rank 0 alone has a score.
    finished = position.epoch == run.ready.preset.training.epochs
    if not run.saving.every or finished:
        _keep(run, position)
    if finished and run.ranks.main:
        checkpoint.save(run.saving.folder / state.LAST, run.described(position))
