"""SigLIP: every pair of rows is its own yes-or-no question, for each pair of modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birdmml.models.heads import CosineHead, Features, check_positive
from birdmml.models.losses import check_rows, full_precision, others
from birdmml.schema import Card

CARD = Card(
    summary="pairwise sigmoid loss with learned scale and bias, averaged over the pairs of modalities",
    license="method, no licence; this code Apache-2.0",
    citation="Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023 (arXiv 2303.15343)",
    url="https://arxiv.org/abs/2303.15343",
)
EXTENSIONS = "2->1 scores are sums of pairwise cosines, an extension"


@dataclass(frozen=True)
class Config:
    """Where the learned scale (1 / temperature) and bias start."""

    dim: int = 512
    temperature: float = 0.1
    bias: float = -10.0

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)


def sigmoid_loss(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, same: Tensor | None = None) -> Tensor:
    """-1/B sum_ij log sigmoid(y_ij (scale a_i.b_j + bias)), y = 1 on the diagonal and -1 off it; a, b [B, D].

    Masked rows leave the sum. B = 1 leaves the one positive term: unlike InfoNCE it is not 0.
    """
    check_rows(a, b)
    with torch.autocast(a.device.type, enabled=False):
        logits = scale * (full_precision(a) @ full_precision(b).T) + bias
        sign = 2 * torch.eye(len(a), dtype=logits.dtype, device=logits.device) - 1
        costs = -F.logsigmoid(sign * logits)
        costs = costs if same is None else costs.masked_fill(others(same), 0.0)
        return costs.sum() / len(a)


class Model(CosineHead):
    """A linear projection a modality, for two modalities or more; one scale and one bias."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.bias = nn.Parameter(torch.tensor(config.bias))

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """The sigmoid loss of every pair of modalities and "loss", their mean."""
        z, scale = self.embed_all(features), self.log_scale.exp()
        terms = {
            f"{a}~{b}": sigmoid_loss(z[a], z[b], scale, self.bias, same) for a, b in combinations(self.modalities, 2)
        }
        return terms | {"loss": torch.stack(list(terms.values())).mean()}
