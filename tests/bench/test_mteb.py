"""MTEB's runner and our suites agree on the same rows; without MTEB there is one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import evalset
from helpers.evalsets import prepared
from helpers.small import SMALLEST

from birdmml.bench.embed import Embedder, EmbeddingCache
from birdmml.bench.mteb import dataset_tasks, encoder, ssw60_tasks
from birdmml.bench.subjects import OwnRows, material, scorer
from birdmml.bench.suites import retrieval, zero_shot
from birdmml.bench.suites._contract import LEVEL, Request
from birdmml.core import discover
from birdmml.errors import CheckpointError, EvalsetError, MediaError, UsageError
from birdmml.evalsets.read import Prepared
from birdmml.load import Built
from birdmml.models import checkpoint
from birdmml.models.feed import Feed
from birdmml.models.network import Network
from birdmml.models.train import tokenizer_for
from birdmml.results.gallery import first_hit, ranks_of_species
from birdmml.results.metrics import hit
from birdmml.results.tasks import Scored

# Larger than half of the demo's 48 px: nothing decodes its JPEGs at half their size.
PRESET = replace(SMALLEST, front_end=replace(SMALLEST.front_end, image_size=32))
REQUEST = Request("dataset", "test", ("{common_name}",))


@pytest.fixture(scope="module")
def mteb() -> Any:
    return pytest.importorskip("mteb", reason="MTEB is not installed: pip install 'birdmml[mteb]'")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import datasets

    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("hf")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def ssw60(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ssw60")
    return prepared("ssw60", evalset("ssw60", root / "raw"), root / "out").root


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, small_demo: Path) -> Callable[[str], Path]:
    """A checkpoint of a method, with random weights that spread its vectors."""
    rows = Built.open(small_demo).split("train")
    tokenizer = tokenizer_for(rows, PRESET)

    def make(method: str) -> Path:
        torch.manual_seed(1)
        module = discover.load("method", method)
        config = module.Config(dim=PRESET.dim)
        network = Network(PRESET, module, config, tokenizer.get_vocab_size()).eval()
        spread(network, rows, tokenizer)
        folder = tmp_path_factory.mktemp(method) / "model"
        checkpoint.save(folder, checkpoint.Checkpoint(method, config, PRESET, 1, network, tokenizer))
        return folder

    return make


@torch.no_grad()
def spread(network: Any, rows: Any, tokenizer: Any) -> None:
    """Take the mean out of each projection: without training all vectors lie in one narrow cone, full of ties."""
    features = network.features(Feed(rows, network.preprocessor, tokenizer).batch(np.arange(len(rows))))
    for name, layer in network.model.projections.items():
        layer.bias.copy_(-(layer.weight @ features[name].mean(dim=0)))


def run(mteb: Any, model: Any, task: Any) -> dict[str, Any]:
    done = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (scores,) = done.task_results[0].scores["test"]
    return dict(scores)


def watched(task: Any) -> dict[str, dict[str, float]]:
    """Where MTEB's figures of each query come to lie."""
    seen: dict[str, dict[str, float]] = {}
    means = task.task_specific_scores

    def keep(scores: Any, *args: Any, **kwargs: Any) -> Any:
        seen.update(scores)
        return means(scores, *args, **kwargs)

    task.task_specific_scores = keep
    return seen


@pytest.mark.parametrize("method", ["confu", "clip", "gram", "symile"])
def test_mteb_and_the_retrieval_suite_agree(
    mteb: Any, small_demo: Path, folder_of: Callable[[str], Path], method: str
) -> None:
    folder = folder_of(method)
    embedder = Embedder(checkpoint.load(folder), torch.device("cpu"))
    found = material(OwnRows(Built.open(small_demo)), REQUEST, embedder, EmbeddingCache(None), None, True)
    outcomes = retrieval.score([found], scorer(embedder), retrieval.Options())
    tasks, model = dataset_tasks(small_demo), encoder(folder, "cpu")
    compared = []
    for outcome in outcomes:
        seen = watched(tasks[outcome.task])
        scores = run(mteb, model, tasks[outcome.task])
        assert set(seen) == set(outcome.ids)
        clear = without_ties(found, scorer(embedder), outcome)
        for name, (key, ours) in figures(outcome).items():
            theirs = np.array([seen[i][key] for i in outcome.ids])
            assert np.abs(ours - theirs)[clear].max(initial=0) <= 1e-6
            if clear.all():
                assert scores[name] == pytest.approx(ours.mean(), abs=1e-6)
        compared += clear.tolist()
    print(f"{method}: {sum(compared)} of {len(compared)} queries have no ties")
    assert np.mean(compared) > 0.9


def figures(outcome: Any) -> dict[str, tuple[str, np.ndarray]]:
    """Our figure -> its name in MTEB, and its value for each query."""
    if isinstance(outcome, Scored):
        return {f"recall@{k}": (f"success_{k}", hit(outcome.greater, outcome.ties, k)) for k in (1, 5, 10)}
    r = outcome.ranks
    found = {f"recall@{k}": (f"success_{k}", first_hit(r.greater, r.ties, r.level, k)) for k in (1, 5, 10)}
    return {**found, "mAP": ("map_cut_1000", r.average_precision)}


def without_ties(found: Any, scores: Any, outcome: Any) -> np.ndarray:
    """The queries of which no right document is level with a wrong one; two rows share their caption, for example."""
    query, target = outcome.task.removesuffix(" by species").split("->")
    block = scores.score(query, target, found.arrays, found.arrays)
    species = not isinstance(outcome, Scored)
    keep = []
    for i in (found.ids.index(name) for name in outcome.ids):
        right = found.labels == found.labels[i] if species else np.arange(len(found.ids)) == i
        wrong = ~right
        if species:
            right[i] = False
        keep.append(np.abs(block[i][right][:, None] - block[i][wrong]).min() > 2 * LEVEL)
    return np.asarray(keep)


@pytest.mark.parametrize("method", ["confu", "clip"])
def test_mteb_and_the_zero_shot_suite_agree(
    mteb: Any, small_demo: Path, folder_of: Callable[[str], Path], method: str
) -> None:
    folder = folder_of(method)
    embedder = Embedder(checkpoint.load(folder), torch.device("cpu"))
    found = material(OwnRows(Built.open(small_demo)), REQUEST, embedder, EmbeddingCache(None), None, True)
    tasks, model = dataset_tasks(small_demo), encoder(folder, "cpu")
    for outcome in zero_shot.score([found], scorer(embedder), zero_shot.Options()):
        task = tasks[f"zero-shot {outcome.task}"]
        if method == "clip" and outcome.task == "A+V":  # Two models, two texts: no two vectors say it.
            with pytest.raises(UsageError, match="no cosine of two vectors"):
                run(mteb, model, task)
            continue
        ours = hit(outcome.greater, outcome.ties, 1).mean()
        assert run(mteb, model, task)["accuracy"] == pytest.approx(ours, abs=1e-6)


def test_what_a_method_does_not_score_is_told_in_one_line(
    mteb: Any, small_demo: Path, folder_of: Callable[[str], Path]
) -> None:
    tasks = dataset_tasks(small_demo)
    with pytest.raises(UsageError, match="symile defines no score image->text"):
        run(mteb, encoder(folder_of("symile"), "cpu"), tasks["image->text"])
    with pytest.raises(UsageError, match="gram scores image->text by no cosine"):
        run(mteb, encoder(folder_of("gram"), "cpu"), tasks["zero-shot V"])


def ndcg(relevant: np.ndarray, k: int = 10) -> float:
    """From the definition: gains 1 / log2(place + 1) of right answers, over the best possible."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    first = relevant[:k]
    return float((gains[: len(first)] * first).sum() / gains[: min(k, int(relevant.sum()))].sum())


def ssw60_arrays(root: Path, embedder: Embedder) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Vectors and labels, straight from the prepared rows."""
    held, front = Prepared.open(root), embedder.network.preprocessor
    sounds, photos = held.rows("audio"), [held.rows("images_inat"), held.rows("images_nabirds")]
    with torch.inference_mode():
        heard = embedder.network.embed({"audio": front.audio(list(sounds))})["audio"].numpy()
        seen = embedder.network.embed({"image": front.images([i for r in photos for i in r])})["image"].numpy()
    return {"audio": (heard, sounds.labels), "image": (seen, np.concatenate([r.labels for r in photos]))}


@pytest.mark.parametrize(("query", "target"), [("audio", "image"), ("image", "audio")])
def test_ssw60_is_scored_as_by_hand_and_as_by_mtebs_own_task(
    mteb: Any, ssw60: Path, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, query: str, target: str
) -> None:
    folder = folder_of("confu")
    arrays = ssw60_arrays(ssw60, Embedder(checkpoint.load(folder), torch.device("cpu")))
    (q, ours), (c, theirs) = arrays[query], arrays[target]
    ranks = ranks_of_species(lambda s: q[s] @ c.T, ours, theirs, LEVEL)
    assert not ranks.ties.any()
    tasks, model = ssw60_tasks(ssw60), encoder(folder, "cpu")
    scores = run(mteb, model, tasks[f"{query}->{target}"])
    assert scores["mAP"] == pytest.approx(ranks.average_precision.mean(), abs=1e-6)
    for k in (1, 5, 10):
        expected = first_hit(ranks.greater, ranks.ties, ranks.level, k).mean()
        assert scores[f"recall@{k}"] == pytest.approx(expected, abs=1e-6)
    order = np.argsort(-(q @ c.T), axis=1)
    by_hand = np.mean([ndcg(theirs[row] == label) for row, label in zip(order, ours, strict=True)])
    assert scores["main_score"] == scores["ndcg_at_10"] == pytest.approx(by_hand, abs=6e-6)  # MTEB rounds.
    published = run(
        mteb, model, mtebs_own(mteb, ssw60, monkeypatch, f"SSW60{query[0].upper()}2{target[0].upper()}Retrieval")
    )
    same = {k for k in published if "_at_" in k and not k.startswith("nauc")} & set(scores)
    assert len(same) > 20
    assert {k: scores[k] for k in same} == {k: published[k] for k in same}


def mtebs_own(mteb: Any, root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
    """MTEB's task, which would download, on our rows."""
    from mteb.tasks.retrieval.eng import ssw60 as module

    from birdmml.bench.mteb.tasks import _columns

    def local(path: str, name: str, split: str) -> Any:
        medium = "audio" if name == "audio" else "image"
        return _columns(Prepared.open(root).paths(name, split), {"asset_id": "id", "label": "label", medium: medium})

    monkeypatch.setattr(module, "load_dataset", local)
    return mteb.get_task(name)


@pytest.mark.parametrize(("task", "medium"), [("zero-shot A", "audio"), ("zero-shot V", "image")])
def test_ssw60_zero_shot_names_the_nearest_prompt(
    mteb: Any, ssw60: Path, folder_of: Callable[[str], Path], task: str, medium: str
) -> None:
    folder = folder_of("confu")
    embedder = Embedder(checkpoint.load(folder), torch.device("cpu"))
    items, labels = ssw60_arrays(ssw60, embedder)[medium]
    prompts = embedder.texts(Prepared.open(ssw60).class_names)["text"]
    expected = np.mean((items @ prompts.T).argmax(axis=1) == labels)
    scores = run(mteb, encoder(folder, "cpu"), ssw60_tasks(ssw60)[task])
    assert scores["main_score"] == pytest.approx(expected, abs=1e-6)


def test_another_model_of_mtebs_is_scored_on_our_tasks(mteb: Any, small_demo: Path, ssw60: Path) -> None:
    from mteb.models.abs_encoder import AbsEncoder

    class Loud(AbsEncoder):
        """Two numbers of anything."""

        mteb_model_meta = mteb.models.ModelMeta.create_empty({"modalities": ["text", "image", "audio"]})

        def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
            found = []
            for batch in inputs:
                if "audio" in batch:
                    assert {i["sampling_rate"] for i in batch["audio"]} == {22_050}
                    found += [[np.std(i["array"]), 0.1] for i in batch["audio"]]
                elif "image" in batch:
                    found += [[np.mean(np.asarray(i)) / 255, 0.1] for i in batch["image"]]
                else:
                    found += [[len(t) / 100, 0.1] for t in batch["text"]]
            return np.asarray(found, dtype=np.float32)

    for task in (ssw60_tasks(ssw60)["audio->image"], dataset_tasks(small_demo)["image->text"]):
        assert 0 <= run(mteb, Loud(), task)["recall@10"] <= 1
    random = mteb.get_model("mteb/baseline-random-encoder")
    assert 0 <= run(mteb, random, dataset_tasks(small_demo)["text->image by species"])["mAP"] <= 1


def test_tasks_say_what_they_hold(mteb: Any, small_demo: Path, ssw60: Path) -> None:
    tasks, built = dataset_tasks(small_demo), Built.open(small_demo)
    assert len(tasks) == 9 * 2 + 3
    names = [t.metadata.name for t in tasks.values()]
    assert len(set(names)) == len(names)
    assert all(n.startswith(f"BirdMML-Demo-{built.digest[:8]}-") for n in names)
    about = ssw60_tasks(ssw60)["audio->image"].metadata
    assert about.name.startswith("SSW60-Fake-")
    assert "8 of 1264 published audio items, 16 of 8171 published image items (a fake)" in about.description
    assert (about.category, about.main_score) == ("a2i", "ndcg_at_10")


def test_bad_input_is_told_in_one_line(mteb: Any, small_demo: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give --checkpoint a folder"):
        encoder(tmp_path)
    with pytest.raises(EvalsetError, match="birdmml prepare"):
        ssw60_tasks(tmp_path)
    from birdmml.bench.mteb.model import _wave

    with pytest.raises(MediaError, match="empty or not finite"):
        _wave({"array": np.array([0.1, np.nan]), "sampling_rate": 22_050}, 22_050)


def test_sound_of_any_rate_and_channels_is_heard(mteb: Any) -> None:
    from birdmml.bench.mteb.model import _wave

    time = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros_like(time)])
    heard = _wave({"array": stereo, "sampling_rate": 44_100}, 22_050)
    assert heard.dtype == np.float32
    expected = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050) / 2
    assert np.abs(heard - expected)[100:-100].max() < 1e-3


def test_the_guide_runs_as_it_is_written(
    mteb: Any,
    small_demo: Path,
    ssw60: Path,
    folder_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "mteb.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    mtebs_own(mteb, ssw60, monkeypatch, "SSW60A2IRetrieval")
    (tmp_path / "results" / "confu").mkdir(parents=True)
    for name, folder in (("results/confu/seed-0", folder_of("confu")), ("data", small_demo), ("ssw60", ssw60)):
        (tmp_path / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    told: dict[str, Any] = {}
    exec(code, told)
    assert 0 <= told["done"].task_results[0].get_score() <= 1


def test_without_mteb_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    for call in (encoder, dataset_tasks, ssw60_tasks):
        with pytest.raises(UsageError, match=r"pip install 'birdmml\[mteb\]'"):
            call(tmp_path)
