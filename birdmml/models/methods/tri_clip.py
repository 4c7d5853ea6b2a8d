"""Tri-CLIP: the mean of the three pairwise InfoNCE losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from birdmml.models.heads import CosineHead, Features, Temperature, Variant, check_positive
from birdmml.models.losses import info_nce
from birdmml.schema import Card

CARD = Card(
    summary="three pairwise InfoNCE losses, averaged",
    license="method, no licence; this code Apache-2.0",
    citation="Baseline of Koutoupis et al., The More, the Merrier: Contrastive Fusion, CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)
# The paper leaves 2->1 blank; as in Symile's CLIP baseline it is the sum of the pairwise cosines here.
EXTENSIONS = "2->1 scores are sums of pairwise cosines, an extension the paper does not report"


@dataclass(frozen=True)
class Config:
    """The temperature is fixed unless asked otherwise. "reference" does not renormalise means over frames."""

    dim: int = 512
    temperature: float = 0.07
    learned_temperature: bool = False
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)


def loss(z: Mapping[str, Tensor], temperature: float | Tensor, same: Tensor | None = None) -> dict[str, Tensor]:
    """The InfoNCE of every pair and their mean, from unit vectors z_m [B, dim]."""
    terms = {f"{a}~{b}": info_nce(z[a], z[b], temperature, same) for a, b in combinations(z, 2)}
    return terms | {"loss": torch.stack(list(terms.values())).mean()}


class Model(CosineHead):
    """A linear projection a modality, for two modalities or more."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config, self.renormalise_frames = config, config.variant == "paper"
        self.temperature = Temperature(config.temperature, config.learned_temperature)

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """The InfoNCE terms and "loss", from encoder outputs h_m [B, D_m]."""
        return loss(self.embed_all(features), self.temperature(), same)
