"""What a method's model is made of: projections, temperature, and the contract every model fulfils."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from birdmml.errors import UnknownName, UsageError
from birdmml.models import scores
from birdmml.models.losses import check_rows, full_precision, normalise, symmetric
from birdmml.schema import MODALITIES

Features = Mapping[str, Tensor]
Pairs = tuple[tuple[str, str], ...]
# "paper" follows the published formulas, "reference" what the ConFu authors' released code does.
Variant = Literal["paper", "reference"]

TOWER = "@"
ALL = "all"
MAX_SCALE = 100.0  # CLIP's bound: above it training becomes unstable (arXiv 2103.00020, 2.5).
# Scores of shapes are computed in blocks of queries: their intermediate values are several times as large.
BLOCK_ELEMENTS = 2**22


class Head(Protocol):
    """A method's `Model`: it gets encoder outputs h_m [B, D_m] and knows losses, embeddings and scores.

    Two members are optional. `parameter_groups() -> list[dict]` names parameters ("params") that want their own
    "lr" or "weight_decay". `renormalise_frames = False` leaves the mean over a video's frames as it is.
    """

    def loss(self, features: Features, same: Tensor | None = None) -> dict[str, Tensor]:
        """Named scalar terms; "loss" is their total.

        A pure function of the features of the whole batch, of the weights and of torch's global generator.
        `same` [B, B] bool marks rows of one species, which are no negatives of each other.
        """

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] for every modality given, and for what the method fuses of them."""

    def pairs(self) -> Pairs:
        """The (query, target) pairs that `score` defines."""

    def score(self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
        """Scores [Q, C] from embeddings [Q, dim] and [C, dim]; raises UsageError for an undefined pair."""


class Projections(nn.ModuleDict):
    """One linear layer a modality, to the shared space and to unit length."""

    def __init__(self, widths: Mapping[str, int], dim: int) -> None:
        super().__init__({name: nn.Linear(width, dim) for name, width in widths.items()})

    def embed(self, features: Features) -> dict[str, Tensor]:
        """h_m [B, D_m] -> z_m [B, dim] for the modalities given."""
        return {name: normalise(self[name](features[name])) for name in self if name in features}


class Temperature(nn.Module):
    """tau: a constant, or exp(-s) with s learned from ln(1 / tau) on and 1 / tau kept at 100 or less.

    Learned scale and its bound: CLIP (arXiv 2103.00020).
    """

    def __init__(self, start: float, learned: bool) -> None:
        super().__init__()
        self.start = start
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start))) if learned else None

    def forward(self) -> float | Tensor:
        """tau, a number or a scalar tensor."""
        if self.log_scale is None:
            return self.start
        return self.log_scale.exp().clamp_max(MAX_SCALE).reciprocal()


class CosineHead(nn.Module):
    """A linear projection a modality; 1->1 scores are cosines, several->1 scores sums of cosines (an extension).

    The base of methods that differ in their loss alone.
    """

    def __init__(self, widths: Mapping[str, int], dim: int) -> None:
        super().__init__()
        self.modalities = check_modalities(widths)
        self.projections = Projections({name: widths[name] for name in self.modalities}, dim)

    def embed(self, features: Features) -> dict[str, Tensor]:
        """Unit vectors [B, dim] of the modalities given."""
        return self.projections.embed(features)

    def embed_all(self, features: Features) -> dict[str, Tensor]:
        """`embed` for a loss: raises UsageError where a modality is missing."""
        if missing := [name for name in self.modalities if name not in features]:
            raise UsageError(f"{method_name(self)} needs {', '.join(missing)} too: a loss takes all modalities")
        return self.embed(features)

    def pairs(self) -> Pairs:
        """All 1->1 pairs, and as an extension all pairs with several modalities asking."""
        return scores.single_pairs(self.modalities) + scores.joint_pairs(self.modalities)

    def score(self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
        """Cosine, or the sum of several cosines; [Q, C]."""
        scores.check_pair(query, target, self.pairs(), method_name(self))
        return scores.summed_cosine(query, target, queries, candidates)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Learned scalars (temperatures, biases) without weight decay."""
        return scalar_groups(self)


def scalar_groups(module: nn.Module, **options: float) -> list[dict[str, Any]]:
    """The learned scalars of `module` as one optimiser group without weight decay, with `options` ("lr")."""
    scalars = [p for p in module.parameters() if p.ndim == 0 and p.requires_grad]
    return [{"params": scalars, "weight_decay": 0.0, **options}] if scalars else []


def check_modalities(widths: Mapping[str, int], exactly: int | None = None, method: str = "") -> tuple[str, ...]:
    """The modalities, in the project's order where they are its three; extra towers ("text@audio") do not count.

    Raises UsageError for fewer than two, for a name with "+", or for another number than `exactly`.
    """
    names = tuple(name for name in widths if TOWER not in name)
    if exactly is not None and len(names) != exactly:
        raise UsageError(
            f"{method} is defined for {exactly} modalities, the model has {len(names)} ({', '.join(names)}):"
            " use confu, tri_clip, gram or symile"
        )
    if len(names) < 2:
        raise UsageError(f"a contrastive method needs two modalities or more, the model has {list(names)}")
    if bad := [name for name in names if not name or scores.JOINT in name or "." in name]:
        raise UsageError(f"modality name {bad[0]!r}: it must have letters, and neither {scores.JOINT!r} nor '.'")
    return MODALITIES if set(names) == set(MODALITIES) else names


def pick_anchor(anchor: str | None, modalities: Sequence[str], default: str) -> str:
    """The modality named, or the default; raises UnknownName."""
    if anchor is not None and anchor not in modalities:
        raise UnknownName("anchor", anchor, modalities)
    return anchor or default


def text_or_last(modalities: Sequence[str]) -> str:
    """What the papers anchor on: the text, or the last modality where there is none."""
    return "text" if "text" in modalities else modalities[-1]


def method_name(model: object) -> str:
    """The method's name in messages: its module's."""
    return type(model).__module__.rpartition(".")[2]


def check_positive(**values: float) -> None:
    """Raise UsageError for a value that is not over 0, with its name."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UsageError(f"{name} is {value}: it must be over 0")


def check_share(**values: float) -> None:
    """Raise UsageError for a value outside [0, 1), with its name."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UsageError(f"{name} is {value}: it must lie in [0, 1)")


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
    """The base of GRAM and TRIANGLE: rows match whose vectors span a small shape; subclasses say how large one is."""

    def __init__(self, config: ShapeConfig, widths: Mapping[str, int]) -> None:
        super().__init__(widths, config.dim)
        self.config, self.renormalise_frames = config, config.variant == "paper"
        default = text_or_last(self.modalities) if config.variant == "paper" else self.modalities[0]
        anchor = pick_anchor(config.anchor, (*self.modalities, ALL), default)
        self.anchors = self.modalities if anchor == ALL else (anchor,)
        learned = config.learned_temperature
        self.temperature = Temperature(config.temperature, config.variant == "paper" if learned is None else learned)

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

    def score(self, query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
        """Minus the size [Q, C] of the shape of the query's vectors and the target's, in blocks of queries."""
        scores.check_pair(query, target, self.pairs(), method_name(self))
        rows, columns = [queries[name] for name in scores.parts(query)], [candidates[target]]
        step = max(1, BLOCK_ELEMENTS // max(1, len(columns[0])))
        starts = range(0, max(1, len(rows[0])), step)
        return -torch.cat([self.size([r[i : i + step] for r in rows], columns) for i in starts])
