"""Small copies of what plug-ins read, in the layouts of their providers.

    fakes.source("release", root, seed=0)     the settings that read it
    fakes.evalset("ssw60", root, seed=0)      the folder for `birdmml prepare --from`

A new plug-in whose files come from elsewhere gets a line in a table here, and all contracts hold for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from birdmml.evalsets import mosi, mustard, ur_funny
from fakes import evalsets, sources

Writer = Callable[[Path, int], Any]
SOURCES: dict[str, Writer] = {
    "demo": sources.demo,
    "folder": sources.folder,
    "inat_xc": sources.inat_xc,
    "release": sources.release,
}
# Whose files come from servers that a test starts.
SERVED = frozenset({"inat_xc"})
EVALSETS: dict[str, Writer] = {
    "av_mnist": evalsets.av_mnist,
    "cub200": evalsets.cub200,
    "mosi": partial(evalsets.multibench, mosi.LAYOUT),
    "mustard": partial(evalsets.multibench, mustard.LAYOUT),
    "ssw60": evalsets.ssw60,
    "ur_funny": partial(evalsets.multibench, ur_funny.LAYOUT),
    "vb100": evalsets.vb100,
}


def source(name: str, root: Path, seed: int = 0) -> Any:
    """Write what the source reads below `root`; gives its Settings."""
    assert name in SOURCES, f"nothing here writes what the source {name} reads: add a line to SOURCES"
    return SOURCES[name](root, seed)


def evalset(name: str, root: Path, seed: int = 0) -> Path:
    """Write the evaluation set as its provider has it below `root`; gives `root`."""
    assert name in EVALSETS, f"nothing here writes the evaluation set {name}: add a line to EVALSETS"
    EVALSETS[name](root, seed)
    return root
