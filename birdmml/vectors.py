"""A user's own embeddings, read from Parquet and checked: an id column, and a list of floats a modality."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.errors import EvalsetError
from birdmml.schema import MODALITIES

NAMES = (*MODALITIES, *("+".join(pair) for pair in combinations(MODALITIES, 2)))
# Columns that may say what an item is, the first that is there; prompts are matched to any of them.
CLASS_COLUMNS = ("class_name", "species", "common_name")
MAX_ROWS, MAX_WIDTH, MAX_BYTES = 10_000_000, 16_384, 32 * 2**30
SHOWN = 3
LEAST = 1e-6  # of a mean of unit vectors, before it is brought to length 1 again


@dataclass(frozen=True)
class Vectors:
    """N items: unit vectors `arrays` [N, D] by name, NaN where `present` [N] is false; `classes` by column."""

    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """D."""
        return int(next(iter(self.arrays.values())).shape[1])


def read(path: Path, key: str = "id") -> Vectors:
    """The vectors of a file, normalised to length 1; `key` is the column that names a row.

    A null is a vector that is not there. Raises EvalsetError, one line, for a file that is none, ids that are missing
    or come twice, vectors of several lengths, or with NaN or nothing but zeros.
    """
    table = _table(path, key)
    ids = tuple(map(str, table[key].to_pylist()))
    if table[key].null_count:
        raise EvalsetError(
            f"{path}: {table[key].null_count} of {len(ids)} rows have no {key}: give every row one"
        )
    names = [name for name in NAMES if name in table.column_names]
    columns = {name: _vectors(path, name, table[name].combine_chunks(), ids) for name in names}
    widths = {name: array.shape[1] for name, (array, _) in columns.items()}
    if len(set(widths.values())) > 1:
        words = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise EvalsetError(f"{path}: vectors must have one width to be compared, found {words}")
    classes = {
        c: tuple("" if v is None else str(v) for v in table[c].to_pylist())
        for c in CLASS_COLUMNS
        if c in table.column_names and c != key
    }
    return Vectors(
        ids,
        {name: array for name, (array, _) in columns.items()},
        {name: there for name, (_, there) in columns.items() if name in MODALITIES},
        classes,
        _facts(table.schema),
    )


def unique(path: Path, ids: Sequence[str]) -> None:
    """Raise EvalsetError where an id comes twice, with counts and examples."""
    twice = [name for name, n in Counter(ids).items() if n > 1]
    if twice:
        raise EvalsetError(
            f"{path}: {len(twice)} ids come more than once ({examples(twice)}): keep one row of each"
        )


def examples(names: Sequence[str]) -> str:
    """Some of the names, for a message."""
    return ", ".join(repr(n) for n in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _table(path: Path, key: str) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
        there, rows = file.schema_arrow.names, file.metadata.num_rows
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if rows > MAX_ROWS or size > MAX_BYTES:
            raise EvalsetError(
                f"{path} has {rows:,} rows of {size / 2**30:.1f} GiB: that is too much to score"
            )
        if key not in there or not set(NAMES) & set(there):
            shown = ", ".join(there[:8])
            raise EvalsetError(
                f"{path} has the columns {shown}: it needs {key}, and vectors named {', '.join(NAMES)}"
            )
        table = file.read(columns=[n for n in there if n in (key, *NAMES, *CLASS_COLUMNS)])
    except FileNotFoundError as e:
        raise EvalsetError(f"{path} not found: give a Parquet file, as `birdmml embed` writes it") from e
    except (OSError, ValueError, pa.ArrowException) as e:
        words = str(e).splitlines()[0]
        raise EvalsetError(f"{path} is not a readable Parquet file ({words}): write it again") from e
    if table.num_rows == 0:
        raise EvalsetError(f"{path} has no rows: embed some")
    return table


def _vectors(
    path: Path, name: str, column: Any, ids: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """[N, D] of unit vectors, and which of them are there."""
    kind = column.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ) or not (pa.types.is_floating(kind.value_type)):
        raise EvalsetError(f"{path}: column {name} is {kind}: it must be a list of floats a row")
    there = ~np.asarray(column.is_null())
    kept = column.drop_null()
    sizes = Counter(kept.value_lengths().to_pylist()) if len(kept) else Counter()
    if not sizes:
        raise EvalsetError(f"{path}: column {name} is empty in every row: leave it out")
    (width, usual), *others = sizes.most_common()
    if others:
        lengths = np.asarray(kept.value_lengths())
        odd = [ids[i] for i in np.flatnonzero(there)[lengths != width]]
        raise EvalsetError(
            f"{path}: {len(odd)} vectors of {name} are not {width} wide as {usual} are ({examples(odd)})"
        )
    if not 1 <= width <= MAX_WIDTH:
        raise EvalsetError(f"{path}: vectors of {name} are {width} wide: give 1 to {MAX_WIDTH}")
    values = np.asarray(kept.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    values = values.reshape(len(kept), width)
    norms = np.linalg.norm(values, axis=1)
    bad = ~np.isfinite(values).all(axis=1) | (norms == 0)
    if bad.any():
        which = [ids[i] for i in np.flatnonzero(there)[bad]]
        raise EvalsetError(
            f"{path}: {len(which)} of {len(kept)} vectors of {name} hold NaN, infinity or only zeros"
            f" ({examples(which)}): embed these again, or leave them null to say that they are not there"
        )
    out = np.full((len(column), width), np.nan, dtype=np.float32)
    out[there] = values / norms[:, None]
    return out, there


def _facts(schema: pa.Schema) -> dict[str, Any]:
    """What `birdmml embed` says of the file; nothing where another program wrote it."""
    try:
        facts = json.loads((schema.metadata or {}).get(b"birdmml", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
