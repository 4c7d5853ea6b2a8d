"""Media in any order: the same with any number of threads, read in place, with little in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birdmml.errors import MediaError
from birdmml.load import Built, DatasetRows
from birdmml.models.feed import Blocks, block_order
from birdmml.models.read import Subset, stream


class Counted:
    """Blocks of numbers in the place of media; notes how often a block is read and how many rows are held."""

    def __init__(self, blocks: Sequence[tuple[int, int]]) -> None:
        self._blocks, self.reads = list(blocks), 0

    def __len__(self) -> int:
        return sum(n for n, _ in self._blocks)

    def column(self, name: str) -> list[Any]:
        raise AssertionError(name)

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        raise AssertionError("decoded media were asked for")

    def blocks(self) -> list[tuple[int, int]]:
        return self._blocks

    def cells(self, rows: Sequence[int], columns: Sequence[str] = ()) -> list[dict[str, Any]]:
        self.reads += 1
        return [{"number": row} for row in rows]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_rows_come_in_order_and_each_block_is_read_once(workers: int) -> None:
    source = Counted([(8, 80)] * 10)
    order = block_order(Blocks.of(source.blocks()), 240, 0, 0)
    parts = np.array_split(order, 9)
    found = list(stream(source, parts, workers, 0))
    assert [row["number"] for part in found for row in part] == order.tolist()
    assert source.reads == 10


def test_stopping_early_ends_the_threads() -> None:
    source = Counted([(8, 80)] * 10)
    running = stream(source, np.array_split(np.arange(80), 10), 2, 0)
    next(running)
    running.close()  # type: ignore[attr-defined]  # a generator


def test_threads_decode_the_same_as_no_threads_from_the_parquet_of_a_build(small_demo: Path) -> None:
    rows = Built.open(small_demo).split("train")
    parts = [np.array([5, 0, 17]), np.array([3]), np.array([5, 5])]
    wanted = [rows.media(part.tolist()) for part in parts]
    for workers in (0, 2):
        for found, plain in zip(stream(rows, parts, workers, 0), wanted, strict=True):
            for a, b in zip(found, plain, strict=True):
                assert np.array_equal(a["image"], b["image"])
                assert np.array_equal(a["audio"], b["audio"])


def test_a_subset_has_the_blocks_and_the_media_of_its_rows(small_demo: Path) -> None:
    rows = Built.open(small_demo).split("train")
    some = Subset(rows, 7)
    assert sum(n for n, _ in some.blocks()) == 7
    assert sum(size for _, size in some.blocks()) <= sum(size for _, size in rows.blocks())
    (found,) = stream(some, [np.arange(7)], 0, 0)
    for a, b in zip(found, some.media(range(7), ("image", "audio")), strict=True):
        assert np.array_equal(a["image"], b["image"])


def test_blocks_are_the_row_groups_and_their_bytes(small_demo: Path) -> None:
    rows = Built.open(small_demo).split("train")
    assert sum(n for n, _ in rows.blocks()) == len(rows)
    stored = sum(len(c["image"]["bytes"]) + len(c["audio"]["bytes"]) for c in rows.cells(range(len(rows))))
    assert sum(size for _, size in rows.blocks()) == pytest.approx(stored, rel=0.05)


def test_damaged_media_name_the_row(small_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, cells = Built.open(small_demo).split("train"), DatasetRows.cells

    def broken(self: DatasetRows, wanted: Sequence[int], *rest: Any) -> list[dict[str, Any]]:
        found = cells(self, wanted, *rest)
        for i, cell in zip(wanted, found, strict=True):
            if i == 4:
                cell["image"]["bytes"] = cell["image"]["bytes"][:200]
        return found

    monkeypatch.setattr(DatasetRows, "cells", broken)
    with pytest.raises(MediaError, match="row 4.*birdmml validate"):
        list(stream(rows, [np.arange(8)], 2, 0))
