"""Contrastive losses. Norms and softmax run in float32 (or float64) whatever autocast says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_FLOOR = 1e-6


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32 where it came as bfloat16 or float16; float64 stays."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def normalise(x: Tensor) -> Tensor:
    """`x` [..., D] to unit length; a zero vector stays zero and its gradient is finite."""
    with torch.autocast(x.device.type, enabled=False):
        x = full_precision(x)
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / length.clamp_min(NORM_FLOOR)


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE of matching rows of `a` and `b` [B, D]: 1/2 [CE(a b^T / tau) + CE(b a^T / tau)].

    Oord et al. 2018 (arXiv 1807.03748), symmetric as in CLIP (arXiv 2103.00020). B = 1 gives 0.
    """
    _check_pair(a, b)
    with torch.autocast(a.device.type, enabled=False):
        logits = full_precision(a) @ full_precision(b).T / temperature
        diagonal = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or a.shape != b.shape or len(a) == 0:
        raise ValueError(f"InfoNCE needs two [B, D] of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
