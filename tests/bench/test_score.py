"""`birdmml score`: given embeddings against naive loops; whatever is wrong with a file gives one line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from birdmml.bench import own_vectors
from birdmml.bench.own_vectors import cosine
from birdmml.errors import EvalsetError
from birdmml.leaderboard.verify import verify
from birdmml.load import Built
from birdmml.results.outcomes import Predictions, read

Cli = Callable[..., Ran]
N, D = 12, 5


def columns(seed: int = 0, n: int = N) -> dict[str, Any]:
    """ids, classes and three modalities [n, D] of no special length."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"id": [f"r{i}" for i in range(n)], "species": [f"S{i % 3}" for i in range(n)]}
    found |= {name: list(rng.normal(size=(n, D))) for name in ("image", "audio", "text")}
    return found


def write(path: Path, **values: Any) -> Path:
    pq.write_table(pa.table({k.replace("_and_", "+"): v for k, v in values.items()}), path)
    return path


def unit(rows: Any) -> NDArray[np.float64]:
    values = np.asarray(rows, dtype=np.float64)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def ranks(query: NDArray[np.float64], candidates: NDArray[np.float64], targets: list[int]) -> list[int]:
    """How many candidates beat the target, one pair at a time."""
    return [
        sum(float(q @ c) > float(q @ candidates[t]) for c in candidates) for q, t in zip(query, targets, strict=True)
    ]


def scored(cli: Cli, tmp_path: Path, *words: object) -> tuple[dict[str, Any], Path]:
    ran = cli("score", "--out", tmp_path / "out", "--json", *words)
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    verify(Path(told["folder"]))
    return told, Path(told["folder"])


def test_retrieval_and_zero_shot_are_those_of_a_naive_loop(cli: Cli, tmp_path: Path) -> None:
    made = columns()
    test = write(tmp_path / "mine.parquet", **made)
    texts = np.random.default_rng(5).normal(size=(3, D))
    prompts = write(tmp_path / "p.parquet", class_name=["S2", "S0", "S1"], text=list(texts))
    told, folder = scored(cli, tmp_path, "--embeddings", test, "--prompts", prompts, "--suite", "retrieval,zero-shot")
    assert (told["method"], told["preset"], told["demo"]) == ("mine", "embeddings", False)
    assert "cosine" in told["settings"]["score"]
    vectors_of = {m: unit(made[m]) for m in ("image", "audio", "text")}
    for (a, q), (b, t) in itertools.permutations(vectors_of.items(), 2):
        items = read(folder, f"predictions/retrieval.test-split.{a}-to-{b}.parquet")
        assert isinstance(items, Predictions)
        assert items.greater[0].tolist() == ranks(q, t, list(range(N)))
    items = read(folder, "predictions/retrieval.test-split.image+audio-to-text.parquet")
    assert isinstance(items, Predictions)
    summed = vectors_of["image"] + vectors_of["audio"]
    assert items.greater[0].tolist() == ranks(summed, vectors_of["text"], list(range(N)))
    items = read(folder, "predictions/zero-shot.test-split.V.parquet")
    assert isinstance(items, Predictions)
    targets = [{"S2": 0, "S0": 1, "S1": 2}[name] for name in made["species"]]
    assert items.greater[0].tolist() == ranks(vectors_of["image"], unit(texts), targets)
    notes = {f["note"] for f in told["figures"] if f["task"] == "A+V"}
    assert notes == {"fused by the sum of cosines: no fused vector was given"}


def test_a_fused_vector_is_used_where_it_is_given_and_a_null_is_left_out(cli: Cli, tmp_path: Path) -> None:
    made = columns()
    fused = np.random.default_rng(9).normal(size=(N, D))
    made["audio"][4] = None
    told, folder = scored(
        cli, tmp_path, "--embeddings", write(tmp_path / "m.parquet", **made, image_and_audio=list(fused))
    )
    items = read(folder, "predictions/retrieval.test-split.image+audio-to-text.parquet")
    assert isinstance(items, Predictions)
    kept = [i for i in range(N) if i != 4]
    assert items.ids == tuple(f"r{i}" for i in kept)
    assert items.greater[0].tolist() == ranks(unit(fused)[kept], unit(made["text"])[kept], list(range(N - 1)))
    (note,) = {f["note"] for f in told["figures"] if f["task"] == "image+audio->text"}
    assert note == "1 items lack a modality"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_lengths_and_rotations_change_no_score(seed: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = unit(rng.normal(size=(4, D))), unit(rng.normal(size=(6, D)))
    turn, _ = np.linalg.qr(rng.normal(size=(D, D)))
    scorer = cosine({"image", "text"})
    plain = scorer.score("image", "text", {"image": a}, {"text": b})
    turned = scorer.score("image", "text", {"image": unit(length * a @ turn)}, {"text": unit(b @ turn)})
    np.testing.assert_allclose(plain, turned, atol=1e-12)
    assert (np.abs(plain) <= 1 + 1e-12).all()


def test_pairs_are_those_of_the_modalities_that_are_there() -> None:
    assert cosine({"image", "text"}).pairs == (("image", "text"), ("text", "image"))
    assert len(cosine({"image", "audio", "text"}).pairs) == 9
    assert cosine({"audio"}).pairs == ()


def embedded(small_demo: Path, path: Path, drop: int = 0, **more: Any) -> Path:
    rows = Built.open(small_demo).split("test")
    ids = rows.column("id")[drop:]
    rng = np.random.default_rng(0)
    found = {name: list(rng.normal(size=(len(ids), D))) for name in ("image", "audio", "text")}
    return write(path, **({"id": ids} | found | more))


def test_a_dataset_gives_the_classes_and_its_digest(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    built = Built.open(small_demo)
    names = sorted(set(built.split("test").column("common_name")) | set(built.split("train").column("common_name")))
    prompts = write(tmp_path / "p.parquet", class_name=names, text=list(np.eye(D)[[i % D for i in range(len(names))]]))
    file = embedded(small_demo, tmp_path / "e.parquet")
    told, folder = scored(
        cli, tmp_path, "--embeddings", f"test={file}", "--data", small_demo, "--prompts", prompts,
        "--suite", "zero-shot", "--name", "nets",
    )  # fmt: skip
    assert (told["method"], told["demo"], told["dataset"]["digest"]) == ("nets", True, built.digest)
    items = read(folder, "predictions/zero-shot.test-split.V.parquet")
    assert isinstance(items, Predictions)
    truth = dict(zip(built.split("test").column("id"), built.split("test").column("common_name"), strict=True))
    assert dict(zip(items.ids, items.targets, strict=True)) == truth


def test_ids_other_than_the_datasets_are_counted_with_examples(small_demo: Path, cli: Cli, tmp_path: Path) -> None:
    file = embedded(small_demo, tmp_path / "e.parquet", drop=2)
    table = pq.read_table(file)
    ids = ["stranger", *table["id"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "id", pa.array(ids)), file)
    ran = cli("score", "--embeddings", file, "--data", small_demo, "--out", tmp_path / "out")
    total = len(Built.open(small_demo).split("test"))
    assert ran.code == 1
    assert f"3 of the dataset's {total} test rows are missing" in ran.err
    assert "1 ids are not of the split ('stranger')" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def broken(name: str) -> dict[str, Any]:
    made = columns()
    if name == "nan":
        made["image"][3] = np.array([0, np.nan, 0, 0, 1.0])
    elif name == "infinite":
        made["audio"][0] = np.full(D, np.inf)
    elif name == "zeros":
        made["text"][1] = np.zeros(D)
    elif name == "ragged":
        made["image"][2] = np.ones(D + 1)
    elif name == "wider":
        made["audio"] = list(np.ones((N, D + 2)))
    elif name == "twice":
        made["id"][1] = made["id"][5] = "r0"
    elif name == "one item":
        made = columns(n=1)
    elif name == "no rows":
        made = {k: pa.array([], t) for k, t in (("id", pa.string()), ("image", pa.list_(pa.float32())))}
    elif name == "no id":
        made.pop("id")
    elif name == "null id":
        made["id"][2] = None
    elif name == "no vectors":
        made = {"id": made["id"], "features": made["image"]}
    elif name == "integers":
        made["image"] = [[1, 2, 3]] * N
    elif name == "all null":
        made["image"] = pa.array([None] * N, pa.list_(pa.float32()))
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", ["1 of 12 vectors of image", "NaN", "'r3'"]),
        ("infinite", ["1 of 12 vectors of audio", "'r0'"]),
        ("zeros", ["1 of 12 vectors of text", "zeros", "'r1'"]),
        ("ragged", ["1 vectors of image are not 5 wide as 11 are", "'r2'"]),
        ("wider", ["one width", "image 5", "audio 7"]),
        ("twice", ["1 ids come more than once", "'r0'"]),
        ("one item", ["one item", "two"]),
        ("no rows", ["no rows"]),
        ("no id", ["needs id"]),
        ("null id", ["1 of 12 rows have no id"]),
        ("no vectors", ["id, features", "image+audio"]),
        ("integers", ["image", "list of floats"]),
        ("all null", ["column image is empty"]),
    ],
)
def test_a_file_that_cannot_be_scored_gives_one_line(cli: Cli, tmp_path: Path, name: str, words: list[str]) -> None:
    file = write(tmp_path / "bad.parquet", **broken(name))
    ran = cli("score", "--embeddings", file, "--out", tmp_path / "out")
    assert ran.code == 1
    assert len(ran.err.strip().splitlines()) == 1
    assert all(word in ran.err for word in [*words, "bad.parquet"]), ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (None, ["--prompts"]),
        ({"class_name": ["S0", "S1"], "text": [[1.0] * D] * 2}, ["4 items are of 1 classes without", "'S2'"]),
        ({"class_name": ["S0", "S1", "S2"], "text": [[1.0] * 4] * 3}, ["one width"]),
        ({"class_name": ["S0", "S0", "S1", "S2"], "text": [[1.0] * D, [-1.0] * D, *[[1.0] * D] * 2]}, ["cancel", "S0"]),
        ({"class_name": ["S0"], "image": [[1.0] * D]}, ["column text"]),
        ({"name": ["S0"], "text": [[1.0] * D]}, ["class_name"]),
    ],
)
def test_prompts_that_do_not_fit_give_one_line(
    cli: Cli, tmp_path: Path, prompts: dict[str, Any] | None, words: list[str]
) -> None:
    test = write(tmp_path / "mine.parquet", **columns())
    more = () if prompts is None else ("--prompts", write(tmp_path / "p.parquet", **prompts))
    ran = cli("score", "--embeddings", test, "--suite", "zero-shot", "--out", tmp_path / "out", *more)
    assert ran.code in (1, 2)
    assert len(ran.err.strip().splitlines()) == 1
    assert all(word in ran.err for word in words), ran.err


def test_one_class_and_senseless_options_give_one_line(cli: Cli, tmp_path: Path) -> None:
    test = write(tmp_path / "m.parquet", **(columns() | {"species": ["S0"] * N}))
    prompts = write(tmp_path / "p.parquet", class_name=["S0"], text=[[1.0] * D])
    out = ("--out", tmp_path / "out")
    assert "of 1 class" in cli("score", "--embeddings", test, "--prompts", prompts, *out).err
    assert "has" in cli("score", "--embeddings", test, "--embeddings", test, *out).err
    assert "--set dim=3" in cli("score", "--embeddings", test, "--set", "dim=3", *out).err
    assert "--name" in cli("score", "--embeddings", test, "--name", "../x", *out).err
    assert "not found" in cli("score", "--embeddings", tmp_path / "none.parquet", *out).err
    assert "retrieval" in cli("score", "--embeddings", test, "--suite", "retreival", *out).err
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "not a readable Parquet" in cli("score", "--embeddings", tmp_path / "text.parquet", *out).err
    assert "validation=FILE" in cli("score", "--embeddings", test, "--set", "retrieval.split=validation", *out).err


def test_vectors_of_any_float_and_list_kind_are_read_alike(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(4, D)).astype(np.float16)
    flat = values.ravel()
    kinds: list[Any] = [
        pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), D),
        pa.array(list(values.astype(np.float64))),
        pa.array(list(values.astype(np.float32)), pa.large_list(pa.float32())),
        pa.FixedSizeListArray.from_arrays(pa.array(flat), D),
    ]
    for i, column in enumerate(kinds):
        path = write(tmp_path / f"{i}.parquet", id=[1, 2, 3, 4], image=column)
        found = own_vectors.read(path)
        assert found.ids == ("1", "2", "3", "4")
        np.testing.assert_allclose(found.arrays["image"], unit(values), atol=1e-6)


def test_a_hole_in_fixed_lists_is_no_vector(tmp_path: Path) -> None:
    column = pa.array([[1.0, 0.0], None, [0.0, 2.0]], pa.list_(pa.float32(), 2))
    found = own_vectors.read(write(tmp_path / "a.parquet", id=["a", "b", "c"], image=column))
    assert found.present["image"].tolist() == [True, False, True]
    np.testing.assert_array_equal(found.arrays["image"][[0, 2]], [[1, 0], [0, 1]])
    inner = pa.array([[1.0, None], [0.0, 2.0]], pa.list_(pa.float32(), 2))
    with pytest.raises(EvalsetError, match="NaN"):
        own_vectors.read(write(tmp_path / "b.parquet", id=["a", "b"], image=inner))
