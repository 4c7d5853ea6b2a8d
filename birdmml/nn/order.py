"""In which order an epoch sees the rows: seeded, and mixed as well as a bounded memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """What is read from disk at once: rows and bytes of media of each block, in row order."""

    rows: Rows
    sizes: Rows

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int]]) -> Blocks:
        """From (rows, bytes) a block."""
        rows, sizes = zip(*spans, strict=True) if spans else ((), ())
        return cls(np.asarray(rows, dtype=np.int64), np.asarray(sizes, dtype=np.int64))

    @property
    def starts(self) -> Rows:
        """The first row of each block."""
        return np.concatenate([[0], np.cumsum(self.rows)[:-1]]).astype(np.int64)


def epoch_order(rows: int, seed: int, epoch: int) -> Rows:
    """A permutation of the rows that depends on nothing but its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int64)


def block_order(blocks: Blocks, buffer_bytes: int, seed: int, epoch: int, times: Rows | None = None) -> Rows:
    """Every row once (or `times` [N] times): blocks in random order, through a buffer that is drawn from at random.

    A row is drawn only from blocks begun before it, and what lies in the buffer never exceeds `buffer_bytes` by
    more than a block: a reader that keeps begun blocks needs no more memory. Where all fits, and no `times` are
    given, the order is `epoch_order`: a full shuffle.
    """
    total = int(blocks.rows.sum())
    if int(blocks.sizes.sum()) <= buffer_bytes:
        order = epoch_order(total, seed, epoch)
        return order if times is None else _repeated(order, times, seed, epoch)
    rng = np.random.default_rng([seed, epoch])
    out: list[int] = []
    pool: list[tuple[int, float]] = []
    held = 0.0
    for block in rng.permutation(len(blocks.rows)).tolist():
        rows = np.arange(blocks.starts[block], blocks.starts[block] + blocks.rows[block])
        rows = rows if times is None else np.repeat(rows, times[rows])
        each = float(blocks.sizes[block]) / max(1, int(blocks.rows[block]))
        draws = iter(rng.random(len(pool)).tolist())
        while pool and held + each * len(rows) > buffer_bytes:
            held -= _draw(pool, next(draws), out)
        pool += [(int(row), each) for row in rows]
        held += each * len(rows)
    for draw in rng.random(len(pool)).tolist():
        _draw(pool, draw, out)
    return np.asarray(out, dtype=np.int64)


def species_times(labels: NDArray[np.int64], seed: int, epoch: int) -> Rows:
    """How often each row comes in an epoch that draws every species equally often; their sum is about N.

    Within a species rows come equally often, up to one; who comes once more is drawn anew each epoch.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    times = np.zeros(len(labels), dtype=np.int64)
    species = np.unique(labels)
    share = max(1, len(labels) // max(1, len(species)))
    for label in species:
        rows = rng.permutation(np.flatnonzero(labels == label))
        times[rows] = share // len(rows)
        times[rows[: share % len(rows)]] += 1
    return times


def _draw(pool: list[tuple[int, float]], draw: float, out: list[int]) -> float:
    """Move a random member of the pool to `out`; its bytes."""
    at = int(draw * len(pool))
    pool[at], pool[-1] = pool[-1], pool[at]
    row, size = pool.pop()
    out.append(row)
    return size


def _repeated(order: Rows, times: Rows, seed: int, epoch: int) -> Rows:
    many = np.repeat(order, times[order])
    return np.asarray(np.random.default_rng([seed, epoch, 2]).permutation(many), dtype=np.int64)
