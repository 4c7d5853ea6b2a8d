"""CMU-MOSI: vision, audio and text of 2,199 opinions, for retrieval (MultiBench's pickle; the user's own copy)."""

from __future__ import annotations

from pathlib import Path

from birdmml.core.pool import Progress
from birdmml.evalsets import _multibench
from birdmml.evalsets.arrays import Gathered
from birdmml.schema import Card

CARD = Card(
    summary="2,199 spoken opinions as features of vision, audio and text, step by step; 686 in the test gallery.",
    license="research only, no redistribution",
    citation="Zadeh et al., MOSI, 2016 (arXiv 1606.06259), as packed by Liang et al., MultiBench, NeurIPS 2021"
    " (arXiv 2107.07502)",
    url=_multibench.URL,
    modalities=_multibench.MODALITIES,
)
KIND = "arrays"
PROMPT = "{common_name}"
LAYOUT = _multibench.PickleLayout(
    "mosi_data.pkl", {"vision": 20, "audio": 5, "text": 300}, ("negative", "not negative"), _multibench.sentiment
)
DOWNLOAD = LAYOUT.download()
PUBLISHED = {"samples": {"train": 1284, "validation": 229, "test": 686}, "features": dict(LAYOUT.features)}
Options = _multibench.MultibenchOptions


def gather(source: Path, options: _multibench.MultibenchOptions, progress: Progress) -> Gathered:
    """The set in `mosi_data.pkl`, or in a folder that holds it; copies with 74 audio features differ, and say so."""
    return _multibench.gather(LAYOUT, source, options, progress)
