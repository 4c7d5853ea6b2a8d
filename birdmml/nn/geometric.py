"""The base of GRAM and TRIANGLE: contrast how small a shape the vectors of a row span, from an anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from birdmml.nn import scores
from birdmml.nn.heads import (
    CosineHead,
    Features,
    Temperature,
    Variant,
    check_positive,
    check_share,
    method_name,
    pick_anchor,
    text_or_last,
)
from birdmml.nn.losses import check_rows, full_precision, symmetric

ALL = "all"
BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True)
class ShapeConfig:
    """`anchor` is a modality or "all"; None and `learned_temperature` None leave it to the variant.

    "paper": the text is the anchor and the temperature is learned, as in the methods' own code. "reference": the
    first modality is the anchor, the temperature is fixed, and means over frames are not renormalised, as in the
    ConFu authors' code.
    """

    dim: int = 512
    temperature: float = 0.07
    learned_temperature: bool | None = None
    label_smoothing: float = 0.1
    anchor: str | None = None
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_positive(temperature=self.temperature)
        check_share(label_smoothing=self.label_smoothing)


class ShapeHead(CosineHead):
    """A linear projection a modality; subclasses say how large the shape is that vectors span."""

    def __init__(self, config: ShapeConfig, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config, self.renormalise_frames = config, config.variant == "paper"
        self.anchors = _anchors(config, self.modalities)
        learned = config.learned_temperature
        self.temperature = Temperature(
            config.temperature, config.variant == "paper" if learned is None else learned
        )

    def size(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
        """[Q, C]: the size of the shape of the vectors rows_1[q], ..., columns_1[c], ..."""
        raise NotImplementedError

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """One term an anchor and "loss", their mean, from encoder outputs h_m [B, D_m]."""
        return self.terms(self.embed_all(features), self.temperature(), same)

    def terms(
        self, z: Mapping[str, Tensor], temperature: float | Tensor, same: Tensor | None = None
    ) -> dict[str, Tensor]:
        """1/2 [CE(-S / tau) + CE(-S^T / tau)] an anchor, S [B, B] its size with the other modalities of each row.

        Row j is masked for anchor i where `same[i, j]`: then all other vectors of j are of i's species.
        """
        check_rows(*z.values())
        terms: dict[str, Tensor] = {}
        for anchor in self.anchors:
            others = [name for name in self.modalities if name != anchor]
            with torch.autocast(z[anchor].device.type, enabled=False):
                size = self.size([full_precision(z[anchor])], [full_precision(z[name]) for name in others])
                terms[f"{anchor}~{scores.fused_name(*others)}"] = symmetric(
                    -size / temperature, same, self.config.label_smoothing
                )
        return terms | {"loss": torch.stack(list(terms.values())).mean()}

    def score(
        self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        """Minus the size [Q, C] of the shape of the query's vectors and the target's, in blocks of queries."""
        scores.check_pair(query, target, self.pairs(), method_name(self))
        rows, columns = [queries[name] for name in scores.parts(query)], [candidates[target]]
        step = max(1, BLOCK_ELEMENTS // max(1, len(columns[0])))
        starts = range(0, max(1, len(rows[0])), step)
        return -torch.cat([self.size([r[i : i + step] for r in rows], columns) for i in starts])


def _anchors(config: ShapeConfig, modalities: tuple[str, ...]) -> tuple[str, ...]:
    if config.anchor == ALL:
        return modalities
    default = text_or_last(modalities) if config.variant == "paper" else modalities[0]
    anchors = (*modalities, ALL)
    return (pick_anchor(config.anchor, anchors, default),)
