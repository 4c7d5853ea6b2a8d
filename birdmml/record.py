"""A run as its result tells it: outcomes of every seed -> items, figures, pictures, and result.json last of all."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmml import provenance, results
from birdmml.errors import UsageError
from birdmml.figures import figures_of
from birdmml.outcomes.tasks import SeedOutcomes, tasks_of
from birdmml.picture import draw_all
from birdmml.pictures import confusion
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

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
        self,
        score: Callable[[int], SeedScores],
        remarks: Remarks = lambda suite, evalset, query: (None, ""),
    ) -> Result:
        """Score the model of each seed and write everything below `folder`, where result.json comes last.

        A folder without one is an unfinished run. Raises UsageError where nothing could be scored.
        """
        started = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / results.FILE).unlink(missing_ok=True)
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
        self,
        figures: Sequence[Figure],
        seconds: Mapping[str, float],
        models: Sequence[Mapping[str, Any]] = (),
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
    results.write_result(folder, result)
    return result
