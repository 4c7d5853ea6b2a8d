"""CMU-MOSI: vision, audio and text of 2,199 opinions, for retrieval (MultiBench's pickle; the user's own copy).

The file's label is a sentiment from -3 to 3; here it is a class, below zero or not. Copies with 74 audio features
instead of 5 are read too: they differ from what is published, and the manifest says so.
"""

from __future__ import annotations

from functools import partial

from birdmml.evalsets import _multibench
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
gather = partial(_multibench.gather, LAYOUT)
