"""Per-item outcomes: what each figure is computed from, and computed from again. One Parquet file a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.errors import ResultError
from birdmml.files import atomic_write
from birdmml.outcomes import measured, placed, species
from birdmml.outcomes.columns import inside
from birdmml.outcomes.measured import EXP_MEAN, MEAN, Measures
from birdmml.outcomes.placed import Predictions
from birdmml.outcomes.species import SpeciesHits

__all__ = [
    "COLUMNS",
    "EXP_MEAN",
    "MEAN",
    "Measures",
    "Outcomes",
    "Predictions",
    "SpeciesHits",
    "read",
    "write",
]

MAX_ROWS = 100_000_000
Outcomes = Predictions | SpeciesHits | Measures
# What a file's metadata call its kind -> its columns, and what reads its rows.
_KINDS: dict[str, tuple[Mapping[str, Any], Callable[[pa.Table, Mapping[str, str], Path], Outcomes]]] = {
    "placed": (placed.COLUMNS, placed.read),
    "species": (species.COLUMNS, species.read),
    "measured": (measured.COLUMNS, measured.read),
}
COLUMNS = {name for columns, _ in _KINDS.values() for name in columns} | {"draw"}


def write(path: Path, outcomes: Outcomes) -> None:
    """Write one row an item and seed. The schema's metadata says what else is needed."""
    if isinstance(outcomes, Predictions):
        rows = placed.table(outcomes)
    else:
        rows = measured.table(outcomes) if isinstance(outcomes, Measures) else species.table(outcomes)
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
        if columns is placed.COLUMNS and "draw" in file.schema_arrow.names:
            wanted = wanted.append(pa.field("draw", pa.int64()))
        rows = file.read(columns=wanted.names).cast(wanted)
    except (OSError, ValueError, KeyError, pa.ArrowException) as e:
        raise ResultError(f"{path} is not a predictions file ({e}): score again") from e
    if rows.num_rows == 0 or any(c.null_count for c in rows.columns):
        raise ResultError(f"{path} is empty or has gaps: score again")
    return read_rows(rows, metadata, path)
