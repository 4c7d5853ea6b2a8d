"""MUStARD: vision, audio and text of sarcasm in TV shows, for retrieval (MultiBench's pickle; the user's own copy)."""

from __future__ import annotations

from pathlib import Path

from birdmml.core.pool import Progress
from birdmml.evalsets import _multibench
from birdmml.evalsets.arrays import Gathered
from birdmml.schema import Card

CARD = Card(
    summary="690 lines of TV shows, half of them sarcastic, as features of vision, audio and text.",
    license="research only, no redistribution",
    citation="Castro et al., Towards Multimodal Sarcasm Detection, ACL 2019 (arXiv 1906.01815), as packed by Liang"
    " et al., MultiBench, NeurIPS 2021 (arXiv 2107.07502)",
    url=_multibench.URL,
    modalities=_multibench.MODALITIES,
)
KIND = "arrays"
PROMPT = "{common_name}"
LAYOUT = _multibench.PickleLayout(
    "sarcasm.pkl", {"vision": 371, "audio": 81, "text": 300}, ("not sarcastic", "sarcastic"), _multibench.two_classes
)
DOWNLOAD = LAYOUT.download()
# MultiBench's paper gives the total, not the splits.
PUBLISHED = {"total": 690, "features": dict(LAYOUT.features)}
Options = _multibench.MultibenchOptions


def gather(source: Path, options: _multibench.MultibenchOptions, progress: Progress) -> Gathered:
    """The set in `sarcasm.pkl`, or in a folder that holds it."""
    return _multibench.gather(LAYOUT, source, options, progress)
