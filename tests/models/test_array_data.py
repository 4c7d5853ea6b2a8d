"""Prepared sets of arrays in the place of a dataset: trained on, scored, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from helpers import Ran
from helpers.small import OPTIONS
from numpy.typing import NDArray

from birdmml.bench import protocol
from birdmml.bench.plan import Choice, plan, plans
from birdmml.bench.suites import retrieval
from birdmml.bench.suites._contract import Material
from birdmml.core import discover
from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets import prepare
from birdmml.evalsets.arrays import ArraySet
from birdmml.models.feed import Feed
from birdmml.models.preprocess import Preprocessor
from birdmml.models.presets import preset
from birdmml.models.read import ArrayData, fitted, opened, rows_of, sample
from birdmml.models.train import tokenizer_for

Cli = Callable[..., Ran]
DICTATED = ("front_end", "encoders.features")
SMALL = [o for o in OPTIONS if not o.startswith(DICTATED)]
FEATURES = [f"encoders.features.{o}" for o in ("hidden=8", "layers=1", "heads=2")]


def made(name: str, folder: Path) -> Path:
    module = discover.load("evaluation set", name)
    prepare.prepare_arrays(module, fakes.evalset(name, folder / "fake", 3), folder / name, {})
    return folder / name


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("av_mnist", tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def mosi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("mosi", tmp_path_factory.mktemp("mosi"))


def set_words(options: list[str]) -> list[str]:
    return [word for option in options for word in ("--set", option)]


@pytest.mark.parametrize("limit", [None, 5])
def test_what_reaches_the_encoder_of_digits_is_what_is_stored(digits: Path, limit: int | None) -> None:
    data = opened(digits)
    sizes = fitted(preset("small"), data)
    rows = rows_of(data, "train", limit)
    feed = Feed(rows, Preprocessor(sizes.front_end), tokenizer_for(rows, sizes), sizes.training)
    stored = ArraySet.open(digits).read("train").arrays
    kept = sample(22, limit)
    order = np.arange(len(kept))[::-1].copy()
    batch = feed.batch(order)
    image = feed.preprocessor.finish_image(batch["image"])
    audio = feed.preprocessor.finish_audio(batch["audio"])
    assert image.shape[1:] == (3, 28, 28) and audio.shape[1:] == (1, 112, 112)
    for channel in range(3):
        assert np.array_equal(image[:, channel], stored["image"][kept][order])
    assert np.array_equal(audio[:, 0], stored["audio"][kept][order])


def test_what_reaches_the_encoder_of_features_is_what_is_stored(mosi: Path) -> None:
    data = opened(mosi)
    sizes = fitted(preset("paper"), data)
    rows = data.split("test")
    batch = Feed(rows, Preprocessor(sizes.front_end), tokenizer_for(rows, sizes)).batch(np.arange(len(rows)))
    stored = ArraySet.open(mosi).read("test").arrays
    for ours, theirs in (("image", "vision"), ("audio", "audio"), ("text", "text")):
        assert torch.equal(batch[ours], torch.from_numpy(stored[theirs]))
    features = sizes.encoders.features
    assert (features.image, features.audio, features.text, features.steps) == (20, 5, 300, 50)


def test_captions_are_the_sets_prompt_with_the_class(digits: Path) -> None:
    rows = opened(digits).split("test")
    names = ("zero one two three four five six seven eight nine").split()
    labels = ArraySet.open(digits).labels("test")
    assert rows.column("caption") == [f"an image of a {names[label]}" for label in labels]
    assert rows.column("label") == labels.tolist()
    assert rows.column("id") == list(ArraySet.open(digits).ids("test"))


def test_nothing_is_changed_at_random_unless_asked_for(digits: Path) -> None:
    data = opened(digits)
    found = plan(digits, "clip", Choice(("zero-shot",))).recipe.preset.training.augment
    assert (found.mirror, found.shift_px, found.roll_frames, found.gain_db) == (False, 0, 0, 0.0)
    asked = plan(digits, "clip", Choice(("zero-shot",), overrides=["training.augment.shift_px=2"]))
    assert asked.recipe.preset.training.augment.shift_px == 2
    assert asked.values["prompts"] == {"av_mnist": "an image of a {common_name}"}
    assert data.demo and asked.demo


def test_digits_are_trained_on_and_named_by_their_prompts(digits: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli("bench", "--data", digits, "--suite", "zero-shot", "--out", tmp_path, "--json", *set_words(SMALL))
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert {f["evalset"] for f in result["figures"]} == {"av_mnist-test"}
    accuracy = {f["task"]: f for f in result["figures"] if f["metric"] == "accuracy"}
    assert set(accuracy) == {"A", "V", "A+V"}
    assert all(f["n"] == 10 and f["chance"] == pytest.approx(0.1) for f in accuracy.values())


def test_features_are_trained_on_and_retrieved_beside_their_lengths(mosi: Path, tmp_path: Path, cli: Cli) -> None:
    words = set_words([*SMALL, *FEATURES])
    ran = cli("bench", "--data", mosi, "--suite", "affect", "--out", tmp_path, "--json", *words)
    assert ran.code == 0, ran.err
    found = {f["task"]: f for f in json.loads(ran.out)["figures"] if f["metric"] == "recall@1"}
    assert {"image->audio", "image->audio, lengths only", "image+audio->text, lengths only"} <= set(found)
    lengths = ArraySet.open(mosi).lengths("test")
    assert found["image->audio, lengths only"]["value"] == pytest.approx(naive(lengths["vision"], lengths["audio"]))
    assert {"A", "V", "A+V"} <= {f["task"] for f in json.loads(ran.out)["figures"]}


def naive(query: NDArray[np.int32], target: NDArray[np.int32]) -> float:
    """Recall@1 by lengths: a candidate level with the match halves its chance, and so on."""
    hits = []
    for i, length in enumerate(query):
        away = [abs(int(length) - int(t)) for t in target]
        nearer, level = sum(a < away[i] for a in away), sum(a == away[i] for a in away)
        hits.append(0.0 if nearer else 1.0 / level)
    return float(np.mean(hits))


def test_two_modalities_ask_with_the_sum_of_their_distances() -> None:
    lengths = {"image": np.array([1, 5]), "audio": np.array([2, 9]), "text": np.array([5, 1])}
    there = dict.fromkeys(lengths, np.ones(2, dtype=bool))
    material = Material("x", ("a", "b"), {}, there, lengths={k: v.astype(np.int32) for k, v in lengths.items()})
    (task,) = retrieval.tasks(material, [("image+audio", "text")])
    # a: own text |1-5| + |2-5| = 7, the other |1-1| + |2-1| = 1; b: own |5-1| + |9-1| = 12, the other 0 + 4.
    assert task.task == "image+audio->text, lengths only"
    assert task.greater.tolist() == [1, 1]
    assert list(retrieval.tasks(Material("x", ("a", "b"), {}, there), [("image", "text")])) == []


@pytest.mark.parametrize("name", ["paper-avmnist", "avmnist-cpu"])
def test_the_protocols_of_digits_can_be_carried_out(digits: Path, name: str) -> None:
    found = plans(protocol.load(name), (), digits, Choice())
    assert len(found) == len(protocol.load(name).methods)
    for one in found:
        assert one.recipe.preset.front_end.frames == 112
        assert [p.subject.label for p in one.providers] == ["av_mnist-{split}"]
        assert one.providers[0].subject.prompt == "an image of a {common_name}"


def test_the_protocol_of_affect_scores_the_set_at_hand(mosi: Path) -> None:
    (plan,) = plans(protocol.load("paper-affect"), ("confu",), mosi, Choice())
    assert [(p.suite, p.evalset) for p in plan.passes] == [("retrieval", "mosi")]
    features = plan.recipe.preset.encoders.features
    assert (features.image, features.hidden, features.layers) == (20, 300, 5)
    assert plan.protocol is not None and plan.protocol["departures"] == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("front_end.image_size=32", "front_end.image_size is 32, but av_mnist has 28"),
        ("front_end.bands=64", "front_end.bands is 64, but av_mnist has 112"),
        ("front_end.db_scale=30.0", "front_end.db_scale is 30.0, but av_mnist has 1.0"),
    ],
)
def test_sizes_that_contradict_the_data_are_refused(digits: Path, option: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        plan(digits, "confu", Choice(("zero-shot",), overrides=[option]))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_used_is_refused_in_one_line(digits: Path, mosi: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="zero-shot has nothing to say of mosi"):
        plan(mosi, "confu", Choice(("zero-shot",)))
    with pytest.raises(UsageError, match="noise has nothing to say of av_mnist"):
        plan(digits, "confu", Choice(("noise",)))
    with pytest.raises(EvalsetError, match="cannot embed mosi"):
        plan(digits, "confu", Choice(only=["mosi"]))
    with pytest.raises(UsageError, match=r"trains on the rows of mosi or ur_funny or mustard, which .* is not"):
        plans(protocol.load("paper-affect"), ("confu",), digits, Choice())
    with pytest.raises(UsageError, match="no split 'dev'"):
        opened(digits).split("dev")
    for change, said in (("train", "has no train rows"), ("name", "which this birdmml has not")):
        manifest = json.loads((mosi / "manifest.json").read_text())
        if change == "name":
            manifest["name"] = "../x.py"
        else:
            del manifest["collections"]["samples"]["splits"]["train"]
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        for shard in (mosi / "data").rglob("*.parquet"):
            target = tmp_path / shard.relative_to(mosi)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(shard.read_bytes())
        with pytest.raises(EvalsetError, match=said) as caught:
            ArrayData.open(tmp_path)
        assert "\n" not in str(caught.value)
