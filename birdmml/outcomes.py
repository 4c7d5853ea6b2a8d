"""Per-item outcomes: what each figure is computed from, and computed from again. One Parquet file a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml import metrics
from birdmml.errors import ResultError
from birdmml.files import atomic_write
from birdmml.metrics import Summary, hit

MAX_ROWS = 100_000_000
MEAN, EXP_MEAN = "mean", "exp mean"
_PLACED = [
    ("seed", pa.int64()),
    ("id", pa.string()),
    ("target", pa.string()),
    ("prediction", pa.string()),
    ("greater", pa.int64()),
    ("ties", pa.int64()),
    ("outcome", pa.float64()),
]
_OPTIONAL = {"draw": pa.int64(), "relevant": pa.int64(), "average_precision": pa.float64()}
_MEASURED = [("seed", pa.int64()), ("id", pa.string()), ("value", pa.float64()), ("weight", pa.float64())]
COLUMNS = {name for name, _ in _PLACED + _MEASURED} | set(_OPTIONAL)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Where the right answers of one task landed, under S seeds: `greater`, `ties` [S, N], names [S][N] or [N].

    `draws` [N], for tasks that draw their examples at random: then an id may come once a draw, and intervals draw
    items with all their draws. `relevant` [N] is how many candidates are right, where it is not one, and
    `average_precision` [S, N] goes with it.
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
    relevant: Ints | None = None
    average_precision: Floats | None = None

    def summary(self, metric: str) -> Summary:
        """The metric with its interval. Raises UnknownName or ResultError."""
        return metrics.summarise(
            metric,
            self.greater,
            self.ties,
            self.candidates,
            clusters=None if self.draws is None else _codes(self.ids),
            classes=_codes(self.targets),
            relevant=self.relevant,
            average_precision=self.average_precision,
        )


@dataclass(frozen=True)
class Measures:
    """Numbers of items whose weighted mean (or its exponential) is a figure: `values`, `weights` [S, N].

    `chance` is what the figure would be if nothing was there to be found.
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
        found = metrics.summarise_weighted(self.values, self.weights, self.chance, _codes(self.ids))
        return found if self.statistic == MEAN else found.mapped(math.exp)


Outcomes = Predictions | Measures


def write(path: Path, outcomes: Outcomes) -> None:
    """Write one row an item and seed. The schema's metadata says what else is needed."""
    table = _placed(outcomes) if isinstance(outcomes, Predictions) else _measured(outcomes)
    with atomic_write(path) as f:
        pq.write_table(table, f, compression="zstd")


def read(folder: Path, name: str) -> Outcomes:
    """The outcomes in `folder`/`name`; raises ResultError unless they are whole and consistent."""
    path = _inside(folder, name)
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MAX_ROWS:
            raise ResultError(f"{path} has {file.metadata.num_rows} rows: that is no test set")
        known = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
        wanted = pa.schema(_MEASURED if "metric" in known else _PLACED + _extra(file.schema_arrow.names))
        table = file.read(columns=wanted.names).cast(wanted)
    except (OSError, ValueError, KeyError, pa.ArrowException) as e:
        raise ResultError(f"{path} is not a predictions file ({e}): score again") from e
    if table.num_rows == 0 or any(c.null_count for c in table.columns):
        raise ResultError(f"{path} is empty or has gaps: score again")
    return _as_measures(table, known, path) if "metric" in known else _as_predictions(table, known, path)


def _placed(p: Predictions) -> pa.Table:
    seeds, n = len(p.seeds), len(p.ids)
    columns: dict[str, Any] = {
        "seed": np.repeat(np.asarray(p.seeds, dtype=np.int64), n),
        "id": list(p.ids) * seeds,
        "target": list(p.targets) * seeds,
        "prediction": [name for names in p.predictions for name in names],
        "greater": p.greater.reshape(-1),
        "ties": p.ties.reshape(-1),
        "outcome": hit(p.greater, p.ties, 1).reshape(-1),
    }
    if p.draws is not None:
        columns["draw"] = np.tile(p.draws, seeds)
    if p.relevant is not None and p.average_precision is not None:
        columns |= {"relevant": np.tile(p.relevant, seeds), "average_precision": p.average_precision.ravel()}
    about = {"candidates": str(p.candidates), "demo": str(p.demo).lower()}
    return pa.table(columns, schema=pa.schema(_PLACED + _extra(columns)).with_metadata(about))


def _extra(names: Any) -> list[tuple[str, pa.DataType]]:
    return [(name, kind) for name, kind in _OPTIONAL.items() if name in names]


def _measured(m: Measures) -> pa.Table:
    about = {
        "metric": m.metric,
        "statistic": m.statistic,
        "chance": repr(float(m.chance)),
        "demo": str(m.demo).lower(),
    }
    columns = {
        "seed": np.repeat(np.asarray(m.seeds, dtype=np.int64), len(m.ids)),
        "id": list(m.ids) * len(m.seeds),
        "value": m.values.reshape(-1),
        "weight": m.weights.reshape(-1),
    }
    return pa.table(columns, schema=pa.schema(_MEASURED).with_metadata(about))


def _inside(folder: Path, name: str) -> Path:
    # A result from elsewhere must not point out of its own folder.
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name:
        raise ResultError(f"{folder}: predictions file {name!r} lies outside the result's folder")
    path = folder / pure
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ResultError(f"{path} not found: a result needs its per-item predictions")
    return path


def _as_predictions(table: pa.Table, known: Mapping[str, str], path: Path) -> Predictions:
    if not known.get("candidates", "").isdigit():
        raise ResultError(f"{path} does not say how many candidates there were: score again")
    seeds, n = _seeds(table, path)
    names = {c: table[c].to_pylist() for c in ("id", "target", "prediction")}
    first = {c: _same_for_all(table, c, seeds, n, path) for c in ("id", "target")}

    def optional(column: str) -> Any:
        return np.asarray(table[column]).reshape(len(seeds), n) if column in table.column_names else None

    for column in ("draw", "relevant"):
        if column in table.column_names:
            _same_for_all(table, column, seeds, n, path)
    draws, relevant = optional("draw"), optional("relevant")
    found = Predictions(
        seeds,
        int(known["candidates"]),
        tuple(first["id"]),
        tuple(first["target"]),
        tuple(tuple(names["prediction"][i * n : (i + 1) * n]) for i in range(len(seeds))),
        np.asarray(table["greater"]).reshape(len(seeds), n),
        np.asarray(table["ties"]).reshape(len(seeds), n),
        known.get("demo") == "true",
        None if draws is None else draws[0],
        None if relevant is None else relevant[0],
        optional("average_precision"),
    )
    _check(found, np.asarray(table["outcome"]), path)
    return found


def _as_measures(table: pa.Table, known: Mapping[str, str], path: Path) -> Measures:
    seeds, n = _seeds(table, path)
    ids = _same_for_all(table, "id", seeds, n, path)
    values, weights = (np.asarray(table[c]).reshape(len(seeds), n) for c in ("value", "weight"))
    if not (np.isfinite(values).all() and np.isfinite(weights).all() and (weights >= 0).all()):
        raise ResultError(f"{path} holds values that are not finite, or negative weights: score again")
    try:
        chance = float(known.get("chance", ""))
    except ValueError as e:
        raise ResultError(f"{path} does not say what chance is: score again") from e
    if known.get("statistic") not in (MEAN, EXP_MEAN) or not math.isfinite(chance):
        raise ResultError(f"{path} does not say how its figure is computed: score again")
    demo = known.get("demo") == "true"
    return Measures(seeds, known["metric"], tuple(ids), values, weights, chance, known["statistic"], demo)


def _seeds(table: pa.Table, path: Path) -> tuple[tuple[int, ...], int]:
    """The seeds, in order, and the number of items a seed."""
    seed = np.asarray(table["seed"])
    seeds = tuple(int(s) for s in dict.fromkeys(seed.tolist()))
    n = len(seed) // len(seeds)
    if not np.array_equal(seed, np.repeat(seeds, n)):
        raise ResultError(f"{path} does not have the same number of items for each seed, in blocks")
    return seeds, n


def _same_for_all(table: pa.Table, column: str, seeds: tuple[int, ...], n: int, path: Path) -> list[Any]:
    """The first seed's values of a column that must not depend on the seed."""
    values: list[Any] = table[column].to_pylist()
    if values != values[:n] * len(seeds):
        raise ResultError(f"{path}: the seeds were not scored on the same items ({column} differs)")
    return values[:n]


def _check(p: Predictions, outcomes: Floats, path: Path) -> None:
    keys = list(p.ids) if p.draws is None else list(zip(p.ids, p.draws.tolist(), strict=True))
    if len(set(keys)) != len(keys):
        raise ResultError(f"{path} lists an item twice")
    if not np.allclose(outcomes, hit(p.greater, p.ties, 1).reshape(-1), atol=1e-9):
        raise ResultError(f"{path}: outcomes do not follow from `greater` and `ties`")
    if p.relevant is not None and ((p.relevant < 1).any() or (p.relevant > p.candidates).any()):
        raise ResultError(f"{path}: an item has no right candidate, or more than there are candidates")
    if p.average_precision is not None:
        ap = p.average_precision
        if not ((ap > 0) & (ap <= 1 + 1e-9)).all():
            raise ResultError(f"{path}: an average precision lies outside 0 to 1")
    right = np.array([[a == b for a, b in zip(names, p.targets, strict=True)] for names in p.predictions])
    if (right & (p.greater > 0)).any() or (~right & (p.greater == 0) & (p.ties == 0)).any():
        raise ResultError(f"{path}: an item is predicted right but beaten, or wrong and yet unbeaten")


def _codes(names: tuple[str, ...]) -> Ints:
    """Names as numbers from 0, in order of first appearance."""
    place: dict[str, int] = {}
    return np.asarray([place.setdefault(name, len(place)) for name in names], dtype=np.int64)
