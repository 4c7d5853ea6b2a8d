"""Per-item outcomes as the site needs them: means over seeds for comparisons, who was right, who was taken for whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml import gallery, outcomes
from birdmml.errors import UnknownName
from birdmml.metrics import cutoff, hit
from birdmml.outcomes import Outcomes, Predictions, SpeciesHits

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
# More classes than this are no matrix that anybody reads.
MOST_CLASSES = 2000


@dataclass(frozen=True)
class Confusion:
    """How often an item of class `true` was taken for `said`, over all seeds; classes in the order of `names`."""

    names: tuple[str, ...]
    true: Ints
    said: Ints
    count: Ints


@dataclass(frozen=True)
class Items:
    """One file of outcomes. `values` [N] by metric are means over seeds; `key` is equal where the items are.

    `units` [N] says which outcomes are resampled together, None: each by itself. `targets` are the items' classes,
    where the answers are classes; then `said` [N] is what most seeds took them for, by its place in the confusion's
    names.
    """

    key: str
    ids: tuple[str, ...]
    units: Ints | None
    values: Mapping[str, Doubles] = field(default_factory=dict)
    confusion: Confusion | None = None
    targets: tuple[str, ...] | None = None
    said: Ints | None = None


def read(folder: Path, name: str, metrics: Sequence[str]) -> Items | None:
    """The outcomes of `folder`/`name`, in the order of their ids; None where items cannot be paired.

    Raises ResultError for a file that is no outcomes.
    """
    found = outcomes.read(folder, name)
    if not isinstance(found, Predictions | SpeciesHits):
        return None
    draws = found.draws if isinstance(found, Predictions) else None
    order = _order(found.ids, draws)
    ids = tuple(found.ids[i] for i in order)
    values = {m: v.mean(axis=0)[order] for m in metrics if (v := _values(found, m)) is not None}
    units = None if draws is None else np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int64)
    key = _key(ids, None if draws is None else draws[order])
    known = _codes(found) if isinstance(found, Predictions) and "accuracy" in values else None
    if known is None:
        return Items(key, ids, units, values)
    names, true, said = known
    targets = tuple(found.targets[i] for i in order)
    return Items(key, ids, units, values, _confusion(names, true, said), targets, _most(said)[order])


def _values(found: Outcomes, metric: str) -> Doubles | None:
    """Outcomes [S, N] whose mean over items is the figure; None for figures that are no such mean."""
    if isinstance(found, SpeciesHits) and metric == "mAP":
        return found.average_precision
    try:
        k = cutoff(metric)
    except UnknownName:
        return None
    if isinstance(found, SpeciesHits):
        return gallery.first_hit(found.greater, found.ties, found.level, k)
    return hit(found.greater, found.ties, k) if isinstance(found, Predictions) else None


def _order(ids: Sequence[str], draws: Ints | None) -> Ints:
    """The places of the items by id, then by draw."""
    names = np.asarray(ids, dtype=object)
    keys = range(len(ids)) if draws is None else draws.tolist()
    return np.asarray(sorted(range(len(ids)), key=lambda i: (names[i], keys[i])), dtype=np.int64)


def _key(ids: Sequence[str], draws: Ints | None) -> str:
    found = hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass"))
    found.update(b"" if draws is None else draws.tobytes())
    return found.hexdigest()


def _codes(found: Predictions) -> tuple[tuple[str, ...], Ints, Ints] | None:
    """Class names, what items are [N] and were taken for [S, N]; None where the answers are items, not classes."""
    names = tuple(sorted({*found.targets, *(n for said in found.predictions for n in said)}))
    if len(set(found.targets)) == len(found.ids) or not 2 <= len(names) <= MOST_CLASSES:
        return None
    place = {name: i for i, name in enumerate(names)}
    true = np.asarray([place[n] for n in found.targets], dtype=np.int64)
    said = np.asarray([[place[n] for n in row] for row in found.predictions], dtype=np.int64)
    return names, true, said


def _confusion(names: tuple[str, ...], true: Ints, said: Ints) -> Confusion:
    pairs, count = np.unique(true * len(names) + said, return_counts=True)
    return Confusion(names, pairs // len(names), pairs % len(names), count.astype(np.int64))


def _most(said: Ints) -> Ints:
    """What most of the seeds [S, N] say of each item; of several, what the first of these seeds says."""
    agree = np.stack([(said == row).sum(axis=0) for row in said])
    return np.asarray(np.take_along_axis(said, agree.argmax(axis=0)[None], axis=0)[0])
