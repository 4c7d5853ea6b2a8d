"""What all kinds of outcomes share: seeds in blocks, the same items for each, names as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from birdmml.errors import ResultError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a result, which must not point out of its own folder; raises ResultError."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name:
        raise ResultError(f"{folder}: predictions file {name!r} lies outside the result's folder")
    path = folder / pure
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ResultError(f"{path} not found: a result needs its per-item predictions")
    return path


def by_seed(seeds: Sequence[int], n: int) -> Ints:
    """The seed of each row: N rows a seed, in blocks."""
    return np.repeat(np.asarray(seeds, dtype=np.int64), n)


def seeds_of(table: pa.Table, path: Path) -> tuple[tuple[int, ...], int]:
    """The seeds, in order, and the number of items a seed; raises ResultError."""
    seed = np.asarray(table["seed"])
    seeds = tuple(int(s) for s in dict.fromkeys(seed.tolist()))
    n = len(seed) // len(seeds)
    if not np.array_equal(seed, by_seed(seeds, n)):
        raise ResultError(f"{path} does not have the same number of items for each seed, in blocks")
    return seeds, n


def same_for_all(table: pa.Table, column: str, seeds: tuple[int, ...], n: int, path: Path) -> list[Any]:
    """The first seed's values of a column that must not depend on the seed; raises ResultError."""
    values: list[Any] = table[column].to_pylist()
    if values != values[:n] * len(seeds):
        raise ResultError(f"{path}: the seeds were not scored on the same items ({column} differs)")
    return values[:n]


def names_of(table: pa.Table, column: str, seeds: int, n: int) -> tuple[tuple[str, ...], ...]:
    """A column of names [S][N]."""
    values = table[column].to_pylist()
    return tuple(tuple(values[i * n : (i + 1) * n]) for i in range(seeds))


def check_unique(ids: Sequence[str], draws: Ints | None, path: Path) -> None:
    """Raise ResultError where an item (of a draw) comes twice."""
    keys = list(ids) if draws is None else list(zip(ids, draws.tolist(), strict=True))
    if len(set(keys)) != len(keys):
        raise ResultError(f"{path} lists an item twice")


def codes(names: Sequence[str]) -> Ints:
    """Names as numbers from 0, in order of first appearance."""
    place: dict[str, int] = {}
    return np.asarray([place.setdefault(name, len(place)) for name in names], dtype=np.int64)
