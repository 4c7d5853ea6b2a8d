"""GRAM: contrast the volume that the vectors of one row span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from birdmml.errors import UsageError
from birdmml.models.heads import ShapeConfig, ShapeHead
from birdmml.models.scores import inner_products
from birdmml.schema import Card

CARD = Card(
    summary="InfoNCE on minus the volume spanned by an anchor and the other modalities",
    license="method, no licence; this code Apache-2.0",
    citation="Cicchetti et al., Gramian Multimodal Representation Learning and Alignment, ICLR 2025 (arXiv 2412.11959)",
    url="https://arxiv.org/abs/2412.11959",
)
Config = ShapeConfig
MOST = 6  # 720 products; the next would take 5,040.


def determinant(matrix: list[list[Tensor]]) -> Tensor:
    """Determinant by expansion along the first row; entries are tensors of shapes that broadcast.

    The closed form (six products for 3 x 3, k! for k x k): a polynomial, whose gradient is finite everywhere.
    """
    if len(matrix) == 1:
        return matrix[0][0]
    minors = ([row[:i] + row[i + 1 :] for row in matrix[1:]] for i in range(len(matrix)))
    products = [entry * determinant(minor) for entry, minor in zip(matrix[0], minors, strict=True)]
    total = products[0]
    for i, term in enumerate(products[1:]):
        total = total + term if i % 2 else total - term
    return total


def volume(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    """V [Q, C] = sqrt(|det Gram(rows_1[q], ..., columns_1[c], ...)|), rows [Q, D], columns [C, D].

    Of two unit vectors it is sqrt(1 - cos^2), blind to the sign. The root's slope is bounded at V = 0.
    """
    squared = determinant(inner_products(rows, columns)).abs()
    return squared.clamp_min(torch.finfo(squared.dtype).eps).sqrt().to(rows[0].dtype)


class Model(ShapeHead):
    """A linear projection a modality; 1->1 and several->1 scores are minus the volume of the vectors involved."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        super().__init__(config, widths)
        if len(self.modalities) > MOST:
            raise UsageError(
                f"gram: the volume of {len(self.modalities)} vectors takes {len(self.modalities)}! products:"
                f" {MOST} modalities at most"
            )

    def size(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
        """The volume [Q, C]."""
        return volume(rows, columns)
