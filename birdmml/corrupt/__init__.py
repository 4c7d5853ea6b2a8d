"""Sound and pictures made worse on purpose: noise at an exact SNR in dB, and other seeded damage."""

from birdmml.corrupt.audio import apply_audio
from birdmml.corrupt.image import apply_image, apply_images, to_uint8
from birdmml.corrupt.level import snr_db
from birdmml.corrupt.partner import Partners
from birdmml.corrupt.spec import KINDS, Corruption, parse

__all__ = [
    "KINDS",
    "Corruption",
    "Partners",
    "apply_audio",
    "apply_image",
    "apply_images",
    "parse",
    "snr_db",
    "to_uint8",
]
