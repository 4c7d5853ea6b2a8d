"""`birdmml train`, `embed` and `bench` one after the other, and what they say to bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import Ran
from helpers.small import OPTIONS

Cli = Callable[..., Ran]
QUICK = [word for option in OPTIONS for word in ("--set", option)]


@pytest.fixture(scope="module")
def model(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from birdmml.models.plan import plan, run

    out = tmp_path_factory.mktemp("trained") / "model"
    run(plan(small_demo, "tri_clip", "tiny", OPTIONS, device="cpu"), out, quiet=True)
    return out


def test_train_leaves_models_a_journal_and_curves(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "model"
    ran = cli("train", "--data", small_demo, "--out", out, "--device", "cpu", "--every", 2, *QUICK)
    assert ran.code == 0, ran.err
    assert "DEMO DATA" in ran.out
    for word in ("epoch 1", "loss", "image~audio", "validation recall@10", "rows/s", "iB", "s left"):
        assert word in ran.err
    assert sorted(p.name for p in out.iterdir()) == ["best", "curves.png", "last", "steps", "train.jsonl"]
    assert (out / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    lines = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    epochs, steps = ([line for line in lines if line["kind"] == k] for k in ("epoch", "step"))
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert {"loss", "rate", "gradient", "image~audio"} <= steps[0].keys()
    assert {"validation loss", "validation recall@10 1->1", "memory_bytes", "rows_per_second"} <= epochs[0].keys()


def test_seeds_get_a_folder_each(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli(
        "train", "--data", small_demo, "--out", tmp_path / "m", "--seeds", 2, "--seed", 4, "--epochs", 1,
        "--device", "cpu", *QUICK, "--json",
    )  # fmt: skip
    assert set(json.loads(ran.out)) == {"4", "5"}
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["seed-4", "seed-5"]


def test_a_trained_folder_is_a_checkpoint_for_bench_and_embed(
    model: Path, small_demo: Path, cli: Cli, tmp_path: Path
) -> None:
    ran = cli("bench", "--checkpoint", model, "--data", small_demo, "--out", tmp_path / "r", "--json")
    found = json.loads(ran.out)
    assert (found["method"], found["seeds"]) == ("tri_clip", [0])
    file = tmp_path / "test.parquet"
    ran = cli("embed", "--checkpoint", model, "--data", small_demo, "--out", file, "--device", "cpu")
    assert ran.code == 0, ran.err
    table = pq.read_table(file)
    rows = pq.read_table(next(small_demo.glob("data/test-*.parquet")), columns=["id", "label"])
    assert table["id"].to_pylist() == rows["id"].to_pylist()
    assert table["label"].to_pylist() == rows["label"].to_pylist()
    for name in ("image", "audio", "text"):
        vectors = np.array(table[name].to_pylist())
        assert vectors.shape == (len(rows), 16)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    facts = json.loads(table.schema.metadata[b"birdmml"])
    assert facts["dataset"] == facts["trained_on"] == json.loads((small_demo / "manifest.json").read_text())["digest"]


def test_embed_gives_what_the_embedder_gives(model: Path, small_demo: Path, tmp_path: Path) -> None:
    import torch

    from birdmml.bench.embed import Embedder
    from birdmml.bench.subjects import embed_to_file
    from birdmml.load import Built
    from birdmml.models import checkpoint

    embed_to_file(model / "best", small_demo, "validation", tmp_path / "v.parquet", "cpu")
    ready = checkpoint.load(model / "best")
    wanted = Embedder(ready, torch.device("cpu")).rows(Built.open(small_demo).split("validation"))
    found = pq.read_table(tmp_path / "v.parquet")
    for name, value in wanted.arrays.items():
        assert np.array_equal(np.array(found[name].to_pylist(), dtype=np.float32), value)


def test_a_dry_run_says_memory_and_work_and_writes_nothing(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "model"
    ran = cli("train", "--data", small_demo, "--out", out, "--dry-run", "--json")
    about = json.loads(ran.out)
    assert about["memory_bytes"] > 2**20
    assert about["flops_per_step"] > 10**9
    assert "factor" in about["memory"]
    assert not out.exists()


def test_fewer_rows_than_the_batch_are_one_batch_and_said(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli(
        "train", "--data", small_demo, "--out", tmp_path / "m", "--limit", 5, "--epochs", 1, "--device", "cpu",
        *QUICK,
    )  # fmt: skip
    assert (ran.code, "only 5 rows" in ran.out) == (0, True)


def test_false_negatives_masked_train_too(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    losses = []
    for kind in ("keep", "mask"):
        ran = cli(
            "train", "--data", small_demo, "--out", tmp_path / kind, "--epochs", 1, "--device", "cpu",
            "--false-negatives", kind, *QUICK, "--json",
        )  # fmt: skip
        losses.append(json.loads(ran.out)["0"]["history"][0]["loss"])
    assert losses[1] < losses[0]  # fewer negatives, an easier task


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--method", "confuu"], 2, ["confuu", "confu"]),
        (["--preset", "tinny"], 2, ["tiny"]),
        (["--seeds", "0"], 2, ["--seeds 0"]),
        (["--limit", "1"], 2, ["--limit 1", "two rows"]),
        (["--every", "-1"], 2, ["--every -1"]),
        (["--device", "gpu"], 2, ["gpu", "auto"]),
        (["--batch-size", "1"], 2, ["batch_size"]),
        (["--precision", "fp17"], 2, ["fp17", "fp16"]),
        (["--precision", "fp16", "--device", "cpu"], 2, ["fp16", "bf16"]),
        (["--false-negatives", "drop"], 2, ["drop", "mask"]),
        (["--set", "training.clip=3"], 2, ["training.clip_norm"]),
        (["--set", "method.lamda=3"], 2, ["method.lamda"]),
        (["--tracker", "neptun"], 2, ["neptun", "not installed"]),
    ],
)
def test_senseless_options_give_one_line_with_the_next_step(
    small_demo: Path, cli: Cli, tmp_path: Path, options: list[str], code: int, words: list[str]
) -> None:
    ran = cli("train", "--data", small_demo, "--out", tmp_path / "out", *options)
    assert ran.code == code, ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert all(word in ran.err for word in words), ran.err


def test_a_dataset_without_a_modality_is_refused(
    small_demo: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdmml.load import DatasetRows

    names = DatasetRows.names
    monkeypatch.setattr(DatasetRows, "names", lambda self: tuple(n for n in names(self) if n != "audio"))
    ran = cli("train", "--data", small_demo, "--out", tmp_path / "out")
    assert (ran.code, "no audio column" in ran.err) == (1, True)


def test_embed_says_what_is_wrong(model: Path, small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    ran = cli("embed", "--checkpoint", tmp_path / "nowhere", "--data", small_demo)
    assert (ran.code, "birdmml train" in ran.err) == (1, True)
    ran = cli("embed", "--checkpoint", model, "--data", small_demo, "--split", "tset")
    assert (ran.code, "test" in ran.err) == (2, True)
    (tmp_path / "file").write_text("")
    ran = cli("embed", "--checkpoint", model, "--data", small_demo, "--out", tmp_path / "file" / "x.parquet")
    assert (ran.code, "cannot be written" in ran.err) == (1, True)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_out_of_memory_says_how_many_rows_would_fit(
    small_demo: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import torch

    from birdmml.models import estimate

    error = torch.OutOfMemoryError("CUDA out of memory")
    if kind == "cpu":
        error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")  # type: ignore[assignment]

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("birdmml.models.train.step", full)
    memory = SimpleNamespace(available=10 * 2**20)
    monkeypatch.setattr(estimate, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    ran = cli("train", "--data", small_demo, "--out", tmp_path / "m", "--preset", "tiny", "--device", "cpu")
    assert ran.code == 1
    assert "out of memory" in ran.err
    # 10 MiB less the margin, at 1.3 MiB a row.
    assert "--chunk-size 6" in ran.err
    assert "Traceback" not in ran.err


def test_a_real_lack_of_memory_gives_one_line(small_demo: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    # Address space for the imports, the weights and the libraries' small needs, which do not all speak up when
    # they get none, but not for a convolution of a batch of large pictures: that one block is what fails.
    code = "import resource, birdmml.models.train as t; from birdmml.cli import main; import birdmml.models.plan"
    code += "; import psutil; now = psutil.Process().memory_info().vms + 2200 * 2**20"
    code += "; resource.setrlimit(resource.RLIMIT_AS, (now, now)); main()"
    words = ["train", "--data", small_demo, "--out", tmp_path / "m", "--device", "cpu", "--preset", "small"]
    words += ["--set", "front_end.image_size=1024", "--set", "training.cpu_threads=1"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 1, ran.stderr
    assert "out of memory on cpu" in ran.stderr.splitlines()[-1], ran.stderr
