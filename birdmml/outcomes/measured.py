"""Numbers of items whose weighted mean (or its exponential) is a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from birdmml import metrics
from birdmml.errors import ResultError
from birdmml.metrics import Summary
from birdmml.outcomes.columns import Floats, by_seed, codes, same_for_all, seeds_of

MEAN, EXP_MEAN = "mean", "exp mean"
COLUMNS = {"seed": pa.int64(), "id": pa.string(), "value": pa.float64(), "weight": pa.float64()}


@dataclass(frozen=True)
class Measures:
    """Items' `values` and `weights` [S, N] under S seeds: the figure is sum(values) / sum(weights), or its exponential.

    An id may come more than once; intervals draw items whole. `chance` is what the figure would be if nothing was
    there to be found.
    """

    seeds: tuple[int, ...]
    metric: str
    ids: tuple[str, ...]
    values: Floats
    weights: Floats
    chance: float = 0.0
    statistic: str = MEAN
    demo: bool = False

    def summary(self, metric: str) -> Summary:
        """The figure with its interval. Raises ResultError where the file is of another metric."""
        if metric != self.metric:
            raise ResultError(f"{metric} does not follow from items of {self.metric}")
        if self.statistic == MEAN:
            return metrics.summarise_weighted(self.values, self.weights, self.chance, codes(self.ids))
        luck = math.log(self.chance) if self.chance > 0 else 0.0
        summary = metrics.summarise_weighted(self.values, self.weights, luck, codes(self.ids))
        return summary.mapped(math.exp)


def table(m: Measures) -> pa.Table:
    """One row an item and seed; the metadata says of which figure, and how it is computed."""
    about = {
        "kind": "measured",
        "metric": m.metric,
        "statistic": m.statistic,
        "chance": repr(float(m.chance)),
        "demo": str(m.demo).lower(),
    }
    columns = {
        "seed": by_seed(m.seeds, len(m.ids)),
        "id": list(m.ids) * len(m.seeds),
        "value": m.values.reshape(-1),
        "weight": m.weights.reshape(-1),
    }
    return pa.table(columns, schema=pa.schema(list(COLUMNS.items())).with_metadata(about))


def read(rows: pa.Table, metadata: Mapping[str, str], path: Path) -> Measures:
    """The outcomes of a table; raises ResultError unless they are consistent."""
    seeds, n = seeds_of(rows, path)
    ids = same_for_all(rows, "id", seeds, n, path)
    values, weights = (np.asarray(rows[c]).reshape(len(seeds), n) for c in ("value", "weight"))
    if not (np.isfinite(values).all() and np.isfinite(weights).all() and (weights >= 0).all()):
        raise ResultError(f"{path} holds values that are not finite, or negative weights: score again")
    try:
        chance = float(metadata.get("chance", ""))
    except ValueError as e:
        raise ResultError(f"{path} does not say what chance is: score again") from e
    if (
        metadata.get("statistic") not in (MEAN, EXP_MEAN)
        or not math.isfinite(chance)
        or "metric" not in metadata
    ):
        raise ResultError(f"{path} does not say how its figure is computed: score again")
    demo = metadata.get("demo") == "true"
    return Measures(
        seeds, metadata["metric"], tuple(ids), values, weights, chance, metadata["statistic"], demo
    )
