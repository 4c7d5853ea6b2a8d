"""Recordings with noise: white, pink, wind, or another recording, at an exact SNR on the waveform.

Corrupt at the model's rate, after decoding and resampling and before the log-mel: then the SNR is that of what the
model hears, up to half its rate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from birdmml.corrupt.level import Floats, check_target, generator, scaled
from birdmml.corrupt.spec import Corruption
from birdmml.errors import MediaError, UsageError

Sound = NDArray[np.float32]

# Wind over a microphone: a rumble that falls by 12 dB an octave above WIND_HZ, in gusts of a few seconds whose
# loudness in dB is normal with a deviation of GUST_DB.
WIND_HZ, GUST_HZ, GUST_DB = 150.0, 0.5, 6.0
# Full scale is 1. A damaged file can decode to anything; from here on noise could leave float32.
LOUDEST = 1e6


def apply_audio(
    corruption: Corruption,
    wave: Sound,
    rate_hz: int,
    item_id: str,
    others: Sound | None = None,
    valid: int | None = None,
) -> Sound:
    """float32 [T] at `rate_hz` -> float32 [T], a copy, neither clipped nor normalised.

    The first `valid` samples (default: all) are the recording; the SNR holds over them, and padding behind them stays
    as it is. It is exact to 1e-6 dB; rounding the sum to float32 keeps it there for a second of sound up to 40 dB.
    `others` float32 [T2], at the same rate and without padding, is what kind "song" mixes in:
    repeated from its start if shorter, cut at a seeded place if longer.

    Raises MediaError for a silent recording (or silent `others`) and for samples that are not finite, UsageError for
    a corruption of images, for "missing", and for "song" without `others`.
    """
    check_target(corruption, "audio")
    length = wave.shape[0] if valid is None else valid
    if wave.ndim != 1 or not 0 <= length <= len(wave) or rate_hz <= 0:
        raise ValueError(f"need [T], 0 <= valid <= T, a rate; got {wave.shape}, {valid}, {rate_hz} Hz")
    if not length:
        raise MediaError("audio_empty", f"item {item_id!r} holds no samples: leave it out and count it")
    signal = _checked(wave[:length], f"item {item_id!r}")
    noise = _noise(corruption, generator(corruption, item_id), length, rate_hz, others)
    out = wave.astype(np.float32)
    out[:length] = signal + scaled(signal, noise, corruption.level, item_id)
    return out


def _noise(
    corruption: Corruption, rng: np.random.Generator, length: int, rate_hz: int, others: Sound | None
) -> Floats:
    """[length], at any scale."""
    if corruption.kind == "song":
        if others is None:
            raise UsageError(f"{corruption.name} needs another recording to mix in: pass others=")
        if others.ndim != 1:
            raise ValueError(f"need others [T2], got {others.shape}")
        return _excerpt(_checked(others, "the recording to mix in"), rng, length)
    white = rng.standard_normal(length)
    if corruption.kind == "pink":
        # Power 1/f is amplitude 1/sqrt(f); the constant counts as the lowest frequency, lest it become infinite.
        return _filtered(white, rate_hz, lambda hz: 1.0 / np.sqrt(np.maximum(hz, rate_hz / length)))
    if corruption.kind == "wind":
        gusts = _filtered(rng.standard_normal(length), rate_hz, lambda hz: _low_pass(hz, GUST_HZ))
        gusts /= np.sqrt(np.mean(np.square(gusts)))
        rumble = _filtered(white, rate_hz, lambda hz: _low_pass(hz, WIND_HZ))
        return np.asarray(rumble * 10.0 ** (GUST_DB * gusts / 20.0))
    return white


def _excerpt(other: Floats, rng: np.random.Generator, length: int) -> Floats:
    start = int(rng.integers(max(0, len(other) - length) + 1))
    return np.resize(other[start : start + length], length)


def _filtered(white: Floats, rate_hz: int, gain: Callable[[Floats], Floats]) -> Floats:
    """`white` [T] with its spectrum times `gain` of the frequencies in Hz; T is a whole period."""
    frequencies = np.fft.rfftfreq(len(white), 1.0 / rate_hz).astype(np.float64)
    return np.fft.irfft(np.fft.rfft(white) * gain(frequencies), len(white))


def _low_pass(hz: Floats, edge_hz: float) -> Floats:
    """Amplitude of a Butterworth low-pass of order 2: 1 / sqrt(1 + (f / edge)^4)."""
    return np.asarray(1.0 / np.sqrt(1.0 + (hz / edge_hz) ** 4))


def _checked(wave: Sound, what: str) -> Floats:
    if not (np.abs(wave) <= LOUDEST).all():  # NaN lands here too
        raise MediaError(
            "audio_range", f"{what} holds samples that are no numbers within ±{LOUDEST:g}: decode it anew"
        )
    return wave.astype(np.float64)
