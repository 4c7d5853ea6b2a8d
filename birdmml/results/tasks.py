"""One task as a suite scored it under one seed, and what a task's name says. numpy only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.media.corruption import KINDS, Corruption, parse
from birdmml.results.gallery import SpeciesRanks

CLEAN = "clean"
BETWEEN = " | "
_SINGLE = re.compile(r"(.{1,60}) at (\d{1,6}(?:\.\d{1,6})?) s")


@dataclass(frozen=True)
class Scored:
    """One task: each item's target and prediction, and how many candidates beat or equal the target.

    `query` names the modalities asked with; `left_out` items lacked one of them. `metrics` are the figures to be
    made of it. `draws` [N]: as in `birdmml.results.outcomes.Predictions`.
    """

    task: str
    query: str
    metrics: tuple[str, ...]
    candidates: int
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str, ...]
    greater: NDArray[np.int64]
    ties: NDArray[np.int64]
    left_out: int = 0
    note: str = ""
    draws: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class SpeciesScored:
    """One task in which every candidate of the item's species is right; `targets`, `predictions` name species."""

    task: str
    query: str
    metrics: tuple[str, ...]
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str, ...]
    ranks: SpeciesRanks
    left_out: int = 0
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """One figure that is a weighted mean over items, or its exponential: `values`, `weights` [N].

    `chance` is what it would be if nothing was there to be found.
    """

    task: str
    query: str
    metric: str
    ids: tuple[str, ...]
    values: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    chance: float = 0.0
    exponential: bool = False
    left_out: int = 0
    note: str = ""


Outcome = Scored | SpeciesScored | Measured
# (suite, label of the items) -> its tasks, of one model
SeedOutcomes = Mapping[tuple[str, str], tuple[Outcome, ...]]


def tasks_of(per_seed: Sequence[SeedOutcomes]) -> list[tuple[str, str, list[Outcome]]]:
    """(suite, evalset, the outcomes of one task under every seed), task after task."""
    return [
        (suite, evalset, [seed[suite, evalset][i] for seed in per_seed])
        for (suite, evalset), tasks in per_seed[0].items()
        for i in range(len(tasks))
    ]


def frame_of(task: str) -> tuple[str, float] | None:
    """ "V at 0.5 s": ("V", 0.5), a single frame's task and its time in s; None for every other task."""
    match = _SINGLE.fullmatch(task)
    return (match[1], float(match[2])) if match else None


def condition_words(corruption: Corruption) -> str:
    """How tasks name it: "audio gaussian 10 dB", "image jpeg 20", "audio missing"."""
    modality, kind, level, _ = corruption.text.split(":")
    if kind == "missing":
        return f"{modality} {kind}"
    return f"{modality} {kind} {level} {KINDS[modality][kind].unit}".rstrip()


def condition_of(task: str) -> tuple[str, Corruption | None] | None:
    """ "A+V | audio gaussian 10 dB" -> ("A+V", the corruption, seed 0); (..., None) if clean; None for other tasks."""
    name, sign, rest = task.partition(BETWEEN)
    if not sign:
        return None
    return name, None if rest == CLEAN else parse(":".join(rest.split()[:3]))
