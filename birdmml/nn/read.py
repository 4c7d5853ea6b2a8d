"""Rows to train on or to embed: all of a split or a fixed sample, media decoded by threads a little ahead."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.errors import DatasetError
from birdmml.load import DatasetRows, decode_row

if TYPE_CHECKING:
    from birdmml.array_data import ModelData

AHEAD = 3
KINDS = ("image", "audio")
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

    def __init__(self, rows: DatasetRows, limit: int) -> None:
        super().__init__(rows, limit)

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
    order = np.random.default_rng(0).permutation(total)
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
        raise DatasetError(
            f"row {bad[0]} has no caption ({len(bad)} rows): run `birdmml validate` on the dataset"
        )
    return texts


def stream(
    rows: RowSource,
    parts: Sequence[NDArray[np.int64]],
    workers: int,
    at_least: int,
    ready: Callable[[Row], Row] = dict,
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
    with ThreadPoolExecutor(
        workers, "decode", initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
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
