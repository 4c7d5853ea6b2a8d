"""Learning rates equal torch's scheduler to the last bit; a method's own groups keep theirs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.small import SMALLEST

from birdmml.core import discover
from birdmml.errors import TrainingError
from birdmml.models.network import Network
from birdmml.models.presets import Training
from birdmml.models.step import optimiser, rates, set_rate


@pytest.mark.parametrize("epochs", [1, 2, 22, 100])
def test_rates_are_those_of_the_cosine_scheduler(epochs: int) -> None:
    settings = Training(epochs, 32, 1e-3)
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(made, epochs, eta_min=1e-6)
    wanted = []
    for _ in range(epochs):
        wanted.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert rates(settings) == wanted


def network() -> Network:
    module = discover.load("method", "tri_clip")
    return Network(SMALLEST, module, dataclasses.replace(module.Config(), dim=16), 50)


def test_a_methods_groups_have_their_own_rate_and_decay_and_fall_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    own = [next(made.head.parameters())]
    groups = [{"params": own, "lr": 0.1, "weight_decay": 0.0}]
    monkeypatch.setattr(type(made.head), "parameter_groups", lambda self: groups, raising=False)
    found = optimiser(made, SMALLEST.training)
    set_rate(found, 0.5 * SMALLEST.training.learning_rate)
    rest, special = found.param_groups
    assert (special["lr"], special["weight_decay"]) == (pytest.approx(0.05), 0.0)
    assert (rest["lr"], rest["weight_decay"]) == (pytest.approx(5e-4), SMALLEST.training.weight_decay)
    assert len(rest["params"]) + len(special["params"]) == len(list(made.parameters()))


def test_nothing_left_to_train_is_refused() -> None:
    made = network()
    made.requires_grad_(False)
    with pytest.raises(TrainingError, match="nothing is left to train"):
        optimiser(made, SMALLEST.training)
