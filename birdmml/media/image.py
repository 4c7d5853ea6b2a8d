"""Photos: bytes to uint8 RGB [H, W, 3] and back."""

from __future__ import annotations

import functools
import io
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from birdmml.errors import MediaError

MAX_PIXELS = 100_000_000
MIN_SIDE = 8
JPEG_QUALITY = 90

# What a bird photo can come as. Pillow opens many more formats, each of them attack surface.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Everything Pillow is known to raise on hostile bytes; anything else is a bug to hear about.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, OverflowError, MemoryError)

# Below this spread (in grey levels) an image carries no picture: a lens cap, a placeholder, an empty scan.
_FLAT = 1

_LIMIT_LOCK = threading.Lock()


@dataclass(frozen=True)
class ReadyImage:
    """A photo fit for a row: JPEG bytes, size in px, and whether the source's bytes were passed through."""

    data: bytes
    width: int
    height: int
    phash: str
    reencoded: bool


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, at_least: int = 0) -> NDArray[np.uint8]:
    """Decode to upright RGB, uint8 [H, W, 3]; transparency lies on white.

    With `at_least` a JPEG comes at 1/2, 1/4 or 1/8 of its size as long as no side falls below so many px:
    a fraction of the work for who scales it down anyway. Raises MediaError if the bytes are not an image, are
    cut short, or promise more than `max_pixels`.
    """
    picture = _open(data, max_pixels)
    if at_least:
        picture.draft("RGB", (at_least, at_least))
    return np.asarray(_upright_rgb(picture))


def encode_jpeg(image: NDArray[np.uint8] | Image.Image, quality: int = JPEG_QUALITY) -> bytes:
    """Encode uint8 [H, W, 3] (or a Pillow RGB image) as baseline JPEG without metadata."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, subsampling=0 if quality >= 95 else 2)
    return out.getvalue()


def ready_image(data: bytes, max_side: int, max_pixels: int = MAX_PIXELS, quality: int = JPEG_QUALITY) -> ReadyImage:
    """Check a photo and bring it into the form that rows hold.

    An RGB JPEG whose longer side is at most `max_side` px is passed through untouched; anything else
    becomes an RGB JPEG, scaled down if needed. Raises MediaError as `decode_image` does, and for
    images that are tiny or of one flat colour.
    """
    source = _open(data, max_pixels)
    plain_jpeg = source.format == "JPEG" and source.mode == "RGB"
    declared = source.size  # As `draft` changes it.
    if plain_jpeg:
        source.draft("RGB", (max_side, max_side))  # Decodes large JPEGs at 1/2, 1/4, 1/8: same picture, less work.
    drafted = source.size
    picture = _upright_rgb(source)
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        raise MediaError("image_too_small", f"{width} x {height} px; at least {MIN_SIDE} px a side are needed")
    # Means of blocks lie between the extrema: where they differ, the pixels do, and that is nearly always.
    blocks = picture.reduce(8) if min(width, height) >= 64 else picture
    if _spread(blocks) <= _FLAT and _spread(picture) <= _FLAT:
        raise MediaError("image_constant", "every pixel has the same colour")
    if plain_jpeg and max(declared) <= max_side:
        return ReadyImage(data, *picture.size, phash(picture), reencoded=False)
    if max(drafted) > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return ReadyImage(encode_jpeg(picture, quality), *picture.size, phash(picture), reencoded=True)


def phash(image: Image.Image | NDArray[np.uint8]) -> str:
    """64-bit perceptual hash, 16 hex digits: signs of the lowest 8 x 8 DCT-II terms about their median.

    Large pictures are averaged down to four times the hash's 32 x 32 grid first, which is quicker and as good. Zauner,
    "Implementation and benchmarking of perceptual image hash functions" (2010).
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    small = picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=4.0)
    grey = np.asarray(small, dtype=np.float64)
    basis = _dct_basis()
    low = (basis @ grey @ basis.T).ravel()
    bits = low > np.median(low)
    return np.packbits(bits).tobytes().hex()


@functools.cache
def _dct_basis() -> NDArray[np.float64]:
    """The first 8 rows of the 32-point orthonormal DCT-II, [8, 32]."""
    k, n = np.arange(8)[:, None], np.arange(32)[None, :]
    basis = np.cos(np.pi * (2 * n + 1) * k / 64) * np.sqrt(2 / 32)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis)


@functools.cache
def _formats() -> tuple[str, ...]:
    """FORMATS, less what this build of Pillow lacks (it may come without AVIF)."""
    Image.init()
    return tuple(f for f in FORMATS if f in Image.OPEN)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header only; refuse what is no image or too large before any pixel is decoded."""
    if not data:
        raise MediaError("empty_file", "the file has no bytes")
    try:
        with _LIMIT_LOCK:
            # Pillow's limit is fixed, and one for all threads. Ours follows, names the size, and can be set.
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                picture = Image.open(io.BytesIO(data), formats=_formats())
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError as e:
        raise MediaError("not_an_image", "the bytes are no image format that Pillow knows") from e
    except _BROKEN as e:
        raise MediaError("image_damaged", f"the header cannot be read ({e})") from e
    width, height = picture.size
    if width * height > max_pixels:
        raise MediaError(
            "image_too_large", f"{width:,} x {height:,} px is over the limit of {max_pixels:,} px (--max-pixels)"
        )
    return picture


def _upright_rgb(picture: Image.Image) -> Image.Image:
    """Decode the pixels, apply EXIF orientation, and bring any mode to RGB."""
    try:
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode == "RGB":
            return picture
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            return _grey_to_rgb(picture)
        if "A" in picture.getbands() or "transparency" in picture.info:
            over = picture.convert("RGBA")
            white = Image.new("RGBA", over.size, "white")
            return Image.alpha_composite(white, over).convert("RGB")
        return picture.convert("RGB")
    except _BROKEN as e:
        raise MediaError("image_damaged", f"the pixels cannot be decoded ({e})") from e


def _grey_to_rgb(picture: Image.Image) -> Image.Image:
    """16-bit and float greys scaled by their type's range: Pillow's own convert would clip them to white."""
    grey = np.asarray(picture).astype(np.float64)
    if not np.isfinite(grey).all():
        raise MediaError("image_damaged", "pixels are not finite numbers")
    top = 65535.0 if picture.mode != "F" else max(1.0, float(grey.max()))
    eight = np.clip(grey / top * 255.0, 0, 255).astype(np.uint8)
    return Image.fromarray(eight).convert("RGB")


def _spread(picture: Image.Image) -> float:
    """The largest difference of two values in one channel."""
    return max(high - low for low, high in picture.getextrema())  # type: ignore[misc]  # RGB: three pairs
