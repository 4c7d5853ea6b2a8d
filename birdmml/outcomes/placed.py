"""Where the one right answer of each item landed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from birdmml import metrics
from birdmml.errors import ResultError
from birdmml.metrics import Summary, hit
from birdmml.outcomes.columns import (
    Floats,
    Ints,
    by_seed,
    check_unique,
    codes,
    names_of,
    same_for_all,
    seeds_of,
)

COLUMNS = {
    "seed": pa.int64(),
    "id": pa.string(),
    "target": pa.string(),
    "prediction": pa.string(),
    "greater": pa.int64(),
    "ties": pa.int64(),
    "outcome": pa.float64(),
}


@dataclass(frozen=True)
class Predictions:
    """Where the right answers of one task landed, under S seeds: `greater`, `ties` [S, N], names [S][N] or [N].

    `draws` [N], for tasks that draw their examples at random: then an id may come once a draw, and intervals draw
    items with all their draws.
    """

    seeds: tuple[int, ...]
    candidates: int
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[tuple[str, ...], ...]
    greater: Ints
    ties: Ints
    demo: bool = False
    draws: Ints | None = None

    def summary(self, metric: str) -> Summary:
        """The metric with its interval. Raises UnknownName or ResultError."""
        clusters = None if self.draws is None else codes(self.ids)
        return metrics.summarise(
            metric, self.greater, self.ties, self.candidates, clusters=clusters, classes=codes(self.targets)
        )


def table(p: Predictions) -> pa.Table:
    """One row an item and seed; `outcome` is the expected hit@1. The metadata names the candidates' number."""
    seeds, n = len(p.seeds), len(p.ids)
    columns: dict[str, Any] = {
        "seed": by_seed(p.seeds, n),
        "id": list(p.ids) * seeds,
        "target": list(p.targets) * seeds,
        "prediction": [name for names in p.predictions for name in names],
        "greater": p.greater.reshape(-1),
        "ties": p.ties.reshape(-1),
        "outcome": hit(p.greater, p.ties, 1).reshape(-1),
    }
    schema = pa.schema(list(COLUMNS.items()))
    if p.draws is not None:
        columns["draw"] = np.tile(p.draws, seeds)
        schema = schema.append(pa.field("draw", pa.int64()))
    about = {"kind": "placed", "candidates": str(p.candidates), "demo": str(p.demo).lower()}
    return pa.table(columns, schema=schema.with_metadata(about))


def read(rows: pa.Table, metadata: Mapping[str, str], path: Path) -> Predictions:
    """The outcomes of a table; raises ResultError unless they are consistent."""
    if not metadata.get("candidates", "").isdigit():
        raise ResultError(f"{path} does not say how many candidates there were: score again")
    seeds, n = seeds_of(rows, path)
    draws = None
    if "draw" in rows.column_names:
        draws = np.asarray(same_for_all(rows, "draw", seeds, n, path), dtype=np.int64)
    items = Predictions(
        seeds,
        int(metadata["candidates"]),
        tuple(same_for_all(rows, "id", seeds, n, path)),
        tuple(same_for_all(rows, "target", seeds, n, path)),
        names_of(rows, "prediction", len(seeds), n),
        np.asarray(rows["greater"]).reshape(len(seeds), n),
        np.asarray(rows["ties"]).reshape(len(seeds), n),
        metadata.get("demo") == "true",
        draws,
    )
    _check(items, np.asarray(rows["outcome"]), path)
    return items


def _check(p: Predictions, outcomes: Floats, path: Path) -> None:
    check_unique(p.ids, p.draws, path)
    if not np.allclose(outcomes, hit(p.greater, p.ties, 1).reshape(-1), atol=1e-9):
        raise ResultError(f"{path}: outcomes do not follow from `greater` and `ties`")
    right = np.array([[a == b for a, b in zip(names, p.targets, strict=True)] for names in p.predictions])
    if (right & (p.greater > 0)).any() or (~right & (p.greater == 0) & (p.ties == 0)).any():
        raise ResultError(f"{path}: an item is predicted right but beaten, or wrong and yet unbeaten")
