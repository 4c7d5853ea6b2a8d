"""The front end against naive numpy: one frame, one triangle, one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from birdmml.errors import UsageError
from birdmml.models.preprocess import Preprocessor, mel_filterbank, resize
from birdmml.models.presets import FrontEnd

PAPER = FrontEnd()
TINY = FrontEnd(image_size=32, bands=16, frames=20, n_fft=256, hop=100, db_centre=-30.0, db_scale=30.0)


def htk(hz: float) -> float:
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def naive_log_mel(wave: np.ndarray, s: FrontEnd) -> np.ndarray:
    """Protocol in words: centred Hann frames, power, HTK triangles, cut or zero-padded, 10 log10 with a floor."""
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * i / s.n_fft) for i in range(s.n_fft)])
    padded = np.pad(wave.astype(np.float64), s.n_fft // 2, mode="reflect")
    mels = [htk(s.low_hz) + (htk(s.high_hz) - htk(s.low_hz)) * i / (s.bands + 1) for i in range(s.bands + 2)]
    edges = [700.0 * (10 ** (m / 2595.0) - 1.0) for m in mels]
    out = np.zeros((s.bands, s.frames))
    for t in range(min(s.frames, 1 + len(wave) // s.hop)):
        power = np.abs(np.fft.rfft(padded[t * s.hop : t * s.hop + s.n_fft] * window)) ** 2
        for b in range(s.bands):
            left, middle, right = edges[b : b + 3]
            for k, value in enumerate(power):
                hz = k * s.rate_hz / s.n_fft
                if left < hz <= middle:
                    out[b, t] += value * (hz - left) / (middle - left)
                elif middle < hz < right:
                    out[b, t] += value * (right - hz) / (right - middle)
    return 10.0 * np.log10(np.maximum(out, 1e-10))


@pytest.mark.parametrize("seconds", [0.05, 0.09, 0.2])
def test_log_mel_equals_the_naive_one_whether_cut_or_padded(seconds: float) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, int(seconds * 22_050)).astype(np.float32)
    found = Preprocessor(TINY).audio([wave])[0, 0].numpy()
    assert found.shape == (16, 20)
    np.testing.assert_allclose(found, naive_log_mel(wave, TINY), atol=2e-3)


def test_the_papers_front_end_gives_431_frames_for_ten_seconds() -> None:
    assert (PAPER.n_fft, PAPER.hop, PAPER.bands, PAPER.low_hz, PAPER.high_hz) == (1024, 512, 128, 500.0, 10_000.0)
    wave = np.random.default_rng(0).normal(0, 0.1, 220_500).astype(np.float32)
    assert 1 + len(wave) // PAPER.hop == 431
    found = Preprocessor(PAPER).audio([wave])
    assert found.shape == (1, 1, 128, 431)
    assert (found > -100).all()  # no frame is padding


def test_padding_is_silence_at_the_floor_of_minus_100_db() -> None:
    found = Preprocessor(PAPER).audio([np.ones(22_050, dtype=np.float32) * 0.1])
    assert (found[..., 44:] == -100.0).all()


def test_a_tone_lands_in_the_band_whose_triangle_holds_it() -> None:
    wave = np.sin(2 * np.pi * 4000 * np.arange(22_050) / 22_050).astype(np.float32)
    mel = Preprocessor(PAPER).audio([wave])[0, 0, :, 20]
    step = (htk(10_000) - htk(500)) / 129
    assert abs(int(mel.argmax()) - ((htk(4000) - htk(500)) / step - 1)) <= 1


def test_filterbank_triangles_peak_at_one_and_cover_the_range_evenly() -> None:
    bank = mel_filterbank(8, 8192, 22_050, 500.0, 10_000.0).numpy()
    assert bank.max(axis=1) == pytest.approx(np.ones(8), abs=0.05)
    hz = np.arange(bank.shape[1]) * 22_050 / 8192
    assert not bank[:, (hz <= 500) | (hz >= 10_000)].any()
    inside = (hz > 1000) & (hz < 7000)
    assert bank[:, inside].sum(axis=0) == pytest.approx(np.ones(inside.sum()))  # neighbours add up to one


def test_mixed_lengths_and_shapes_equal_one_at_a_time_in_the_order_given() -> None:
    generator = np.random.default_rng(1)
    front = Preprocessor(TINY)
    waves = [generator.normal(0, 0.1, n).astype(np.float32) for n in (900, 2000, 900, 5000, 20)]
    pictures = [generator.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 60), (33, 32), (40, 60))]
    for i, wave in enumerate(waves):
        torch.testing.assert_close(front.audio(waves)[i], front.audio([wave])[0], atol=1e-3, rtol=0)
    for i, picture in enumerate(pictures):
        assert torch.equal(front.images(pictures)[i], front.images([picture])[0])


def test_halving_an_image_averages_with_the_antialiasing_triangle() -> None:
    row = np.random.default_rng(2).integers(0, 256, 16).astype(np.float64)
    picture = np.repeat(np.repeat(row[None, :, None], 16, axis=0), 3, axis=2).astype(np.uint8)
    found = resize(torch.from_numpy(picture)[None].movedim(-1, 1), 8)[0, 0, 4].numpy()
    # At half size each output pixel is a triangle four pixels wide: weights 1, 3, 3, 1 of 8.
    wanted = [round(float(np.dot(row[2 * i - 1 : 2 * i + 3], [1, 3, 3, 1]) / 8)) for i in range(1, 7)]
    assert np.abs(found[1:7].astype(int) - wanted).max() <= 1


def test_a_wide_photo_is_squashed_not_cropped() -> None:
    picture = np.zeros((40, 80, 3), dtype=np.uint8)
    picture[:, :10], picture[:, -10:] = 255, 255
    found = Preprocessor(TINY).images([picture])[0, 0]
    assert found.shape == (32, 32)
    assert (found[:, 1] > 200).all()
    assert (found[:, -2] > 200).all()


def test_finishing_scales_pixels_and_decibels() -> None:
    plain, scaled = Preprocessor(TINY), Preprocessor(FrontEnd(pixel_normalise=True))
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert torch.equal(plain.finish_image(white), torch.ones(1, 3, 4, 4))
    assert scaled.finish_image(white)[0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)
    assert plain.finish_audio(torch.tensor([-30.0, 30.0])).tolist() == [0.0, 2.0]
    assert Preprocessor(PAPER).finish_audio(torch.tensor([-100.0, 7.0])).tolist() == [-100.0, 7.0]


def test_a_range_above_half_the_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="0-4000 Hz"):
        FrontEnd(rate_hz=8000)


def test_a_lone_view_gives_what_its_copy_gives_and_stays_as_it_was() -> None:
    front = Preprocessor(FrontEnd(image_size=16, bands=16, frames=20, rate_hz=22_050))
    rng = np.random.default_rng(3)
    wave = rng.normal(0, 0.1, 8000).astype(np.float32)
    picture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for view in (wave, wave[::-1], wave[::2], picture, picture[:, ::-1], picture[::-1]):
        before, make = view.copy(), front.audio if view.ndim == 1 else front.images
        assert torch.equal(make([view]), make([before, before])[:1])
        assert np.array_equal(view, before)
