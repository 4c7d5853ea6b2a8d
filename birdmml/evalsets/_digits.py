"""Equal shares of each digit, drawn by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import UsageError

Ints = NDArray[np.int64]
CLASSES = 10


def share(size: int, digit: int) -> int:
    """How many of `size` samples show `digit`: a tenth, and one of the remainder for the first digits."""
    return size // CLASSES + (digit < size % CLASSES)


def choose(labels: Ints, pool: Ints, size: int, limit: int, seed: Sequence[int], split: str) -> Ints:
    """The rows of `pool` to use, ascending; `labels` [N] are those of all rows.

    `size` 0 asks for the whole pool, `limit` 0 for no limit; a size of the whole pool takes it as it is, a smaller
    one every digit equally often. Raises UsageError where a digit has too few rows.
    """
    wanted = size or len(pool)
    wanted = min(wanted, limit or wanted)
    if wanted == len(pool):
        return pool
    drawn = []
    for digit in range(CLASSES):
        rows = pool[labels[pool] == digit]
        if len(rows) < share(wanted, digit):
            raise UsageError(
                f"{split}={wanted} needs {share(wanted, digit)} samples of the digit {digit}, {len(rows)} are there: "
                f"ask for fewer, or for all {len(pool)}"
            )
        rng = np.random.default_rng([*seed, digit])
        drawn.append(rng.permutation(rows)[: share(wanted, digit)])
    return np.sort(np.concatenate(drawn))


def reuse(items: int, count: int, rng: np.random.Generator) -> Ints:
    """`count` indices into `items` things, each used equally often (give or take one), in random order."""
    rounds = -(-count // items)
    return np.concatenate([rng.permutation(items) for _ in range(rounds)])[:count].astype(np.int64)
