"""A source of as many rows as one likes, whose media are tiny and all different: 16 px photos and 0.1 s clips.

Everything else is as in a real build: what rows carry (licences, authors, addresses, captions), species, groups.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from birdmml.core.species import all_species
from birdmml.schema import RATE_HZ, Caption, Card, Credit, Photo, Recording

CARD = Card(summary="Noise, for measuring", license="CC0-1.0", citation="", url="")
SIDE_PX, SECONDS = 16, 0.1


@dataclass(frozen=True)
class Settings:
    """How many rows, spread evenly over the 150 species."""

    rows: int = 1000
    clip_seconds: float = SECONDS


def records(settings: Settings) -> Iterator[Photo | Recording]:
    """A photo and a recording for each row, species by species; two photos an observation."""
    species = [s.scientific_name for s in all_species()]
    for i in range(settings.rows):
        name = species[i * len(species) // settings.rows]
        person = f"Observer Number {i % 977}"
        credit = Credit("CC-BY-NC-4.0", "CC-BY-NC", person, f"https://www.inaturalist.org/photos/{i + 10**8}")
        text = f"{name} on a branch in the {i % 13}th garden, with a dark crown and a pale breast, singing loudly."
        yield Photo(f"{i}", name, f"p{i}", f"{i // 2}", credit, Caption(text, "provided", credit))
        credit = Credit(
            "CC-BY-NC-SA-4.0",
            "//creativecommons.org/licenses/by-nc-sa/4.0/",
            person,
            f"https://xeno-canto.org/{i}",
        )
        yield Recording(f"XC{i}", name, f"r{i}", f"XC{i}", credit)


def open_media(settings: Settings, locator: str) -> bytes:
    """A JPEG or a WAV of noise, seeded by its number."""
    rng = np.random.default_rng(int(locator[1:]))
    out = io.BytesIO()
    if locator[0] == "p":
        Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)).save(out, "JPEG")
    else:
        samples = rng.integers(-8000, 8000, round(SECONDS * RATE_HZ), dtype=np.int16)
        soundfile.write(out, samples, RATE_HZ, format="WAV")
    return out.getvalue()


def facts(settings: Settings) -> dict[str, Any]:
    """Nothing but that it is no demo."""
    return {"demo": False}


def public_settings(settings: Settings) -> dict[str, Any]:
    """All of them."""
    return asdict(settings)
