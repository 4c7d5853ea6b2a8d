"""Evaluation sets of numbers: what one consists of, its Parquet columns, and how it is read back in blocks.

A row is one sample: id, label, class_name, a fixed-size list of float32 or uint8 for each modality (its shape and
divisor stand in the field's metadata), and `<modality>_length` where the steps of a sample can be fewer than stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from birdmml.dataset.format import MANIFEST
from birdmml.dataset.shards import BROKEN, Shards, first_line
from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets.read import EVALSET, SetOnDisk, read_manifest

KIND = "arrays"
SPLITS = ("train", "validation", "test")
DTYPES = ("float32", "uint8")
BLOCK_ROWS = 1024
_UNREADABLE = "{path} cannot be read ({why}): {again}"


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
    """What a module finds in a provider's files. `counts` has the keys of the module's PUBLISHED.

    `notes` are what else a reader of the figures must know; `demo` marks what was made for tests.
    """

    class_names: tuple[str, ...]
    fields: tuple[Field, ...]
    splits: Mapping[str, SplitSource]
    settings: Mapping[str, Any]
    counts: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    rejects: tuple[SampleChange, ...] = ()
    changes: tuple[SampleChange, ...] = ()
    demo: bool = False


def schema(fields: Sequence[Field]) -> pa.Schema:
    """The columns of a set with these modalities."""
    columns = [pa.field("id", pa.string()), pa.field("label", pa.int64()), pa.field("class_name", pa.string())]
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
            f = Field(column.name, shape, dtype, int(about["divisor"]), f"{column.name}_length" in columns.names)
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
    arrays: dict[str, NDArray[np.float32]] = {}
    for f in fields:
        flat = batch.column(f.name).flatten().to_numpy(zero_copy_only=False)
        values = flat.reshape(len(batch), *f.shape).astype(np.float32)
        # Divided as the protocols write it (x / 255), not multiplied by a rounded reciprocal.
        arrays[f.name] = values if f.divisor == 1 else values / np.float32(f.divisor)
    return Samples(
        tuple(batch.column("id").to_pylist()),
        batch.column("label").to_numpy(),
        arrays,
        {f.name: batch.column(_length(f)).to_numpy() for f in fields if f.steps},
    )


def _length(f: Field) -> str:
    return f"{f.name}_length"


@dataclass(frozen=True)
class ArraySet(SetOnDisk):
    """One collection of a prepared set. Nothing of the data is read before it is asked for."""

    collection: str

    @classmethod
    def open(cls, root: Path) -> ArraySet:
        """The set in `root`; raises EvalsetError, with the next step, unless it is a finished one of arrays."""
        manifest = read_manifest(root)
        opened = cls(root, manifest, "")
        try:
            names = [n for n, c in manifest["collections"].items() if c["kind"] == KIND]
            if not names:
                raise EvalsetError(f"{root} holds no arrays: name a set such as mosi or av_mnist")
            opened = cls(root, manifest, names[0])
            # Touch all that is needed later, so that a garbled manifest fails here.
            if not opened.splits:
                raise ValueError("the splits: there are none")
            for split, about in opened._splits.items():
                if sum(shard["rows"] for shard in about["shards"]) != opened.rows(split) or not about["shards"]:
                    raise ValueError(f"the rows of {split}")
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise EvalsetError(f"{root / MANIFEST} lacks or garbles {e}: {opened._again}") from e
        return opened

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits at hand."""
        return tuple(self._splits)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The modalities with their shapes; raises EvalsetError."""
        return fields_of(self.shards(self.splits[0]).schemas[0], str(self.root))

    def rows(self, split: str) -> int:
        """How many samples `split` has; raises UsageError for a split that is not there."""
        if split not in self._splits:
            raise UsageError(f"{self.name} has no split {split!r}: choose one of {', '.join(self.splits)}")
        return int(self._splits[split]["rows"])

    def shards(self, split: str) -> Shards:
        """The Parquet files of `split`, opened anew; raises EvalsetError or UsageError."""
        self.rows(split)
        kind = replace(EVALSET, again=self._again, missing=_UNREADABLE, unreadable=_UNREADABLE)
        return Shards([self.root / about["path"] for about in self._splits[split]["shards"]], kind)

    def blocks(self, split: str, rows: int = BLOCK_ROWS) -> Iterator[Samples]:
        """The samples of `split` in order, at most `rows` at a time, values as float32."""
        shards, promised, count = self.shards(split), self.rows(split), 0
        for path, schema in zip(shards.paths, shards.schemas, strict=True):
            if fields_of(schema, str(path)) != self.fields:
                raise EvalsetError(f"{path} has other columns than the first shard: {self._again}")
        for batch in shards.batches(rows):
            count += len(batch)
            if count > promised:
                break
            yield rows_of(batch, self.fields)
        if count != promised:
            raise EvalsetError(
                f"{self.root}: {split} has {count} rows or more, the manifest says {promised}: {self._again}"
            )

    def group(self, shards: Shards, number: int) -> Samples:
        """The rows of one row group, values as float32; raises EvalsetError for a damaged shard."""
        table = shards.group(number)
        try:
            (batch,) = table.combine_chunks().to_batches()
            return rows_of(batch, self.fields)
        except (*BROKEN, KeyError) as e:
            raise EvalsetError(f"{shards.path(number)} is damaged ({first_line(e)}): {self._again}") from e

    def read(self, split: str) -> Samples:
        """All of `split`: ids, labels [N], arrays [N, *shape] float32, lengths [N]."""
        parts = list(self.blocks(split))
        return Samples(
            tuple(name for part in parts for name in part.ids),
            np.concatenate([part.labels for part in parts]),
            {f.name: np.concatenate([part.arrays[f.name] for part in parts]) for f in self.fields},
            {f.name: np.concatenate([part.lengths[f.name] for part in parts]) for f in self.fields if f.steps},
        )

    def ids(self, split: str) -> tuple[str, ...]:
        """The samples' ids, as they stand in the other answers."""
        return tuple(self._column(split, "id"))

    def labels(self, split: str) -> NDArray[np.int64]:
        """Indices [N] into `class_names`; raises EvalsetError for a label without a class."""
        labels = np.asarray(self._column(split, "label"), dtype=np.int64)
        if labels.size and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise EvalsetError(f"{self.root}: {split} has a label without a class: {self._again}")
        return labels

    def lengths(self, split: str) -> dict[str, NDArray[np.int32]]:
        """{modality: [N]}: how many of a sample's steps are real; empty where samples have no steps."""
        return {f.name: np.asarray(self._column(split, _length(f)), dtype=np.int32) for f in self.fields if f.steps}

    def _column(self, split: str, name: str) -> list[Any]:
        shards = self.shards(split)
        for path, schema in zip(shards.paths, shards.schemas, strict=True):
            if name not in schema.names:
                raise EvalsetError(f"{path} has no column {name}: {self._again}")
        return shards.column(name)

    @property
    def _splits(self) -> Mapping[str, Any]:
        return dict(self.manifest["collections"][self.collection]["splits"])

    @property
    def _again(self) -> str:
        return f"prepare it again with `birdmml prepare {self.name} --out {self.root}`"
