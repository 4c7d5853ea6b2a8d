"""Symile: contrast the multilinear inner product of all vectors of one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import mul
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from birdmml.errors import UsageError
from birdmml.models import scores
from birdmml.models.heads import CosineHead, Features, Pairs, Variant, check_positive, method_name, scalar_groups
from birdmml.models.losses import check_rows, full_precision, leave_out
from birdmml.schema import Card

CARD = Card(
    summary="InfoNCE on the multilinear inner product, each modality the anchor in turn",
    license="method, no licence; this code Apache-2.0",
    citation="Saporta et al., Contrasting with Symile: Simple Model-Agnostic Representation Learning for Unlimited"
    " Modalities, NeurIPS 2024 (arXiv 2411.01053)",
    url="https://arxiv.org/abs/2411.01053",
)
Negatives = Literal["n", "n_squared"]
# Above so many saved values the blocks of n_squared are computed again in the backward pass.
SAVED_ELEMENTS = 2**26  # 256 MiB of float32.


@dataclass(frozen=True)
class Config:
    """`log_scale` is where the learned l starts; it has its own learning rate and no weight decay.

    `negatives`: "n" shuffles each other modality once a step, "n_squared" takes all pairs (B^M products).
    "reference": the projections are left out of the optimiser and stay random, as in the ConFu authors' code.
    """

    dim: int = 512
    negatives: Negatives = "n"
    log_scale: float = 2.5
    learned_scale: bool = True
    scale_learning_rate: float = 0.1
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_positive(scale_learning_rate=self.scale_learning_rate)
        if not abs(self.log_scale) <= 20:
            raise UsageError(f"log_scale is {self.log_scale}: it must lie in -20 to 20")


def multiply(z: Sequence[Tensor]) -> Tensor:
    """Element-wise product of tensors of one shape."""
    return reduce(mul, z)


def one_shuffle(x: Tensor, z: Sequence[Tensor], scale: Tensor, same: Tensor | None) -> Tensor:
    """CE over [MIP(x_i, y_i, z_i), MIP(x_i, y_p(j), z_q(j)) for j != i], p and q random permutations.

    They come from torch's global CPU generator, one a tensor of `z` in order: ranks with one seed agree. A
    shuffled row may by chance be the positive one again; with `same`, rows all of i's species are left out.
    """
    order = [torch.randperm(len(x)).to(x.device) for _ in z]
    positive = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = scale * (x @ multiply([y[p] for y, p in zip(z, order, strict=True)]).T)
    logits = torch.where(positive, scale * multiply([x, *z]).sum(-1), logits)
    if same is not None:
        logits = leave_out(logits, _kin(same, order) & ~positive)
    return -logits.log_softmax(dim=-1).diagonal().mean()


def all_pairs(x: Tensor, z: Sequence[Tensor], scale: Tensor, same: Tensor | None) -> Tensor:
    """CE of MIP(x_i, y_i, z_i) among MIP(x_i, y_j, z_k) for all j, k: B blocks [B, B], one a shift of z."""
    rows = torch.arange(len(x), device=x.device)
    blocks = []
    for shifts in product(range(len(x)), repeat=len(z) - 1):
        order = [rows, *((rows + shift) % len(x) for shift in shifts)]
        dropped = None if same is None else _kin(same, order)
        if dropped is not None and not any(shifts):
            dropped = dropped & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        shifted = [y[p] for y, p in zip(z, order, strict=True)]
        if torch.is_grad_enabled() and len(x) ** len(z) * (len(x) + x.shape[1]) > SAVED_ELEMENTS:
            blocks.append(
                checkpoint(_log_sum, x, scale, dropped, *shifted, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            blocks.append(_log_sum(x, scale, dropped, *shifted))
    positive = scale * multiply([x, *z]).sum(-1)
    return (torch.stack(blocks).logsumexp(dim=0) - positive).mean()


def _log_sum(x: Tensor, scale: Tensor, dropped: Tensor | None, *z: Tensor) -> Tensor:
    logits = scale * (x @ multiply(z).T)
    return (logits if dropped is None else leave_out(logits, dropped)).logsumexp(dim=-1)


def _kin(same: Tensor, order: Sequence[Tensor]) -> Tensor:
    """[B, B]: whether the rows that stand in column j all are of row i's species."""
    own = same | torch.eye(len(same), dtype=torch.bool, device=same.device)
    return torch.stack([own[:, p] for p in order]).all(dim=0)


def loss(
    z: Mapping[str, Tensor], scale: Tensor, negatives: Negatives = "n", same: Tensor | None = None
) -> dict[str, Tensor]:
    """CE(scale * MIP) for each modality as the anchor, and their mean; z_m [B, dim], scale = exp(l).

    MIP(x, y, z) = sum_d x_d y_d z_d, arXiv 2411.01053. B = 1 gives 0.
    """
    check_rows(*z.values())
    contrast = one_shuffle if negatives == "n" else all_pairs
    with torch.autocast(scale.device.type, enabled=False):
        full = {name: full_precision(value) for name, value in z.items()}
        terms = {
            name: contrast(x, [y for other, y in full.items() if other != name], scale, same)
            for name, x in full.items()
        }
        return terms | {"loss": torch.stack(list(terms.values())).mean()}


class Model(CosineHead):
    """A linear projection a modality, for two modalities or more; only all others together ask for one."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(config.log_scale), requires_grad=config.learned_scale)
        self.projections.requires_grad_(config.variant == "paper")

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """One term an anchor and "loss", their mean, from encoder outputs h_m [B, D_m]."""
        return loss(self.embed_all(features), self.log_scale.exp(), self.config.negatives, same)

    def pairs(self) -> Pairs:
        """All other modalities together ask for one: 2->1 of three. There is no 1->1 score."""
        names = self.modalities
        return tuple((scores.fused_name(*(m for m in names if m != target)), target) for target in reversed(names))

    def score(self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
        """exp(l) * (z_i * z_j) z_k^T, [Q, C]."""
        scores.check_pair(query, target, self.pairs(), method_name(self))
        query_product = multiply([queries[name] for name in scores.parts(query)])
        return self.log_scale.exp() * (query_product @ candidates[target].T)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """l with its own learning rate and no weight decay."""
        return scalar_groups(self, lr=self.config.scale_learning_rate)
