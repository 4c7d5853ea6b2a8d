"""Decoded films of noise, with and without a sound track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Film:
    frames: NDArray[np.uint8]
    audio: NDArray[np.float32] | None


def film(seed: int, sound: bool = True) -> Film:
    generator = np.random.default_rng(seed)
    audio = generator.normal(0, 0.1, 9000 + 100 * seed).astype(np.float32) if sound else None
    return Film(generator.integers(0, 256, (8, 30, 40, 3), dtype=np.uint8), audio)
