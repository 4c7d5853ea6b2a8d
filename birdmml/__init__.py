"""birdmml: build, audit and benchmark image-audio-text datasets of birds.

    import birdmml, datasets
    rows = datasets.load_dataset("birdmml", split="train")   # the newest `birdmml build`
    row = birdmml.decode(rows[0])                            # image uint8 [H, W, 3], audio float32 [T]

Importing this costs milliseconds: `datasets`, numpy and torch wait until they are used.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from birdmml import _hook

__version__ = "0.1.0"


def load_dataset(name: str = "birdmml", **options: Any) -> Any:
    """`datasets.load_dataset` for the newest build ("birdmml") or a built folder; see birdmml.load."""
    from birdmml import load

    return load.load_dataset(name, **options)


def decode(value: Mapping[str, Any]) -> Any:
    """Arrays from a row or one of its image or audio cells, without torchcodec; see birdmml.load.decode."""
    from birdmml import load

    return load.decode(value)


_hook.install(sys.modules, sys.meta_path)
