"""What belongs together: keys as numbers, and groups of rows joined over several keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]

# A group larger than this share of all rows leaves nothing to compare it with.
_GIANT = 1 / 3
_FEW = 10


@dataclass(frozen=True)
class Grouping:
    """`groups` [N] numbers what must stay together; `by` says by what, in words."""

    groups: Codes
    by: str


def components(keys: Sequence[Codes], rows: int) -> Codes:
    """Number the groups of rows [N] that share a value in any of `keys` ([N] each; -1 is shared with nobody)."""
    parent = np.arange(rows)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for key in keys:
        first: dict[int, int] = {}
        for row, value in enumerate(key.tolist()):
            if value >= 0:
                a, b = root(first.setdefault(value, row)), root(row)
                parent[max(a, b)] = min(a, b)
    roots = np.array([root(i) for i in range(rows)], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64).reshape(rows)


def choose(content: Codes, claimed: Codes, labels: Codes, names: tuple[str, str]) -> Grouping:
    """Groups [N] by equal `content` and by a `claimed` id; without the claim where it contradicts the content.

    When media or ids were shuffled, joining both chains everything together, and an id could hide that the
    media say nothing. Then equal content alone decides; and where one content fills the dataset, under many
    labels, each row stands alone: it can give no label away.
    """
    rows = len(labels)
    if not rows:
        return Grouping(content, names[0])
    joined = components([content, claimed], rows)
    if not _mixture(joined, labels):
        return Grouping(joined, f"{names[0]} or {names[1]}" if (claimed >= 0).any() else names[0])
    same = components([content], rows)
    if not _mixture(same, labels):
        return Grouping(same, f"{names[0]}; {names[1]} contradicts it")
    return Grouping(np.arange(rows), f"row: too many have the {names[0]}")


def _mixture(groups: Codes, labels: Codes) -> bool:
    """Whether groups of several labels leave nothing to compare: one is giant, or there are few and most are such."""
    counts = np.bincount(groups)
    pairs = np.unique(np.stack([groups, labels], axis=1), axis=0)
    mixed = np.bincount(pairs[:, 0]) > 1
    giant = bool((mixed & (counts > _GIANT * len(groups))).any())
    return giant or (len(counts) < _FEW and counts[mixed].sum() > len(groups) / 2)
