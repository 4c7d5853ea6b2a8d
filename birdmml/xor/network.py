"""One linear encoder a variable below a method's own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from birdmml.evalsets import xor
from birdmml.nn.heads import Head


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
