"""Simple features for the probes: enough to tell that a modality says something, too little to be a model."""

from __future__ import annotations

import functools
import math
import re
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdmml.media.audio import Sound

Vector = NDArray[np.float32]

SIDE = 64
THUMBNAIL = 8
COLOURS = 5
CELLS, ORIENTATIONS = 4, 8
IMAGE_DIM = 3 * THUMBNAIL**2 + COLOURS**3 + CELLS**2 * ORIENTATIONS

WINDOW, HOP = 1024, 512
BANDS = 40
LOW_HZ, HIGH_HZ = 150.0, 10_000.0
WIDE_BANDS = 8
# Edges of the modulation bands: how fast the loudness of a song goes up and down.
MODULATION_HZ = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PERCENTILES = (10, 50, 90, 99)
AUDIO_DIM = BANDS * (4 + len(_PERCENTILES)) + WIDE_BANDS * (len(MODULATION_HZ) - 1)
MAX_SECONDS = 30.0
_FLOOR = 1e-10

TEXT_DIM = 512


def image_features(pixels: NDArray[np.uint8]) -> Vector:
    """Thumbnail, colour histogram and gradient orientations of uint8 [H, W, 3], float32 [IMAGE_DIM]."""
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    step = SIDE // THUMBNAIL
    thumbnail = small.reshape(THUMBNAIL, step, THUMBNAIL, step, 3).mean(axis=(1, 3)) / 255.0
    level = np.minimum((small * COLOURS / 256.0).astype(np.int64), COLOURS - 1)
    colour = (level[..., 0] * COLOURS + level[..., 1]) * COLOURS + level[..., 2]
    histogram = np.sqrt(np.bincount(colour.ravel(), minlength=COLOURS**3) / SIDE**2)
    parts = (thumbnail.ravel(), histogram, _orientations(small.mean(axis=2)))
    return np.concatenate(parts).astype(np.float32)


def _orientations(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient energy by direction (0 to 180 degrees) in CELLS x CELLS parts, each part of length 1 or 0."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    turn = np.mod(np.arctan2(down, right), np.pi) * (ORIENTATIONS / np.pi)
    direction = np.minimum(turn.astype(np.int64), ORIENTATIONS - 1)
    cell = np.arange(SIDE) // (SIDE // CELLS)
    index = (cell[:, None] * CELLS + cell[None, :]) * ORIENTATIONS + direction
    found = np.bincount(index.ravel(), strength.ravel(), CELLS**2 * ORIENTATIONS).reshape(-1, ORIENTATIONS)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1.0)).ravel()


def audio_features(samples: Sound, rate_hz: int) -> Vector:
    """Statistics over time of log-mel bands, and how they move, of float32 [T]; float32 [AUDIO_DIM].

    Only the first MAX_SECONDS are heard. Bands reach from LOW_HZ to HIGH_HZ or half the rate.
    """
    power = _power(samples[: round(MAX_SECONDS * rate_hz)])
    mel = power @ _filters(rate_hz).T
    level = np.log10(mel + _FLOOR)
    change = np.abs(np.diff(level, axis=0)).mean(axis=0) if len(level) > 1 else np.zeros(BANDS)
    peak = np.bincount(mel.argmax(axis=1), mel.sum(axis=1), BANDS)
    statistics = (
        level.mean(axis=0),
        level.std(axis=0),
        change,
        np.sqrt(peak / max(float(peak.sum()), _FLOOR)),
        *np.percentile(level, _PERCENTILES, axis=0),
        _modulation(mel, rate_hz / HOP),
    )
    return np.concatenate([np.ravel(s) for s in statistics]).astype(np.float32)


def _power(samples: Sound) -> NDArray[np.float64]:
    """Power spectra [frames, WINDOW // 2 + 1] of Hann windows; a short clip is padded to one window."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * np.hanning(WINDOW), axis=1)
    return np.asarray(spectrum.real**2 + spectrum.imag**2) / WINDOW


@functools.lru_cache(maxsize=8)
def _filters(rate_hz: int) -> NDArray[np.float64]:
    """Triangular mel filters [BANDS, WINDOW // 2 + 1] (HTK's mel: 2595 log10(1 + f / 700))."""
    top = max(min(HIGH_HZ, rate_hz / 2), 2 * LOW_HZ)
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOW_HZ, top))
    mels = np.linspace(low, high, BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequency = np.fft.rfftfreq(WINDOW, 1 / rate_hz)
    rise = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    return np.asarray(np.clip(np.minimum(rise, fall), 0.0, None))


def _modulation(mel: NDArray[np.float64], frames_hz: float) -> NDArray[np.float64]:
    """Share of the movement of each of WIDE_BANDS loudness curves in each modulation band."""
    curves = np.sqrt(mel.reshape(len(mel), WIDE_BANDS, -1).sum(axis=2))
    energy = np.abs(np.fft.rfft(curves - curves.mean(axis=0), axis=0)) ** 2
    frequency = np.fft.rfftfreq(len(curves), 1 / frames_hz)
    bands = [
        energy[(frequency >= low) & (frequency < high)].sum(axis=0)
        for low, high in zip(MODULATION_HZ[:-1], MODULATION_HZ[1:], strict=True)
    ]
    return np.asarray(np.sqrt(np.array(bands) / np.maximum(energy.sum(axis=0), _FLOOR)).T)


def text_features(text: str) -> Vector:
    """Words hashed (CRC-32, signed) into float32 [TEXT_DIM] of length 1; zeros for a text without words."""
    found = np.zeros(TEXT_DIM)
    for word in re.findall(r"\w+", text.casefold()):
        code = zlib.crc32(word.encode())
        found[code % TEXT_DIM] += 1.0 if code & 0x8000_0000 else -1.0
    length = float(np.linalg.norm(found))
    return (found / length if length else found).astype(np.float32)
