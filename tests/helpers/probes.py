"""Items round a centre a class, and subjects, for the tests of suites that learn a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.bench.suites._contract import Material, Scorer, Subject

NAMES = ("wren", "robin", "rook", "crow")
FILMS = Subject("demo", "demo-videos", "videos", ("test", "all"), ("image", "audio"), 4)
ROWS = Subject("dataset", "{split}-split", "rows", ("train", "validation", "test"), ("image", "audio"), 4)
NOTHING = Scorer(lambda *_: np.zeros((0, 0)), ())


def unit(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def material(
    counts: tuple[int, ...] = (12, 12, 12, 12), spread: float = 0.6, seed: int = 0, prefix: str = "i", **more: Any
) -> Material:
    """Items round one centre a class, the same centres for every seed; `spread` inf: no class tells."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.random.default_rng(99).normal(size=(2, len(counts), 8))
    noise = generator.normal(size=(2, len(labels), 8))
    told = noise if np.isinf(spread) else centres[:, labels] + spread * noise
    arrays = {"image": unit(told[0]), "audio": unit(told[1])}
    present = {name: np.ones(len(labels), dtype=bool) for name in arrays}
    ids = tuple(f"{prefix}{n}" for n in range(len(labels)))
    return Material("set", ids, arrays | more, present, labels, NAMES[: len(counts)])
