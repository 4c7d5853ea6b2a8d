"""What decides the bytes of a dataset: the settings of its build, and random streams by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birdmml.core import species_list
from birdmml.media import audio, image
from birdmml.schema import RATE_HZ

Fractions = tuple[float, float, float]


@dataclass(frozen=True)
class Rules:
    """What decides the sides. `fractions` are of train, validation and test, `near_radius` in bits of 64 (-1: off)."""

    mode: str = "grouped"
    fractions: Fractions = (0.8, 0.1, 0.1)
    by_author: bool = False
    near_radius: int = 6


@dataclass(frozen=True)
class Limits:
    """What media may be. Sides and pixels in px, times in s."""

    clip_s: float = 10.0
    rate_hz: int = RATE_HZ
    max_image_side: int = 1024
    max_pixels: int = image.MAX_PIXELS
    max_seconds: float = audio.MAX_SECONDS
    max_file_bytes: int = 2 << 30
    min_tail_s: float = 1.0


@dataclass(frozen=True)
class BuildSettings:
    """What decides the bytes of a dataset. `evalsets` are folders whose photos must not be trained on.

    `captions` are the captioner's own settings, None for its defaults.
    """

    source: str
    source_settings: Any
    seed: int = 0
    rules: Rules = field(default_factory=Rules)
    passes: int = 0
    limit: int | None = None
    limits: Limits = field(default_factory=Limits)
    evalsets: tuple[str, ...] = ()
    captioner: str = "template"
    captions: Any = None

    @property
    def species_list(self) -> species_list.SpeciesList:
        """The species that there are: those of the source's list, or the shipped 150."""
        return species_list.of_settings(self.source_settings)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator of its own for each combination of seed and names, the same on every machine.

    A stream depends on names and not on the order of calls, so a species more changes nothing for the others.
    """
    text = "\x1f".join(str(n) for n in (seed, *names))
    # 128 bits are what a SeedSequence pools.
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
