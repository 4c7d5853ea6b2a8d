"""Rows to train on or to embed: all of a split or a fixed sample, media decoded by threads a little ahead."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.core import discover, settings
from birdmml.errors import DatasetError, EvalsetError, UsageError
from birdmml.evalsets.arrays import SPLITS, ArraySet, Field, Samples
from birdmml.evalsets.read import SetOnDisk, is_prepared
from birdmml.load import Built, DatasetRows, decode_row
from birdmml.models.presets import Preset
from birdmml.schema import MODALITIES

AHEAD = 3  # Parts under way: one is waited for, two keep the workers busy.
KINDS = ("image", "audio")
KIND = "evaluation set"
IMAGE, AUDIO, TEXT = MODALITIES
MODALITY = {"vision": IMAGE}
TRAIN, TEST = "train", "test"
# Random changes are meant for photos and log-mel in dB: a mirrored digit is another one, 6 dB more than white.
NO_CHANGES = tuple(f"training.augment.{k}" for k in ("mirror=false", "shift_px=0", "roll_frames=0", "gain_db=0.0"))
Row = dict[str, Any]


class RowSource(Protocol):
    """What training and embedding need of a dataset: its light columns, and decoded media by row number."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> list[Any]:
        """One light column, in row order."""

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[Row]:
        """For each row "image" uint8 [H, W, 3] and "audio" float32 [T].

        Or what needs no front end, float32: features [T, D] (of "text", too), a picture [3, H, W] in [0, 1], a
        spectrogram [1, bands, frames].
        """


@runtime_checkable
class BlockSource(Protocol):
    """A row source that also gives media as they are stored, block by block."""

    def blocks(self) -> list[tuple[int, int]]:
        """(rows, bytes of media) of each block, in row order."""

    def cells(self, rows: Sequence[int], columns: Sequence[str] = KINDS) -> list[Row]:
        """Stored media of rows: {"image": {"bytes", "path"}, "audio": {...}}."""


class ArrayRows:
    """Rows of precomputed features: {"image": [N, D] or [N, T, D], "audio": ..., "text": ...}, float32.

    The preset must say their sizes: `encoders.features`. Steps that are all zero are padding. Raises DatasetError
    for arrays of other shapes, different lengths, or values that are not finite.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[np.float32]], columns: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        lengths = {name: len(value) for name, value in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise DatasetError(f"features need one row an item in every modality, got {lengths}")
        for name, value in arrays.items():
            if value.ndim not in (2, 3):
                raise DatasetError(f"features of {name} have shape {value.shape}: give [N, D] or [N, T, D]")
            if not np.isfinite(value).all():
                raise DatasetError(f"features of {name} hold values that are not finite: clean them first")
        self._rows = next(iter(lengths.values()))
        self._arrays = {
            name: np.ascontiguousarray(value if value.ndim == 3 else value[:, None], dtype=np.float32)
            for name, value in arrays.items()
        }
        self._columns = {name: list(values) for name, values in (columns or {}).items()}

    def __len__(self) -> int:
        return self._rows

    def column(self, name: str) -> list[Any]:
        """A column given, else empty captions, or the row numbers as ids and labels."""
        plain = [""] * self._rows if name == "caption" else list(range(self._rows))
        return self._columns.get(name, plain)

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[Row]:
        """Features of rows, each [T, D]."""
        return [{name: value[i] for name, value in self._arrays.items()} for i in indices]


class Chosen:
    """Some rows, chosen by a fixed seed: what --limit leaves."""

    def __init__(self, rows: RowSource, limit: int) -> None:
        self._rows, self._kept = rows, sample(len(rows), limit)

    def __len__(self) -> int:
        return len(self._kept)

    def column(self, name: str) -> list[Any]:
        """One light column of the kept rows."""
        values = self._rows.column(name)
        return [values[i] for i in self._kept]

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[Row]:
        """Decoded media of the kept rows."""
        return self._rows.media([self._kept[i] for i in indices], kinds)


class Subset(Chosen):
    """The same of rows that lie in blocks."""

    _rows: DatasetRows

    def blocks(self) -> list[tuple[int, int]]:
        """(rows, bytes of media) of each block: what is left of it."""
        blocks = self._rows.blocks()
        edges = np.cumsum([0] + [rows for rows, _ in blocks])
        kept, _ = np.histogram(self._kept, bins=edges)
        return [(int(n), size * int(n) // max(1, rows)) for n, (rows, size) in zip(kept, blocks, strict=True)]

    def cells(self, rows: Sequence[int], columns: Sequence[str] = KINDS) -> list[Row]:
        """Stored media of the kept rows."""
        return self._rows.cells([self._kept[i] for i in rows], columns)


def sample(total: int, limit: int | None) -> list[int]:
    """`limit` of `total` row numbers, sorted; always the same ones. None keeps all."""
    order = np.random.default_rng(0).permutation(total)  # Fixed: runs with one --limit compare, whatever their seed.
    return sorted(int(i) for i in order[:limit])


def rows_of(built: ModelData, split: str, limit: int | None = None) -> RowSource:
    """The rows of a split, cut to `limit`."""
    rows = built.split(split)
    if limit is None:
        return rows
    return Subset(rows, limit) if isinstance(rows, DatasetRows) else Chosen(rows, limit)


def about(built: ModelData) -> dict[str, Any]:
    """What a result or a checkpoint says of the data."""
    return {
        "name": built.manifest.get("name", ""),
        "digest": built.digest,
        "demo": built.demo,
        "rows": {name: value["rows"] for name, value in built.manifest["splits"].items()},
        **({} if built.caption == "caption" else {"caption": built.caption}),
    }


def captions(rows: RowSource) -> list[str]:
    """Every row's caption; an empty one is a text. Raises DatasetError where a row has none."""
    texts = rows.column("caption")
    bad = [i for i, caption in enumerate(texts) if not isinstance(caption, str)]
    if bad:
        raise DatasetError(f"row {bad[0]} has no caption ({len(bad)} rows): run `birdmml validate` on the dataset")
    return texts


def stream(
    rows: RowSource, parts: Sequence[NDArray[np.int64]], workers: int, at_least: int, ready: Callable[[Row], Row] = dict
) -> Iterator[list[Row]]:
    """Decoded media of each part in turn. The order does not depend on the number of workers (0: no threads).

    `ready` is applied to each row where it is decoded. A source without blocks is asked for decoded media, part by
    part. Raises MediaError naming the row.
    """
    if not isinstance(rows, BlockSource):
        for part in parts:
            yield [ready(row) for row in rows.media(part.tolist(), KINDS)]
        return

    def job(row: int, cell: Mapping[str, Any]) -> Row:
        return ready(decode_row(row, cell, at_least))

    cells = _cells(rows, parts)
    if workers == 0:
        for part, stored in zip(parts, cells, strict=True):
            yield [job(int(i), cell) for i, cell in zip(part, stored, strict=True)]
        return
    # As many threads an operation as here: then `ready` rounds as it does without workers.
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers, "decode", initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        waiting: deque[list[Future[Row]]] = deque()
        try:
            for part, stored in zip(parts, cells, strict=True):
                jobs = zip(part.tolist(), stored, strict=True)
                waiting.append([pool.submit(job, i, cell) for i, cell in jobs])
                if len(waiting) >= AHEAD:
                    yield [job.result() for job in waiting.popleft()]
            while waiting:
                yield [job.result() for job in waiting.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _cells(rows: BlockSource, parts: Sequence[NDArray[np.int64]]) -> Iterator[list[Row]]:
    """Stored media of each part; a block is read when its first row is due, a row kept until its last use."""
    starts = np.cumsum([0] + [n for n, _ in rows.blocks()])
    left = Counter(int(row) for part in parts for row in part)
    held: dict[int, Row] = {}
    for part in parts:
        cells = []
        for row in part.tolist():
            if row not in held:
                block = int(np.searchsorted(starts, row, side="right")) - 1
                due = [r for r in range(starts[block], starts[block + 1]) if left[r]]
                held |= zip(due, rows.cells(due), strict=True)
            cells.append(held[row])
            left[row] -= 1
            if not left[row]:
                del held[row]
        yield cells


@dataclass(frozen=True)
class ArrayData(SetOnDisk):
    """A prepared set of arrays in the place of a built dataset; `manifest["splits"]` has the rows of each split.

    Pictures [H, W] become [3, H, W] with the grey repeated, spectrograms [1, bands, frames]: what reaches an encoder
    is what is stored. Features [T, D] stay as they are; "vision" is the image. A set without text of its own is
    described by its prompt: "an image of a zero".
    """

    arrays: ArraySet
    caption: str = "caption"

    @classmethod
    def open(cls, root: Path) -> ArrayData:
        """The set in a folder. Raises EvalsetError where it has nothing to train on, or modalities of other shapes."""
        stored = ArraySet.open(root.expanduser().resolve())
        rows = {s: {"rows": stored.rows(s)} for s in SPLITS if s in stored.splits}
        data = cls(stored.root, {**stored.manifest, "splits": rows}, stored)
        if data.name not in discover.names(KIND):
            raise EvalsetError(f"{root} is the set {data.name!r}, which this birdmml has not: see `birdmml list`")
        if lacking := [s for s in (TRAIN, TEST) if s not in data.arrays.splits or not data.arrays.rows(s)]:
            raise EvalsetError(
                f"{root} has no {lacking[0]} rows to train and score with: prepare {data.name} again, with some"
            )
        modalities = (IMAGE, AUDIO) if data.prompt else MODALITIES
        if set(data.fields) != set(modalities) or not all(map(_is_usable, data.fields, data.fields.values())):
            shapes = ", ".join(f"{m} {f.shape}" for m, f in data.fields.items())
            raise EvalsetError(f"{root} holds {shapes}, not {', '.join(modalities)}: prepare {data.name} again")
        return data

    @property
    def prompt(self) -> str:
        """What a class is called in a text; empty where texts are features."""
        if any(f.name == TEXT for f in self.arrays.fields):
            return ""
        return str(getattr(discover.load(KIND, self.name), "PROMPT", ""))

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The stored modalities under the names that models know them by."""
        return {MODALITY.get(f.name, f.name): f for f in self.arrays.fields}

    def split(self, name: str) -> SampleRows:
        """The rows of one split; raises UsageError if there is no such split."""
        return SampleRows(self, name)

    def sizes(self) -> dict[str, Any]:
        """The settings that follow from the shapes, as `--set` names them."""
        out: dict[str, Any] = {}
        for modality, f in self.fields.items():
            if f.steps:
                out[f"encoders.features.{modality}"], out["encoders.features.steps"] = f.shape[1], f.shape[0]
            elif modality == IMAGE:
                out["front_end.image_size"] = f.shape[0]
            else:
                out |= {"front_end.bands": f.shape[0], "front_end.frames": f.shape[1]}
                out |= {"front_end.db_centre": 0.0, "front_end.db_scale": 1.0}  # It is no longer in dB.
        return out


class SampleRows:
    """The rows of one split by number; one row group of values is in memory at a time."""

    def __init__(self, data: ArrayData, split: str) -> None:
        self._data, self._split, self._shards = data, split, data.arrays.shards(split)
        self._held: tuple[int, Samples] | None = None

    def __len__(self) -> int:
        return len(self._shards)

    def column(self, name: str) -> list[Any]:
        """ "id", "label" (an index), "species" (the class) or "caption", in row order; KeyError for any other."""
        if name == "id":
            return list(self._data.arrays.ids(self._split))
        classes, prompt = self._data.arrays.class_names, self._data.prompt
        # Without a prompt the text is features, and its caption is empty.
        captions = [prompt.format(common_name=c) for c in classes]
        values: Sequence[Any] = {"label": range(len(classes)), "species": classes, "caption": captions}[name]
        return [values[label] for label in self._data.arrays.labels(self._split)]

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        """Values of rows in the order given, float32, as `ArrayData` has them. Text features come with them."""
        modalities = [m for m in MODALITIES if m in {*kinds, TEXT} & set(self._data.fields)]
        values: list[dict[str, Any]] = [{} for _ in indices]
        for group, places, rows in self._shards.located(indices):
            if self._held is None or self._held[0] != group:
                self._held = group, self._data.arrays.group(self._shards, group)
            samples = self._held[1]
            for place, row in zip(places, rows, strict=True):
                values[place] = {m: self._value(m, samples, row) for m in modalities}
        return values

    def _value(self, modality: str, samples: Samples, row: int) -> NDArray[np.float32]:
        f = self._data.fields[modality]
        value: NDArray[np.float32] = samples.arrays[f.name][row]
        return value if f.steps else np.repeat(value[None], 3 if modality == IMAGE else 1, axis=0)


# What is trained on.
ModelData = Built | ArrayData


def opened(path: Path) -> Built | ArrayData:
    """What lies in a folder: a built dataset, or a prepared set of arrays. Raises DatasetError or EvalsetError."""
    return ArrayData.open(path) if is_prepared(path.expanduser()) else Built.open(path)


def fitted(sizes: Preset, data: ModelData) -> Preset:
    """The preset with the sizes that `data` dictates, and without random changes that its arrays do not bear."""
    if not isinstance(data, ArrayData):
        return sizes
    return settings.override(sizes, [*NO_CHANGES, *(f"{k}={v}" for k, v in data.sizes().items())])


def check_sizes(sizes: Preset, data: ModelData) -> None:
    """Raise UsageError where a preset contradicts the shapes of a set of arrays."""
    if not isinstance(data, ArrayData):
        return
    for key, value in data.sizes().items():
        size = attrgetter(key)(sizes)
        if size != value:
            raise UsageError(f"{key} is {size}, but {data.name} has {value}: leave {key} out")


def _is_usable(modality: str, f: Field) -> bool:
    if f.steps or modality == TEXT:
        return f.steps and len(f.shape) == 2
    return len(f.shape) == 2 and (modality == AUDIO or f.shape[0] == f.shape[1])
