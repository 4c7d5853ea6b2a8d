"""A prepared evaluation set of numbers, read back: whole splits as arrays, or block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml import arrays
from birdmml.errors import EvalsetError, UsageError
from birdmml.manifest import MANIFEST
from birdmml.prepared import EVALSET, SetOnDisk, read_manifest
from birdmml.shards import BROKEN, Shards, first_line

BLOCK_ROWS = 1024
_UNREADABLE = "{path} cannot be read ({why}): {again}"


@dataclass(frozen=True)
class ArraySet(SetOnDisk):
    """One collection of a prepared set. Nothing of the data is read before it is asked for."""

    collection: str

    @classmethod
    def open(cls, root: Path) -> ArraySet:
        """The set in `root`; raises EvalsetError, with the next step, unless it is a finished one of arrays."""
        manifest = read_manifest(root)
        try:
            names = [n for n, c in manifest["collections"].items() if c["kind"] == arrays.KIND]
            opened = cls(root, manifest, names[0])
            opened._check()
        except IndexError as e:
            raise EvalsetError(f"{root} holds no arrays: name a set such as mosi or av_mnist") from e
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise EvalsetError(
                f"{root / MANIFEST} lacks or garbles {e}: {_again(root, manifest['name'])}"
            ) from e
        return opened

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits at hand."""
        return tuple(self._splits)

    @cached_property
    def fields(self) -> tuple[arrays.Field, ...]:
        """The modalities with their shapes; raises EvalsetError."""
        return arrays.fields_of(self.shards(self.splits[0]).schemas[0], str(self.root))

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

    def blocks(self, split: str, rows: int = BLOCK_ROWS) -> Iterator[arrays.Samples]:
        """The samples of `split` in order, at most `rows` at a time, values as float32."""
        shards, promised, count = self.shards(split), self.rows(split), 0
        for path, schema in zip(shards.paths, shards.schemas, strict=True):
            if arrays.fields_of(schema, str(path)) != self.fields:
                raise EvalsetError(f"{path} has other columns than the first shard: {self._again}")
        for batch in shards.batches(rows):
            count += len(batch)
            if count > promised:
                break
            yield arrays.rows_of(batch, self.fields)
        if count != promised:
            raise EvalsetError(
                f"{self.root}: {split} has {count} rows or more, the manifest says {promised}: {self._again}"
            )

    def group(self, shards: Shards, number: int) -> arrays.Samples:
        """The rows of one row group, values as float32; raises EvalsetError for a damaged shard."""
        table = shards.group(number)
        try:
            (batch,) = table.combine_chunks().to_batches()
            return arrays.rows_of(batch, self.fields)
        except (*BROKEN, KeyError) as e:
            raise EvalsetError(f"{shards.path(number)} is damaged ({first_line(e)}): {self._again}") from e

    def read(self, split: str) -> arrays.Samples:
        """All of `split`: ids, labels [N], arrays [N, *shape] float32, lengths [N]."""
        return arrays.joined(self.blocks(split), self.rows(split))

    def arrays(self, split: str) -> dict[str, NDArray[np.float32]]:
        """{modality: [N, *shape]} of `split`."""
        return dict(self.read(split).arrays)

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
        names = [f.name for f in self.fields if f.steps]
        return {n: np.asarray(self._column(split, f"{n}_length"), dtype=np.int32) for n in names}

    def _column(self, split: str, name: str) -> list[Any]:
        shards = self.shards(split)
        for path, schema in zip(shards.paths, shards.schemas, strict=True):
            if name not in schema.names:
                raise EvalsetError(f"{path} has no column {name}: {self._again}")
        return shards.column(name)

    def _check(self) -> None:
        """Touch all that is needed later, so that a garbled manifest fails here; raises KeyError, ValueError."""
        if not self.splits:
            raise ValueError("the splits: there are none")
        for split, about in self._splits.items():
            if sum(shard["rows"] for shard in about["shards"]) != self.rows(split) or not about["shards"]:
                raise ValueError(f"the rows of {split}")

    @property
    def _splits(self) -> Mapping[str, Any]:
        return dict(self.manifest["collections"][self.collection]["splits"])

    @property
    def _again(self) -> str:
        return _again(self.root, self.name)


def _again(root: Path, name: str) -> str:
    return f"prepare it again with `birdmml prepare {name} --out {root}`"
