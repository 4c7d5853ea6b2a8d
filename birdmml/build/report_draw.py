"""Pictures of the report: spectrograms as PNG, histograms as numbers for an SVG."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdmml.media.audio import Sound

WIDTH, HEIGHT = 400, 128
WINDOW = 2 * 2 * HEIGHT
RANGE_DB = 65.0

# Colours between these, dark to bright; 63 steps keep the PNG small and are more than the eye separates here.
_ANCHORS = ((9, 17, 33), (22, 52, 84), (19, 103, 110), (70, 155, 96), (206, 192, 79), (255, 247, 214))
_STEPS = 63


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: values from `low` up to `high`, of which there are `count`."""

    low: float
    high: float
    count: int


def spectrogram_png(samples: Sound, rate_hz: int, valid_seconds: float) -> bytes:
    """A PNG of WIDTH x HEIGHT px: time to the right, 0 Hz at the bottom, half the rate at the top.

    `samples` is float32 [T]. Power in dB under the clip's own maximum, the lowest colour at -65 dB. What
    lies behind `valid_seconds` is padding and transparent.
    """
    level = np.rint(_levels(samples) * (_STEPS - 1)).astype(np.uint8)
    padding_from = math.ceil(WIDTH * valid_seconds * rate_hz / max(1, len(samples)))
    level[:, padding_from:] = _STEPS
    picture = Image.fromarray(level, mode="P")
    picture.putpalette(_palette())
    out = io.BytesIO()
    picture.save(out, "PNG", transparency=_STEPS)
    return out.getvalue()


def _levels(samples: Sound) -> NDArray[np.float64]:
    """Power on a dB scale from 0 (65 dB under the maximum, or less) to 1, [HEIGHT, WIDTH], highest band first."""
    padded = np.pad(samples, (WINDOW // 2, WINDOW // 2))
    starts = np.linspace(0, max(0, len(samples) - 1), WIDTH).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[starts]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)[:, 1:]) ** 2
    bands = power.reshape(WIDTH, HEIGHT, -1).max(axis=2)
    floor = 10 ** (-RANGE_DB / 10)
    relative = np.maximum(bands / max(float(bands.max()), 1e-12), floor)
    return np.asarray((10 * np.log10(relative) / RANGE_DB + 1).T[::-1])


@functools.cache
def _palette() -> bytes:
    """RGB triples of the colours, and one more for the transparent padding."""
    at = np.linspace(0, len(_ANCHORS) - 1, _STEPS)
    channels = [np.interp(at, range(len(_ANCHORS)), [a[c] for a in _ANCHORS]) for c in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes() + bytes((128, 128, 128))


def histogram(values: NDArray[np.float64], whole: bool = False, bars: int = 24) -> list[Bar]:
    """Up to `bars` bars of equal width over the finite values; one bar if all are equal, none for no values.

    With `whole`, values are whole numbers and a bar holds `low`, ..., `high` - 1.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [Bar(low, low + whole, len(values))]
    if whole:
        width = math.ceil((high - low + 1) / bars)
        edges = np.arange(low, high + width + 1, width)
    else:
        edges = np.linspace(low, high, bars + 1)
    counts, edges = np.histogram(values, edges)
    return [
        Bar(float(a), float(min(b, high + whole)), int(n))
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
