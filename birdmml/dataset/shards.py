"""Parquet shards of a dataset or an evaluation set: cut by size, written whole with their hash, read in place."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.core import files
from birdmml.dataset.format import FolderKind
from birdmml.errors import BirdmmlError

SHARD_BYTES = 256 << 20
# What damaged or hostile Parquet is known to raise.
BROKEN = (OSError, ValueError, pa.ArrowException)

T = TypeVar("T")


@dataclass(frozen=True)
class WrittenShard:
    """One shard as written. `path` is relative to the set's folder; `tally` is what a build has counted in its rows."""

    path: str
    rows: int
    bytes: int
    sha256: str
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)

    def listed(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"path": self.path, "rows": self.rows, "bytes": self.bytes, "sha256": self.sha256}


def shard_name(split: str, number: int, total: int) -> str:
    """Hugging Face's file name for a shard."""
    return f"{split}-{number:05d}-of-{total:05d}.parquet"


def cut(
    rows: Iterable[T], size_of: Callable[[T], int], max_bytes: int, max_rows: int = sys.maxsize
) -> Iterator[list[T]]:
    """Consecutive runs of rows within both limits; a row larger than the limit stands alone."""
    run: list[T] = []
    size = 0
    for row in rows:
        length = size_of(row)
        if run and (size + length > max_bytes or len(run) >= max_rows):
            yield run
            run, size = [], 0
        run.append(row)
        size += length
    if run:
        yield run


def write_shard(
    root: Path, name: str, schema: pa.Schema, groups: Iterable[pa.Table], dictionary: Sequence[str],
    chunked: bool = True,
) -> WrittenShard:  # fmt: skip
    """Write `root`/`name` as `datasets`, DuckDB and the Hub's viewer like it, each table as a row group.

    `dictionary` names the columns that repeat; `chunked` lets the Hub store equal pages once. Raises OSError if the
    disk does not take it; then nothing is left behind.
    """
    rows = 0
    leaves: list[str] = []
    for column in schema:
        is_list = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
        inner = column.type.value_type if is_list else column.type
        stem = f"{column.name}.list.element" if is_list else column.name
        leaves += [f"{stem}.{child.name}" for child in inner] if pa.types.is_struct(inner) else [stem]
    with files.atomic_write(root / name) as f:
        hashed = files.HashingWriter(f)
        # Media are compressed already; the other columns are small and repeat.
        with pq.ParquetWriter(
            hashed,
            schema,
            compression={leaf: "none" if leaf.endswith(".bytes") else "zstd" for leaf in leaves},
            use_dictionary=list(dictionary),
            write_page_index=True,
            use_content_defined_chunking=chunked,
        ) as writer:
            for table in groups:
                writer.write_table(table, row_group_size=len(table))
                rows += len(table)
    return WrittenShard(name, rows, hashed.size, hashed.hexdigest())


class Shards:
    """The shards of one split as one table by row number; footers are read at once, rows when they are asked for.

    Raises the error of `kind`, with the next step, for a shard that is missing, no Parquet file, or damaged.
    """

    def __init__(self, paths: Sequence[Path], kind: FolderKind) -> None:
        self.paths, self._kind = tuple(paths), kind
        self._files = [self._open(path) for path in paths]
        self._groups = [(n, g) for n, f in enumerate(self._files) for g in range(f.metadata.num_row_groups)]
        rows = (self._files[n].metadata.row_group(g).num_rows for n, g in self._groups)
        self._starts = np.cumsum([0, *rows])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def schemas(self) -> tuple[pa.Schema, ...]:
        """The columns of each shard."""
        return tuple(f.schema_arrow for f in self._files)

    @property
    def groups(self) -> tuple[pq.RowGroupMetaData, ...]:
        """The footer's words on each row group: what is read from disk at once, in row order."""
        return tuple(self._files[n].metadata.row_group(g) for n, g in self._groups)

    def path(self, group: int) -> Path:
        """The file that a row group lies in."""
        return self.paths[self._groups[group][0]]

    def column(self, name: str) -> list[Any]:
        """All values of one light column, in row order; raises KeyError if there is no such column."""
        values: list[Any] = []
        for number, file in enumerate(self._files):
            with self._reading(number):
                values += file.read(columns=[name]).column(name).to_pylist()
        return values

    def group(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """One row group; all of its columns, or some."""
        shard, group = self._groups[number]
        with self._reading(shard):
            return self._files[shard].read_row_group(group, columns=columns)

    def batches(self, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, at most so many at a time."""
        for number, file in enumerate(self._files):
            with self._reading(number):
                yield from file.iter_batches(rows, columns=columns)

    def located(self, rows: Sequence[int]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """(row group, places in `rows` of those that lie in it, their numbers in it), row group by row group."""
        numbers = np.asarray(rows, dtype=np.int64)
        groups = np.searchsorted(self._starts, numbers, side="right") - 1
        for group in np.unique(groups).tolist():
            places = np.flatnonzero(groups == group)
            yield group, places, numbers[places] - self._starts[group]

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            # Mapped: the system may drop what was read, so memory does not grow with the dataset.
            return pq.ParquetFile(path, memory_map=True)
        except FileNotFoundError as e:
            raise self._error(self._kind.missing, path, e) from e
        except BROKEN as e:
            raise self._error(self._kind.unreadable, path, e) from e

    @contextlib.contextmanager
    def _reading(self, number: int) -> Iterator[None]:
        try:
            yield
        except BROKEN as e:
            raise self._error(self._kind.damaged, self.paths[number], e) from e

    def _error(self, words: str, path: Path, error: Exception) -> BirdmmlError:
        return self._kind.error(words.format(path=path, why=first_line(error), again=self._kind.again))


def first_line(error: BaseException) -> str:
    """The first line of an error's words, cut at 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
