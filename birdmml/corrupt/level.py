"""Noise that is the same everywhere, and its exact level: SNR = 10 log10(P_signal / P_noise) in dB.

P is the mean of squares of one item, in float64. A mean (the brightness of a picture) is part of the signal: nothing is
taken out of either before measuring.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from birdmml import files
from birdmml.corrupt.spec import Corruption
from birdmml.errors import MediaError, UsageError

Floats = NDArray[np.float64]

# -200 dB of full scale. Of anything weaker float32 would not hold the noise to the level that was asked for.
SILENT_POWER = 1e-20


def generator(corruption: Corruption, item_id: str) -> np.random.Generator:
    """A generator for one item, from a SHA-256 of modality, kind, seed and item.

    The level is not in it: at another level the same noise is scaled, which makes comparisons paired. Nor is the
    order or the batch. Equal streams hold for one version of numpy, which may change its distributions (NEP 19).
    """
    key = [corruption.modality, corruption.kind, corruption.seed, item_id]
    return np.random.default_rng(int(files.digest(key), 16))


def scaled(signal: Floats, noise: Floats, snr: float, item_id: str) -> Floats:
    """`noise` times the one factor that puts `signal` (of the same shape) at `snr` dB above it.

    Raises MediaError where signal or noise is silent, for then there is no such factor.
    """
    wanted = _power(signal, f"item {item_id!r}") / 10.0 ** (snr / 10.0)
    return noise * math.sqrt(wanted / _power(noise, f"the noise for item {item_id!r}"))


def snr_db(clean: NDArray[np.generic], noisy: NDArray[np.generic]) -> float:
    """SNR in dB of `noisy` against `clean`, of one shape and in one unit; infinite if they are equal.

    Raises MediaError if `clean` is silent.
    """
    if clean.shape != noisy.shape:
        raise ValueError(f"clean {clean.shape} and noisy {noisy.shape} differ in shape")
    signal = clean.astype(np.float64)
    noise = float(np.mean(np.square(noisy.astype(np.float64) - signal)))
    return 10.0 * math.log10(_power(signal, "the clean item") / noise) if noise else math.inf


def check_target(corruption: Corruption, modality: str) -> None:
    """Raise UsageError for a corruption of the other modality, and for one that takes the modality away."""
    if corruption.modality != modality:
        raise UsageError(
            f"{corruption.name} is nothing that can be done to {modality}: choose {modality}:..."
        )
    if corruption.kind == "missing":
        raise UsageError(f"{corruption.name} leaves no {modality} to change: embed the item without it")


def _power(values: Floats, what: str) -> float:
    power = float(np.mean(np.square(values))) if values.size else 0.0
    if not power > SILENT_POWER:
        raise MediaError(
            "no_signal",
            f"{what} is silent or black ({power:.1e} mean square), so that no SNR exists: "
            "leave the item out and count it",
        )
    return power
