"""XOR: b follows from a and c together and from neither alone; computed, for `birdmml bench --suite xor`.

a and b (and d, with four modalities) are 5 fair bits each, and i ~ Bernoulli(p) a sample. c = a xor b (xor d)
where i = 1, else c = a. Any set of variables without one of them is independent of b for every p, so pairwise
methods can only guess. The task is to name b from all the others, among all 32 values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import UsageError
from birdmml.schema import Card

CARD = Card(
    summary="Bits of which only three (or four) variables together say something: nothing to do with birds.",
    license="CC0-1.0",
    citation="Koutoupis et al., The More, the Merrier: Contrastive Fusion, CVPR 2026 (arXiv 2511.21331); after"
    " Saporta et al., NeurIPS 2024 (arXiv 2411.01053). With four modalities: this project's own extension",
    url="https://arxiv.org/abs/2511.21331",
    modalities=("a", "b", "c"),
)
BITS = 5
CLASSES = 2**BITS
TARGET = "b"
SIZES = (3, 4)
TEST_ROWS = 2048

Bits = NDArray[np.uint8]
Codes = NDArray[np.int64]


def names(modalities: int) -> tuple[str, ...]:
    """("a", "b", "c"), or with "d"; raises UsageError for another number."""
    if modalities not in SIZES:
        raise UsageError(f"--modalities {modalities}: XOR is made of 3 or 4 variables")
    return tuple("abcd"[:modalities])


def class_names() -> tuple[str, ...]:
    """What b can be, in the order of its code: "00000", "00001", ..., the lowest bit last."""
    return tuple(f"{code:0{BITS}b}" for code in range(CLASSES))


def ceiling(p: float) -> float:
    """The best possible accuracy: b is known where i = 1, and 1 of 32 is right where i = 0."""
    return float(p + (1 - p) / CLASSES)


def bits(codes: Codes) -> Bits:
    """Codes [...] in 0..31 -> their bits [..., 5], the lowest bit last."""
    return (codes[..., None] >> np.arange(BITS)[::-1] & 1).astype(np.uint8)


def complete(sources: Mapping[str, Codes], switch: NDArray[np.bool_]) -> dict[str, Codes]:
    """Codes of a, b (and d) [...] -> of all variables; c is mixed of the others where `switch` is true."""
    mixed = sources["a"] ^ sources["b"] ^ sources.get("d", 0)
    values = {**sources, "c": np.where(switch, mixed, sources["a"])}
    return {name: values[name] for name in sorted(values)}


def draw(p: NDArray[np.float64], rows: int, modalities: int, rng: np.random.Generator) -> dict[str, Codes]:
    """`rows` fresh samples for each of the shares p [P]: codes [P, rows] a variable.

    The sources and the uniform number behind i are the same for all p, which then differ by p alone.
    """
    free = [name for name in names(modalities) if name != "c"]
    codes = rng.integers(0, CLASSES, (len(free), rows))
    switch = rng.random(rows) < p[:, None]
    shape = (len(p), rows)
    return complete({n: np.broadcast_to(c, shape) for n, c in zip(free, codes, strict=True)}, switch)


def cells(modalities: int) -> tuple[dict[str, Codes], NDArray[np.bool_]]:
    """Everything that can happen: codes [32^(M-1) x 2] a variable, and i; first all with i = 0, then i = 1."""
    free = [name for name in names(modalities) if name != "c"]
    grid = np.indices((2, *[CLASSES] * len(free))).reshape(1 + len(free), -1)
    switch = grid[0].astype(bool)
    return complete(dict(zip(free, grid[1:], strict=True)), switch), switch


def test_cells(p: float, modalities: int = 3, rows: int = TEST_ROWS, seed: int = 0) -> Codes:
    """The test set as indices [rows] into `cells`: fresh, and as even as can be, so that little is left to luck.

    Every value of the sources comes equally often (with three modalities and 2,048 rows: each (a, b) twice), in
    random order, and i = 1 in round(p rows) of them.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, modalities, rows]))
    values = CLASSES ** (len(names(modalities)) - 1)
    order = np.concatenate([rng.permutation(values) for _ in range(-(-rows // values))])[:rows]
    switch = np.diff(np.rint(p * np.arange(rows + 1))).astype(np.int64)
    return np.asarray(order + values * switch, dtype=np.int64)


def weights(p: float, switch: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The probability of each of the `cells` [C], whose i is `switch`."""
    return np.where(switch, p, 1 - p) / (len(switch) / 2)
