"""What goes into a suite and what comes out: named arrays in, per-item outcomes out. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birdmml.metrics import Ranks, rank

Arrays = Mapping[str, NDArray[np.float32]]
# score(query, target, query embeddings [Q, D], candidate embeddings [C, D]) -> [Q, C]
Score = Callable[[str, str, Arrays, Arrays], NDArray[np.floating]]

# Scores closer than this are level: one caption twice in a gallery gets the same score up to rounding.
LEVEL = 1e-6


@dataclass(frozen=True)
class Request:
    """What a suite wants embedded: a split of "dataset" or of an evaluation set, with its class prompts or not."""

    evalset: str
    split: str
    prompts: bool = False


@dataclass(frozen=True)
class Scorer:
    """A method's score, and the (query, target) pairs that it defines."""

    score: Score
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Material:
    """N embedded items. `arrays` [N, D] by name; `present` [N] by modality says where it exists.

    For classification: `labels` [N] index into `class_names`, whose prompts are embedded in `prompts` [C, D].
    """

    evalset: str
    ids: tuple[str, ...]
    arrays: Arrays
    present: Mapping[str, NDArray[np.bool_]]
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    prompts: Arrays = field(default_factory=dict)

    def having(self, *names: str) -> NDArray[np.int64]:
        """The items that have every modality of the names ("image", "image+audio")."""
        keep = np.ones(len(self.ids), dtype=bool)
        for modality in {m for name in names for m in name.split("+")}:
            keep &= self.present.get(modality, np.zeros(len(self.ids), dtype=bool))
        return np.flatnonzero(keep)


@dataclass(frozen=True)
class Scored:
    """One task: each item's target and prediction, and how many candidates beat or equal the target.

    `query` names the modalities asked with; `left_out` items lacked one of them.
    """

    task: str
    query: str
    candidates: int
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str, ...]
    greater: NDArray[np.int64]
    ties: NDArray[np.int64]
    left_out: int = 0


def place(
    scorer: Scorer, query: str, target: str, queries: Arrays, candidates: Arrays, targets: NDArray[np.int64]
) -> Ranks:
    """Where the targets [Q] land when `queries` [Q, D] ask for `candidates` [C, D]; block by block."""

    def block(part: slice) -> NDArray[np.floating]:
        return scorer.score(query, target, {k: v[part] for k, v in queries.items()}, candidates)

    return rank(block, targets, len(candidates[target]), LEVEL)


def scored(
    task: str,
    query: str,
    ids: tuple[str, ...],
    names: tuple[str, ...],
    targets: NDArray[np.int64],
    ranks: Ranks,
    left_out: int,
) -> Scored:
    """The outcome of one task; `names` [C] are the candidates'."""
    return Scored(
        task,
        query,
        len(names),
        ids,
        tuple(names[i] for i in targets),
        tuple(names[i] for i in ranks.best),
        ranks.greater,
        ranks.ties,
        left_out,
    )
