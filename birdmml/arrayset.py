"""A prepared evaluation set of numbers, read back: whole splits as arrays, or block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml import arrays, files
from birdmml.errors import EvalsetError, UsageError
from birdmml.prepared import digest, read_manifest

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class ArraySet:
    """One collection of a prepared set. Nothing of the data is read before it is asked for."""

    root: Path
    manifest: Mapping[str, Any]
    collection: str

    @classmethod
    def open(cls, root: Path) -> ArraySet:
        """The set in `root`; raises EvalsetError, with the next step, unless it is a finished one of arrays."""
        manifest = read_manifest(root)
        try:
            found = [n for n, c in manifest["collections"].items() if c["kind"] == arrays.KIND]
            opened = cls(root, manifest, found[0])
            _check(opened)
        except IndexError as e:
            raise EvalsetError(f"{root} holds no arrays: name a set such as mosi or av_mnist") from e
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise EvalsetError(
                f"{root / 'manifest.json'} lacks or garbles {e}: {_again(manifest, root)}"
            ) from e
        return opened

    @property
    def name(self) -> str:
        """What the set is called: "mosi"."""
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the set."""
        return str(self.manifest["digest"])

    @property
    def demo(self) -> bool:
        """Whether the set was made of a fake."""
        return bool(self.manifest["demo"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of their labels."""
        return tuple(self.manifest["classes"])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits at hand."""
        return tuple(self._splits)

    @cached_property
    def fields(self) -> tuple[arrays.Field, ...]:
        """The modalities with their shapes; raises EvalsetError."""
        with self._shard(self._splits[self.splits[0]]["shards"][0]) as f:
            return arrays.fields_of(f.schema_arrow, str(self.root))

    def rows(self, split: str) -> int:
        """How many samples `split` has; raises UsageError for a split that is not there."""
        if split not in self._splits:
            raise UsageError(f"{self.name} has no split {split!r}: choose one of {', '.join(self.splits)}")
        return int(self._splits[split]["rows"])

    def blocks(self, split: str, rows: int = BLOCK_ROWS) -> Iterator[arrays.Rows]:
        """The samples of `split` in order, at most `rows` at a time, values as float32."""
        promised = self.rows(split)
        found = 0
        for about in self._splits[split]["shards"]:
            for batch in self._batches(about, rows):
                found += len(batch)
                if found > promised:
                    break
                yield arrays.rows_of(batch, self.fields)
        if found != promised:
            raise EvalsetError(
                f"{self.root}: {split} has {found} rows or more, the manifest says {promised}: {self._again}"
            )

    def groups(self, split: str) -> tuple[int, ...]:
        """Rows of each row group of `split`, in order: what `group` reads at once."""
        self.rows(split)
        return tuple(n for *_, n in self._groups(split))

    def group(self, split: str, number: int) -> arrays.Rows:
        """The rows of one row group, values as float32; raises EvalsetError for a damaged shard."""
        about, inner, _ = self._groups(split)[number]
        with self._shard(about) as f:
            try:
                (batch,) = f.read_row_group(inner).combine_chunks().to_batches()
                return arrays.rows_of(batch, self.fields)
            except (OSError, ValueError, KeyError, pa.ArrowException) as e:
                raise EvalsetError(f"{self._path(about)} is damaged ({_line(e)}): {self._again}") from e

    def _groups(self, split: str) -> list[tuple[Mapping[str, Any], int, int]]:
        """(shard, number of the row group in it, its rows)."""
        found = []
        for about in self._splits[split]["shards"]:
            with self._shard(about) as f:
                counts = [f.metadata.row_group(i).num_rows for i in range(f.metadata.num_row_groups)]
            found += [(about, i, n) for i, n in enumerate(counts) if n]
        return found

    def read(self, split: str) -> arrays.Rows:
        """All of `split`: ids, labels [N], arrays [N, *shape] float32, lengths [N]."""
        return arrays.joined(self.blocks(split), self.rows(split))

    def arrays(self, split: str) -> dict[str, NDArray[np.float32]]:
        """{modality: [N, *shape]} of `split`."""
        return dict(self.read(split).arrays)

    def ids(self, split: str) -> tuple[str, ...]:
        """The samples' ids, as they stand in the other answers."""
        return tuple(self._columns(split, ["id"])["id"].to_pylist())

    def labels(self, split: str) -> NDArray[np.int64]:
        """Indices [N] into `class_names`; raises EvalsetError for a label without a class."""
        found = np.asarray(self._columns(split, ["label"])["label"].to_numpy(), dtype=np.int64)
        if found.size and not (found.min() >= 0 and found.max() < len(self.class_names)):
            raise EvalsetError(f"{self.root}: {split} has a label without a class: {self._again}")
        return found

    def lengths(self, split: str) -> dict[str, NDArray[np.int32]]:
        """{modality: [N]}: how many of a sample's steps are real; empty where samples have no steps."""
        names = [f.name for f in self.fields if f.steps]
        found = self._columns(split, [f"{n}_length" for n in names])
        return {n: found[f"{n}_length"].to_numpy().astype(np.int32) for n in names}

    def validate(self) -> None:
        """Check every shard's size, hash and rows, and the digest; raises EvalsetError naming the first fault."""
        for split in self.splits:
            for about in self._splits[split]["shards"]:
                self._check_shard(about)
            self.labels(split)
            if len(set(self.ids(split))) != self.rows(split):
                raise EvalsetError(
                    f"{self.root}: ids of {split} repeat, or are not as many as promised: {self._again}"
                )
        expected = digest(self.class_names, self.manifest["settings"], self.manifest["collections"])
        if expected != self.digest:
            raise EvalsetError(f"{self.root}: the manifest's digest is not that of its shards: {self._again}")

    def _check_shard(self, about: Mapping[str, Any]) -> None:
        path = self._path(about)
        size = path.stat().st_size if path.is_file() else -1
        if size != about["bytes"]:
            state = f"has {size:,} bytes, the manifest says {about['bytes']:,}" if size >= 0 else "is missing"
            raise EvalsetError(f"{path} {state}: {self._again}")
        if files.sha256_file(path) != about["sha256"]:
            raise EvalsetError(f"{path} is not what was written (its SHA-256 differs): {self._again}")
        with self._shard(about) as f:
            if f.metadata.num_rows != about["rows"]:
                raise EvalsetError(
                    f"{path} has {f.metadata.num_rows} rows, not {about['rows']}: {self._again}"
                )

    @property
    def _splits(self) -> dict[str, Any]:
        return dict(self.manifest["collections"][self.collection]["splits"])

    @property
    def _again(self) -> str:
        return _again(self.manifest, self.root)

    def _path(self, about: Mapping[str, Any]) -> Path:
        return self.root / _inside(str(about["path"]), self.root)

    def _shard(self, about: Mapping[str, Any]) -> pq.ParquetFile:
        path = self._path(about)
        try:
            return pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as e:
            raise EvalsetError(f"{path} cannot be read ({_line(e)}): {self._again}") from e

    def _batches(self, about: Mapping[str, Any], rows: int) -> Iterator[pa.RecordBatch]:
        with self._shard(about) as f:
            if arrays.fields_of(f.schema_arrow, str(self._path(about))) != self.fields:
                raise EvalsetError(
                    f"{self._path(about)} has other columns than the first shard: {self._again}"
                )
            try:
                yield from f.iter_batches(batch_size=rows)
            except (OSError, pa.ArrowException) as e:
                raise EvalsetError(f"{self._path(about)} is damaged ({_line(e)}): {self._again}") from e

    def _columns(self, split: str, names: list[str]) -> pa.Table:
        self.rows(split)
        parts = []
        for about in self._splits[split]["shards"]:
            with self._shard(about) as f:
                try:
                    parts.append(f.read(columns=names))
                except (OSError, pa.ArrowException) as e:
                    raise EvalsetError(f"{self._path(about)} is damaged ({_line(e)}): {self._again}") from e
                if missing := set(names) - set(parts[-1].column_names):
                    raise EvalsetError(f"{self._path(about)} has no column {min(missing)}: {self._again}")
        return pa.concat_tables(parts)


def _check(opened: ArraySet) -> None:
    """Touch all that is needed later, so that a garbled manifest fails here; raises KeyError, TypeError, ValueError."""
    for key in ("name", "digest", "demo", "classes", "settings"):
        opened.manifest[key]
    if not opened.splits:
        raise ValueError("the splits: there are none")
    for split in opened.splits:
        shards = opened._splits[split]["shards"]
        if sum(int(s["rows"]) for s in shards) != opened.rows(split) or not shards:
            raise ValueError(f"the rows of {split}")
        for about in shards:
            opened._path(about), int(about["bytes"]), str(about["sha256"])


def _inside(path: str, root: Path) -> PurePosixPath:
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts or "\\" in path or ":" in path:
        raise EvalsetError(f"{root / 'manifest.json'} names {path!r}, outside of the set: prepare it again")
    return found


def _again(manifest: Mapping[str, Any], root: Path) -> str:
    return f"prepare it again with `birdmml prepare {manifest.get('name', 'NAME')} --out {root}`"


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
