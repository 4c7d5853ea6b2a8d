"""Tri-CLIP: the mean of the three pairwise InfoNCE losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from birdmml.errors import UsageError
from birdmml.nn import scores
from birdmml.nn.heads import Features, Projections, check_modalities
from birdmml.nn.losses import info_nce
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
    """`temperature` is fixed, not learned."""

    dim: int = 512
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}: it must be over 0")


def loss(z: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """The three terms and their mean, from unit vectors z_m [B, dim]."""
    terms = {f"{a}~{b}": info_nce(z[a], z[b], temperature) for a, b in combinations(z, 2)}
    return terms | {"loss": torch.stack(list(terms.values())).mean()}


class Model(nn.Module):
    """A linear projection a modality."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.config, self.modalities = config, check_modalities(widths)
        self.projections = Projections(widths, config.dim)

    def loss(self, features: Features) -> dict[str, Tensor]:
        """Three InfoNCE terms and "loss", from encoder outputs h_m [B, D_m]."""
        return loss(self.projections.embed(features), self.config.temperature)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] of the modalities given."""
        return self.projections.embed(features)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All 1->1 pairs, and the 2->1 pairs as an extension."""
        return scores.single_pairs(self.modalities) + scores.joint_pairs(self.modalities)

    def score(
        self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        """Cosine, or the sum of two cosines; [Q, C]."""
        scores.check_pair(query, target, self.pairs(), "tri_clip")
        return scores.summed_cosine(query, target, queries, candidates)
