"""A small true result with every kind of outcome, submissions of it, and a forger who mends what can be mended."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.leaderboard.submission import making, reading
from birdmml.leaderboard.submission.model import About, Submission
from birdmml.results import outcomes, result
from birdmml.results.outcomes import Measures, Outcomes, Predictions, SpeciesHits
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

N, SEEDS = 12, (0, 1)
IDS = tuple(f"bird-{k:02d}" for k in range(N))
CLASSES = ("Wren", "Robin", "Crow", "Heron")
TARGETS = tuple(CLASSES[k % 4] for k in range(N))
DIGEST, WEIGHTS = "ab" * 32, ("1c" * 32, "2d" * 32)
ABOUT = About("Small birds", "someone@example.org", "CC0-1.0", "Twelve made-up birds.")


def items_of(seed: int = 0) -> dict[tuple[str, str, tuple[str, ...]], Outcomes]:
    """(suite, task, metrics) -> outcomes of each kind: placed, with draws, by species, measured."""
    generator = np.random.default_rng(seed)
    ranked = generator.integers(0, N, (2, N))
    named = generator.integers(0, 4, (2, N))
    drawn = generator.integers(0, 4, (2, 2 * N))
    species = generator.integers(0, 9, (2, N))
    none, one = np.zeros((2, N), dtype=np.int64), np.ones((2, N), dtype=np.int64)
    values = generator.normal(size=(2, N))
    return {
        ("retrieval", "image->text", ("recall@1", "recall@5", "recall@10", "median rank")): Predictions(
            SEEDS, N, IDS, IDS, _picked(ranked, IDS, IDS), ranked, none
        ),
        ("zero-shot", "A", ("accuracy",)): Predictions(
            SEEDS, 4, IDS, TARGETS, _picked(named, TARGETS, CLASSES), named, none
        ),
        ("few-shot", "A 1 shot", ("accuracy",)): Predictions(
            SEEDS, 4, IDS * 2, TARGETS * 2, _picked(drawn, TARGETS * 2, CLASSES), drawn,
            np.zeros((2, 2 * N), dtype=np.int64), draws=np.repeat([0, 1], N),
        ),
        ("retrieval", "image->text by species", ("mAP", "recall@1", "median rank")): SpeciesHits(
            SEEDS, IDS, TARGETS, _picked(species, TARGETS, CLASSES), species, none, one,
            0.4 / (1.0 + species), np.full(N, 2), np.full(N, 11),
        ),
        ("competition", "A swapped", ("swap drop",)): Measures(
            SEEDS, "swap drop", IDS, values, np.ones_like(values)
        ),
    }  # fmt: skip


def result_in(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a whole result; `changes` are fields of the Result."""
    figures = []
    for (suite, task, metrics), items in items_of(seed).items():
        file = f"predictions/{suite}.test-split.{task.replace('->', '-to-').replace(' ', '_')}.parquet"
        outcomes.write(folder / file, dataclasses.replace(items, demo=bool(changes.get("demo"))))
        for metric in metrics:
            told = vars(items.summary(metric))
            figures.append(Figure(suite, "test-split", task, metric, **told, predictions=file))
    made = Result(
        RESULT_SCHEMA_VERSION,
        False,
        "confu",
        "tiny",
        SEEDS,
        {"method": {"variant": "paper"}, "preset": {"dim": 8}, "evalsets": {"dataset": DIGEST}, "limit": None},
        {"name": "birds", "digest": DIGEST, "demo": False, "rows": {"test": N}, "trained_on": DIGEST},
        {
            "birdmml": "0.1.0",
            "python": "3.11.7",
            "packages": {"torch": "2.13.0"},
            "code": {"commit": "c" * 40, "dirty": False},
            "code_digest": "d" * 64,
            "hardware": {"cpu": "a CPU", "cores": 2},
            "created_utc": "2026-01-02T03:04:05+00:00",
        },
        tuple(figures),
        {"total": 12.5},
        tuple({"seed": s, "weights_sha256": w} for s, w in zip(SEEDS, WEIGHTS, strict=True)),
    )
    result.write_result(folder, dataclasses.replace(made, **changes))
    return folder


def submission_in(root: Path, **changes: Any) -> Submission:
    """A sound submission of one small result."""
    return making.make([result_in(root / "small-1", **changes)], ABOUT, root / "submission")


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def edit_table(path: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), path, compression="zstd")


def relist(folder: Path, restate: bool = False, labels: Mapping[str, Any] | None = None) -> None:
    """What a forger does: list every file anew, `restate` the results too, and compute the digest again."""
    path = folder / "submission.json"
    head = json.loads(path.read_text())
    path.unlink()
    head["files"] = list(making._listed(folder))
    if restate:
        there = sorted((folder / "results").iterdir())
        head["results"] = [making._stated(folder, p.name, result.read_result(p)) for p in there]
    head |= dict(labels or {})
    head["digest"] = reading.digest_of(head)
    path.write_bytes(reading.spelled(head))


def _picked(greater: Any, targets: tuple[str, ...], names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The target where nothing beats it, else another name."""
    one, two = (
        tuple(t if g == 0 else names[(names.index(t) + 1) % len(names)] for t, g in zip(targets, row, strict=True))
        for row in greater
    )
    return one, two
