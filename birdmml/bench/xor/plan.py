"""What an XOR run trains: settings that are the same for every method, and which method with which anchor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from birdmml.core import discover, settings
from birdmml.errors import UnknownName, UsageError
from birdmml.evalsets import xor
from birdmml.models.heads import ALL, Head
from birdmml.models.scores import fused_name
from birdmml.schema import Result


@dataclass(frozen=True)
class XorDone:
    """One run: its result, and the exact accuracies [seeds, P] over all that can happen."""

    run: XorRun
    result: Result
    exact: NDArray[np.float64]


def signs(codes: xor.Codes) -> Tensor:
    """Codes [...] as what the encoders read: bits [..., 5], -1 for 0 and 1 for 1, float32."""
    return torch.from_numpy(2 * xor.bits(codes).astype(np.float32) - 1)


class XorNetwork(nn.Module):
    """Bits [B, 5] -> h_m [B, width], a linear layer a variable (and a tower, as CLIP has); then the method."""

    def __init__(self, method: ModuleType, config: Any, names: Sequence[str], width: int) -> None:
        super().__init__()
        towers = method.towers(config, names) if hasattr(method, "towers") else {}
        self.reads = dict(zip(names, names, strict=True)) | towers
        self.encoders = nn.ModuleDict({name: nn.Linear(xor.BITS, width) for name in self.reads})
        self.head: Head = method.Model(config, dict.fromkeys(self.reads, width))

    def encode(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """h_m [B, width] of the variables given."""
        return {name: self.encoders[name](x[own]) for name, own in self.reads.items() if own in x}

    def embed(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the method makes of the variables given."""
        return self.head.embed(self.encode(x))

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """The method's own loss of a batch, a scalar."""
        return self.head.loss(self.encode(x))["loss"]


MAX_SEEDS, MAX_SHARES, MAX_DIM, MAX_STEPS = 100, 101, 4096, 1_000_000


@dataclass(frozen=True)
class XorSettings:
    """One recipe for all methods, picked for ConFu at p = 0.1 and 0.2 (benchmarks/XOR.md says how).

    `p` are the shares of samples with i = 1, `width` the encoders' outputs h_m (a linear map of 5 bits has rank 5,
    wider says no more), `dim` the embeddings. AdamW at one rate that falls to 0 over the last `decay` of the steps
    (with a cosine from the start ConFu needs twice the steps at p = 0.1); fresh samples every step.
    """

    p: tuple[float, ...] = tuple(i / 10 for i in range(11))
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    modalities: int = 3
    dim: int = 16
    width: int = 16
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 5e-3
    decay: float = 0.25
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        _check(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables."""
        return xor.names(self.modalities)

    @property
    def sources(self) -> tuple[str, ...]:
        """The variables that are drawn: all but c, which follows."""
        return tuple(name for name in self.names if name != "c")

    @property
    def query(self) -> str:
        """All variables but b: "a+c" or "a+c+d"."""
        return fused_name(*(name for name in self.names if name != xor.TARGET))


@dataclass(frozen=True)
class XorRun:
    """One method with one anchor (None: it has none) and its configuration."""

    method: str
    anchor: str | None
    config: Any

    @property
    def name(self) -> str:
        """ "gram, anchor a": in tables and messages."""
        method = discover.label(self.method)
        return method if self.anchor is None else f"{method}, anchor {self.anchor}"

    @property
    def folder(self) -> str:
        """ "gram-anchor-a"."""
        return self.name.removesuffix(".py").replace(".py,", ",").replace(", ", "-").replace(" ", "-")


@dataclass(frozen=True)
class XorPlan:
    """The runs of one figure; `left_out` says which methods are not defined for so many variables."""

    settings: XorSettings
    runs: tuple[XorRun, ...]
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder of the figure: readable, and different for different settings or methods."""
        key = [settings.to_dict(self.settings), [[r.name, settings.to_dict(r.config)] for r in self.runs]]
        return f"xor-{self.settings.modalities}x{xor.BITS}-d{self.settings.dim}-{settings.digest(key)[:8]}"


def plan(methods: Sequence[str] = (), chosen: XorSettings | None = None, joint_anchor: bool = False) -> XorPlan:
    """Every method, or those named, each with every anchor that it knows and that lets it name b from the others.

    `joint_anchor` adds GRAM and TRIANGLE with every variable as the anchor in turn, three losses a step.
    Raises UnknownName with the nearest names, or UsageError where a method named cannot do the task.
    """
    chosen = chosen or XorSettings()
    runs: list[XorRun] = []
    left_out: list[str] = []
    for name in dict.fromkeys(discover.canonical("method", m) for m in methods or discover.names("method")):
        try:
            runs += _runs(name, chosen, joint_anchor)
        except UsageError as e:
            if methods:
                raise
            left_out.append(str(e))
    return XorPlan(chosen, tuple(runs), tuple(left_out))


def network(run: XorRun, chosen: XorSettings) -> XorNetwork:
    """The model of one run, with weights from torch's global generator."""
    return XorNetwork(discover.load("method", run.method), run.config, chosen.names, chosen.width)


def _runs(method: str, chosen: XorSettings, joint_anchor: bool) -> list[XorRun]:
    """The method's own defaults, at the embeddings' size and with all other variables fused, under each anchor."""
    config = discover.load("method", method).Config()
    fields = {f.name for f in dataclasses.fields(config)}
    sizes = {"dim": chosen.dim, "order": chosen.modalities - 1}
    config = dataclasses.replace(config, **{k: v for k, v in sizes.items() if k in fields})
    runs = [XorRun(method, None, config)]
    if "anchor" in fields:
        anchors = (*chosen.names, ALL) if joint_anchor else chosen.names
        runs = [XorRun(method, anchor, dataclasses.replace(config, anchor=anchor)) for anchor in anchors]
    able = [run for run in runs if _able(run, chosen)]
    if not able:
        raise UsageError(
            f"{discover.label(method)} defines no score {chosen.query}->{xor.TARGET}: XOR cannot be asked of it"
        )
    return able


def _able(run: XorRun, chosen: XorSettings) -> bool:
    try:
        with torch.device("meta"):
            head = network(run, chosen).head
    except UnknownName:
        return False  # An anchor that the method does not offer.
    return (chosen.query, xor.TARGET) in head.pairs()


def _check(s: XorSettings) -> None:
    xor.names(s.modalities)
    if not 1 <= len(s.seeds) <= MAX_SEEDS or min(s.seeds) < 0 or len(set(s.seeds)) != len(s.seeds):
        raise UsageError(f"{len(s.seeds)} seeds: give 1 to {MAX_SEEDS}, from 0 up, each once")
    if not 1 <= len(s.p) <= MAX_SHARES:
        raise UsageError(f"--p holds {len(s.p)} values: give 1 to {MAX_SHARES}, for example 0,0.5,1")
    if bad := [p for p in s.p if not 0 <= p <= 1]:
        raise UsageError(f"--p {bad[0]:g}: it is a share of samples and must lie in 0 to 1")
    if len(set(s.p)) != len(s.p):
        raise UsageError(f"--p names {next(p for p in s.p if s.p.count(p) > 1):g} twice: leave one out")
    for name, value, most in (("dim", s.dim, MAX_DIM), ("steps", s.steps, MAX_STEPS)):
        if not 1 <= value <= most:
            raise UsageError(f"--{name} {value}: it must lie in 1 to {most:,}")
    if (
        not 0 < s.decay <= 1
        or s.batch_size < 2
        or s.width < 1
        or not 0 < s.learning_rate < math.inf
        or s.weight_decay < 0
    ):
        raise UsageError(
            f"batch {s.batch_size}, width {s.width}, learning rate {s.learning_rate:g}, decay {s.decay:g}, weight decay"
            f" {s.weight_decay:g}: they make no sense"
        )
