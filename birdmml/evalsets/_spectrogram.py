"""A spoken digit as 112 x 112 grey values: one short-time Fourier transform, without a resize or a mel bank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml.media.audio import Sound, check_sound, cut

RATE_HZ = 8000
SECONDS = 1.0
SIZE = 112
WINDOW = 2 * (SIZE - 1)  # 222 samples, 27.75 ms: exactly 112 bins from 0 to 4,000 Hz.
HOP = 70  # 8.75 ms: 112 windows take 222 + 111 x 70 = 7,992 of the 8,000 samples.
FLOOR_DB = 80.0
RECIPE = (
    f"mono at {RATE_HZ} Hz; the first {SECONDS:g} s, filled with zeros; Hann window of {WINDOW} samples, hop {HOP};"
    f" magnitude of the real FFT, {SIZE} bins x {SIZE} windows, bin 0 (0 Hz) in row 0; dB below the loudest value,"
    f" floor -{FLOOR_DB:g} dB; (1 + dB / {FLOOR_DB:g}) * 255, rounded to uint8"
)


def spectrogram(samples: Sound) -> NDArray[np.uint8]:
    """Samples [8000] at 8 kHz -> [112 bins, 112 windows], 255 the loudest; they must not all be zero."""
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP][:SIZE]
    # Periodic, as for spectral analysis: one period of the cosine is WINDOW samples.
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(windows * hann, axis=1)).T
    db = 20.0 * np.log10(np.maximum(power / power.max(), 10.0 ** (-FLOOR_DB / 20.0)))
    return np.asarray(np.rint((1.0 + db / FLOOR_DB) * 255.0), dtype=np.uint8)


def read(path: Path) -> tuple[NDArray[np.uint8], float]:
    """(spectrogram of a recording, seconds beyond the first); raises MediaError for damage, silence and NaN."""
    clips = list(cut(path, SECONDS, RATE_HZ, max_seconds=60.0))
    check_sound(clips[0], RATE_HZ)
    return spectrogram(clips[0].samples), sum(c.valid_seconds for c in clips[1:])
