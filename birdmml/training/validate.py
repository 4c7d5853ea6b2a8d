"""Loss and retrieval on validation rows, between two epochs; draws no random numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdmml.metrics import hit, rank
from birdmml.nn.feed import Feed, batches, to_device
from birdmml.nn.network import Network
from birdmml.nn.scores import JOINT

K = 10


@torch.inference_mode()
def validate(network: Network, feed: Feed, batch_size: int) -> dict[str, float]:
    """ "loss" over batches in row order, and recall@10 averaged over the 1->1 and over the 2->1 pairs."""
    device = next(network.parameters()).device
    network.eval()
    losses, sizes, parts = [], [], []
    for inputs in feed.stream(list(batches(np.arange(len(feed)), batch_size))):
        features = network.features(to_device(inputs, device))
        losses.append(float(network.model.loss(features)["loss"]))
        sizes.append(len(inputs["text"]))
        parts.append(network.model.embed(features))
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {"loss": float(np.average(losses, weights=sizes))} | _recalls(network, vectors, len(feed))


def _recalls(network: Network, vectors: Mapping[str, Tensor], rows: int) -> dict[str, float]:
    recalls: dict[str, list[float]] = {"1->1": [], "2->1": []}
    for query, target in network.model.pairs():
        name = "2->1" if JOINT in query else "1->1"
        recalls[name].append(_recall(network, vectors, query, target, rows))
    return {f"recall@{K} {name}": float(np.mean(values)) for name, values in recalls.items() if values}


def _recall(network: Network, vectors: Mapping[str, Tensor], query: str, target: str, rows: int) -> float:
    def block(part: slice) -> NDArray[np.floating]:
        queries = {name: value[part] for name, value in vectors.items()}
        return np.asarray(network.model.score(query, target, queries, vectors).float().cpu())

    ranks = rank(block, np.arange(rows), rows)
    return float(hit(ranks.greater, ranks.ties, K).mean())


def score(recalls: Mapping[str, float]) -> float:
    """What "best" is decided by: the mean of the recalls, higher is better."""
    return float(np.mean([value for name, value in recalls.items() if name.startswith("recall")]))
