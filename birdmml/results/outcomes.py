"""Per-item outcomes: what each figure is computed from, and computed from again. One Parquet file a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def codes(names: Sequence[str]) -> Ints:
    """Names as numbers from 0, in order of first appearance."""
    place: dict[str, int] = {}
    return np.asarray([place.setdefault(name, len(place)) for name in names], dtype=np.int64)


_NAMES = {"seed": pa.int64(), "id": pa.string(), "target": pa.string(), "prediction": pa.string()}
_COUNTS = {"greater": pa.int64(), "ties": pa.int64()}
MEAN, EXP_MEAN = "mean", "exp mean"
MEASURE_COLUMNS = {"seed": pa.int64(), "id": pa.string(), "value": pa.float64(), "weight": pa.float64()}
PREDICTION_COLUMNS = {**_NAMES, **_COUNTS, "outcome": pa.float64()}
MEAN_AP, FIRST_RANK = "mAP", "median rank"
_SPECIES_COUNTS = dict.fromkeys(("level", "relevant", "candidates"), pa.int64())
SPECIES_COLUMNS = {**_NAMES, **_COUNTS, **_SPECIES_COUNTS, "average_precision": pa.float64()}
_DRAW = pa.field("draw", pa.int64())
# The columns that hold one value an item, whatever the seed; all others hold one an item and seed.
_SAME = ("id", "target", "draw", "relevant", "candidates")
# Fields that are called otherwise than their columns: a column is about one row, a field about all.
_FIELDS = {
    "id": "ids", "target": "targets", "prediction": "predictions", "draw": "draws", "value": "values",
    "weight": "weights",
}  # fmt: skip


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
        return metrics.summarise_weighted(self.values, self.weights, luck, codes(self.ids)).mapped(math.exp)


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

    @property
    def outcome(self) -> Floats:
        """The expected hit@1 [S, N]."""
        return hit(self.greater, self.ties, 1)

    def summary(self, metric: str) -> Summary:
        """The metric with its interval. Raises UnknownName or ResultError."""
        clusters = None if self.draws is None else codes(self.ids)
        return metrics.summarise(
            metric, self.greater, self.ties, self.candidates, clusters=clusters, classes=codes(self.targets)
        )


@dataclass(frozen=True)
class SpeciesHits:
    """As `gallery.SpeciesRanks`, under S seeds: counts and `average_precision` [S, N], what no seed changes [N].

    `targets` and `predictions` name species: the item's own, and that of the best candidate. Every candidate of the
    item's species is right.
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
            values = self.average_precision
            luck = gallery.chance_average_precision(self.candidates, self.relevant)
        elif metric == FIRST_RANK:
            values = gallery.first_rank(self.greater, self.ties, self.level)
            luck = gallery.chance_first_rank(self.candidates, self.relevant)
        else:
            k = cutoff(metric)
            values = gallery.first_hit(self.greater, self.ties, self.level, k)
            luck = gallery.chance_first_hit(self.candidates, self.relevant, k)
        return metrics.summarise_values(values, float(luck.mean()), median=metric == FIRST_RANK)


MAX_ROWS = 100_000_000  # Read from the footer, before the rows fill the memory.
Outcomes = Predictions | SpeciesHits | Measures
# What a file's metadata call its kind -> what it becomes, its columns, and the fields that stand in the metadata.
_KINDS: dict[str, tuple[type[Outcomes], Mapping[str, pa.DataType], tuple[str, ...]]] = {
    "placed": (Predictions, PREDICTION_COLUMNS, ("candidates",)),
    "species": (SpeciesHits, SPECIES_COLUMNS, ()),
    "measured": (Measures, MEASURE_COLUMNS, ("metric", "statistic", "chance")),
}
COLUMNS = {name for _, columns, _ in _KINDS.values() for name in columns} | {"draw"}


def write(path: Path, outcomes: Outcomes) -> None:
    """Write one row an item and seed. The schema's metadata says what else is needed."""
    kind, (_, columns, facts) = next((k, v) for k, v in _KINDS.items() if isinstance(outcomes, v[0]))
    about = {"kind": kind, **{name: str(getattr(outcomes, name)) for name in facts}, "demo": str(outcomes.demo).lower()}
    schema = pa.schema(list(columns.items()))
    if isinstance(outcomes, Predictions) and outcomes.draws is not None:
        schema = schema.append(_DRAW)
    seeds, n = len(outcomes.seeds), len(outcomes.ids)
    rows: dict[str, Any] = {"seed": np.repeat(np.asarray(outcomes.seeds, dtype=np.int64), n)}
    for name in schema.names[1:]:
        # As objects: an array of numpy's own texts would lose zeros at their ends.
        value = np.asarray(getattr(outcomes, _FIELDS.get(name, name)), object if name in _NAMES else None)
        rows[name] = np.tile(value, seeds) if name in _SAME else value.reshape(-1)
    with atomic_write(path) as f:
        pq.write_table(pa.table(rows, schema=schema.with_metadata(about)), f, compression="zstd")


def read(folder: Path, name: str) -> Outcomes:
    """The outcomes in `folder`/`name`; raises ResultError unless they are whole and consistent."""
    path = inside(folder, name)
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MAX_ROWS:
            raise ResultError(f"{path} has {file.metadata.num_rows} rows: that is no test set")
        metadata = {k.decode(): v.decode() for k, v in (file.schema_arrow.metadata or {}).items()}
        kind, columns, _ = _KINDS.get(metadata.get("kind", "placed"), _KINDS["placed"])
        wanted = pa.schema(list(columns.items()))
        if kind is Predictions and "draw" in file.schema_arrow.names:
            wanted = wanted.append(_DRAW)
        rows = file.read(columns=wanted.names).cast(wanted)
    except (OSError, ValueError, KeyError, pa.ArrowException) as e:
        raise ResultError(f"{path} is not a predictions file ({e}): score again") from e
    if rows.num_rows == 0 or any(c.null_count for c in rows.columns):
        raise ResultError(f"{path} is empty or has gaps: score again")
    facts = _facts(kind, metadata, path)
    values = _values(rows, path)
    hits = values.pop("outcome", None)
    outcomes = kind(**values, **facts, demo=metadata.get("demo") == "true")
    _check(outcomes, hits, path)
    return outcomes


def _facts(kind: type[Outcomes], metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The fields that the metadata hold; raises ResultError for those that are not there or say nothing."""
    if kind is SpeciesHits:
        return {}
    if kind is Predictions:
        if not metadata.get("candidates", "").isdigit():
            raise ResultError(f"{path} does not say how many candidates there were: score again")
        return {"candidates": int(metadata["candidates"])}
    try:
        chance = float(metadata.get("chance", ""))
    except ValueError as e:
        raise ResultError(f"{path} does not say what chance is: score again") from e
    if metadata.get("statistic") not in (MEAN, EXP_MEAN) or not math.isfinite(chance) or "metric" not in metadata:
        raise ResultError(f"{path} does not say how its figure is computed: score again")
    return {"metric": metadata["metric"], "statistic": metadata["statistic"], "chance": chance}


def _values(rows: pa.Table, path: Path) -> dict[str, Any]:
    """The fields that the columns hold, numbers [S, N] or [N]; raises ResultError unless the seeds are equal blocks."""
    seed = np.asarray(rows["seed"])
    seeds = tuple(int(s) for s in dict.fromkeys(seed.tolist()))
    n = len(seed) // len(seeds)
    if not np.array_equal(seed, np.repeat(np.asarray(seeds, dtype=np.int64), n)):
        raise ResultError(f"{path} does not have the same number of items for each seed, in blocks")
    values: dict[str, Any] = {"seeds": seeds}
    for name in rows.column_names[1:]:
        field, is_text = _FIELDS.get(name, name), name in _NAMES
        column: Any = tuple(rows[name].to_pylist()) if is_text or name in _SAME else np.asarray(rows[name])
        if name not in _SAME:
            blocks = tuple(column[i * n : (i + 1) * n] for i in range(len(seeds)))
            values[field] = blocks if is_text else column.reshape(len(seeds), n)
        elif column != column[:n] * len(seeds):
            raise ResultError(f"{path}: the seeds were not scored on the same items ({name} differs)")
        else:
            values[field] = column[:n] if is_text else np.asarray(column[:n], dtype=np.int64)
    return values


def _check(outcomes: Outcomes, hits: Floats | None, path: Path) -> None:
    """Raise ResultError for outcomes that cannot be; `hits` [S, N] are the expected hit@1 as written."""
    if isinstance(outcomes, Measures):
        numbers = outcomes.values, outcomes.weights
        if not all(np.isfinite(part).all() for part in numbers) or not (outcomes.weights >= 0).all():
            raise ResultError(f"{path} holds values that are not finite, or negative weights: score again")
        return
    keys: list[Any] = list(outcomes.ids)
    if isinstance(outcomes, Predictions) and outcomes.draws is not None:
        keys = list(zip(outcomes.ids, outcomes.draws.tolist(), strict=True))
    if len(set(keys)) != len(keys):
        raise ResultError(f"{path} lists an item twice")
    if isinstance(outcomes, SpeciesHits):
        s = outcomes
        wrong = s.candidates - s.relevant
        counted = (s.greater >= 0) & (s.ties >= 0) & (s.greater + s.ties <= wrong)
        if not (counted & (s.level >= 1) & (s.level <= s.relevant)).all() or not (wrong >= 0).all():
            raise ResultError(f"{path}: an item counts more candidates than there are, or no right one")
        if not ((s.average_precision > 0) & (s.average_precision <= 1 + 1e-9)).all():
            raise ResultError(f"{path}: an average precision lies outside 0 to 1")
    elif hits is None or not np.allclose(hits, outcomes.outcome, atol=1e-9):
        raise ResultError(f"{path}: outcomes do not follow from `greater` and `ties`")
    right = np.array([[a == b for a, b in zip(names, outcomes.targets, strict=True)] for names in outcomes.predictions])
    # An item that is level with its best rival may be named either way.
    if (right & (outcomes.greater > 0)).any() or (~right & (outcomes.greater == 0) & (outcomes.ties == 0)).any():
        raise ResultError(f"{path}: an item is predicted right but beaten, or wrong and yet unbeaten")
