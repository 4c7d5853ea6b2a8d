"""Results on disk: result.json, and one parquet of per-item outcomes a task."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml import settings
from birdmml.errors import ResultError, UsageError
from birdmml.files import atomic_write, write_json
from birdmml.metrics import hit
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

FILE = "result.json"
MAX_JSON_BYTES = 64 * 2**20
MAX_PREDICTION_ROWS = 100_000_000
COLUMNS = pa.schema(
    [
        ("seed", pa.int64()),
        ("id", pa.string()),
        ("target", pa.string()),
        ("prediction", pa.string()),
        ("greater", pa.int64()),
        ("ties", pa.int64()),
        ("outcome", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Predictions:
    """Per-item outcomes of one task under S seeds: `greater`, `ties` [S, N], names [S][N] or [N]."""

    seeds: tuple[int, ...]
    candidates: int
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[tuple[str, ...], ...]
    greater: NDArray[np.int64]
    ties: NDArray[np.int64]
    demo: bool = False


def write_result(folder: Path, result: Result) -> Path:
    """Write `folder`/result.json, whole or not at all; returns its path."""
    path = folder / FILE
    write_json(path, settings.to_dict(result))
    return path


def read_result(path: Path) -> Result:
    """Read a result.json, or the one in a folder; raises ResultError if it is none."""
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f"{path} not found: give a folder that `birdmml bench` wrote")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ResultError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB: it is no result.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise ResultError(f"{path} cannot be read as JSON ({e}): score again") from e
    if not isinstance(values, dict) or values.get("schema_version") != RESULT_SCHEMA_VERSION:
        found = values.get("schema_version") if isinstance(values, dict) else None
        raise ResultError(f"{path} has schema version {found}, expected {RESULT_SCHEMA_VERSION}: score again")
    try:
        return settings.from_dict(Result, values)
    except (UsageError, TypeError) as e:
        raise ResultError(f"{path} is not a result: {e}") from e


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one row an item and seed; `outcome` is the expected hit@1. The schema names the candidates' number."""
    p = predictions
    seeds, n = len(p.seeds), len(p.ids)
    table = pa.table(
        {
            "seed": np.repeat(np.asarray(p.seeds, dtype=np.int64), n),
            "id": list(p.ids) * seeds,
            "target": list(p.targets) * seeds,
            "prediction": [name for names in p.predictions for name in names],
            "greater": p.greater.reshape(-1),
            "ties": p.ties.reshape(-1),
            "outcome": hit(p.greater, p.ties, 1).reshape(-1),
        },
        schema=COLUMNS.with_metadata({"candidates": str(p.candidates), "demo": str(p.demo).lower()}),
    )
    with atomic_write(path) as f:
        pq.write_table(table, f, compression="zstd")


def read_predictions(folder: Path, name: str) -> Predictions:
    """The outcomes in `folder`/`name`; raises ResultError unless they are whole and consistent."""
    path = _inside(folder, name)
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows > MAX_PREDICTION_ROWS:
            raise ResultError(f"{path} has {file.metadata.num_rows} rows: that is no test set")
        table = file.read(columns=COLUMNS.names).cast(COLUMNS)
    except (OSError, ValueError, KeyError, pa.ArrowException) as e:
        raise ResultError(f"{path} is not a predictions file ({e}): score again") from e
    known = file.schema_arrow.metadata or {}
    candidates = known.get(b"candidates", b"")
    if not candidates.isdigit() or table.num_rows == 0 or any(c.null_count for c in table.columns):
        raise ResultError(f"{path} is empty, has gaps, or does not say how many candidates there were")
    found = replace(_by_seed(table, int(candidates), path), demo=known.get(b"demo") == b"true")
    _check(found, np.asarray(table["outcome"]), path)
    return found


def _inside(folder: Path, name: str) -> Path:
    # A result from elsewhere must not point out of its own folder.
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name:
        raise ResultError(f"{folder}: predictions file {name!r} lies outside the result's folder")
    path = folder / pure
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ResultError(f"{path} not found: a result needs its per-item predictions")
    return path


def _by_seed(table: pa.Table, candidates: int, path: Path) -> Predictions:
    seed = np.asarray(table["seed"])
    seeds = tuple(int(s) for s in dict.fromkeys(seed.tolist()))
    n = len(seed) // len(seeds)
    if not np.array_equal(seed, np.repeat(seeds, n)):
        raise ResultError(f"{path} does not have the same number of items for each seed, in blocks")
    names = {c: table[c].to_pylist() for c in ("id", "target", "prediction")}
    for column in ("id", "target"):
        if names[column] != names[column][:n] * len(seeds):
            raise ResultError(f"{path}: the seeds were not scored on the same items ({column} differs)")
    return Predictions(
        seeds,
        candidates,
        tuple(names["id"][:n]),
        tuple(names["target"][:n]),
        tuple(tuple(names["prediction"][i * n : (i + 1) * n]) for i in range(len(seeds))),
        np.asarray(table["greater"]).reshape(len(seeds), n),
        np.asarray(table["ties"]).reshape(len(seeds), n),
    )


def _check(p: Predictions, outcomes: NDArray[np.float64], path: Path) -> None:
    if len(set(p.ids)) != len(p.ids):
        raise ResultError(f"{path} lists an item twice")
    if not np.allclose(outcomes, hit(p.greater, p.ties, 1).reshape(-1), atol=1e-9):
        raise ResultError(f"{path}: outcomes do not follow from `greater` and `ties`")
    right = np.array([[a == b for a, b in zip(names, p.targets, strict=True)] for names in p.predictions])
    if (right & (p.greater > 0)).any() or (~right & (p.greater == 0) & (p.ties == 0)).any():
        raise ResultError(f"{path}: an item is predicted right but beaten, or wrong and yet unbeaten")


def figure_key(figure: Figure) -> str:
    """ "zero-shot test-split A+V accuracy": how messages name a figure."""
    return f"{figure.suite} {figure.evalset} {figure.task} {figure.metric}"
