"""Ranks, recall, accuracy and their intervals, in blocks and without a sort. numpy only.

A query's match is placed by counting: `greater` candidates score higher, `ties` others score the same. Ties are
broken at random *in expectation*, so a score that says nothing gives exactly chance, never 100 %.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import ResultError, UnknownName

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

BLOCK_ELEMENTS = 2**24
BOOTSTRAP_SAMPLES = 2000
MEDIAN_RANK = "median rank"


@dataclass(frozen=True)
class Ranks:
    """For each of N queries: candidates above the match, others level with it, and the best candidate [N]."""

    greater: Ints
    ties: Ints
    best: Ints


@dataclass(frozen=True)
class Summary:
    """One metric over items and seeds. `low`, `high`: bootstrap 95 % interval over items."""

    value: float
    low: float
    high: float
    n: int
    chance: float
    per_seed: tuple[float, ...]
    sd: float | None


def rank(
    block: Callable[[slice], Floats],
    targets: Ints,
    candidates: int,
    tolerance: float = 0.0,
    rows: int | None = None,
) -> Ranks:
    """Place every query's match among the candidates.

    `block(s)` gives the scores [len(s), C] of the queries in slice `s`; `targets` [N] holds each match's index.
    Scores within `tolerance` of the match are ties: equal inputs may differ by rounding between two blocks.
    Raises ResultError for scores that are not finite or of the wrong shape.
    """
    n = len(targets)
    step = rows or max(1, BLOCK_ELEMENTS // max(1, candidates))
    out = Ranks(*(np.empty(n, dtype=np.int64) for _ in range(3)))
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        scores = block(part)
        check_scores(scores, part.stop - part.start, candidates)
        own = np.take_along_axis(scores, targets[part, None], axis=1)
        above = (scores > own + tolerance).sum(axis=1)
        out.greater[part] = above
        out.ties[part] = (scores >= own - tolerance).sum(axis=1) - above - 1
        out.best[part] = scores.argmax(axis=1)
    return out


def hit(greater: Ints, ties: Ints, k: int) -> NDArray[np.float64]:
    """Expected hit@k [...] when the `ties + 1` equal candidates are ordered at random."""
    return np.clip((k - greater) / (ties + 1.0), 0.0, 1.0)


def outcome(metric: str, greater: Ints, ties: Ints) -> NDArray[np.float64]:
    """Per-item outcomes [...] of "accuracy", "recall@k" or "median rank" (then: ranks, ties at their middle)."""
    if metric == MEDIAN_RANK:
        return 1.0 + greater + ties / 2.0
    return hit(greater, ties, _k(metric))


def chance(metric: str, candidates: int) -> float:
    """What a score that says nothing gives among C candidates: min(k, C) / C, or the middle rank (C + 1) / 2."""
    if metric == MEDIAN_RANK:
        return (candidates + 1) / 2.0
    return min(_k(metric), candidates) / candidates


def summarise(metric: str, greater: Ints, ties: Ints, candidates: int) -> Summary:
    """One metric from `greater` and `ties` [S, N] of S seeds on the same N items.

    The value is the mean over seeds; `sd` is their sample standard deviation (None with one seed).
    Raises ResultError where there are no items or the counts are impossible.
    """
    if greater.ndim != 2 or greater.shape != ties.shape or greater.size == 0:
        raise ResultError(f"{metric} needs counts [seeds, items] of at least one item, got {greater.shape}")
    if greater.min() < 0 or ties.min() < 0 or (greater + ties).max() >= candidates:
        raise ResultError(f"{metric}: an item counts more than {candidates} candidates, or fewer than none")
    values = outcome(metric, greater, ties)
    centre = np.median if metric == MEDIAN_RANK else np.mean
    per_seed = tuple(float(centre(v)) for v in values)
    low, high = bootstrap(values, median=metric == MEDIAN_RANK)
    sd = float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None
    value = float(np.mean(per_seed))
    return Summary(value, low, high, values.shape[1], chance(metric, candidates), per_seed, sd)


def bootstrap(
    values: NDArray[np.float64],
    median: bool = False,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval over items of the mean (or median) of `values` [S, N], averaged over seeds.

    Items are drawn with replacement, the same draw for every seed; blocks bound the memory.
    """
    generator = np.random.default_rng(seed)
    n = values.shape[1]
    step = max(1, BLOCK_ELEMENTS // 4 // max(1, values.size))
    found = []
    for start in range(0, samples, step):
        drawn = generator.integers(0, n, size=(min(step, samples - start), n))
        picked = values[:, drawn]
        centre = np.median(picked, axis=-1) if median else picked.mean(axis=-1)
        found.append(centre.mean(axis=0))
    edge = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(found), [edge, 1.0 - edge])
    return float(low), float(high)


def check_scores(scores: Floats, rows: int, candidates: int) -> None:
    """Raise ResultError for a block that is not [rows, candidates], or holds a score that is not finite."""
    if scores.shape != (rows, candidates):
        raise ResultError(f"a score block has shape {scores.shape}, expected {(rows, candidates)}")
    bad = ~np.isfinite(scores)
    if bad.any():
        count = int(bad.sum())
        raise ResultError(
            f"{count} of {scores.size} scores are not finite: the embeddings or the model are broken"
        )


def _k(metric: str) -> int:
    if metric == "accuracy":
        return 1
    if found := re.fullmatch(r"recall@([1-9]\d{0,8})", metric):
        return int(found[1])
    raise UnknownName("metric", metric, ("accuracy", "recall@1", "recall@5", "recall@10", MEDIAN_RANK))
