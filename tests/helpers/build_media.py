"""Columns of media by hand, for tests of splitting and pairing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdmml.core import species
from birdmml.dataset.catalog import MediaColumns

SPECIES = ("Setophaga petechia", "Turdus migratorius", "Cyanocitta cristata")


@dataclass(frozen=True)
class One:
    kind: str
    group: str
    species: str = SPECIES[0]
    pair: str | None = None
    partner: int = -2
    row: int = -1
    wish: int = -1
    sha: str = ""


def table(media: list[One]) -> MediaColumns:
    """Columns of media that are in canonical order already."""
    numbers: dict[tuple[str, str], int] = {}

    def code(kind: str, value: str | None) -> int:
        return numbers.setdefault((kind, value), len(numbers) + 1) if value else 0

    def keys(name: str, values: list[str | None]) -> np.ndarray:
        return np.array([code(name, v) for v in values], dtype=np.uint64)

    n = len(media)
    return MediaColumns(
        label=np.array([species.resolve(m.species).label for m in media], dtype=np.int16),
        kind=np.array([m.kind == "audio" for m in media], dtype=np.int8),
        length=np.ones(n, dtype=np.int64),
        group=keys("group", [f"{m.kind}{m.group}" for m in media]),
        sha=keys("sha", [m.sha for m in media]),
        pair=keys("pair", [m.pair for m in media]),
        author=np.zeros(n, dtype=np.uint64),
        phash=np.zeros(n, dtype=np.uint64),
        partner=np.array([m.partner for m in media], dtype=np.int64),
        row=np.array([m.row for m in media], dtype=np.int64),
        wish=np.array([m.wish for m in media], dtype=np.int8),
    )
