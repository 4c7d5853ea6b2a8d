"""ConFu: pairwise InfoNCE, and InfoNCE between each fused pair and the third modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from birdmml.errors import UsageError
from birdmml.nn import scores
from birdmml.nn.heads import Features, Projections, check_modalities
from birdmml.nn.losses import info_nce, normalise
from birdmml.schema import Card

CARD = Card(
    summary="pairwise and fused InfoNCE: one loss for 1->1 and 2->1",
    license="method, no licence; this code Apache-2.0",
    citation="Koutoupis et al., The More, the Merrier: Contrastive Fusion, CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)
EXTENSIONS = ""


@dataclass(frozen=True)
class Config:
    """`fused_weight` is the paper's lambda; `temperature` is fixed; `hidden` and `dropout` are the fusion's."""

    dim: int = 512
    temperature: float = 0.07
    fused_weight: float = 0.5
    hidden: int = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}: it must be over 0")
        if not 0 <= self.fused_weight <= 1 or not 0 <= self.dropout < 1:
            raise UsageError("fused_weight must lie in [0, 1] and dropout in [0, 1)")
        if not 1 <= self.hidden <= 16_384:
            raise UsageError(f"hidden is {self.hidden}: it must lie in 1 to 16384")


def loss(z: Mapping[str, Tensor], fused_weight: float, temperature: float) -> dict[str, Tensor]:
    """(1 - lambda) sum of pairwise InfoNCE + lambda sum of InfoNCE(fused pair, third); arXiv 2511.21331.

    `z` holds unit vectors [B, dim] of each modality and of each fused pair, "image+audio" and so on.
    """
    singles = tuple(name for name in z if scores.JOINT not in name)
    pairwise = {f"{a}~{b}": info_nce(z[a], z[b], temperature) for a, b in combinations(singles, 2)}
    fused = {f"{q}~{t}": info_nce(z[q], z[t], temperature) for q, t in scores.joint_pairs(singles)}
    total = (1 - fused_weight) * torch.stack(list(pairwise.values())).sum()
    total = total + fused_weight * torch.stack(list(fused.values())).sum()
    return pairwise | fused | {"loss": total}


class Model(nn.Module):
    """A linear projection a modality, and a small MLP a pair on the two *encoder outputs*, before projection."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.config, self.modalities = config, check_modalities(widths)
        self.projections = Projections(widths, config.dim)
        self.fusions = nn.ModuleDict(
            {
                scores.fused_name(a, b): nn.Sequential(
                    nn.Linear(widths[a] + widths[b], config.hidden),
                    nn.ReLU(),
                    nn.Dropout(config.dropout),
                    nn.Linear(config.hidden, config.dim),
                )
                for a, b in combinations(self.modalities, 2)
            }
        )

    def loss(self, features: Features) -> dict[str, Tensor]:
        """Six InfoNCE terms and "loss", from encoder outputs h_m [B, D_m]."""
        return loss(self.embed(features), self.config.fused_weight, self.config.temperature)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] of the modalities given and of every pair of them."""
        z = self.projections.embed(features)
        for name, fusion in self.fusions.items():
            a, b = scores.parts(name)
            if a in features and b in features:
                z[name] = normalise(fusion(torch.cat([features[a], features[b]], dim=-1)))
        return z

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All 1->1 and all 2->1 pairs."""
        return scores.single_pairs(self.modalities) + scores.joint_pairs(self.modalities)

    def score(
        self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        """Cosine [Q, C]; a 2->1 query is the fused embedding."""
        scores.check_pair(query, target, self.pairs(), "confu")
        return scores.cosine(query, target, queries, candidates)
