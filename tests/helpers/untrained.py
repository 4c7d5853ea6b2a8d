"""A network with its first weights in the place of a trained one, where a test is about something else."""

from __future__ import annotations

from typing import Any

import torch

from birdmml.core import discover
from birdmml.models.network import Network
from birdmml.models.train import Trained, tokenizer_for


def train(rows: Any, method: str, config: Any, preset: Any, seed: int, *_: Any) -> Trained:
    """As `birdmml.models.train.train`, without its steps."""
    torch.manual_seed(seed)
    tokenizer = tokenizer_for(rows, preset)
    network = Network(preset, discover.load("method", method), config, tokenizer.get_vocab_size())
    return Trained(network.eval(), tokenizer, 0.1, 1.0, ())
