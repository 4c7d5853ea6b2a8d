"""Normalisation layers: batch to group, and batch statistics that stay as they are for a while."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

GROUPS = 32


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """Every batch normalisation in `module`."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def to_group_norm(module: nn.Module) -> None:
    """Replace each batch normalisation by a group normalisation of at most 32 groups (arXiv 1803.08494)."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            width = child.num_features
            setattr(module, name, nn.GroupNorm(math.gcd(GROUPS, width), width))
        else:
            to_group_norm(child)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Running means and variances do not move meanwhile; batches are normalised by their own all the same.

    A batch that passes twice, to save memory, must count once.
    """
    kept = [(layer, name, value) for layer in batch_norms(module) for name, value in layer.named_buffers()]
    for layer, name, value in kept:
        setattr(layer, name, value.clone())
    try:
        yield
    finally:
        for layer, name, value in kept:
            setattr(layer, name, value)
