"""Per-item outcomes: what each figure is computed from, and computed from again. One Parquet file a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.core.files import atomic_write
from birdmml.errors import ResultError
from birdmml.results import gallery, metrics
from birdmml.results.metrics import Summary, cutoff, hit

# ---- What all kinds of outcomes share: seeds in blocks, the same items for each, names as numbers.


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a result, which must not point out of its own folder; raises ResultError."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name:
        raise ResultError(f"{folder}: predictions file {name!r} lies outside the result's folder")
    path = folder / pure
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ResultError(f"{path} not found: a result needs its per-item predictions")
    return path


def by_seed(seeds: Sequence[int], n: int) -> Ints:
    """The seed of each row: N rows a seed, in blocks."""
    return np.repeat(np.asarray(seeds, dtype=np.int64), n)


def seeds_of(table: pa.Table, path: Path) -> tuple[tuple[int, ...], int]:
    """The seeds, in order, and the number of items a seed; raises ResultError."""
    seed = np.asarray(table["seed"])
    seeds = tuple(int(s) for s in dict.fromkeys(seed.tolist()))
    n = len(seed) // len(seeds)
    if not np.array_equal(seed, by_seed(seeds, n)):
        raise ResultError(f"{path} does not have the same number of items for each seed, in blocks")
    return seeds, n


def same_for_all(table: pa.Table, column: str, seeds: tuple[int, ...], n: int, path: Path) -> list[Any]:
    """The first seed's values of a column that must not depend on the seed; raises ResultError."""
    values: list[Any] = table[column].to_pylist()
    if values != values[:n] * len(seeds):
        raise ResultError(f"{path}: the seeds were not scored on the same items ({column} differs)")
    return values[:n]


def names_of(table: pa.Table, column: str, seeds: int, n: int) -> tuple[tuple[str, ...], ...]:
    """A column of names [S][N]."""
    values = table[column].to_pylist()
    return tuple(tuple(values[i * n : (i + 1) * n]) for i in range(seeds))


def check_unique(ids: Sequence[str], draws: Ints | None, path: Path) -> None:
    """Raise ResultError where an item (of a draw) comes twice."""
    keys = list(ids) if draws is None else list(zip(ids, draws.tolist(), strict=True))
    if len(set(keys)) != len(keys):
        raise ResultError(f"{path} lists an item twice")


def codes(names: Sequence[str]) -> Ints:
    """Names as numbers from 0, in order of first appearance."""
    place: dict[str, int] = {}
    return np.asarray([place.setdefault(name, len(place)) for name in names], dtype=np.int64)


# ---- Numbers of items whose weighted mean (or its exponential) is a figure.


MEAN, EXP_MEAN = "mean", "exp mean"
MEASURE_COLUMNS = {"seed": pa.int64(), "id": pa.string(), "value": pa.float64(), "weight": pa.float64()}


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


def measures_table(m: Measures) -> pa.Table:
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
    return pa.table(columns, schema=pa.schema(list(MEASURE_COLUMNS.items())).with_metadata(about))


def read_measures(rows: pa.Table, metadata: Mapping[str, str], path: Path) -> Measures:
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
    if metadata.get("statistic") not in (MEAN, EXP_MEAN) or not math.isfinite(chance) or "metric" not in metadata:
        raise ResultError(f"{path} does not say how its figure is computed: score again")
    demo = metadata.get("demo") == "true"
    return Measures(seeds, metadata["metric"], tuple(ids), values, weights, chance, metadata["statistic"], demo)


# ---- Where the one right answer of each item landed.


PREDICTION_COLUMNS = {
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


def predictions_table(p: Predictions) -> pa.Table:
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
    schema = pa.schema(list(PREDICTION_COLUMNS.items()))
    if p.draws is not None:
        columns["draw"] = np.tile(p.draws, seeds)
        schema = schema.append(pa.field("draw", pa.int64()))
    about = {"kind": "placed", "candidates": str(p.candidates), "demo": str(p.demo).lower()}
    return pa.table(columns, schema=schema.with_metadata(about))


def read_predictions(rows: pa.Table, metadata: Mapping[str, str], path: Path) -> Predictions:
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
    _check_predictions(items, np.asarray(rows["outcome"]), path)
    return items


def _check_predictions(p: Predictions, outcomes: Floats, path: Path) -> None:
    check_unique(p.ids, p.draws, path)
    if not np.allclose(outcomes, hit(p.greater, p.ties, 1).reshape(-1), atol=1e-9):
        raise ResultError(f"{path}: outcomes do not follow from `greater` and `ties`")
    right = np.array([[a == b for a, b in zip(names, p.targets, strict=True)] for names in p.predictions])
    if (right & (p.greater > 0)).any() or (~right & (p.greater == 0) & (p.ties == 0)).any():
        raise ResultError(f"{path}: an item is predicted right but beaten, or wrong and yet unbeaten")


# ---- Where the right answers of each item landed, when every candidate of its species is right.


MEAN_AP, FIRST_RANK = "mAP", "median rank"
SPECIES_COLUMNS = {
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


def species_table(s: SpeciesHits) -> pa.Table:
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
    return pa.table(columns, schema=pa.schema(list(SPECIES_COLUMNS.items())).with_metadata(about))


def read_species(rows: pa.Table, metadata: Mapping[str, str], path: Path) -> SpeciesHits:
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
    _check_species(items, path)
    return items


def _check_species(s: SpeciesHits, path: Path) -> None:
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


MAX_ROWS = 100_000_000
Outcomes = Predictions | SpeciesHits | Measures
# What a file's metadata call its kind -> its columns, and what reads its rows.
_KINDS: dict[str, tuple[Mapping[str, Any], Callable[[pa.Table, Mapping[str, str], Path], Outcomes]]] = {
    "placed": (PREDICTION_COLUMNS, read_predictions),
    "species": (SPECIES_COLUMNS, read_species),
    "measured": (MEASURE_COLUMNS, read_measures),
}
COLUMNS = {name for columns, _ in _KINDS.values() for name in columns} | {"draw"}


def write(path: Path, outcomes: Outcomes) -> None:
    """Write one row an item and seed. The schema's metadata says what else is needed."""
    if isinstance(outcomes, Predictions):
        rows = predictions_table(outcomes)
    else:
        rows = measures_table(outcomes) if isinstance(outcomes, Measures) else species_table(outcomes)
    with atomic_write(path) as f:
        pq.write_table(rows, f, compression="zstd")


def read(folder: Path, name: str) -> Outcomes:
    """The outcomes in `folder`/`name`; raises ResultError unless they are whole and consistent."""
    path = inside(folder, name)
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MAX_ROWS:
            raise ResultError(f"{path} has {file.metadata.num_rows} rows: that is no test set")
        metadata = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
        kind = metadata.get("kind", "placed")
        columns, read_rows = _KINDS.get(kind, _KINDS["placed"])
        wanted = pa.schema(list(columns.items()))
        if columns is PREDICTION_COLUMNS and "draw" in file.schema_arrow.names:
            wanted = wanted.append(pa.field("draw", pa.int64()))
        rows = file.read(columns=wanted.names).cast(wanted)
    except (OSError, ValueError, KeyError, pa.ArrowException) as e:
        raise ResultError(f"{path} is not a predictions file ({e}): score again") from e
    if rows.num_rows == 0 or any(c.null_count for c in rows.columns):
        raise ResultError(f"{path} is empty or has gaps: score again")
    return read_rows(rows, metadata, path)
