"""Killed by SIGKILL at several moments and resumed, a training ends with the bytes of an undisturbed one."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
import torch
from helpers.small import OPTIONS

from birdmml.core import settings
from birdmml.errors import CheckpointError, TrainingError, UsageError
from birdmml.models import journal, state
from birdmml.models.plan import TrainingPlan, plan, run

DRIVER = Path(helpers.__file__).with_name("resume_driver.py")


def drive(data: Path, out: Path, every: int, kills: list[int]) -> dict[str, int]:
    ran = subprocess.run(
        [sys.executable, DRIVER, data, out, *map(str, [every, *kills])],
        env=os.environ | {"PYTHONPATH": str(DRIVER.parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


def end(out: Path) -> dict[str, bytes]:
    """What must not depend on interruptions: weights, optimiser, random state, history, best."""
    last = state.newest(out)
    assert last is not None
    meta = json.loads((last / state.POSITION).read_text())
    meta["position"].pop("seconds")
    found = {p: (out / p).read_bytes() for p in ("last/model.safetensors", "best/model.safetensors")}
    found["state"] = (last / state.TENSORS).read_bytes()
    found["position"] = json.dumps(meta["position"]).encode()
    return found


def lines(out: Path) -> list[dict[str, object]]:
    """The journal without what a clock or the memory says."""
    timed = ("rows_per_second", "memory_bytes", "eta_s")
    return [{k: v for k, v in line.items() if k not in timed} for line in journal.read(out)]


def test_a_killed_training_resumes_to_the_same_bytes(small_demo: Path, tmp_path: Path) -> None:
    assert drive(small_demo, tmp_path / "calm", 3, []) == {"died": 0, "end": 0}
    # Before the first save, in a partial epoch, at the end of one.
    assert drive(small_demo, tmp_path / "killed", 3, [2, 11, 18]) == {"died": 3, "end": 0}
    assert end(tmp_path / "killed") == end(tmp_path / "calm")
    assert lines(tmp_path / "killed") == lines(tmp_path / "calm")


@pytest.mark.drill
@pytest.mark.parametrize("every", [0, 1, 5])
def test_twenty_kills_at_random(small_demo: Path, tmp_path: Path, every: int) -> None:
    drive(small_demo, tmp_path / "calm", every, [])
    total = len([line for line in journal.read(tmp_path / "calm") if line["kind"] == "step"])
    kills = sorted(random.Random(every).sample(range(1, total), 12))
    assert drive(small_demo, tmp_path / "killed", every, kills)["died"] >= 6
    assert end(tmp_path / "killed") == end(tmp_path / "calm")


@pytest.fixture
def made(small_demo: Path) -> TrainingPlan:
    return plan(small_demo, "tri_clip", "tiny", [*OPTIONS, "training.epochs=1"], device="cpu")


def test_a_folder_in_use_needs_resume_and_a_finished_one_stays(made: TrainingPlan, tmp_path: Path) -> None:
    run(made, tmp_path / "out", quiet=True)
    before = end(tmp_path / "out")
    with pytest.raises(UsageError, match="--resume"):
        run(made, tmp_path / "out", quiet=True)
    run(made, tmp_path / "out", resume=True, quiet=True)
    assert end(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "clip"}, "method tri_clip, now it is clip"),
        ({"limit": 20}, "limit None, now it is 20"),
        ({"preset": "training.batch_size=9"}, "training.batch_size 32, now it is 9"),
    ],
)
def test_other_settings_are_refused_with_the_first_that_differs(
    made: TrainingPlan, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    run(made, tmp_path / "out", quiet=True)
    if "preset" in change:
        change = {"preset": settings.override(made.preset, [str(change["preset"])])}
    if change.get("method") == "clip":
        other = plan(made.built.root, "clip", "tiny", [*OPTIONS, "training.epochs=1"], device="cpu")
        change |= {"config": other.config}
    with pytest.raises(CheckpointError, match=words):
        run(dataclasses.replace(made, **change), tmp_path / "out", resume=True, quiet=True)  # type: ignore[arg-type]


def test_more_workers_are_no_other_settings(made: TrainingPlan, tmp_path: Path) -> None:
    run(made, tmp_path / "out", quiet=True)
    other = settings.override(made.preset, ["training.workers=0", "training.cache_gib=0"])
    run(dataclasses.replace(made, preset=other), tmp_path / "out", resume=True, quiet=True)


class Trap:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [state.TENSORS, state.POSITION, "model.safetensors"])
def test_a_damaged_state_or_a_pickle_in_disguise_is_refused(made: TrainingPlan, tmp_path: Path, name: str) -> None:
    run(made, tmp_path / "out", quiet=True)
    path = state.newest(tmp_path / "out") / name  # type: ignore[operator]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], pickle.dumps(Trap(tmp_path / "sprung")), b""):
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            run(made, tmp_path / "out", resume=True, quiet=True)
    assert not (tmp_path / "sprung").exists()


def test_divergence_names_the_step_the_rows_and_the_last_good_checkpoint(
    made: TrainingPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdmml.models.train import _Run

    made = dataclasses.replace(made, preset=settings.override(made.preset, ["training.batch_size=8"]))
    same, seen = _Run.same, [0]

    def poison(self: _Run, rows: np.ndarray) -> torch.Tensor | None:
        seen[0] += 1
        if seen[0] == 4:
            with torch.no_grad():
                next(self.network.head.parameters()).fill_(float("nan"))
        return same(self, rows)

    monkeypatch.setattr(_Run, "same", poison)
    with pytest.raises(TrainingError, match=r"epoch 1, step 4, rows .*step-00000003.*learning_rate") as caught:
        run(made, tmp_path / "out", every=1, quiet=True)
    assert sum(str(i) in str(caught.value) for i in made.rows("train").column("id")) == 8
    assert state.newest(tmp_path / "out") == tmp_path / "out" / "steps" / "step-00000003"


def test_a_folder_stands_for_its_last_else_its_best_else_its_newest_step(made: TrainingPlan, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "out"
    run(made, out, quiet=True)
    assert state.resolve(out) == out / "last"
    assert state.resolve(out / "best") == out / "best"
    shutil.rmtree(out / "last")
    assert state.resolve(out) == out / "best"
    shutil.rmtree(out / "best")
    assert state.resolve(out) == state.newest(out)
    with pytest.raises(CheckpointError, match="birdmml train"):
        state.resolve(tmp_path / "nowhere")
