"""Outcomes of several seeds on the same items -> their files and their figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from birdmml import outcomes
from birdmml.errors import ResultError
from birdmml.outcomes import EXP_MEAN, MEAN, Measures, Outcomes, Predictions, SpeciesHits
from birdmml.outcomes.tasks import Measured, Outcome, Scored, SpeciesScored
from birdmml.schema import Figure


def file_name(suite: str, evalset: str, outcome: Outcome) -> str:
    """ "predictions/zero-shot.test-split.A+V.parquet": letters that every file system takes."""
    task = f"{outcome.task}.{outcome.metric}" if isinstance(outcome, Measured) else outcome.task
    plain = re.sub(r"[^A-Za-z0-9+.=-]+", "_", task.replace("->", "-to-"))
    return f"predictions/{suite}.{evalset}.{plain}.parquet"


def joined(runs: Sequence[Outcome], seeds: tuple[int, ...], demo: bool) -> Outcomes:
    """One task under every seed. Raises ResultError where the seeds were not scored on the same items."""
    first = runs[0]
    if any(run.ids != first.ids for run in runs):
        raise ResultError(f"{first.task}: the seeds were not scored on the same items")
    if isinstance(first, Measured):
        measured = [run for run in runs if isinstance(run, Measured)]
        return Measures(
            seeds,
            first.metric,
            first.ids,
            np.stack([run.values for run in measured]),
            np.stack([np.ones_like(r.values) if r.weights is None else r.weights for r in measured]),
            first.chance,
            EXP_MEAN if first.exponential else MEAN,
            demo,
        )
    if isinstance(first, SpeciesScored):
        return _species([run for run in runs if isinstance(run, SpeciesScored)], seeds, demo)
    scored = [run for run in runs if isinstance(run, Scored)]
    return Predictions(
        seeds,
        first.candidates,
        first.ids,
        first.targets,
        tuple(r.predictions for r in scored),
        np.stack([r.greater for r in scored]),
        np.stack([r.ties for r in scored]),
        demo,
        first.draws,
    )


def _species(runs: Sequence[SpeciesScored], seeds: tuple[int, ...], demo: bool) -> SpeciesHits:
    first = runs[0]
    return SpeciesHits(
        seeds,
        first.ids,
        first.targets,
        tuple(run.predictions for run in runs),
        np.stack([run.ranks.greater for run in runs]),
        np.stack([run.ranks.ties for run in runs]),
        np.stack([run.ranks.level for run in runs]),
        np.stack([run.ranks.average_precision for run in runs]),
        first.ranks.relevant,
        first.ranks.candidates,
        demo,
    )


def figures_of(
    suite: str,
    evalset: str,
    runs: Sequence[Outcome],
    seeds: tuple[int, ...],
    demo: bool,
    folder: Path,
    ceiling: float | None = None,
    note: str = "",
) -> list[Figure]:
    """Write the items of one task below `folder`, and make its figures from them."""
    first = runs[0]
    items, file = joined(runs, seeds, demo), file_name(suite, evalset, first)
    outcomes.write(folder / file, items)
    # What a suite notes may differ from model to model: each is kept once.
    notes = [
        note,
        *dict.fromkeys(part for run in runs for part in run.note.split("; ")),
        f"{first.left_out} items lack a modality" if first.left_out else "",
    ]
    return [
        Figure(
            suite=suite,
            evalset=evalset,
            task=first.task,
            metric=metric,
            **vars(items.summary(metric)),
            ceiling=ceiling if metric == "accuracy" else None,
            note="; ".join(filter(None, notes)),
            predictions=file,
        )
        for metric in ((first.metric,) if isinstance(first, Measured) else first.metrics)
    ]
