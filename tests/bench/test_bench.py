"""`birdmml bench` from a built dataset to files that check out; bad input gives one line."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Ran, untrained
from helpers.small import OPTIONS

from birdmml.leaderboard.verify import verify
from birdmml.results.result import read_result

Cli = Callable[..., Ran]
QUICK = [word for option in OPTIONS for word in ("--set", option)]


@pytest.fixture(scope="module")
def done(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one quick run of two seeds."""
    from birdmml.bench.plan import Choice, plan
    from birdmml.bench.run import run

    made = plan(small_demo, "confu", Choice(overrides=OPTIONS, seeds=2, first_seed=3, device="cpu"))
    return run(made, tmp_path_factory.mktemp("out"), quiet=True)[1]


def models_of(folder: Path) -> Path:
    """Where the models beside a result lie."""
    (found,) = (folder.parent / "models").iterdir()
    return found


def test_a_run_leaves_a_result_its_items_a_picture_and_one_model_a_seed(done: Path) -> None:
    result = verify(done)
    assert (result.method, result.preset, result.seeds, result.demo) == ("confu", "tiny", (3, 4), True)
    assert "demo" in done.name
    kept = {model["seed"]: model["weights_sha256"] for model in result.models}
    for seed in (3, 4):
        meta = json.loads((models_of(done) / f"seed-{seed}" / "checkpoint.json").read_text())
        assert meta["weights_sha256"] == kept[seed]
    assert (done / "figures" / "overview.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {f.predictions for f in result.figures} == {
        p.relative_to(done).as_posix() for p in (done / "predictions").iterdir()
    }


def test_the_result_says_how_it_came_to_be(done: Path, small_demo: Path) -> None:
    result = read_result(done)
    manifest = json.loads((small_demo / "manifest.json").read_text())
    assert result.dataset["digest"] == result.dataset["trained_on"] == manifest["digest"]
    assert result.settings["weights"] == "scratch"
    assert result.settings["preset"]["training"]["epochs"] == 2
    assert result.settings["method"]["fused_weight"] == 0.5
    assert result.provenance["packages"]["torch"]
    assert result.provenance["hardware"]["device"] == "cpu"
    assert result.seconds["total"] >= result.seconds["train"] > 0


def test_every_figure_has_chance_and_n_and_the_demo_its_ceiling(done: Path) -> None:
    result = read_result(done)
    tasks = {(f.suite, f.evalset, f.task) for f in result.figures}
    pairs = {f"{a}->{b}" for a in ("image", "audio", "text") for b in ("image", "audio", "text") if a != b}
    pairs |= {"image+audio->text", "image+text->audio", "audio+text->image"}
    pairs |= {f"{pair} by species" for pair in pairs}
    assert tasks == {("retrieval", "test-split", p) for p in pairs} | {
        ("zero-shot", e, t) for e in ("test-split", "demo-videos") for t in ("A", "V", "A+V")
    }
    for f in result.figures:
        assert f.low <= f.value <= f.high
        assert len(f.per_seed) == 2
        assert f.sd is not None
        if f.suite == "zero-shot":
            assert f.chance == pytest.approx((5 if "top-5" in f.metric else 1) / 6)
            if f.metric == "accuracy":
                assert f.ceiling == pytest.approx({"A": 1 / 3, "V": 1 / 2, "A+V": 1.0}[f.task])
        elif f.metric.startswith("recall") and "species" not in f.task:
            assert f.chance == pytest.approx(min(int(f.metric[7:]), f.n) / f.n)


def test_items_are_the_test_rows_with_their_own_labels(done: Path, small_demo: Path) -> None:
    test = pq.read_table(next(small_demo.glob("data/test-*.parquet")), columns=["id", "common_name"])
    names = dict(zip(test["id"].to_pylist(), test["common_name"].to_pylist(), strict=True))
    table = pq.read_table(done / "predictions" / "zero-shot.test-split.A+V.parquet")
    assert table["seed"].to_pylist() == [3] * len(names) + [4] * len(names)
    assert dict(zip(table["id"].to_pylist(), table["target"].to_pylist(), strict=True)) == names
    right = np.array(table["prediction"].to_pylist()) == np.array(table["target"].to_pylist())
    wanted = ("test-split", "A+V", "accuracy")
    (figure,) = (f for f in read_result(done).figures if (f.evalset, f.task, f.metric) == wanted)
    assert figure.value == pytest.approx(right.mean())  # no ties among random scores


def test_the_same_command_gives_the_same_figures_and_a_checkpoint_gives_its_seeds(
    done: Path, small_demo: Path, cli: Cli, tmp_path: Path
) -> None:
    common = ["bench", "--data", small_demo, "--device", "cpu", "--out", tmp_path, "--json"]
    again = json.loads(cli(*common, *QUICK, "--seed", 3, "--seeds", 2).out)
    first = json.loads((done / "result.json").read_text())
    assert again["figures"] == first["figures"]
    assert Path(again["folder"]).name == done.name
    scored = json.loads(cli(*common, "--checkpoint", models_of(done) / "seed-4").out)
    assert [f["value"] for f in scored["figures"]] == [f["per_seed"][1] for f in first["figures"]]
    assert scored["seeds"] == [4]
    assert scored["settings"]["trained_here"] is False
    for model in first["models"]:
        meta = json.loads((models_of(done) / f"seed-{model['seed']}" / "checkpoint.json").read_text())
        assert model["loss_by_epoch"] == [epoch["loss"] for epoch in meta["training"]["history"]]
    assert scored["models"][0]["loss_by_epoch"] == first["models"][1]["loss_by_epoch"]


@pytest.mark.parametrize("history", [[1], {"loss": 1}, [{"loss": "x"}], [{"loss": math.nan}], [{"loss": 2.0}, {}]])
def test_a_history_that_is_none_is_left_out_of_the_result(history: object) -> None:
    from types import SimpleNamespace

    from birdmml.bench.run import _model_record

    made = SimpleNamespace(training={"history": history}, weights_sha256="0" * 64)
    assert _model_record(made, 3) == {"seed": 3, "weights_sha256": "0" * 64}  # type: ignore[arg-type]  # what it reads of one


def test_the_table_shows_measured_beside_chance_and_the_best_possible(
    small_demo: Path, cli: Cli, tmp_path: Path
) -> None:
    ran = cli("bench", "--data", small_demo, "--out", tmp_path, "--limit", 12, "--device", "cpu", *QUICK)
    assert ran.code == 0
    assert "DEMO DATA" in ran.out
    assert "LIMITED to 12 rows" in ran.out
    for word in ("best possible", "chance", "95 %", "A+V", "image+audio->text", "16.7 %", "33.3 %", "result.json"):
        assert word in ran.out
    (folder,) = (p.parent for p in tmp_path.glob("*/result.json"))
    assert "limited" in folder.name
    assert read_result(folder).settings["limit"] == 12
    assert verify(folder).figures[0].n <= 12


def test_one_suite_alone_and_another_method(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli(
        "bench", "--method", "Tri-CLIP", "--suite", "zero_shot", "--data", small_demo, "--out", tmp_path,
        "--device", "cpu", *QUICK, "--json",
    )  # fmt: skip
    found = json.loads(ran.out)
    assert found["method"] == "tri_clip"
    assert {f["suite"] for f in found["figures"]} == {"zero-shot"}
    fused = [f for f in found["figures"] if f["task"] == "A+V"]
    assert all("extension" in f["note"] for f in fused)


def test_a_dry_run_says_the_sizes_and_writes_nothing(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "results"
    ran = cli("bench", "--data", small_demo, "--out", out, "--preset", "paper", "--dry-run", "--json")
    about = json.loads(ran.out)
    assert about["epochs"] == 100
    assert about["batch"] == 64
    assert "image 23,508,032" in about["parameters"]
    assert "random" in about["weights"]
    assert not out.exists()
    assert "steps" in cli("bench", "--data", small_demo, "--out", out, "--dry-run").out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--method", "confuu"], 2, ["confuu", "confu"]),
        (["--suite", "retreival"], 2, ["retrieval"]),
        (["--suite", ","], 2, ["no suite"]),
        (["--preset", "tinny"], 2, ["tiny"]),
        (["--seeds", "0"], 2, ["--seeds 0"]),
        (["--seed", "-1"], 2, ["--seed -1"]),
        (["--limit", "1"], 2, ["--limit 1"]),
        (["--epochs", "0"], 2, ["epochs"]),
        (["--batch-size", "1"], 2, ["batch_size"]),
        (["--device", "gpu"], 2, ["gpu", "auto"]),
        (["--set", "training.epoch=3"], 2, ["training.epochs"]),
        (["--set", "method.lamda=3"], 2, ["method.lamda", "method."]),
        (["--checkpoint", "nowhere"], 1, ["nowhere", "bench"]),
    ],
)
def test_senseless_options_give_one_line_with_the_next_step(
    small_demo: Path, cli: Cli, tmp_path: Path, options: list[str], code: int, words: list[str]
) -> None:
    ran = cli("bench", "--data", small_demo, "--out", tmp_path / "out", *options)
    assert ran.code == code
    assert len(ran.err.strip().splitlines()) == 1
    assert all(word in ran.err for word in words)
    assert not (tmp_path / "out").exists()


def test_no_dataset_says_how_to_build_one(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("bench")
    assert ran.code == 1
    assert "birdmml build --out ./data" in ran.err


def test_a_checkpoint_goes_with_no_training_options(done: Path, small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    model = models_of(done) / "seed-3"
    ran = cli("bench", "--data", small_demo, "--checkpoint", model, "--epochs", 3, "--out", tmp_path)
    assert (ran.code, "leave out" in ran.err) == (2, True)
    ran = cli("bench", "--data", small_demo, "--checkpoint", model, "--method", "tri_clip", "--out", tmp_path)
    assert (ran.code, "use --method confu" in ran.err) == (1, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_before_training(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be written" in cli("bench", "--data", small_demo, "--out", tmp_path / "out").err


def test_a_file_in_the_place_of_the_results_is_refused(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ran = cli("bench", "--data", small_demo, "--out", tmp_path / "out")
    assert (ran.code, "cannot be written" in ran.err) == (2, True)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("room", [2_000, 60_000])
def test_a_full_disk_gives_one_line_and_no_result(small_demo: Path, tmp_path: Path, room: int) -> None:
    # A limit on file size fails like a full disk: in the middle of a real write.
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    code += "; from birdmml.cli import main; main()"
    words = ["bench", "--data", small_demo, "--out", tmp_path, "--device", "cpu", "--suite", "zero-shot", *QUICK]
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("birdmml: ")
    assert "cannot be written" in last
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.rglob("result.json"))
    assert not list(tmp_path.rglob("*.part"))


def test_an_interrupted_run_has_no_result(small_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from birdmml.bench.plan import Choice, plan
    from birdmml.bench.run import run

    made = plan(small_demo, "confu", Choice(overrides=OPTIONS, device="cpu"))
    _, folder = run(made, tmp_path, quiet=True)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("birdmml.bench.score.score", stop)
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path, quiet=True)
    assert not (folder / "result.json").exists()


def test_list_names_every_plugin_with_its_line(cli: Cli) -> None:
    ran = cli("list")
    for word in ("confu", "tri_clip", "retrieval", "zero-shot", "demo", "folder", "paper-birds"):
        assert word in ran.out
    kinds = {"source", "method", "suite", "evaluation set", "protocol", "captioner"}
    assert set(json.loads(cli("list", "--json").out)) == kinds


def test_ctrl_c_gives_one_line_and_no_result(
    small_demo: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("birdmml.models.recipe.train", stopped)
    ran = cli("bench", "--data", small_demo, "--out", tmp_path)
    assert ran.code == 130
    assert "interrupted: no result was written" in ran.err
    assert not list(tmp_path.rglob("result.json"))


def rewritten(data: Path, out: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """A copy of a dataset whose shards were changed by a hand that left the manifest alone."""
    shutil.copytree(data, out)
    for shard in (out / "data").glob("*.parquet"):
        pq.write_table(change(pq.read_table(shard)), shard)
    return out


def test_a_dataset_without_a_modality_or_a_caption_is_refused_in_one_line(
    small_demo: Path, cli: Cli, tmp_path: Path
) -> None:
    silent = rewritten(small_demo, tmp_path / "silent", lambda table: table.drop_columns(["audio"]))
    ran = cli("bench", "--data", silent, "--out", tmp_path / "out", *QUICK)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "no audio column" in ran.err

    def wordless(table: pa.Table) -> pa.Table:
        at = table.column_names.index("caption")
        return table.set_column(at, "caption", pa.array([None] * len(table), pa.string()))

    mute = rewritten(small_demo, tmp_path / "mute", wordless)
    ran = cli("bench", "--data", mute, "--out", tmp_path / "out", *QUICK)
    assert ran.code == 1
    assert "row 0 has no caption" in ran.err


def test_a_model_is_trained_once_and_anew_where_anything_that_decided_it_differs(
    small_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdmml.bench.plan import Choice, plan
    from birdmml.core import provenance
    from birdmml.models.recipe import folder_of, obtain

    trained: list[int] = []

    def count(rows: Any, method: str, config: Any, preset: Any, seed: int, *more: Any) -> Any:
        trained.append(seed)
        return untrained.train(rows, method, config, preset, seed, *more)

    monkeypatch.setattr("birdmml.models.recipe.train", count)
    recipe = plan(small_demo, "tri_clip", Choice(overrides=OPTIONS, device="cpu")).recipe
    first, known = obtain(recipe, 0, tmp_path, {}, "cpu", quiet=True)
    again, there = obtain(recipe, 0, tmp_path, {}, "cpu", quiet=True)
    assert (known, there, trained) == (False, True, [0])
    assert again.weights_sha256 == first.weights_sha256 != ""
    obtain(recipe, 1, tmp_path, {}, "cpu", quiet=True)
    other = plan(small_demo, "tri_clip", Choice(overrides=[*OPTIONS, "method.temperature=0.2"], device="cpu")).recipe
    obtain(other, 0, tmp_path, {}, "cpu", quiet=True)
    assert trained == [0, 1, 0]
    weights = folder_of(recipe, tmp_path, 0) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    obtain(recipe, 0, tmp_path, {}, "cpu", quiet=True)  # Damaged: not scored, made again.
    assert trained == [0, 1, 0, 0]
    monkeypatch.setattr(provenance, "code_digest", lambda: "another")
    obtain(recipe, 0, tmp_path, {}, "cpu", quiet=True)
    assert trained == [0, 1, 0, 0, 0]
    assert recipe.key(0, "cpu") != recipe.key(0, "cuda")
