from __future__ import annotations

import io

import numpy as np
import pytest
from helpers import hamming
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from birdmml.errors import MediaError
from birdmml.media import image


def noise(height: int = 30, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def reason(data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        image.ready_image(data, max_side=1024)
    return caught.value.reason


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_decode_to_the_very_pixels(form: str) -> None:
    pixels = noise()
    assert np.array_equal(image.decode_image(saved(Image.fromarray(pixels), form)), pixels)


def test_a_plain_jpeg_passes_through_untouched() -> None:
    data = saved(Image.fromarray(noise()), "JPEG", quality=73)
    ready = image.ready_image(data, max_side=40)
    assert ready.data == data
    assert not ready.reencoded
    assert (ready.width, ready.height) == (40, 30)


@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGB"), ("WEBP", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK")])
def test_anything_else_becomes_an_rgb_jpeg(form: str, mode: str) -> None:
    ready = image.ready_image(saved(Image.fromarray(noise()).convert(mode), form), max_side=1024)
    with Image.open(io.BytesIO(ready.data)) as stored:
        assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (40, 30))
    assert ready.reencoded


def test_a_large_jpeg_is_scaled_to_the_longer_side() -> None:
    ready = image.ready_image(saved(Image.fromarray(noise(300, 400)), "JPEG"), max_side=100)
    assert (ready.width, ready.height) == (100, 75)
    assert image.decode_image(ready.data).shape == (75, 100, 3)


def test_exif_orientation_is_applied() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255  # White on the left.
    exif = Image.Exif()
    exif[0x0112] = 6  # "Rotate 90 degrees clockwise to show": the left side comes out on top.
    upright = image.decode_image(saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95))
    assert upright.shape == (40, 20, 3)
    assert upright[:15].mean() > 240 > 15 > upright[25:].mean()


def test_transparency_lies_on_white_not_on_black() -> None:
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert (image.decode_image(saved(clear, "PNG")) == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))
    pixels = image.decode_image(saved(grey, "PNG"))
    assert 120 < pixels.mean() < 135


def test_reasons_of_refusal() -> None:
    whole = saved(Image.fromarray(noise(200, 200)), "JPEG")
    assert reason(b"") == "empty_file"
    assert reason(b"this is a text, not a photo\n" * 20) == "not_an_image"
    assert reason(whole[: len(whole) // 2]) == "image_damaged"
    assert reason(saved(Image.new("RGB", (64, 64), "black"), "PNG")) == "image_constant"
    assert reason(saved(Image.fromarray(noise(4, 4)), "PNG")) == "image_too_small"


def test_a_huge_image_is_refused_from_its_header() -> None:
    data = saved(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(data) < 1 << 20
    with pytest.raises(MediaError, match=r"20,000 x 20,000 px is over the limit") as caught:
        image.decode_image(data)
    assert caught.value.reason == "image_too_large"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000), st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]))
def test_damage_anywhere_raises_media_error_or_decodes(junk: bytes, at: int, form: str) -> None:
    data = bytearray(saved(Image.fromarray(noise()), form))
    data[at % len(data) : at % len(data) + len(junk)] = junk
    try:
        pixels = image.decode_image(bytes(data))
    except MediaError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3


def test_phash_equals_a_naive_dct() -> None:
    grey = np.asarray(Image.fromarray(noise(64, 64)).convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    low = np.empty((8, 8))
    for u in range(8):
        for v in range(8):
            total = sum(
                grey[y, x] * np.cos(np.pi * (2 * y + 1) * u / 64) * np.cos(np.pi * (2 * x + 1) * v / 64)
                for y in range(32)
                for x in range(32)
            )
            low[u, v] = total * (1 / np.sqrt(32) if u == 0 else 0.25) * (1 / np.sqrt(32) if v == 0 else 0.25)
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert image.phash(noise(64, 64)) == f"{int(bits, 2):016x}"


def test_phash_survives_recompression_and_tells_pictures_apart() -> None:
    smooth = Image.fromarray(noise(8, 8)).resize((128, 128), Image.Resampling.BICUBIC)
    other = Image.fromarray(noise(8, 8, seed=1)).resize((128, 128), Image.Resampling.BICUBIC)
    again = image.decode_image(image.encode_jpeg(smooth.resize((96, 96)), quality=70))
    assert hamming(image.phash(smooth), image.phash(again)) <= 6
    assert hamming(image.phash(smooth), image.phash(other)) >= 16
