"""Sound and pictures made worse on purpose: noise at an exact SNR in dB, and other seeded damage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from birdmml.errors import MediaError, UsageError
from birdmml.media.corruption import Corruption, Floats, check_target, generator, scaled
from birdmml.media.image import decode_image, encode_jpeg

Sound = NDArray[np.float32]
Pixels = NDArray[np.float32]
Picture = NDArray[np.uint8]

# Wind over a microphone: a rumble that falls by 12 dB an octave above WIND_HZ, in gusts of a few seconds whose
# loudness in dB is normal with a deviation of GUST_DB.
WIND_HZ, GUST_HZ, GUST_DB = 150.0, 0.5, 6.0
# Full scale is 1. A damaged file can decode to anything; from here on noise could leave float32.
LOUDEST = 1e6
# The side that a sigma in px refers to; a larger picture is blurred by as much more.
BLUR_SIDE = 224
GREY = 128 / 255


def apply_audio(
    corruption: Corruption,
    wave: Sound,
    rate_hz: int,
    item_id: str,
    others: Sound | None = None,
    valid: int | None = None,
) -> Sound:
    """float32 [T] at `rate_hz` -> float32 [T], a copy, neither clipped nor normalised.

    Corrupt at the model's rate, after decoding and resampling and before the log-mel: then the SNR is that of what the
    model hears, up to half its rate.

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


def _noise(corruption: Corruption, rng: np.random.Generator, length: int, rate_hz: int, others: Sound | None) -> Floats:
    """[length], at any scale."""
    if corruption.kind == "song":
        if others is None:
            raise UsageError(f"{corruption.name} needs another recording to mix in: pass others=")
        if others.ndim != 1:
            raise ValueError(f"need others [T2], got {others.shape}")
        other = _checked(others, "the recording to mix in")
        start = int(rng.integers(max(0, len(other) - length) + 1))
        return np.resize(other[start : start + length], length)
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


def _filtered(white: Floats, rate_hz: int, gain: Callable[[Floats], Floats]) -> Floats:
    """`white` [T] with its spectrum times `gain` of the frequencies in Hz; T is a whole period."""
    frequencies = np.fft.rfftfreq(len(white), 1.0 / rate_hz).astype(np.float64)
    return np.fft.irfft(np.fft.rfft(white) * gain(frequencies), len(white))


def _low_pass(hz: Floats, edge_hz: float) -> Floats:
    """Amplitude of a Butterworth low-pass of order 2: 1 / sqrt(1 + (f / edge)^4)."""
    return np.asarray(1.0 / np.sqrt(1.0 + (hz / edge_hz) ** 4))


def _checked(wave: Sound, what: str) -> Floats:
    if not (np.abs(wave) <= LOUDEST).all():  # NaN lands here too
        raise MediaError("audio_range", f"{what} holds samples that are no numbers within ±{LOUDEST:g}: decode it anew")
    return wave.astype(np.float64)


def apply_image(corruption: Corruption, picture: Picture | Pixels, item_id: str) -> Pixels:
    """uint8 [H, W, 3], or float32 in [0, 1], -> float32 [H, W, 3] in units of [0, 1].

    Corrupt after the resize and before the mean is taken out: then the SNR is that of what the model sees. A resize to
    half the side averages four pixels and makes 10 dB into 16.

    Gaussian noise leaves [0, 1]: it is not clipped, so that the SNR is exact (to 1e-6 dB, and to float32's rounding).
    All other kinds stay inside. Frames of a video need an `item_id` each, or all get the same noise.

    Raises MediaError for a black picture and for pixels outside [0, 1], UsageError for a corruption of audio and for
    "missing".
    """
    check_target(corruption, "image")
    if picture.ndim != 3 or picture.shape[-1] != 3 or not picture.size:
        raise ValueError(f"need a picture [H, W, 3], got {picture.shape}")
    pixels = _unit(picture, item_id)
    if corruption.kind == "jpeg":
        stored = encode_jpeg(to_uint8(pixels), int(corruption.level))
        return decode_image(stored).astype(np.float32) / np.float32(255)
    if corruption.kind == "blur":
        # Each axis by its own length: what it would be after the picture is resized to a square.
        sigma = (*(corruption.level * side / BLUR_SIDE for side in pixels.shape[:2]), 0.0)
        wide = ndimage.gaussian_filter(pixels.astype(np.float64), sigma, mode="reflect", truncate=4.0)
        return np.asarray(wide, dtype=np.float32)
    rng = generator(corruption, item_id)
    if corruption.kind == "occlusion":
        return _covered(pixels, corruption.level, rng)
    signal = pixels.astype(np.float64)
    noise: Floats = rng.standard_normal(pixels.shape)
    return np.asarray(signal + scaled(signal, noise, corruption.level, item_id), dtype=np.float32)


def apply_images(corruption: Corruption, pictures: Picture | Pixels, item_ids: Sequence[str]) -> Pixels:
    """[B, 3, S, S], uint8 or float32 in [0, 1] -> float32 [B, 3, S, S]; each as `apply_image` has it.

    Raises what that raises.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or len(pictures) != len(item_ids):
        raise ValueError(f"need [B, 3, S, S] and B ids, got {pictures.shape} and {len(item_ids)} ids")
    out = np.empty(pictures.shape, dtype=np.float32)
    for row, (picture, item_id) in enumerate(zip(pictures, item_ids, strict=True)):
        out[row] = np.moveaxis(apply_image(corruption, np.moveaxis(picture, 0, -1), item_id), -1, 0)
    return out


def to_uint8(pixels: Pixels) -> Picture:
    """float32 in units of [0, 1] -> uint8, clipped and rounded: for looking at, and for JPEG.

    Not for scoring noise: clipping takes some of it away, rounding adds some. 48 demo photos of 224 px at 10 dB come
    out at 10.1 to 12.0 dB (mean 10.5), at 20 dB at 20.0 to 20.9 (20.1), at 40 dB at 39.4 to 40.2 (39.8). `snr_db`
    measures it.
    """
    levels: Pixels = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(255))
    return levels.astype(np.uint8)


def _unit(picture: Picture | Pixels, item_id: str) -> Pixels:
    if picture.dtype == np.uint8:
        return picture.astype(np.float32) / np.float32(255)
    low, high = float(picture.min()), float(picture.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN lands here too
        raise MediaError(
            "image_range",
            f"item {item_id!r} has pixels from {low:g} to {high:g}: corrupt pixels in [0, 1], before normalising",
        )
    return picture.astype(np.float32)


def _covered(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """A rectangle of the picture's own proportions, so the share holds to the rounding of its sides to whole px.

    Its place is drawn as a share of the room that is left: at a higher level it covers what it did at a lower one.
    """
    height, width, _ = pixels.shape
    tall, broad = (max(1, round(side * math.sqrt(share))) for side in (height, width))
    top, left = (int(u * (room + 1)) for u, room in zip(rng.random(2), (height - tall, width - broad), strict=True))
    out = pixels.copy()
    out[top : top + tall, left : left + broad] = GREY
    return out
