"""What a method's model is made of: projections of each modality, and the contract every model fulfils."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from birdmml.errors import UsageError
from birdmml.nn.losses import normalise
from birdmml.schema import MODALITIES

Features = Mapping[str, Tensor]


class Head(Protocol):
    """A method's `Model`: it gets encoder outputs h_m [B, D_m] and knows losses, embeddings and scores."""

    def loss(self, features: Features) -> dict[str, Tensor]:
        """Named scalar terms; "loss" is their total."""

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] for every modality given, and for what the method fuses of them."""

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The (query, target) pairs that `score` defines."""

    def score(
        self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        """Scores [Q, C] from embeddings [Q, dim] and [C, dim]; raises UsageError for an undefined pair."""


class Projections(nn.ModuleDict):
    """One linear layer a modality, to the shared space and to unit length."""

    def __init__(self, widths: Mapping[str, int], dim: int) -> None:
        super().__init__({name: nn.Linear(width, dim) for name, width in widths.items()})

    def embed(self, features: Features) -> dict[str, Tensor]:
        """h_m [B, D_m] -> z_m [B, dim] for the modalities given."""
        return {name: normalise(self[name](features[name])) for name in self if name in features}


def check_modalities(widths: Mapping[str, int]) -> tuple[str, ...]:
    """The modalities in the project's order; raises UsageError unless they are image, audio and text."""
    if set(widths) != set(MODALITIES):
        raise UsageError(f"this method needs {', '.join(MODALITIES)}; the model has {', '.join(widths)}")
    return MODALITIES
