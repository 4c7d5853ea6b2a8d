"""Evaluation sets of numbers: what one consists of, its Parquet columns, and how it is read back in blocks.

A row is one sample: id, label, class_name, a fixed-size list of float32 or uint8 for each modality (its shape and
divisor stand in the field's metadata), and `<modality>_length` where the steps of a sample can be fewer than stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from birdmml.errors import EvalsetError

KIND = "arrays"
SPLITS = ("train", "validation", "test")
DTYPES = ("float32", "uint8")
# Reports progress as (stage, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Field:
    """One modality: the shape of a sample, its stored type, and what stored values are divided by.

    `steps` says that a sample has a length: how many of its first rows are real, the rest being zeros.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    divisor: int = 1
    steps: bool = False

    @property
    def size(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes of one sample as stored."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Samples:
    """N samples: `labels` [N], `arrays` [N, *shape] and, for fields with steps, `lengths` [N], by modality."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]
    lengths: Mapping[str, NDArray[np.int32]] = default(default_factory=dict)


@dataclass(frozen=True)
class SplitSource:
    """One split to be written: `read(start, stop)` gives its rows as stored, in any order of calls."""

    rows: int
    read: Callable[[int, int], Samples]


@dataclass(frozen=True)
class SampleChange:
    """A sample that was left out, or was not stored as it was found."""

    split: str
    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Gathered:
    """What a module finds in a provider's files. `found` has the keys of the module's PUBLISHED.

    `notes` are what else a reader of the figures must know; `demo` marks what was made for tests.
    """

    class_names: tuple[str, ...]
    fields: tuple[Field, ...]
    splits: Mapping[str, SplitSource]
    settings: Mapping[str, Any]
    found: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    rejects: tuple[SampleChange, ...] = ()
    changes: tuple[SampleChange, ...] = ()
    demo: bool = False


def schema(fields: Sequence[Field]) -> pa.Schema:
    """The columns of a set with these modalities."""
    columns = [
        pa.field("id", pa.string()),
        pa.field("label", pa.int64()),
        pa.field("class_name", pa.string()),
    ]
    for f in fields:
        kind = pa.list_(pa.from_numpy_dtype(np.dtype(f.dtype)), f.size)
        about = {"shape": json.dumps(list(f.shape)), "divisor": str(f.divisor)}
        columns.append(pa.field(f.name, kind, nullable=False, metadata=about))
    columns += [pa.field(_length(f), pa.int32()) for f in fields if f.steps]
    return pa.schema(columns)


def table(rows: Samples, fields: Sequence[Field], class_names: Sequence[str]) -> pa.Table:
    """Rows as stored; raises EvalsetError if an array has not the shape or type that its field promises."""
    n = len(rows.ids)
    columns = [
        pa.array(rows.ids, pa.string()),
        pa.array(rows.labels, pa.int64()),
        pa.array([class_names[label] for label in rows.labels], pa.string()),
    ]
    for f in fields:
        array = rows.arrays[f.name]
        if array.shape != (n, *f.shape) or array.dtype != f.dtype:
            raise EvalsetError(
                f"{f.name} has {array.shape} {array.dtype}, expected {(n, *f.shape)} {f.dtype}: get the set again"
            )
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), f.size))
    columns += [pa.array(rows.lengths[f.name], pa.int32()) for f in fields if f.steps]
    return pa.Table.from_arrays(columns, schema=schema(fields))


def fields_of(columns: pa.Schema, where: str) -> tuple[Field, ...]:
    """The modalities of a shard's columns; raises EvalsetError where they are not what `schema` makes."""
    out = []
    for column in columns:
        if not pa.types.is_fixed_size_list(column.type):
            continue
        about = {k.decode("latin1"): v for k, v in (column.metadata or {}).items()}
        try:
            shape = tuple(json.loads(about["shape"]))
            dtype = np.dtype(column.type.value_type.to_pandas_dtype()).name
            f = Field(
                column.name, shape, dtype, int(about["divisor"]), f"{column.name}_length" in columns.names
            )
            if f.size != column.type.list_size or dtype not in DTYPES or f.divisor < 1:
                raise ValueError("they do not fit the column's type")
        except (KeyError, TypeError, ValueError, NotImplementedError, OverflowError) as e:
            raise EvalsetError(
                f"{where}: column {column.name} lacks its shape and divisor ({e}): prepare the set again"
            ) from e
        out.append(f)
    return tuple(out)


def rows_of(batch: pa.RecordBatch, fields: Sequence[Field]) -> Samples:
    """A batch as values: float32 [N, *shape], stored numbers divided by the field's divisor."""
    lengths = {f.name: batch.column(_length(f)).to_numpy() for f in fields if f.steps}
    return Samples(
        tuple(batch.column("id").to_pylist()),
        batch.column("label").to_numpy(),
        {f.name: _values(batch.column(f.name), f) for f in fields},
        lengths,
    )


def joined(parts: Iterator[Samples], total: int) -> Samples:
    """All rows of the parts in their order; `total` rows are promised, and one copy is made of each."""
    ids: list[str] = []
    out: dict[tuple[str, str], NDArray[Any]] = {}
    for part in parts:
        start, stop = len(ids), len(ids) + len(part.ids)
        ids.extend(part.ids)
        columns: dict[tuple[str, str], NDArray[Any]] = {("", "label"): part.labels}
        columns |= {("array", k): v for k, v in part.arrays.items()}
        columns |= {("length", k): v for k, v in part.lengths.items()}
        for key, column in columns.items():
            if key not in out:
                out[key] = np.empty((total, *column.shape[1:]), column.dtype)
            out[key][start:stop] = column
    return Samples(
        tuple(ids),
        out["", "label"],
        {name: v for (kind, name), v in out.items() if kind == "array"},
        {name: v for (kind, name), v in out.items() if kind == "length"},
    )


def _length(f: Field) -> str:
    return f"{f.name}_length"


def _values(column: pa.Array, f: Field) -> NDArray[np.float32]:
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), *f.shape)
    # Divided as the protocols write it (x / 255), not multiplied by a rounded reciprocal.
    values: NDArray[np.float32] = flat.astype(np.float32)
    return values if f.divisor == 1 else values / np.float32(f.divisor)
