"""Which of the 32 values each model names, for everything that can happen, by the method's own score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from birdmml.evalsets import xor
from birdmml.metrics import Ints, Ranks, hit, rank
from birdmml.paper import reported
from birdmml.suites._material import LEVEL
from birdmml.xor.fit import Fitted
from birdmml.xor.network import XorNetwork, signs
from birdmml.xor.plan import XorSettings


@dataclass(frozen=True)
class XorAnswers:
    """For K models and the C cells of `evalsets.xor.cells`: values above b, level with b, and the best [K, C]."""

    greater: Ints
    ties: Ints
    best: Ints


def answers(fitted: Fitted, chosen: XorSettings) -> XorAnswers:
    """Every model's answer to every cell. Raises ResultError where a score is not finite."""
    codes, _ = xor.cells(chosen.modalities)
    ranks = [place(model, codes, chosen.query) for model in fitted.models()]
    return XorAnswers(
        np.stack([r.greater for r in ranks]),
        np.stack([r.ties for r in ranks]),
        np.stack([r.best for r in ranks]),
    )


@torch.no_grad()
def place(model: XorNetwork, codes: dict[str, xor.Codes], query: str) -> Ranks:
    """Where b [C] lands among the 32 values when the others ask; level scores count as ties."""
    candidates = model.embed({xor.TARGET: signs(np.arange(xor.CLASSES))})
    queries = model.embed({name: signs(of) for name, of in codes.items() if name != xor.TARGET})

    def block(part: slice) -> NDArray[np.floating]:
        part_queries = {name: z[part] for name, z in queries.items()}
        scores: NDArray[np.floating] = model.head.score(query, xor.TARGET, part_queries, candidates).numpy()
        return scores

    return rank(block, codes[xor.TARGET], xor.CLASSES, LEVEL)


def exact(ranks: XorAnswers, chosen: XorSettings) -> NDArray[np.float64]:
    """Accuracies [seeds, P] over all cells, each with its probability: no sampling is left in them."""
    _, switch = xor.cells(chosen.modalities)
    hits = hit(ranks.greater, ranks.ties, 1).reshape(len(chosen.seeds), len(chosen.p), -1)
    weights = np.stack([xor.weights(p, switch) for p in chosen.p])
    return np.asarray(np.einsum("spc,pc->sp", hits, weights))


def authors() -> dict[str, dict[float, float]]:
    """What the authors' figure shows: method -> p -> accuracy; benchmarks/paper/xor.csv says how it was read."""
    values: dict[str, dict[float, float]] = {}
    for row in reported(suite="xor"):
        values.setdefault(row.method, {})[float(row.conditions["p"])] = row.value
    return values
