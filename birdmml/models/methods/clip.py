"""CLIP: one image-text model and one audio-text model, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from birdmml.models import scores
from birdmml.models.heads import (
    TOWER,
    CosineHead,
    Features,
    Pairs,
    Projections,
    Temperature,
    Variant,
    check_modalities,
    check_positive,
    method_name,
    pick_anchor,
    text_or_last,
)
from birdmml.models.losses import info_nce
from birdmml.schema import Card

CARD = Card(
    summary="InfoNCE of image and text, and of audio and text, each with its own text encoder",
    license="method, no licence; this code Apache-2.0",
    citation="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021"
    " (arXiv 2103.00020)",
    url="https://arxiv.org/abs/2103.00020",
)
# Two models have nothing to say on image and audio; A+V is the sum of both cosines, as in Symile's CLIP baseline.
EXTENSIONS = "2->1 scores are sums of two models' cosines, an extension the paper does not report"


@dataclass(frozen=True)
class Config:
    """The temperature is learned from 0.07 on. `anchor` is what every other modality is paired with: the text.

    `shared_anchor` gives the pairs one anchor encoder and projection instead of one each. No variant is known to
    differ: "reference" does the same.
    """

    dim: int = 512
    temperature: float = 0.07
    learned_temperature: bool = True
    anchor: str | None = None
    shared_anchor: bool = False
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)


def towers(config: Config, modalities: Sequence[str]) -> dict[str, str]:
    """Encoders beyond one a modality, name -> modality: {"text@audio": "text"}, the audio model's own text."""
    anchor = pick_anchor(config.anchor, modalities, text_or_last(modalities))
    partners = [name for name in modalities if name != anchor]
    return {} if config.shared_anchor else {f"{anchor}{TOWER}{name}": anchor for name in partners[1:]}


class Model(CosineHead):
    """The one linear layer a tower stands for the last layer of CLIP's encoders, whose widths agree there."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        nn.Module.__init__(self)
        self.config, self.modalities = config, check_modalities(widths)
        self.anchor = pick_anchor(config.anchor, self.modalities, text_or_last(self.modalities))
        self.partners = tuple(name for name in self.modalities if name != self.anchor)
        self.towers = towers(config, self.modalities)
        # Without an encoder of its own (features computed beforehand) a tower starts from the anchor's output.
        own = {name: widths.get(name, widths[self.anchor]) for name in self.towers}
        self.projections = Projections({name: widths[name] for name in self.modalities} | own, config.dim)
        self.temperatures = nn.ModuleDict(
            {name: Temperature(config.temperature, config.learned_temperature) for name in self.partners}
        )

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """One InfoNCE a pair and "loss", their sum: with nothing shared, each model gets its own gradient."""
        z = self.embed_all(features)
        terms = {
            f"{name}~{self.anchor}": info_nce(z[name], z[self.tower(name)], self.temperatures[name](), same)
            for name in self.partners
        }
        return terms | {"loss": torch.stack(list(terms.values())).sum()}

    def tower(self, partner: str) -> str:
        """The anchor's embedding that belongs to the model of `partner`."""
        name = f"{self.anchor}{TOWER}{partner}"
        return name if name in self.towers else self.anchor

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] of the modalities given, the anchor's once a model."""
        vectors = dict(features)
        if self.anchor in vectors:
            vectors = dict.fromkeys(self.towers, vectors[self.anchor]) | vectors
        return self.projections.embed(vectors)

    def pairs(self) -> Pairs:
        """Each modality with the anchor, both ways; as an extension, all subsets of the others ask for it."""
        partners = self.partners
        joint = scores.joint_pairs((*partners, self.anchor))
        return (
            *((name, self.anchor) for name in partners),
            *((self.anchor, name) for name in partners),
            *((query, target) for query, target in joint if target == self.anchor),
        )

    def score(self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
        """The cosine of the pair's own model, or the sum of several models' cosines; [Q, C]."""
        scores.check_pair(query, target, self.pairs(), method_name(self))
        if query == self.anchor:
            return scores.cosine(self.tower(target), target, queries, candidates)
        total = [scores.cosine(name, self.tower(name), queries, candidates) for name in scores.parts(query)]
        return torch.stack(total).sum(dim=0) if len(total) > 1 else total[0]
