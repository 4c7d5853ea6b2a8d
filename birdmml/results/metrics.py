"""Ranks, recall, accuracy and their intervals, in blocks and without a sort. numpy only.

A query's match is placed by counting: `greater` candidates score higher, `ties` others score the same. Ties are
broken at random *in expectation*, so a score that says nothing gives exactly chance, never 100 %.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import ResultError, UnknownName

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Counts = NDArray[np.uint16 | np.int32]

BLOCK_ELEMENTS = 2**24
BOOTSTRAP_SAMPLES = 2000
FEW_LEVELS = 128  # Up to so many, a product is quicker than a running sum.
KEPT_ELEMENTS = 2**23  # Of the draws of one bootstrap that are kept for the next: 16 MiB.
MEDIAN_RANK, CLASS_MEAN = "median rank", "class-mean accuracy"


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

    def mapped(self, function: Callable[[float], float]) -> Summary:
        """A rising function of the figure: value, interval and chance go through it."""
        per_seed = tuple(map(function, self.per_seed))
        return _summary(per_seed, function(self.low), function(self.high), self.n, function(self.chance))


def rank(
    block: Callable[[slice], Floats], targets: Ints, candidates: int, tolerance: float = 0.0, rows: int | None = None
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
    return hit(greater, ties, cutoff(metric))


def chance(metric: str, candidates: int) -> float:
    """What a score that says nothing gives among C candidates: min(k, C) / C, or the middle rank (C + 1) / 2."""
    if metric == MEDIAN_RANK:
        return (candidates + 1) / 2.0
    return min(cutoff(metric), candidates) / candidates


def summarise(
    metric: str,
    greater: Ints,
    ties: Ints,
    candidates: int,
    *,
    clusters: Ints | None = None,
    classes: Ints | None = None,
) -> Summary:
    """One metric from `greater` and `ties` [S, N] of S seeds on the same N items.

    The value is the mean over seeds; `sd` is their sample standard deviation (None with one seed). `clusters` [N]
    are outcomes that are resampled together (the draws of one item); `classes` [N] the items' classes, for the
    mean over classes.
    Raises ResultError where there are no items or the counts are impossible.
    """
    if greater.ndim != 2 or greater.shape != ties.shape or greater.size == 0:
        raise ResultError(f"{metric} needs counts [seeds, items] of at least one item, got {greater.shape}")
    if greater.min() < 0 or ties.min() < 0 or (greater + ties).max() >= candidates:
        raise ResultError(f"{metric}: an item counts more than {candidates} candidates, or fewer than none")
    if metric == CLASS_MEAN:
        return _class_mean(hit(greater, ties, 1), classes, clusters, candidates)
    values = outcome(metric, greater, ties)
    luck = chance(metric, candidates)
    if clusters is not None and metric != MEDIAN_RANK:
        return summarise_weighted(values, np.ones_like(values), luck, clusters)
    return summarise_values(values, luck, median=metric == MEDIAN_RANK)


def summarise_values(values: NDArray[np.float64], luck: float, median: bool = False) -> Summary:
    """The mean (or median) over items of `values` [S, N], the mean over seeds."""
    centre = np.median if median else np.mean
    per_seed = tuple(float(centre(v)) for v in values)
    low, high = bootstrap(values, median=median)
    return _summary(per_seed, low, high, values.shape[1], luck)


def summarise_weighted(
    values: NDArray[np.float64], weights: NDArray[np.float64], luck: float, clusters: Ints
) -> Summary:
    """sum(values) / sum(weights) over items [S, N], the mean over seeds; clusters [N] are resampled whole.

    `n` counts clusters. Raises ResultError where a seed's weights are all zero.
    """
    if values.shape != weights.shape or values.ndim != 2 or values.size == 0:
        raise ResultError(f"values {values.shape} and weights {weights.shape} must be [seeds, items], not empty")
    if not (weights.sum(axis=1) > 0).all():
        raise ResultError("all weights of a seed are zero: there is nothing to average")
    groups = int(clusters.max()) + 1
    sums, totals = (np.stack([_totals(clusters, row, groups) for row in part]) for part in (values, weights))
    per_seed = tuple((sums.sum(axis=1) / totals.sum(axis=1)).tolist())
    low, high = _interval(bootstrap_ratio(sums, totals))
    return _summary(per_seed, low, high, groups, luck)


def _class_mean(hits: NDArray[np.float64], classes: Ints | None, clusters: Ints | None, candidates: int) -> Summary:
    """The mean over classes of their accuracy; items are resampled within their class."""
    if classes is None:
        raise ResultError(f"{CLASS_MEAN} needs the class of every item")
    clusters = np.arange(hits.shape[1]) if clusters is None else clusters
    parts, spread = [], []
    for name in range(int(classes.max()) + 1):
        mine = np.flatnonzero(classes == name)
        _, own = np.unique(clusters[mine], return_inverse=True)
        many = int(own.max()) + 1
        sums = np.stack([_totals(own, row, many) for row in hits[:, mine]])
        totals = np.tile(_totals(own, np.ones(len(own)), many), (len(hits), 1))
        parts.append(sums.sum(axis=1) / totals.sum(axis=1))
        spread.append(bootstrap_ratio(sums, totals, seed=name))
    low, high = _interval(np.mean(spread, axis=0))
    per_seed = tuple(np.mean(parts, axis=0).tolist())
    return _summary(per_seed, low, high, len(np.unique(clusters)), 1.0 / candidates)


def _totals(groups: Ints, values: NDArray[np.float64], many: int) -> NDArray[np.float64]:
    return np.bincount(groups, values, many).astype(np.float64)


def _summary(per_seed: tuple[float, ...], low: float, high: float, n: int, luck: float) -> Summary:
    sd = float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None
    return Summary(float(np.mean(per_seed)), low, high, n, luck, per_seed, sd)


def bootstrap_ratio(
    sums: NDArray[np.float64], totals: NDArray[np.float64], samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Resampled sum(sums) / sum(totals) [samples] of G groups [S, G], each the mean over the S seeds.

    Groups are drawn with replacement, the same draw for every seed; a draw whose totals are all 0 is left out.
    """
    generator = np.random.default_rng(seed)
    groups = sums.shape[1]
    step = max(1, BLOCK_ELEMENTS // 4 // groups)
    ratios = []
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = generator.integers(0, groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        # One count for all draws: each has a range of numbers of its own.
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
        above, below = times @ sums.T, times @ totals.T
        usable = (below > 0).all(axis=1)
        ratios.append((above[usable] / below[usable]).mean(axis=1))
    return np.concatenate(ratios)


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
    n = values.shape[1]
    step = max(1, BLOCK_ELEMENTS // 4 // max(1, values.size))
    counted = _kept_counts if n * samples <= KEPT_ELEMENTS else _counts
    # Every seed has the same draw: the mean of the seeds' means is the mean of the items' means.
    items = values.mean(axis=0)
    centre = _medians(values) if median else lambda counts: counts.astype(np.float64) @ items / n
    return _interval(np.concatenate([centre(block) for block in counted(n, step, samples, seed)]), level)


def _counts(n: int, step: int, samples: int, seed: int) -> Iterator[Counts]:
    """How often each of `n` items was drawn [step, n], block by block; each row sums to `n`."""
    generator = np.random.default_rng(seed)
    kind = np.uint16 if n < 2**16 else np.int32
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = generator.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(kind)


@lru_cache(maxsize=4)
def _kept_counts(n: int, step: int, samples: int, seed: int) -> tuple[Counts, ...]:
    """The same, kept: most figures of a result are over the same number of items."""
    return tuple(_counts(n, step, samples, seed))


def _medians(values: NDArray[np.float64]) -> Callable[[Counts], NDArray[np.float64]]:
    """Of counts [B, N], the median of `values` [S, N] over the items drawn, averaged over seeds [B]."""
    n = values.shape[1]
    middles = sorted({(n - 1) // 2, n // 2})

    def of(counts: Counts) -> NDArray[np.float64]:
        medians = np.zeros(len(counts))
        exact = counts.astype(np.float32 if n < 2**24 else np.float64)
        for levels, at in levels_of_rows:
            # The k-th smallest item drawn has the first level at or below which more than k were drawn.
            running = _running(exact, at, len(levels))
            for middle in middles:
                medians += levels[(running > middle).argmax(axis=1)]
        return medians / (len(middles) * len(levels_of_rows))

    levels_of_rows = [np.unique(row, return_inverse=True) for row in values]
    return of


def _running(counts: NDArray[Any], at: Ints, levels: int) -> NDArray[Any]:
    """Of counts [B, N] of items that lie at levels [N], how many lie at or below each level [B, levels]."""
    if levels <= FEW_LEVELS:
        return np.asarray(counts @ (at[:, None] <= np.arange(levels)).astype(counts.dtype))
    order = np.argsort(at, kind="stable")
    ends = np.searchsorted(at[order], np.arange(levels), side="right") - 1
    return np.asarray(counts[:, order].cumsum(axis=1)[:, ends])


def _interval(draws: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of resampled values."""
    edge = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [edge, 1.0 - edge])
    return float(low), float(high)


def cutoff(metric: str) -> int:
    """The k of "recall@k", "top-k accuracy" or "accuracy" (1); raises UnknownName."""
    if metric == "accuracy":
        return 1
    if match := re.fullmatch(r"top-([1-9]\d{0,8}) accuracy", metric):
        return int(match[1])
    if match := re.fullmatch(r"recall@([1-9]\d{0,8})", metric):
        return int(match[1])
    raise UnknownName("metric", metric, ("accuracy", "recall@1", "recall@5", "recall@10", MEDIAN_RANK))


def check_scores(scores: Floats, rows: int, candidates: int) -> None:
    """Raise ResultError for a block that is not [rows, candidates], or holds a score that is not finite."""
    if scores.shape != (rows, candidates):
        raise ResultError(f"a score block has shape {scores.shape}, expected {(rows, candidates)}")
    bad = ~np.isfinite(scores)
    if bad.any():
        count = int(bad.sum())
        raise ResultError(f"{count} of {scores.size} scores are not finite: the embeddings or the model are broken")
