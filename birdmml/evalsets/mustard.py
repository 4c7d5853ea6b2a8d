"""MUStARD: vision, audio and text of sarcasm in TV shows, for retrieval (MultiBench's pickle; the user's own copy).

690 lines, half of them sarcastic, in `sarcasm.pkl`. It is a pickle from strangers, as the two other sets of affect:
`_pickles` lets arrays and plain containers out of it, and nothing else.
"""

from __future__ import annotations

from functools import partial

from birdmml.evalsets import _multibench
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
gather = partial(_multibench.gather, LAYOUT)
