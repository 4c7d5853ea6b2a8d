"""Does a modality know its species at all? A linear probe, against the same probe on shuffled labels.

The probe is ridge regression onto class indicators, each scaled by 1 / sqrt(rows of the class) so that rare
species count (optimal scoring: Hastie, Buja and Tibshirani, "Penalized discriminant analysis", 1995), scored by the
balanced accuracy of predictions out of fold. Labels enter only as sums of features: each shuffle reuses the
factorisation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from birdmml.core.pool import Pool
from birdmml.dataset import ridge
from birdmml.dataset.audit.groups import Codes, Grouping, choose
from birdmml.dataset.audit.media import DIMENSIONS, TEXT_DIM, MediaFeatures, Vector, text_features
from birdmml.dataset.audit.model import ProbeResult
from birdmml.dataset.audit.read import AuditRows

Floats = NDArray[np.float64]

FOLDS = 5
SHUFFLES = 200
BOOTSTRAPS = 1000
# Ridge penalty as a share of the training rows, features having unit variance.
PENALTY = 0.3
ALPHA = 0.01
MIN_ROWS, MIN_GROUPS = 60, 10
# The 99th percentile of shuffled labels may lie this far above their mean; beyond, a weak signal would not show.
FINE_MARGIN, COARSE_MARGIN = 0.05, 0.08
# Means of the same shares, added in another order, differ by less than this.
_ROUNDING = 1e-9

ABOVE, AT_CHANCE, CANNOT_TELL = "above chance", "at chance", "cannot tell"


@dataclass(frozen=True)
class ProbeOutcome:
    """A probe's balanced accuracy with a 95 % interval (groups drawn with replacement), and that of shuffled labels.

    `shuffled` holds SHUFFLES accuracies, sorted; `p` is the share of shuffles at least as good (the true labels
    counted in). `right` [N] says which of the rows used were predicted, `used` [N] which rows those are.
    """

    verdict: str
    why: str
    accuracy: float
    low: float
    high: float
    chance: float
    p: float
    shuffled: Floats
    species: int
    groups: int
    used: NDArray[np.bool_]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class _Fold:
    """One fold's factorisation: `weights` [n_test, D'] times the class sums of `train` [n_train, D'] are scores."""

    test: Codes
    rest: Codes
    train: Floats
    weights: Floats


def probe(features: NDArray[np.float32], labels: Codes, groups: Codes, seed: int) -> ProbeOutcome:
    """Probe `features` [N, D] for `labels` [N], with `groups` [N] kept on one side of each fold.

    Species of one group only are left out: they cannot be learned and met. Never raises for few rows: the verdict
    is then "cannot tell".
    """
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    names, count = np.unique(pairs[:, 0], return_counts=True)
    used = np.isin(labels, names[count > 1])
    y = np.unique(labels[used], return_inverse=True)[1].astype(np.int64)
    g = np.unique(groups[used], return_inverse=True)[1].astype(np.int64)
    species, n_groups = (int(v.max()) + 1 if len(v) else 0 for v in (y, g))
    why = ""
    if species < 2:
        why = f"{species} of at least 2 species have two groups, one to learn from and one to be asked about"
    elif len(y) < MIN_ROWS or n_groups < MIN_GROUPS:
        why = f"{len(y)} rows in {n_groups} groups; at least {MIN_ROWS} rows in {MIN_GROUPS} groups can be judged"
    if why:
        nothing = np.zeros(0, dtype=bool)
        return ProbeOutcome(CANNOT_TELL, why, 0.0, 0.0, 0.0, 0.0, 1.0, np.zeros(0), species, n_groups, used, nothing)
    parts = _factorise(features[used], ridge.folds(y, g, FOLDS, np.random.default_rng(seed)))
    right = _predict(parts, y) == y
    accuracy = balanced_accuracy(right, y)
    rng = np.random.default_rng([seed, 1])
    dealt = (shuffle(y, g, rng) for _ in range(SHUFFLES))
    shuffled = np.sort([balanced_accuracy(_predict(parts, d) == d, d) for d in dealt])
    p = float((1 + np.sum(shuffled >= accuracy - _ROUNDING)) / (1 + SHUFFLES))
    low, high = interval(right, y, g, seed)
    verdict, why = _judge(p, low, shuffled)
    return ProbeOutcome(verdict, why, accuracy, low, high, 1 / species, p, shuffled, species, n_groups, used, right)


def _judge(p: float, low: float, shuffled: Floats) -> tuple[str, str]:
    mean = float(shuffled.mean())
    margin = float(np.quantile(shuffled, 0.99)) - mean
    above = low > mean + _ROUNDING
    if p <= ALPHA and above:
        return ABOVE, ""
    if margin > FINE_MARGIN and (margin > COARSE_MARGIN or margin > mean / 2):
        return CANNOT_TELL, f"too few rows: shuffled labels reach {100 * margin:.1f} points above their mean"
    if p <= ALPHA or above:
        return (CANNOT_TELL, f"p = {p:.3f}, and an interval that does {'not ' if above else ''}reach chance, disagree")
    return AT_CHANCE, ""


def _factorise(features: NDArray[np.float32], fold: Codes) -> list[_Fold]:
    parts = []
    for number in np.unique(fold):
        rest, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        seen, unseen = features[rest].astype(np.float64), features[test].astype(np.float64)
        mean, spread = seen.mean(axis=0), seen.std(axis=0)
        # A feature that does not vary in training says nothing; its rounding must not be blown up.
        scale = np.where(spread > 1e-7 * (1.0 + np.abs(mean)), 1.0 / np.maximum(spread, 1e-12), 0.0)
        train = (seen - mean) * scale
        weights = ridge.solve(train.T @ train, PENALTY * len(rest), ((unseen - mean) * scale).T).T
        if len(test) < train.shape[1]:
            # Sums over classes are linear: of few rows, sum the scores and not the features.
            train, weights = train @ weights.T, np.eye(len(test))
        parts.append(_Fold(test, rest, train, weights))
    return parts


def _predict(parts: list[_Fold], labels: Codes) -> Codes:
    """The class of each row [N], as scored by the folds that did not see it."""
    classes = int(labels.max()) + 1
    out = np.empty(len(labels), dtype=np.int64)
    for part in parts:
        y = labels[part.rest]
        order = np.argsort(y, kind="stable")
        count = np.bincount(y, minlength=classes)
        present = np.flatnonzero(count)
        starts = (np.cumsum(count) - count)[present]
        sums = np.add.reduceat(part.train[order], starts, axis=0) / np.sqrt(count[present])[:, None]
        scores = np.full((len(part.test), classes), -np.inf)
        scores[:, present] = part.weights @ sums.T
        out[part.test] = scores.argmax(axis=1)
    return out


def balanced_accuracy(right: NDArray[np.bool_], labels: Codes) -> float:
    """The mean over classes of the share of their rows that are right, in [0, 1]."""
    count = np.bincount(labels)
    return float(np.mean(np.bincount(labels, right)[count > 0] / count[count > 0]))


def shuffle(labels: Codes, groups: Codes, rng: np.random.Generator) -> Codes:
    """Labels [N] dealt anew in the blocks of their groups: rows of a group go on sharing (nearly) one label.

    The labels of the groups, in random order, are laid over the rows in the order of their groups. Groups of
    one size swap labels exactly; counts of each label never change.
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    dealt = rng.permutation(len(sizes))
    taken = sizes[dealt]
    offset = np.repeat(starts[dealt] - (np.cumsum(taken) - taken), taken)
    out = np.empty_like(labels)
    out[order] = labels[order][offset + np.arange(len(labels))]
    return out


def interval(right: NDArray[np.bool_], labels: Codes, groups: Codes, seed: int) -> tuple[float, float]:
    """Percentile 95 % interval of the balanced accuracy when groups are drawn with replacement."""
    n = int(groups.max()) + 1
    rng = np.random.default_rng([seed, 2])
    draws = (rng.multinomial(n, np.full(n, 1 / n), size=50) for _ in range(BOOTSTRAPS // 50))
    return ridge.interval(right, labels, groups, draws)


_BINS = 20
_IDS = {"image": "observation_id", "audio": "recording_id"}


@dataclass(frozen=True)
class ProbeTask:
    """One modality to probe: `at` [N] are its rows, with `features` [N, D], `labels` [N] and groups."""

    modality: str
    at: Codes
    features: NDArray[np.float32]
    labels: Codes
    grouping: Grouping
    seed: int


def run(
    rows: AuditRows,
    media: Mapping[str, MediaFeatures],
    at: Codes,
    seed: int,
    pool: Pool,
    progress: Callable[[int, int], None],
) -> dict[str, tuple[ProbeTask, ProbeOutcome]]:
    """Probe every modality that has a column over the sampled rows `at`, in worker processes."""
    if not (rows.has("label") or rows.has("species")):
        return {}
    tasks = list(_tasks(rows, media, at, seed))
    progress(0, len(tasks))
    ended = itertools.count(1)
    outcomes = pool.run(_probe, tasks, lambda index, outcome: progress(next(ended), len(tasks)))
    return {task.modality: (task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)}


def _probe(task: ProbeTask) -> ProbeOutcome:
    # Processes share the cores; threads inside each would only fight over them.
    with threadpool_limits(1):
        return probe(task.features, task.labels, task.grouping.groups, task.seed)


def _tasks(rows: AuditRows, media: Mapping[str, MediaFeatures], at: Codes, seed: int) -> Iterator[ProbeTask]:
    def task(name: str, mine: Codes, features: list[Vector], content: Codes, part: str) -> ProbeTask:
        # Not one row may have the modality: the width must not depend on that.
        width = DIMENSIONS.get(name, TEXT_DIM)
        stacked = np.array(features, dtype=np.float32).reshape(len(features), width)
        words = (f"same {'bytes' if name in DIMENSIONS else 'text'}", f"same {part.removesuffix('_id')}")
        grouping = choose(content[mine], rows.codes(part)[mine], rows.label[mine], words)
        return ProbeTask(name, mine, stacked, rows.label[mine], grouping, seed)

    for kind, measured in media.items():
        mine = np.array([r for r in at.tolist() if r in measured.features], dtype=np.int64)
        features = [measured.features[r] for r in mine.tolist()]
        yield task(kind, mine, features, measured.codes(), _IDS[kind])
    for column, name in (("caption", "text"), ("caption_name_free", "caption_name_free")):
        content = rows.codes(column)
        if (content >= 0).any():
            mine = at[content[at] >= 0]
            features = [text_features(t) for t in rows.table.column(column).take(mine).to_pylist()]
            yield task(name, mine, features, content, "observation_id")


def line(task: ProbeTask, o: ProbeOutcome, ceiling: float | None) -> ProbeResult:
    """What the audit says of one probe; `ceiling` is the best possible accuracy where it is known."""
    judged = len(o.shuffled) > 0
    low, high = (float(o.shuffled.min()), float(o.shuffled.max())) if judged else (0.0, 0.0)
    bars = np.histogram(o.shuffled, _BINS, (low, high))[0].tolist() if high > low + 1e-9 else []
    return ProbeResult(
        modality=task.modality,
        verdict=o.verdict,
        why=o.why,
        rows=int(o.used.sum()),
        species=o.species,
        groups=o.groups,
        grouped_by=task.grouping.by,
        accuracy=o.accuracy,
        low=o.low,
        high=o.high,
        chance=o.chance,
        shuffled_mean=float(o.shuffled.mean()) if judged else 0.0,
        shuffled_high=float(np.quantile(o.shuffled, 0.99)) if judged else 0.0,
        p=o.p,
        shuffles=SHUFFLES if judged else 0,
        ceiling=ceiling,
        histogram=tuple(bars),
        histogram_low=low,
        histogram_high=high,
    )
