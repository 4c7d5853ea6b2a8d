"""Contrastive losses. Norms and softmax run in float32 (or float64) whatever autocast says.

`same` [B, B] marks rows of one species: off the diagonal they are no negatives and leave the denominators.
With B = 1, or with every other row masked, there is nothing to tell apart: these losses are exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

NORM_FLOOR = 1e-6  # Far below any length that an encoder gives; only a zero vector meets it.


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32 where it came as bfloat16 or float16; float64 stays."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def normalise(x: Tensor) -> Tensor:
    """`x` [..., D] to unit length; a zero vector stays zero and its gradient is finite."""
    with torch.autocast(x.device.type, enabled=False):
        x = full_precision(x)
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / length.clamp_min(NORM_FLOOR)


def others(same: Tensor) -> Tensor:
    """`same` [B, B] without its diagonal: the false negatives."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def leave_out(logits: Tensor, dropped: Tensor) -> Tensor:
    """`logits` so low where `dropped` that softmax gives them nothing; finite, so that gradients stay so."""
    return logits.masked_fill(dropped, torch.finfo(logits.dtype).min / 2)


def contrast(logits: Tensor, same: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of each row of `logits` [B, B] against its own column.

    `smoothing` moves that share of the target evenly onto all columns that are kept (Szegedy et al. 2016,
    arXiv 1512.00567).
    """
    if same is None:
        log_p = logits.log_softmax(dim=-1)
        own, even = log_p.diagonal(), log_p.mean(dim=-1)
    else:
        dropped = others(same)
        log_p = leave_out(logits, dropped).log_softmax(dim=-1)
        own, kept = log_p.diagonal(), (~dropped).sum(dim=-1)
        even = log_p.masked_fill(dropped, 0.0).sum(dim=-1) / kept
    if not smoothing:
        return -own.mean()
    return -((1 - smoothing) * own + smoothing * even).mean()


def symmetric(logits: Tensor, same: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """1/2 [CE(logits) + CE(logits^T)], both against the diagonal of `logits` [B, B]."""
    transposed = None if same is None else same.T
    return (contrast(logits, same, smoothing) + contrast(logits.T, transposed, smoothing)) / 2


def info_nce(a: Tensor, b: Tensor, temperature: float | Tensor, same: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of matching rows of `a` and `b` [B, D]: 1/2 [CE(a b^T / tau) + CE(b a^T / tau)].

    Oord et al. 2018 (arXiv 1807.03748), symmetric as in CLIP (arXiv 2103.00020). B = 1 gives 0.
    """
    check_rows(a, b)
    with torch.autocast(a.device.type, enabled=False):
        return symmetric(full_precision(a) @ full_precision(b).T / temperature, same)


def check_rows(*z: Tensor) -> None:
    """Raise ValueError unless all are [B, D] of one shape, with B of 1 or more."""
    if any(x.ndim != 2 or x.shape != z[0].shape for x in z) or len(z[0]) == 0:
        shapes = ", ".join(str(tuple(x.shape)) for x in z)
        raise ValueError(f"a contrastive loss needs [B, D] of one shape and B of 1 or more, got {shapes}")
