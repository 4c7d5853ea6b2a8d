"""One small demo world, seen and heard through plain features."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers.plain_features import Features, colours, song_features
from numpy.typing import NDArray

from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image
from birdmml.sources import demo
from birdmml.sources.demo import world


@dataclass(frozen=True)
class Seen:
    """Features [I, D] of a world's photos and clips, and what each item is [I]."""

    image: Features
    audio: Features
    species: NDArray[np.int64]
    look: NDArray[np.int64]
    song: NDArray[np.int64]
    train: NDArray[np.bool_]


@pytest.fixture(scope="session")
def seen() -> Seen:
    settings = world.DemoSettings(per_species=20)
    items = [world.photo_and_clip(settings, s, i) for s in range(24) for i in range(20)]

    def media(kind: str) -> list[bytes]:
        return [demo.open_media(settings, f"{kind}:{i.species}:{i.index}") for i in items]

    return Seen(
        image=np.array([colours(decode_image(m)) for m in media("photo")]),
        audio=np.array([song_features(decode_clip(m)) for m in media("clip")]),
        species=np.array([i.species for i in items]),
        look=np.array([i.look for i in items]),
        song=np.array([i.song for i in items]),
        train=np.array([i.index < 12 for i in items]),
    )
