"""A run as its result tells it: outcomes of every seed -> items, figures and pictures on disk, result.json last."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.core import provenance, settings
from birdmml.core.files import write_json
from birdmml.errors import ResultError, UsageError
from birdmml.results import confusion, outcomes
from birdmml.results.outcomes import EXP_MEAN, MEAN, Measures, Outcomes, Predictions, SpeciesHits
from birdmml.results.pictures import draw_all
from birdmml.results.tasks import Measured, Outcome, SeedOutcomes, SpeciesScored, tasks_of
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

FILE = "result.json"
MAX_JSON_BYTES = 64 * 2**20  # Results are strangers' too, and JSON is read whole.


def write_result(folder: Path, result: Result) -> Path:
    """Write `folder`/result.json, whole or not at all; returns its path."""
    path = folder / FILE
    write_json(path, settings.to_dict(result))
    return path


def read_result(path: Path) -> Result:
    """Read a result.json, or the one in a folder; raises ResultError if it is none."""
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ResultError(f"{path} not found: give a folder that `birdmml bench` wrote")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ResultError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB: it is no result.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise ResultError(f"{path} cannot be read as JSON ({e}): score again") from e
    if not isinstance(values, dict) or values.get("schema_version") != RESULT_SCHEMA_VERSION:
        version = values.get("schema_version") if isinstance(values, dict) else None
        raise ResultError(f"{path} has schema version {version}, expected {RESULT_SCHEMA_VERSION}: score again")
    try:
        return settings.from_dict(Result, values)
    except (UsageError, TypeError) as e:
        raise ResultError(f"{path} is not a result: {e}") from e


def figure_key(figure: Figure) -> str:
    """ "zero-shot test-split A+V accuracy": how messages name a figure."""
    return f"{figure.suite} {figure.evalset} {figure.task} {figure.metric}"


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

    def stacked(field: str) -> NDArray[Any]:
        return np.stack([attrgetter(field)(run) for run in runs])

    if isinstance(first, Measured):
        values = stacked("values")
        weights = np.ones_like(values) if first.weights is None else stacked("weights")
        statistic = EXP_MEAN if first.exponential else MEAN
        return Measures(seeds, first.metric, first.ids, values, weights, float(first.chance), statistic, demo)
    names = tuple(run.predictions for run in runs if not isinstance(run, Measured))
    if isinstance(first, SpeciesScored):
        greater, ties, level, precision = (
            stacked(f"ranks.{c}") for c in ("greater", "ties", "level", "average_precision")
        )
        relevant, candidates = first.ranks.relevant, first.ranks.candidates
        return SpeciesHits(
            seeds, first.ids, first.targets, names, greater, ties, level, precision, relevant, candidates, demo
        )
    return Predictions(
        seeds, first.candidates, first.ids, first.targets, names, stacked("greater"), stacked("ties"), demo, first.draws
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


# (suite, evaluation set, query) -> the best possible value where it is known, and a note on the method's score
Remarks = Callable[[str, str, str], tuple[float | None, str]]


@dataclass(frozen=True)
class SeedScores:
    """What one model scored; `model` is what the result says of it, `train_seconds` what it took to train it now."""

    outcomes: SeedOutcomes
    model: Mapping[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0


@dataclass(frozen=True)
class Run:
    """Where a run is written, and what its result says of it; where the embeddings come from is `score`'s affair."""

    folder: Path
    method: str
    preset: str
    settings: Mapping[str, Any]
    dataset: Mapping[str, Any]
    demo: bool
    seeds: tuple[int, ...] = (0,)
    provenance: Mapping[str, Any] = field(default_factory=provenance.collect)

    def carry_out(
        self, score: Callable[[int], SeedScores], remarks: Remarks = lambda suite, evalset, query: (None, "")
    ) -> Result:
        """Score the model of each seed and write everything below `folder`, where result.json comes last.

        A folder without one is an unfinished run. Raises UsageError where nothing could be scored.
        """
        started = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / FILE).unlink(missing_ok=True)  # It says that a run is whole.
        seconds = {"train": 0.0, "embed_and_score": 0.0}
        scores: list[SeedScores] = []
        for seed in self.seeds:
            before = time.perf_counter()
            scores.append(score(seed))
            seconds["train"] += scores[-1].train_seconds
            seconds["embed_and_score"] += time.perf_counter() - before - scores[-1].train_seconds
        seconds["total"] = time.perf_counter() - started
        head = self.result((), seconds, [one.model for one in scores if one.model])
        return record(self.folder, head, [one.outcomes for one in scores], remarks)

    def result(
        self, figures: Sequence[Figure], seconds: Mapping[str, float], models: Sequence[Mapping[str, Any]] = ()
    ) -> Result:
        """The result with these figures."""
        return Result(
            schema_version=RESULT_SCHEMA_VERSION,
            demo=self.demo,
            method=self.method,
            preset=self.preset,
            seeds=self.seeds,
            settings=self.settings,
            dataset=self.dataset,
            provenance=self.provenance,
            figures=tuple(figures),
            seconds={name: round(value, 2) for name, value in seconds.items()},
            models=tuple(models),
        )


def record(
    folder: Path,
    head: Result,
    per_seed: Sequence[SeedOutcomes],
    remarks: Remarks = lambda suite, evalset, query: (None, ""),
) -> Result:
    """Write everything below `folder`; `head` is the result without its figures. Returns it with them.

    Raises UsageError where nothing could be scored.
    """
    # What an earlier run of other suites left would pass for this one's.
    for name in ("predictions", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    figures: list[Figure] = []
    for suite, evalset, runs in tasks_of(per_seed):
        ceiling, note = remarks(suite, evalset, runs[0].query)
        figures += figures_of(suite, evalset, runs, head.seeds, head.demo, folder, ceiling, note)
    if not figures:
        suites = ", ".join(head.settings.get("suites", {}))
        raise UsageError(f"{head.method} defines no pair that {suites} asks for: choose another --suite")
    result = dataclasses.replace(head, figures=tuple(figures))
    draw_all(result, folder / "figures")
    confusion.draw(result, folder, folder / "figures")
    write_result(folder, result)
    return result
