"""Per-item outcomes as the site needs them: means over seeds for comparisons, who was right, who was taken for whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import UnknownName
from birdmml.results import gallery, outcomes
from birdmml.results.metrics import cutoff, hit
from birdmml.results.outcomes import Outcomes, Predictions, SpeciesHits

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
# More classes than this are no matrix that anybody reads.
MOST_CLASSES = 2000


@dataclass(frozen=True)
class ConfusionCounts:
    """How often an item of class `true` was taken for `named`, over all seeds; classes in the order of `names`."""

    names: tuple[str, ...]
    true: Ints
    named: Ints
    count: Ints


@dataclass(frozen=True)
class ItemOutcomes:
    """One file of outcomes. `values` [N] by metric are means over seeds; `key` is equal where the items are.

    `units` [N] says which outcomes are resampled together, None: each by itself. `targets` are the items' classes,
    where the answers are classes; then `named` [N] is what most seeds took them for, by its place in the confusion's
    names.
    """

    key: str
    ids: tuple[str, ...]
    units: Ints | None
    values: Mapping[str, Doubles] = field(default_factory=dict)
    confusion: ConfusionCounts | None = None
    targets: tuple[str, ...] | None = None
    named: Ints | None = None


def read(folder: Path, name: str, metrics: Sequence[str]) -> ItemOutcomes | None:
    """The outcomes of `folder`/`name`, in the order of their ids; None where items cannot be paired.

    Raises ResultError for a file that is no outcomes.
    """
    outcome = outcomes.read(folder, name)
    if not isinstance(outcome, Predictions | SpeciesHits):
        return None
    draws = outcome.draws if isinstance(outcome, Predictions) else None
    by_id = np.asarray(outcome.ids, dtype=object)  # Else each id would take the room of the longest.
    keys = range(len(by_id)) if draws is None else draws.tolist()
    order = np.asarray(sorted(range(len(by_id)), key=lambda i: (by_id[i], keys[i])), dtype=np.int64)
    ids = tuple(outcome.ids[i] for i in order)
    values = {m: v.mean(axis=0)[order] for m in metrics if (v := _values(outcome, m)) is not None}
    units = None if draws is None else np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int64)
    # Ids of strangers may hold half a surrogate pair, which UTF-8 alone refuses.
    sha = hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass"))
    sha.update(b"" if draws is None else draws[order].tobytes())
    key = sha.hexdigest()
    codes = _codes(outcome) if isinstance(outcome, Predictions) and "accuracy" in values else None
    if codes is None:
        return ItemOutcomes(key, ids, units, values)
    names, true, named = codes
    targets = tuple(outcome.targets[i] for i in order)
    # Only pairs that occur: of 2000 classes most of a whole matrix would be zeros.
    pairs, count = np.unique(true * len(names) + named, return_counts=True)
    confusion = ConfusionCounts(names, pairs // len(names), pairs % len(names), count.astype(np.int64))
    # What most of the seeds [S, N] say of each item; of several, what the first of these seeds says.
    agree = np.stack([(named == row).sum(axis=0) for row in named])
    most = np.take_along_axis(named, agree.argmax(axis=0)[None], axis=0)[0]
    return ItemOutcomes(key, ids, units, values, confusion, targets, most[order])


def _values(outcome: Outcomes, metric: str) -> Doubles | None:
    """Outcomes [S, N] whose mean over items is the figure; None for figures that are no such mean."""
    if isinstance(outcome, SpeciesHits) and metric == "mAP":
        return outcome.average_precision
    try:
        k = cutoff(metric)
    except UnknownName:
        return None
    if isinstance(outcome, SpeciesHits):
        return gallery.first_hit(outcome.greater, outcome.ties, outcome.level, k)
    return hit(outcome.greater, outcome.ties, k) if isinstance(outcome, Predictions) else None


def _codes(outcome: Predictions) -> tuple[tuple[str, ...], Ints, Ints] | None:
    """Class names, what items are [N] and were taken for [S, N]; None where the answers are items, not classes."""
    names = tuple(sorted({*outcome.targets, *(n for row in outcome.predictions for n in row)}))
    if len(set(outcome.targets)) == len(outcome.ids) or not 2 <= len(names) <= MOST_CLASSES:
        return None
    place = {name: i for i, name in enumerate(names)}
    true = np.asarray([place[n] for n in outcome.targets], dtype=np.int64)
    named = np.asarray([[place[n] for n in row] for row in outcome.predictions], dtype=np.int64)
    return names, true, named
