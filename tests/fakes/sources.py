"""What each source reads, written small below `root` by a seed; each function gives the settings that read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from birdmml.core.species import all_species
from birdmml.sources import release as sources_release
from birdmml.sources.demo import world
from birdmml.sources.folder import Settings
from birdmml.sources.inat_xc import settings
from fakes import inaturalist
from fakes import release as release_fake


def demo(root: Path, seed: int) -> world.DemoSettings:
    """The smallest demo; it needs no files."""
    return world.DemoSettings(species=4, per_species=6, seed=seed, image_size=32, clip_seconds=2.0, eval_videos=1)


def folder(root: Path, seed: int) -> Settings:
    """A tiny folder of both kinds of media for four species."""
    rng = np.random.default_rng(seed)
    for species in all_species()[:4]:
        name = species.scientific_name.replace(" ", "_")
        for number in range(3):
            photo = root / "images" / name / f"photo{number}.jpg"
            sound = root / "audio" / name / f"call{number}.wav"
            photo.parent.mkdir(parents=True, exist_ok=True)
            sound.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(photo)
            soundfile.write(sound, 0.1 * rng.standard_normal(4000), 8000)
    return Settings(str(root), clip_seconds=1.0)


def inat_xc(root: Path, seed: int) -> settings.RawSettings:
    """A small world in the providers' layouts, one folder a service (inaturalist.SERVICES), for local servers to show.

    The addresses in the settings lead nowhere: a test puts those of its servers in their places.
    """
    return inaturalist.write(root, seed)


def release(root: Path, seed: int) -> sources_release.Settings:
    """A small release in its true layout, with a part missing."""
    release_fake.write(root, seed, species=4, rows=6)
    return sources_release.Settings(str(root), clip_seconds=1.0)
