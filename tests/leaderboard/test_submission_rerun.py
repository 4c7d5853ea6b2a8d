"""A real run, submitted, verified with the data, and run again: what fits together and is made up is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ran, submitted, untrained
from helpers.small import OPTIONS

from birdmml.errors import CheckpointError, ResultError, UsageError
from birdmml.leaderboard.submission import expected
from birdmml.leaderboard.submission import rerun as submission_rerun
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.making import make
from birdmml.leaderboard.submission.model import About, Submission
from birdmml.leaderboard.submission.reading import read
from birdmml.leaderboard.submission.rerun import moved, rerun
from birdmml.models import recipe
from birdmml.results import result
from birdmml.results.outcomes import Measures, Predictions, SpeciesHits

Cli = Callable[..., Ran]
WIDE, DEEP = ("retrieval", "zero-shot"), ("few-shot", "linear-probe", "noise", "competition")
QUICK = ("few-shot.draws=2", "few-shot.shots=[1]", "noise.snr_db=[10.0]")


@pytest.fixture(scope="module")
def made(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Submission, Path]:
    """A submission of two runs, every suite of birds in one of them, with two untrained models; the models' folder."""
    from birdmml.bench.plan import Choice, plan
    from birdmml.bench.run import run

    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "train", untrained.train)
        for suites, only in ((WIDE, ()), (DEEP, ("dataset",))):
            overrides = [*OPTIONS, *QUICK]
            choice = Choice(suites, overrides=overrides, seeds=2, device="cpu", only=only)
            run(plan(small_demo, "confu", choice), root / "results", quiet=True)
    about = About("A test", "me@example.org", "CC0-1.0", "nothing: the models are untrained")
    submission = make([root / "results"], about, root / "submission", True, allow_dirty=True)
    (kept,) = (root / "results" / "models").iterdir()
    return submission, kept


def test_a_real_run_of_every_suite_is_sound_and_its_items_are_those_of_the_data(
    made: tuple[Submission, Path], small_demo: Path
) -> None:
    report = check(made[0].folder, expected.of_data(small_demo))
    assert [p.line for p in report.problems] == []
    assert report.notes == ()
    assert {f.suite for e in made[0].entries for f in e.result.figures} == {*WIDE, *DEEP}
    assert "demo" in made[0].about["labels"]


def test_the_same_model_gives_the_same_outcomes(made: tuple[Submission, Path], small_demo: Path) -> None:
    submission, kept = made
    found = rerun(submission, [kept / "seed-1"], small_demo, device="cpu")
    assert (found.problems, found.moved) == ((), 0)
    assert found.items > 100
    assert len(found.lines) == sum(len(told["items"]) for told in made[0].about["results"])


def invent(folder: Path, name: str) -> None:
    """Better outcomes for everybody in one file, the figures, statements and digests made to fit."""
    (entry,) = (e for e in read(folder).entries if (e.folder / name).is_file())
    path = entry.folder / name

    def change(table: dict[str, list[Any]]) -> None:
        table["greater"] = [0] * len(table["greater"])
        table["ties"] = [0] * len(table["ties"])
        table["prediction"], table["outcome"] = list(table["target"]), [1.0] * len(table["target"])

    submitted.edit_table(path, change)
    items = submitted.outcomes.read(entry.folder, name)

    def better(value: dict[str, Any]) -> None:
        for figure in value["figures"]:
            if figure["predictions"] == name:
                told = vars(items.summary(figure["metric"]))
                figure.update({k: list(v) if isinstance(v, tuple) else v for k, v in told.items()})

    submitted.edit_json(entry.folder / result.FILE, better)
    submitted.relist(folder, restate=True)


def test_made_up_outcomes_that_fit_together_are_found_by_running_again(
    cli: Cli, made: tuple[Submission, Path], small_demo: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[0].folder, tmp_path / "forged"))
    name = "predictions/zero-shot.test-split.A.parquet"
    invent(folder, name)
    assert cli("verify", folder, "--data", small_demo).code == 0  # Nothing else can tell.
    models_of = ("--checkpoint", made[1] / "seed-0", "--device", "cpu")
    ran = cli("verify", folder, "--data", small_demo, "--rerun", *models_of, "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert [p["file"].endswith(name) for p in told["problems"]] == [True]
    assert "run again with seed 0" in told["problems"][0]["found"]
    assert 0 < told["rerun"]["moved"] <= len(made[0].entries) * 100


def test_a_share_of_moved_items_may_be_allowed(
    made: tuple[Submission, Path], small_demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_rerun, "_compared", lambda *_: [("a.parquet", 200, 3)])
    for tolerance, sound in ((0.0, False), (0.014, False), (0.015, True)):
        found = rerun(made[0], [made[1] / "seed-0"], small_demo, tolerance=tolerance)
        assert (found.problems == ()) is sound
        assert "3 of 200 items differ" in found.lines[0]


def test_settings_that_are_not_the_checkpoints_are_found(
    made: tuple[Submission, Path], small_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_rerun, "_compared", lambda *_: [])
    folder = Path(shutil.copytree(made[0].folder, tmp_path / "forged"))
    entry = next(e for e in read(folder).entries if "few-shot" in e.result.settings["suites"])
    submitted.edit_json(entry.folder / result.FILE, lambda v: v["settings"]["preset"]["training"].update(epochs=9))
    submitted.relist(folder, restate=True)
    assert check(folder).sound
    found = rerun(read(folder), [made[1] / "seed-0"], small_demo, device="cpu")
    assert ["settings.preset is not that of the checkpoint" in p.line for p in found.problems] == [True]


def test_what_cannot_be_run_again_is_one_line(made: tuple[Submission, Path], small_demo: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        rerun(made[0], [tmp_path / "nowhere"], small_demo)
    with pytest.raises(UsageError, match="--tolerance"):
        rerun(made[0], [made[1] / "seed-0"], small_demo, tolerance=2.0)
    with pytest.raises(ResultError, match="no result is of its weights"):
        rerun(submitted.submission_in(tmp_path), [made[1] / "seed-0"], small_demo)


def test_outcomes_are_compared_item_by_item() -> None:
    for items in submitted.items_of().values():
        assert moved(items, items, 1) == 0
        assert moved(items, replace(items, ids=items.ids[::-1]), 1) == len(items.ids)
        assert moved(items, items, 7) == len(items.ids)
        if isinstance(items, Measures):
            changed: Any = replace(items, values=items.values + np.eye(2, submitted.N))
        elif isinstance(items, SpeciesHits):
            changed = replace(items, average_precision=items.average_precision + np.eye(2, submitted.N))
        else:
            assert isinstance(items, Predictions)
            changed = replace(items, greater=items.greater + np.eye(2, len(items.ids), dtype=np.int64))
        assert [moved(items, changed, seed) for seed in (0, 1)] == [1, 1]
