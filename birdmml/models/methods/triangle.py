"""TRIANGLE: contrast the area between the three vectors of one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from birdmml.models.heads import Pairs, ShapeConfig, ShapeHead, check_modalities
from birdmml.models.scores import inner_products, joint_pairs
from birdmml.schema import Card

CARD = Card(
    summary="InfoNCE on minus the (squared) area of the triangle between three modalities",
    license="method, no licence; this code Apache-2.0",
    citation="Cicchetti et al., A TRIANGLE Enables Multimodal Alignment Beyond Cosine Similarity, NeurIPS 2025"
    " (arXiv 2509.24734)",
    url="https://arxiv.org/abs/2509.24734",
)
Config = ShapeConfig


def area(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    """(|u|^2 |v|^2 - (u.v)^2) / 2 of u = a - b, v = a - c [Q, C]: twice the squared area of the triangle abc.

    `rows` and `columns` hold three sets of vectors together, [Q, D] and [C, D]; the value is the same from every
    corner. As in the method's code there is no square root.
    """
    g = inner_products(rows, columns)
    u_u = g[0][0] + g[1][1] - 2 * g[0][1]
    v_v = g[0][0] + g[2][2] - 2 * g[0][2]
    u_v = g[0][0] - g[0][1] - g[0][2] + g[1][2]
    return ((u_u * v_v - u_v.square()) / 2).to(rows[0].dtype)


class Model(ShapeHead):
    """A linear projection a modality, for three modalities; two vectors have no area: there is no 1->1 score."""

    def __init__(self, config: Config, widths: Mapping[str, int]) -> None:
        check_modalities(widths, exactly=3, method="triangle")
        super().__init__(config, widths)

    def size(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
        """Twice the squared area [Q, C]."""
        return area(rows, columns)

    def pairs(self) -> Pairs:
        """The 2->1 pairs."""
        return joint_pairs(self.modalities)
