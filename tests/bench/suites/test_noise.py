"""The suite noise: what it asks for, what must not move, what is undefined; and its picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small import OPTIONS, SMALLEST
from numpy.typing import NDArray

from birdmml.bench import subjects
from birdmml.bench.embed import Embedder, EmbeddingCache
from birdmml.bench.plan import Choice, plan, providers
from birdmml.bench.protocol import Noise
from birdmml.bench.run import run
from birdmml.bench.score import passes_of
from birdmml.bench.suites import noise, zero_shot
from birdmml.bench.suites._contract import Arrays, Material, Request, Scorer, Subject
from birdmml.core import discover
from birdmml.errors import EvalsetError, ResultError, UnknownName, UsageError
from birdmml.leaderboard.verify import verify
from birdmml.load import Built
from birdmml.media.corruption import parse
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.network import Network
from birdmml.models.text import train_tokenizer
from birdmml.results.metrics import summarise
from birdmml.results.pictures import noise as draw_noise
from birdmml.results.tasks import Scored, condition_of, condition_words
from birdmml.schema import MODALITIES, Figure, Result

OWN = Subject("dataset", "{split}-split", "rows", ("train", "test"), MODALITIES, 3, captions=True)
BOTH = (("image", "text"), ("audio", "text"), ("image+audio", "text"))
ALL_KINDS = noise.Options(
    snr_db=(5.0,), audio=("gaussian", "pink", "wind", "song", "missing"),
    image=("gaussian", "blur", "jpeg", "occlusion", "missing"),
    blur_px=(20.0,), jpeg_quality=(5.0,), occlusion_share=(0.5,),
)  # fmt: skip


def dot(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
    return sum(queries[m] @ candidates[target].T for m in query.split("+"))  # type: ignore[return-value]


def made(corruption: str = "", silent: Sequence[int] = (), n: int = 12) -> Material:
    """Items whose corrupted modality is other numbers, and absent for the silent ones."""
    generator = np.random.default_rng(0)
    arrays = {m: generator.normal(size=(n, 6)).astype(np.float32) for m in MODALITIES}
    prompts = {"text": generator.normal(size=(3, 6)).astype(np.float32)}
    present = {m: np.ones(n, dtype=bool) for m in arrays}
    if corruption:
        worse = parse(corruption)
        gone = list(range(n)) if worse.kind == "missing" else list(silent)
        arrays[worse.modality] = np.random.default_rng(1).normal(size=(n, 6)).astype(np.float32)
        arrays[worse.modality][gone], present[worse.modality][gone] = np.nan, False
    ids, labels = tuple(f"i{k}" for k in range(n)), np.arange(n) % 3
    return Material("test-split", ids, arrays, present, labels, ("a", "b", "c"), prompts, corruption=corruption)


def test_the_papers_conditions_are_the_default_and_the_protocols_name_them_alike() -> None:
    asked = noise.requests(OWN, noise.Options())
    assert asked[0] == Request("dataset", "test", ("{common_name}",))
    assert [r.corruption for r in asked[1:]] == [
        f"{m}:gaussian:{snr}:0" for m in ("audio", "image") for snr in (10, 15, 20)
    ]
    theirs, ours = Noise((10, 15, 20)), noise.Options()
    shared = {f.name for f in dataclasses.fields(theirs)}
    assert shared <= {f.name for f in dataclasses.fields(ours)}
    assert ours.snr_db == theirs.snr_db


def test_only_what_a_subject_has_is_made_worse() -> None:
    photos = Subject("cub200", "cub200-images", "images", ("test",), ("image",), 200)
    assert {r.corruption.split(":")[0] for r in noise.requests(photos, noise.Options())} == {"", "image"}
    assert noise.requests(photos, noise.Options(image=())) == ()
    features = Subject("mosi", "mosi", "arrays", ("test",), MODALITIES, 2)
    assert noise.requests(features, noise.Options()) == ()


def test_options_that_make_no_sense_are_refused_before_anything_is_embedded() -> None:
    with pytest.raises(UnknownName, match="gausian"):
        noise.Options(audio=("gausian",))
    for wrong in (
        {"image": ("wind",)}, {"snr_db": (500.0,)}, {"jpeg_quality": (30.5,), "image": ("jpeg",)},
        {"snr_db": (10.0, 10.0)}, {"audio": (), "image": ()}, {"snr_db": tuple(map(float, range(60)))},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            noise.Options(**wrong)  # type: ignore[arg-type]  # several fields at once


def test_every_condition_reads_back_from_its_task() -> None:
    for corruption in noise.conditions(ALL_KINDS):
        assert condition_of(f"A+V | {condition_words(corruption)}") == ("A+V", corruption)
    assert condition_of("V | clean") == ("V", None)
    assert condition_of("A+V, audio missing -> V") is None


def test_tasks_that_read_it_move_and_the_others_are_the_clean_ones_to_the_bit() -> None:
    found = [made(), made("audio:gaussian:10:0"), made("image:gaussian:10:0")]
    tasks = {t.task: t for t in noise.score(found, Scorer(dot, BOTH), noise.Options())}
    assert len(tasks) == 9
    alone = {t.task: t for t in zero_shot.score(found[:1], Scorer(dot, BOTH), zero_shot.Options())}
    for task, clean in alone.items():
        assert same(tasks[f"{task} | clean"], clean)
    assert same(tasks["V | audio gaussian 10 dB"], alone["V"])
    assert same(tasks["A | image gaussian 10 dB"], alone["A"])
    for task in ("A | audio", "A+V | audio", "V | image", "A+V | image"):
        moved = tasks[f"{task} gaussian 10 dB"]
        assert not same(moved, alone[task.split(" ")[0]])
        assert "-gaussian-10dB, seed 0: " in moved.note
        assert ("added after the resize" in moved.note) == task.endswith("image")


def same(a: Scored, b: Scored) -> bool:
    equal = np.array_equal(a.greater, b.greater) and np.array_equal(a.ties, b.ties)
    return equal and (a.ids, a.predictions, a.targets) == (b.ids, b.predictions, b.targets)


def test_a_task_that_moves_though_it_does_not_read_the_modality_is_an_error() -> None:
    worse = made("audio:gaussian:10:0")
    worse.arrays["image"][:] *= -1
    with pytest.raises(ResultError, match="V . audio gaussian 10 dB differs from V . clean"):
        noise.score([made(), worse], Scorer(dot, BOTH), noise.Options())


def test_a_silent_item_leaves_its_condition_and_is_counted_nothing_else() -> None:
    found = [made(), made("audio:gaussian:10:0", silent=(1, 5))]
    tasks = {t.task: t for t in noise.score(found, Scorer(dot, BOTH), noise.Options())}
    for task in ("A", "A+V"):
        assert (len(tasks[f"{task} | clean"].ids), tasks[f"{task} | clean"].left_out) == (12, 0)
        worse = tasks[f"{task} | audio gaussian 10 dB"]
        assert (len(worse.ids), worse.left_out) == (10, 2)
        assert not {"i1", "i5"} & set(worse.ids)
        assert "2 items have no signal" in worse.note
    assert len(tasks["V | audio gaussian 10 dB"].ids) == 12
    with pytest.raises(EvalsetError, match="no labelled item with audio"):
        noise.score([made(), made("audio:gaussian:10:0", range(12))], Scorer(dot, BOTH), noise.Options())


def test_what_is_missing_is_undefined_never_zero_and_what_is_left_has_a_name_of_its_own() -> None:
    options = noise.Options(audio=("missing",), image=("missing",))
    found = [made(), made("audio:missing:0:0"), made("image:missing:0:0")]
    tasks = {t.task: t for t in noise.score(found, Scorer(dot, BOTH), options)}
    assert set(tasks) == {
        "A | clean", "V | clean", "A+V | clean", "V | audio missing", "A | image missing",
        "A+V, audio missing -> V", "A+V, image missing -> A",
    }  # fmt: skip
    assert same(tasks["A+V, audio missing -> V"], tasks["V | clean"])
    assert "A+V is undefined without audio" in tasks["A+V, audio missing -> V"].note
    assert tasks["A+V | clean"].note == "undefined with audio or image missing"
    joint_only = Scorer(dot, BOTH[2:])
    assert [t.task for t in noise.score(found, joint_only, options)] == ["A+V | clean"]


@pytest.fixture(scope="module")
def embedder(small_demo: Path) -> Embedder:
    torch.manual_seed(0)
    module = discover.load("method", "confu")
    config = dataclasses.replace(module.Config(), dim=16)
    tokenizer = train_tokenizer(["a small bird", "a large bird"], 100)
    network = Network(SMALLEST, module, config, tokenizer.get_vocab_size())
    return Embedder(Checkpoint("confu", config, SMALLEST, 0, network, tokenizer), torch.device("cpu"))


@pytest.mark.parametrize("subject", ["dataset", "demo"])
def test_the_demo_from_files_to_figures_under_every_kind(embedder: Embedder, small_demo: Path, subject: str) -> None:
    found = {p.subject.name: p for p in providers(Built.open(small_demo), None, passes_of(["zero-shot"])[0])}
    provider, shelf = found[subject], EmbeddingCache(None)
    asked = noise.requests(provider.subject, ALL_KINDS)
    assert len(asked) == 11
    got = [subjects.material(provider, r, embedder, shelf, None, quiet=True) for r in asked]
    tasks = {t.task: t for t in noise.score(got, subjects.scorer(embedder), ALL_KINDS)}
    assert len(tasks) == 3 + 8 * 3 + 2 + 2
    for material, request in zip(got[1:], asked[1:], strict=True):
        modality, kind, *_ = request.corruption.split(":")
        other = "image" if modality == "audio" else "audio"
        assert np.array_equal(material.arrays[other], got[0].arrays[other])
        assert material.present[modality].all() == (kind != "missing")
        if kind == "missing":
            assert not material.present[modality].any()
            assert modality not in material.arrays
        else:
            assert not np.allclose(material.arrays[modality], got[0].arrays[modality], atol=1e-6)
            assert not np.allclose(material.arrays["image+audio"], got[0].arrays["image+audio"], atol=1e-6)


def test_the_picture_has_a_curve_a_task_and_nothing_to_draw_of_what_has_no_level(tmp_path: Path) -> None:
    found = [made(), *(made(f"{m}:gaussian:{snr}:0") for m in ("audio", "image") for snr in (10, 15, 20))]
    tasks = noise.score(found, Scorer(dot, BOTH), noise.Options())
    assert draw_noise(result(tasks), tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes()[:4] == b"\x89PNG"
    gone = [t for t in tasks if "gaussian" not in t.task]
    assert not draw_noise(result(gone), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def result(tasks: Sequence[Scored]) -> Result:
    figures = tuple(
        Figure(
            suite="noise",
            evalset="test-split",
            task=t.task,
            metric="accuracy",
            **vars(summarise("accuracy", t.greater[None], t.ties[None], t.candidates)),
            predictions="",
        )
        for t in tasks
    )
    return Result(1, True, "confu", "tiny", (0,), {}, {"name": "demo"}, {}, figures, {}, ())


def test_a_bench_of_noise_is_written_and_scored_again_from_its_items(small_demo: Path, tmp_path: Path) -> None:
    options = [*OPTIONS, "noise.snr_db=[10]", 'noise.audio=["gaussian", "missing"]']
    made = plan(small_demo, "tri-clip", Choice(["noise"], overrides=options, device="cpu"))
    written, folder = run(made, tmp_path, quiet=True)
    result = verify(folder)
    assert result.settings["suites"]["noise"]["snr_db"] == [10]
    assert {f.evalset for f in result.figures} == {"test-split", "demo-videos"}
    assert len(result.figures) == 2 * (3 + 3 + 1 + 1 + 3)
    by_task = {(f.evalset, f.task): f for f in written.figures}
    for evalset in ("test-split", "demo-videos"):
        moved = by_task[evalset, "V | audio gaussian 10 dB"]
        assert moved.value == by_task[evalset, "V | clean"].value
        assert "equal to clean" in moved.note
    assert draw_noise(result, folder / "figures" / "noise.png")


def test_a_condition_kept_on_disk_is_read_back_and_no_other_is(
    embedder: Embedder, small_demo: Path, tmp_path: Path
) -> None:
    provider, shelf = subjects.OwnRows(Built.open(small_demo)), EmbeddingCache(tmp_path)
    texts = ("", "audio:missing:0:0", "audio:gaussian:10:0", "audio:gaussian:10:1")
    asked = [Request("dataset", "test", corruption=text) for text in texts]
    fresh, kept = ([subjects.material(provider, r, embedder, shelf, 4, quiet=True) for r in asked] for _ in range(2))
    assert (shelf.made, shelf.read) == (4, 4)
    for a, b in zip(fresh, kept, strict=True):
        assert set(a.arrays) == set(b.arrays)
        for name in a.arrays:
            np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
        for name in a.present:
            np.testing.assert_array_equal(a.present[name], b.present[name])
        assert a.corruption == b.corruption
