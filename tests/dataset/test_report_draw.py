import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from birdmml.dataset.report import HEIGHT, WIDTH, histogram, spectrogram_png

RATE_HZ = 22_050


def _tone(frequency_hz: float, seconds: float = 3.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)


def _rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)


@pytest.mark.parametrize("frequency_hz", [500.0, 2000.0, 5512.5, 9000.0])
def test_a_tone_is_a_bright_line_at_its_height(frequency_hz):
    picture = _rgba(spectrogram_png(_tone(frequency_hz), RATE_HZ, 3.0))
    assert picture.shape == (HEIGHT, WIDTH, 4)
    brightness = picture[..., :3].sum(axis=2)
    row = HEIGHT - 1 - frequency_hz / (RATE_HZ / 2) * HEIGHT
    middle = brightness[:, WIDTH // 4 : -WIDTH // 4]
    assert np.abs(middle.argmax(axis=0) - row).max() <= 1.5


def test_a_later_sound_is_further_to_the_right():
    sound = np.concatenate([np.zeros(RATE_HZ * 2, np.float32), _tone(3000.0, 1.0)])
    loud = _rgba(spectrogram_png(sound, RATE_HZ, 3.0))[..., :3].sum(axis=(0, 2)) > 12_000
    assert abs(int(np.argmax(loud)) - WIDTH * 2 / 3) < 6


@pytest.mark.parametrize("share", [0.25, 0.6, 1.0])
def test_padding_and_only_padding_is_transparent(share):
    alpha = _rgba(spectrogram_png(_tone(3000.0), RATE_HZ, 3.0 * share))[..., 3]
    assert (alpha[:, : int(WIDTH * share)] == 255).all()
    assert (alpha[:, int(WIDTH * share) + 1 :] == 0).all()


def test_loudness_does_not_change_the_picture_and_silence_is_dark():
    sound = _tone(3000.0)
    assert spectrogram_png(sound, RATE_HZ, 3.0) == spectrogram_png(sound / 16, RATE_HZ, 3.0)
    silent = _rgba(spectrogram_png(np.zeros(RATE_HZ, np.float32), RATE_HZ, 1.0))
    assert silent[..., :3].max() < 64


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.booleans())
def test_bars_count_every_value_once_where_it_belongs(values, whole):
    array = np.array(values, dtype=np.float64)
    bars = histogram(array, integers=whole)
    assert sum(bar.count for bar in bars) == len(values)
    assert len(bars) <= 24
    for bar in bars:
        last = bar is bars[-1] and not whole
        inside = [v for v in values if bar.low <= v < bar.high or (last and v == bar.high)]
        if whole or len(bars) == 1:
            assert bar.count == len(inside)
    assert bars[0].low == min(values)
    assert bars[-1].high - whole == max(values)


def test_no_values_have_no_bars_and_infinite_ones_are_left_out():
    assert histogram(np.array([])) == []
    assert [b.count for b in histogram(np.array([np.nan, np.inf, 2.0, 2.0]))] == [2]
