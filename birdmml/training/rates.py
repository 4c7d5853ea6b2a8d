"""Learning rates, and the optimiser with the groups that a method asks for."""

from __future__ import annotations

import math
from typing import Any

import torch

from birdmml.errors import TrainingError
from birdmml.nn.network import Network
from birdmml.nn.presets import Training

SHARE = "share_of_rate"


def rates(settings: Training) -> list[float]:
    """The rate of each epoch: a cosine from `learning_rate` towards `final_learning_rate` (arXiv 1608.03983).

    By torch's recursion, not the closed form: equal to the last bit to CosineAnnealingLR stepped once an epoch.
    """
    low, span = settings.final_learning_rate, settings.epochs
    values = [settings.learning_rate]
    for epoch in range(1, span):
        now, before = (1 + math.cos(math.pi * e / span) for e in (epoch, epoch - 1))
        values.append(now / before * (values[-1] - low) + low)
    return values


def optimiser(network: Network, settings: Training) -> torch.optim.AdamW:
    """AdamW on everything that learns; a method's `parameter_groups()` has its own rates and decay.

    A group's "lr" is its rate at the start; it then falls by the same cosine as the others.
    """
    hook = getattr(network.model, "parameter_groups", None)
    own: list[dict[str, Any]] = [] if hook is None else [dict(group) for group in hook()]
    taken = {id(p) for group in own for p in group["params"]}
    groups = [{"params": [p for p in network.parameters() if id(p) not in taken]}, *own]
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("nothing is left to train: unfreeze an encoder, or choose a method with weights")
    device = next(network.parameters()).device.type
    adamw = torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=device in ("cpu", "cuda", "mps"),
    )
    for group in adamw.param_groups:
        group[SHARE] = group["lr"] / settings.learning_rate
    return adamw


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[SHARE]
