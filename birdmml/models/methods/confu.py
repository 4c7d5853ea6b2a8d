"""ConFu: pairwise InfoNCE, and InfoNCE between each fused pair and the third modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from birdmml.errors import UsageError
from birdmml.models import scores
from birdmml.models.heads import (
    CosineHead,
    Features,
    Pairs,
    Temperature,
    Variant,
    check_positive,
    check_share,
    method_name,
)
from birdmml.models.losses import info_nce, normalise
from birdmml.schema import Card

CARD = Card(
    summary="pairwise and fused InfoNCE: one loss for 1->1 and 2->1",
    license="method, no licence; this code Apache-2.0",
    citation="Koutoupis et al., The More, the Merrier: Contrastive Fusion, CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)


@dataclass(frozen=True)
class Config:
    """`fused_weight` is the paper's lambda; `hidden` and `dropout` are the fusion's.

    `order` is the largest number of modalities fused, M - 1 at most. With M modalities there are sum_s C(M, s)
    fusions and sum_s C(M, s) (M - s) fused terms, s = 2..order: 3 and 3 for M = 3, 10 and 16 for M = 4, order 3.
    `mask_ratio` is the share of each h_m that is zeroed before it is fused, in training. "reference" is the
    released code: loss over the number of terms, LeakyReLU(0.2) and dropout after the last layer too, and
    `mask_ratio` the share *kept*, with the masks of the second and third modality drawn crosswise.
    """

    dim: int = 512
    temperature: float = 0.07
    learned_temperature: bool = False
    fused_weight: float = 0.5
    order: int = 2
    hidden: int = 512
    dropout: float = 0.1
    mask_ratio: float = 0.0
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)
        check_share(dropout=self.dropout, mask_ratio=self.mask_ratio)
        if not 0 <= self.fused_weight <= 1:
            raise UsageError(f"fused_weight is {self.fused_weight}: it must lie in 0 to 1")
        if not 1 <= self.hidden <= 16_384 or not 2 <= self.order <= 16:
            raise UsageError(f"hidden {self.hidden}, order {self.order}: they must lie in 1 to 16384 and 2 to 16")


def loss(
    z: Mapping[str, Tensor],
    fused_weight: float,
    temperature: float | Tensor,
    same: Tensor | None = None,
    variant: Variant = "paper",
) -> dict[str, Tensor]:
    """(1 - lambda) sum of pairwise InfoNCE + lambda sum of InfoNCE(fused, one that is not in it); arXiv 2511.21331.

    `z` holds unit vectors [B, dim] of each modality and of each fused subset, "image+audio" and so on. Without
    a fused subset (two modalities) the pairwise sum has weight 1. "reference" divides by the number of terms.
    """
    singles = [name for name in z if scores.JOINT not in name]
    subsets = [name for name in z if scores.JOINT in name]
    pairs = [(q, t) for q in subsets for t in singles if t not in scores.parts(q)]
    pairwise = {f"{a}~{b}": info_nce(z[a], z[b], temperature, same) for a, b in combinations(singles, 2)}
    fused = {f"{q}~{t}": info_nce(z[q], z[t], temperature, same) for q, t in pairs}
    total = torch.stack(list(pairwise.values())).sum()
    if fused:
        total = (1 - fused_weight) * total + fused_weight * torch.stack(list(fused.values())).sum()
    if variant == "reference":
        total = total / len(pairwise | fused)  # Scales the gradient alone: Adam hardly sees it, clipping does.
    return pairwise | fused | {"loss": total}


class Model(CosineHead):
    """A linear projection a modality, and a small MLP a subset on the *encoder outputs*, before projection."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config = config
        self.temperature = Temperature(config.temperature, config.learned_temperature)
        # With lambda = 0 no fusion would be trained: there is none, and the method is Tri-CLIP.
        subsets = scores.subsets(self.modalities, config.order) if config.fused_weight else ()
        self.fusions = nn.ModuleDict(
            {scores.fused_name(*names): _fusion(config, sum(widths[n] for n in names)) for names in subsets}
        )

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """The InfoNCE terms (six for three modalities) and "loss", from encoder outputs h_m [B, D_m]."""
        config = self.config
        return loss(self.embed_all(features), config.fused_weight, self.temperature(), same, config.variant)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] of the modalities given and of every subset of them that is fused."""
        z = self.projections.embed(features)
        h = self._masked(features) if self.training and self.config.mask_ratio else features
        for name, fusion in self.fusions.items():
            names = scores.parts(name)
            if all(n in h for n in names):
                z[name] = normalise(fusion(torch.cat([h[n] for n in names], dim=-1)))
        return z

    def _masked(self, features: Features) -> dict[str, Tensor]:
        """Each h_m with a random share of its values at zero, the same in all fusions."""
        names = [name for name in self.modalities if name in features]
        reference, ratio = self.config.variant == "reference", self.config.mask_ratio
        drawn = [names[0], *reversed(names[1:])] if reference else names
        low = {name: torch.rand_like(features[name]) < ratio for name in drawn}
        return {name: features[name] * (low[name] if reference else ~low[name]) for name in names}

    def pairs(self) -> Pairs:
        """All 1->1 pairs, and all pairs with a fused subset asking."""
        joint = scores.joint_pairs(self.modalities, self.config.order) if self.fusions else ()
        return scores.single_pairs(self.modalities) + joint

    def score(self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
        """Cosine [Q, C]; a query of several modalities is the fused embedding."""
        scores.check_pair(query, target, self.pairs(), method_name(self))
        return scores.cosine(query, target, queries, candidates)


def _fusion(config: Config, width: int) -> nn.Sequential:
    layers = [
        nn.Linear(width, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.dim),
    ]
    if config.variant == "reference":
        layers += [nn.LeakyReLU(0.2), nn.Dropout(config.dropout)]
    return nn.Sequential(*layers)
