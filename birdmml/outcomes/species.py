"""Where the right answers of each item landed, when every candidate of its species is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from birdmml import gallery, metrics
from birdmml.errors import ResultError
from birdmml.metrics import Summary, cutoff
from birdmml.outcomes.columns import Floats, Ints, by_seed, check_unique, names_of, same_for_all, seeds_of

MEAN_AP, FIRST_RANK = "mAP", "median rank"
COLUMNS = {
    "seed": pa.int64(),
    "id": pa.string(),
    "target": pa.string(),
    "prediction": pa.string(),
    "greater": pa.int64(),
    "ties": pa.int64(),
    "level": pa.int64(),
    "relevant": pa.int64(),
    "candidates": pa.int64(),
    "average_precision": pa.float64(),
}


@dataclass(frozen=True)
class SpeciesHits:
    """As `gallery.SpeciesRanks`, under S seeds: counts and `average_precision` [S, N], what no seed changes [N].

    `targets` and `predictions` name species: the item's own, and that of the best candidate.
    """

    seeds: tuple[int, ...]
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[tuple[str, ...], ...]
    greater: Ints
    ties: Ints
    level: Ints
    average_precision: Floats
    relevant: Ints
    candidates: Ints
    demo: bool = False

    def summary(self, metric: str) -> Summary:
        """ "recall@k": a right answer is among the first k; "median rank": of the first one; "mAP"."""
        if metric == MEAN_AP:
            luck = gallery.chance_average_precision(self.candidates, self.relevant)
            return metrics.summarise_values(self.average_precision, float(luck.mean()))
        if metric == FIRST_RANK:
            values = gallery.first_rank(self.greater, self.ties, self.level)
            luck = gallery.chance_first_rank(self.candidates, self.relevant)
            return metrics.summarise_values(values, float(luck.mean()), median=True)
        k = cutoff(metric)
        luck = gallery.chance_first_hit(self.candidates, self.relevant, k)
        hits = gallery.first_hit(self.greater, self.ties, self.level, k)
        return metrics.summarise_values(hits, float(luck.mean()))


def table(s: SpeciesHits) -> pa.Table:
    """One row an item and seed."""
    seeds, n = len(s.seeds), len(s.ids)
    columns = {
        "seed": by_seed(s.seeds, n),
        "id": list(s.ids) * seeds,
        "target": list(s.targets) * seeds,
        "prediction": [name for names in s.predictions for name in names],
        "greater": s.greater.reshape(-1),
        "ties": s.ties.reshape(-1),
        "level": s.level.reshape(-1),
        "relevant": np.tile(s.relevant, seeds),
        "candidates": np.tile(s.candidates, seeds),
        "average_precision": s.average_precision.reshape(-1),
    }
    about = {"kind": "species", "demo": str(s.demo).lower()}
    return pa.table(columns, schema=pa.schema(list(COLUMNS.items())).with_metadata(about))


def read(rows: pa.Table, metadata: Mapping[str, str], path: Path) -> SpeciesHits:
    """The outcomes of a table; raises ResultError unless they are possible."""
    seeds, n = seeds_of(rows, path)

    def numbers(column: str) -> Ints:
        return np.asarray(rows[column]).reshape(len(seeds), n)

    def shared(column: str) -> Ints:
        return np.asarray(same_for_all(rows, column, seeds, n, path), dtype=np.int64)

    items = SpeciesHits(
        seeds,
        tuple(same_for_all(rows, "id", seeds, n, path)),
        tuple(same_for_all(rows, "target", seeds, n, path)),
        names_of(rows, "prediction", len(seeds), n),
        numbers("greater"),
        numbers("ties"),
        numbers("level"),
        np.asarray(rows["average_precision"]).reshape(len(seeds), n),
        shared("relevant"),
        shared("candidates"),
        metadata.get("demo") == "true",
    )
    _check(items, path)
    return items


def _check(s: SpeciesHits, path: Path) -> None:
    check_unique(s.ids, None, path)
    wrong = s.candidates - s.relevant
    counted = (s.greater >= 0) & (s.ties >= 0) & (s.greater + s.ties <= wrong)
    right = (s.level >= 1) & (s.level <= s.relevant)
    if not (counted & right).all() or not (wrong >= 0).all():
        raise ResultError(f"{path}: an item counts more candidates than there are, or no right one")
    if not ((s.average_precision > 0) & (s.average_precision <= 1 + 1e-9)).all():
        raise ResultError(f"{path}: an average precision lies outside 0 to 1")
    same = np.array([[a == b for a, b in zip(names, s.targets, strict=True)] for names in s.predictions])
    if (same & (s.greater > 0)).any() or (~same & (s.greater == 0) & (s.ties == 0)).any():
        raise ResultError(f"{path}: an item is predicted right but beaten, or wrong and yet unbeaten")
