"""Corruptions hold their level exactly, are the same everywhere, and refuse what has no SNR."""

from __future__ import annotations

import hashlib
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import signal, stats

from birdmml.errors import MediaError, UsageError
from birdmml.media.corrupt import WIND_HZ, apply_audio, apply_image, apply_images, to_uint8
from birdmml.media.corruption import Corruption, generator, parse, scaled, snr_db

RATE = 32_000
SOUNDS = ("gaussian", "pink", "wind", "song")
levels = st.floats(-10.0, 40.0)


def tone(samples: int, hz: float = 440.0) -> NDArray[np.float32]:
    """A decaying tone: loud at its beginning, and nowhere near constant."""
    t = np.arange(samples) / RATE
    return (0.4 * np.exp(-t) * np.cos(2 * np.pi * hz * t)).astype(np.float32)


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def naive_snr(clean: NDArray[Any], noisy: NDArray[Any]) -> float:
    """By the book, one value at a time."""
    pairs = list(zip(clean.ravel().tolist(), noisy.ravel().tolist(), strict=True))
    return 10 * math.log10(math.fsum(c * c for c, _ in pairs) / math.fsum((n - c) ** 2 for c, n in pairs))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), levels, st.text(max_size=5))
def test_scaled_noise_is_at_its_level_to_a_millionth_of_a_decibel(shape: list[int], level: float, item: str) -> None:
    rng = generator(Corruption("image", "gaussian", level), item)
    clean = np.random.default_rng(1).uniform(0.01, 1.0, shape)
    noise = scaled(clean, rng.standard_normal(shape), level, item)
    assert naive_snr(np.asarray(clean), clean + noise) == pytest.approx(level, abs=1e-6)


@given(st.sampled_from(SOUNDS), st.integers(1, 3000), levels)
@example("pink", 1, 40.0)
@example("wind", 2, -10.0)
def test_short_sounds_are_at_their_level_to_the_rounding_of_float32(kind: str, samples: int, level: float) -> None:
    clean = tone(samples)
    noisy = apply_audio(Corruption("audio", kind, level), clean, RATE, "x", others=tone(777, 900.0))
    assert noisy.dtype == np.float32
    assert naive_snr(clean, noisy) == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize("level", [-10, 0, 10, 15, 20, 40])
def test_a_second_of_sound_and_a_picture_are_at_their_level_exactly(level: float) -> None:
    clean, pixels = tone(RATE), photo(224, 224).astype(np.float32) / np.float32(255)
    for kind in SOUNDS:
        noisy = apply_audio(Corruption("audio", kind, level), clean, RATE, "x", others=tone(50_000, 900.0))
        assert naive_snr(clean, noisy) == pytest.approx(level, abs=1e-6)
        assert snr_db(clean, noisy) == pytest.approx(level, abs=1e-6)
    seen = apply_image(Corruption("image", "gaussian", level), photo(224, 224), "x")
    assert naive_snr(pixels, seen) == pytest.approx(level, abs=1e-6)
    if level <= 20:
        assert seen.min() < 0.0 < 1.0 < seen.max()


def test_snr_of_a_case_worked_by_hand() -> None:
    clean, noisy = np.array([3, 4], dtype=np.uint8), np.array([3, 3], dtype=np.uint8)
    assert snr_db(clean, noisy) == pytest.approx(10 * math.log10(25.0))
    assert snr_db(clean, clean) == math.inf
    with pytest.raises(MediaError, match="silent or black"):
        snr_db(0 * clean, noisy)
    with pytest.raises(ValueError, match="differ in shape"):
        snr_db(clean, noisy[:1])


def test_the_noise_is_that_of_a_generator_made_from_the_key_by_hand() -> None:
    key = hashlib.sha256(json.dumps(["audio", "gaussian", 7, "wren-1"], separators=(",", ":")).encode())
    drawn = np.random.Generator(np.random.PCG64(int.from_bytes(key.digest()))).standard_normal(RATE)
    clean = tone(RATE)
    noisy = apply_audio(Corruption("audio", "gaussian", 3.0, seed=7), clean, RATE, "wren-1")
    noise = noisy.astype(np.float64) - clean
    assert np.allclose(noise / np.linalg.norm(noise), drawn / np.linalg.norm(drawn), atol=1e-7)
    # Recorded once: another value here means that older results can no longer be had again.
    assert drawn[:3] == pytest.approx([0.34701978991645893, -0.4946489659670558, -0.11748342034394685], abs=1e-12)


@pytest.mark.parametrize("kind", SOUNDS)
def test_another_level_scales_the_noise_and_another_seed_or_item_changes_it(kind: str) -> None:
    clean, other = tone(RATE), np.random.default_rng(5).standard_normal(90_000).astype(np.float32)

    def noise(level: float, seed: int = 0, item: str = "a") -> NDArray[np.float64]:
        noisy = apply_audio(Corruption("audio", kind, level, seed), clean, RATE, item, others=other)
        return noisy.astype(np.float64) - clean

    assert np.allclose(noise(0.0), noise(20.0) * 10.0, atol=1e-6)
    assert np.array_equal(noise(5.0), noise(5.0))
    for changed in (noise(5.0, seed=1), noise(5.0, item="b")):
        assert abs(np.corrcoef(noise(5.0), changed)[0, 1]) < 0.5


def test_gaussian_noise_is_gaussian_and_white() -> None:
    clean, pixels = tone(4 * RATE), photo(224, 224) / 255
    heard = apply_audio(Corruption("audio", "gaussian", 10.0), clean, RATE, "x").astype(np.float64) - clean
    seen = apply_image(Corruption("image", "gaussian", 10.0), photo(224, 224), "x") - pixels
    for noise in (heard, seen.ravel()):
        deviation = noise.std()
        assert abs(noise.mean()) < 4 * deviation / math.sqrt(noise.size)
        assert stats.kstest(noise / deviation, "norm").pvalue > 0.01
        for lag in (1, 2, 3, 224):
            assert abs(np.corrcoef(noise[lag:], noise[:-lag])[0, 1]) < 4 / math.sqrt(noise.size)


def spectrum(noise: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return signal.welch(noise, RATE, nperseg=8192)


def test_the_power_of_pink_noise_falls_as_one_over_the_frequency() -> None:
    clean = tone(20 * RATE)
    noise = apply_audio(Corruption("audio", "pink", 0.0), clean, RATE, "x").astype(np.float64) - clean
    hz, power = spectrum(noise)
    band = (hz > 50) & (hz < 12_000)
    slope, _ = np.polyfit(np.log10(hz[band]), np.log10(power[band]), 1)
    assert slope == pytest.approx(-1.0, abs=0.05)


def test_wind_is_low_and_comes_in_gusts() -> None:
    clean = tone(20 * RATE)
    noise = apply_audio(Corruption("audio", "wind", 0.0), clean, RATE, "x").astype(np.float64) - clean
    hz, power = spectrum(noise)
    # Of a power of 1 / (1 + x^4) the share beyond x = 2 is 3.7 %: the integrals are 0.0411 and pi / sqrt(8).
    assert power[hz > 2 * WIND_HZ].sum() / power.sum() == pytest.approx(0.037, abs=0.015)
    loudness = 10 * np.log10(np.mean(np.square(noise.reshape(-1, RATE // 2)), axis=1))
    assert 3.0 < loudness.std() < 9.0


def test_a_song_is_mixed_in_cut_or_repeated_and_nothing_else() -> None:
    clean, long, short = tone(4000), tone(9000, 900.0), tone(1500, 900.0)
    corruption = Corruption("audio", "song", 6.0)
    added = apply_audio(corruption, clean, RATE, "x", others=long).astype(np.float64) - clean
    fits = [np.corrcoef(added, long[start : start + 4000])[0, 1] for start in range(5001)]
    assert max(fits) == pytest.approx(1.0, abs=1e-9)
    added = apply_audio(corruption, clean, RATE, "x", others=short).astype(np.float64) - clean
    tiled = np.array([short[i % 1500] for i in range(4000)], dtype=np.float64)
    gain = math.sqrt(np.sum(np.square(clean, dtype=np.float64)) / np.sum(tiled**2) / 10**0.6)
    assert np.allclose(added, gain * tiled, atol=1e-7)


def test_the_level_holds_over_the_valid_part_and_padding_stays() -> None:
    clean = np.concatenate([tone(5000), np.zeros(3000, dtype=np.float32)])
    before = clean.copy()
    noisy = apply_audio(Corruption("audio", "wind", 10.0), clean, RATE, "x", valid=5000)
    assert naive_snr(clean[:5000], noisy[:5000]) == pytest.approx(10.0, abs=1e-5)
    assert not noisy[5000:].any()
    assert np.array_equal(clean, before)


def test_blur_is_a_convolution_with_a_gaussian_over_mirrored_edges() -> None:
    picture = photo(14, 11)
    seen = apply_image(Corruption("image", "blur", 24.0), picture, "x")
    expected = picture / 255
    for axis, sigma in enumerate((24 * 14 / 224, 24 * 11 / 224)):
        expected = np.apply_along_axis(naive_blur, axis, expected, sigma)
    assert np.allclose(seen, expected, atol=1e-6)
    assert seen.dtype == np.float32


def naive_blur(line: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """One line, with ... c b a | a b c ... | c b a ... beyond its ends, out to four sigma."""
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
    endless = np.concatenate([line, line[::-1]])
    return np.array(
        [
            sum(w * endless[(i + k) % len(endless)] for k, w in zip(range(-reach, reach + 1), weights, strict=True))
            / sum(weights)
            for i in range(len(line))
        ]
    )


def test_jpeg_is_what_pillow_makes_of_it() -> None:
    file = io.BytesIO()
    Image.fromarray(photo(40, 56)).save(file, "JPEG", quality=30, subsampling="4:2:0")
    expected = np.asarray(Image.open(file)) / 255
    seen = apply_image(Corruption("image", "jpeg", 30), photo(40, 56), "x")
    assert np.allclose(seen, expected, atol=1e-7)


@given(st.integers(8, 80), st.integers(8, 80), st.floats(0.001, 1.0), st.text(max_size=3))
def test_occlusion_covers_its_share_with_grey_and_what_a_smaller_one_covers(
    height: int, width: int, share: float, item: str
) -> None:
    white = np.full((height, width, 3), 255, dtype=np.uint8)
    seen = apply_image(Corruption("image", "occlusion", share), white, item)
    covered = (seen == np.float32(128 / 255)).all(axis=-1)
    tall, broad = covered.any(axis=1).sum(), covered.any(axis=0).sum()
    assert covered.sum() == tall * broad
    assert abs(tall - height * math.sqrt(share)) <= 1
    assert abs(broad - width * math.sqrt(share)) <= 1
    assert (seen[~covered] == 1.0).all()
    smaller = apply_image(Corruption("image", "occlusion", max(0.001, share / 2)), white, item)
    assert covered[smaller[..., 0] < 1.0].all()


def test_occlusion_of_a_quarter_is_exact_and_lies_anywhere() -> None:
    corners = set()
    for item in range(40):
        seen = apply_image(Corruption("image", "occlusion", 0.25), photo(224, 224), str(item))
        changed = (seen != photo(224, 224).astype(np.float32) / np.float32(255)).any(axis=-1)
        corners.add((int(changed.any(axis=1).argmax()) // 38, int(changed.any(axis=0).argmax()) // 38))
        assert (to_uint8(seen)[changed] == 128).all()
        assert 0.249 < changed.mean() <= 0.25
    assert len(corners) >= 7  # of the nine thirds


@pytest.mark.parametrize("name", ["gaussian-5dB", "blur-3px", "jpeg-20", "occlusion-0.1"])
def test_a_picture_is_the_same_alone_in_any_batch_and_in_either_form(name: str) -> None:
    corruption, ids = parse(f"image-{name}", seed=4), ["a", "b", "c"]
    pictures = np.stack([photo(24, 24, seed) for seed in range(3)])
    batch = np.moveaxis(pictures, -1, 1)
    whole = apply_images(corruption, batch, ids)
    assert whole.shape == (3, 3, 24, 24)
    assert np.array_equal(apply_images(corruption, batch[::-1], ids[::-1])[::-1], whole)
    as_float = batch.astype(np.float32) / np.float32(255)
    assert np.array_equal(apply_images(corruption, as_float, ids), whole)
    for row, item in enumerate(ids):
        alone = apply_image(corruption, pictures[row], item)
        assert np.array_equal(np.moveaxis(alone, -1, 0), whole[row])
    assert "gaussian" in name or (whole.min() >= 0.0 and whole.max() <= 1.0)


def test_eight_bits_are_rounded_and_clipped() -> None:
    pixels = np.array([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0], dtype=np.float32)
    assert to_uint8(pixels).tolist() == [0, 0, 0, 1, 255, 255]
    assert np.array_equal(to_uint8(photo(9, 9).astype(np.float32) / np.float32(255)), photo(9, 9))


@pytest.mark.parametrize("kind", SOUNDS)
def test_silence_and_damage_have_no_snr_and_are_refused(kind: str) -> None:
    corruption, other = Corruption("audio", kind, 10.0), tone(400)
    for wave, words in (
        (np.zeros(300, dtype=np.float32), "item 'wren' is silent"),
        (np.full(300, 1e-12, dtype=np.float32), "leave the item out"),
        (np.zeros(0, dtype=np.float32), "holds no samples"),
        (np.array([0.1, np.nan], dtype=np.float32), "decode it anew"),
        (np.array([0.1, 1e30], dtype=np.float32), "decode it anew"),
    ):
        with pytest.raises(MediaError, match=words):
            apply_audio(corruption, wave, RATE, "wren", others=other)
    with pytest.raises(ValueError, match="need"):
        apply_audio(corruption, tone(300), RATE, "wren", others=other, valid=301)


def test_what_cannot_be_corrupted_says_why() -> None:
    song, noise = Corruption("audio", "song", 3.0), Corruption("image", "gaussian", 3.0)
    with pytest.raises(UsageError, match="needs another recording"):
        apply_audio(song, tone(300), RATE, "x")
    with pytest.raises(MediaError, match="the noise for item 'x' is silent"):
        apply_audio(song, tone(300), RATE, "x", others=np.zeros(9, dtype=np.float32))
    with pytest.raises(MediaError, match="silent or black"):
        apply_image(noise, np.zeros((9, 9, 3), dtype=np.uint8), "x")
    for bad in (-0.5, 2.0, np.nan):
        with pytest.raises(MediaError, match="before normalising"):
            apply_image(noise, np.full((9, 9, 3), bad, dtype=np.float32), "x")
    with pytest.raises(UsageError, match="nothing that can be done to audio"):
        apply_audio(noise, tone(300), RATE, "x")
    with pytest.raises(UsageError, match="embed the item without it"):
        apply_image(Corruption("image", "missing"), photo(9, 9), "x")
    with pytest.raises(ValueError, match="2 ids"):
        apply_images(noise, np.zeros((1, 3, 9, 9), dtype=np.uint8), ["a", "b"])
