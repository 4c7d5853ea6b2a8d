"""Hub: every other modality is aligned with one of them, as in ImageBind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from birdmml.models.heads import CosineHead, Features, Temperature, check_positive, pick_anchor
from birdmml.models.losses import info_nce
from birdmml.schema import Card

CARD = Card(
    summary="sum of InfoNCE between a hub (the image) and each other modality",
    license="method, no licence; this code Apache-2.0",
    citation="Girdhar et al., ImageBind: One Embedding Space To Bind Them All, CVPR 2023 (arXiv 2305.05665)",
    url="https://arxiv.org/abs/2305.05665",
)
EXTENSIONS = "2->1 scores are sums of pairwise cosines, an extension"


@dataclass(frozen=True)
class Config:
    """`anchor` is the hub: the image, or the first modality where there is none."""

    dim: int = 512
    temperature: float = 0.07
    learned_temperature: bool = False
    anchor: str | None = None

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)


class Model(CosineHead):
    """A linear projection a modality. Pairs without the hub are scored too: ImageBind's emergent alignment."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config, self.temperature = config, Temperature(config.temperature, config.learned_temperature)
        default = "image" if "image" in self.modalities else self.modalities[0]
        self.hub = pick_anchor(config.anchor, self.modalities, default)

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """InfoNCE(hub, m) for every other m, and "loss", their sum."""
        z, tau = self.embed_all(features), self.temperature()
        others = [name for name in self.modalities if name != self.hub]
        terms = {f"{self.hub}~{name}": info_nce(z[self.hub], z[name], tau, same) for name in others}
        return terms | {"loss": torch.stack(list(terms.values())).sum()}
