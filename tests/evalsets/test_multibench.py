"""The loading rules against a naive loader, by hand, and every way in which a file can be wrong."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import fakes
import numpy as np
import pytest

from birdmml.bench.suites import retrieval
from birdmml.core import discover
from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets import _multibench
from birdmml.evalsets.arrays import ArraySet
from birdmml.evalsets.prepare import prepare_arrays
from birdmml.results import metrics

NAMES = ("mosi", "ur_funny", "mustard")
GIVEN = {"train": "train", "validation": "valid", "test": "test"}
Content = dict[str, dict[str, Any]]


def module(name: str) -> ModuleType:
    return discover.load("evaluation set", name)


def content(n: int = 3, steps: int = 4, features: tuple[int, int, int] = (2, 3, 4)) -> Content:
    """Three equal splits of ones, with labels 1 and short ids."""
    split: dict[str, Any] = {
        m: np.ones((n, steps, f), np.float32) for m, f in zip(_multibench.MODALITIES, features, strict=True)
    }
    split |= {"labels": np.ones((n, 1)), "id": [f"v{i}" for i in range(n)]}
    return {
        s: {k: v.copy() if isinstance(v, np.ndarray) else list(v) for k, v in split.items()} for s in GIVEN.values()
    }


def ready(data: Any, folder: Path, name: str = "mosi", **options: str) -> ArraySet:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / module(name).LAYOUT.file
    file.write_bytes(pickle.dumps(data, 2))
    prepare_arrays(module(name), file, folder / "out", options)
    return ArraySet.open(folder / "out")


def naive(split: dict[str, Any], name: str) -> tuple[list[list[np.ndarray[Any, Any]]], list[int]]:
    """The rules as prose says them, one sample at a time, with padding written out."""
    samples, labels = [], []
    for i in range(len(split["text"])):
        vision, audio, text = (np.array(split[m][i], dtype=np.float64) for m in ("vision", "audio", "text"))
        if text.sum() == 0:
            continue
        audio[audio == -np.inf] = 0
        start = next(t for t in range(len(text)) if any(v != 0 for v in text[t]))
        rows = [list(x)[start:][:50] for x in (vision, audio, text)]
        samples.append([np.array(x + [np.zeros(len(x[0]))] * (50 - len(x)), dtype=np.float32) for x in rows])
        value = float(np.ravel(split["labels"][i])[0])
        labels.append((0 if value < 0 else 1) if name == "mosi" else (0 if value == -1 else int(value)))
    return samples, labels


@pytest.mark.parametrize("name", NAMES)
def test_a_fake_is_read_as_a_naive_loader_reads_it(name: str, tmp_path: Path) -> None:
    fakes.evalset(name, tmp_path / "fake", 3)
    raw = pickle.loads((tmp_path / "fake" / module(name).LAYOUT.file).read_bytes())
    made = prepare_arrays(module(name), tmp_path / "fake", tmp_path / "out", {})
    assert made.manifest["demo"] is True
    found = ArraySet.open(tmp_path / "out")
    assert found.splits == tuple(GIVEN)
    for split, given in GIVEN.items():
        samples, labels = naive(raw[given], name)
        rows = found.read(split)
        for at, modality in enumerate(_multibench.MODALITIES):
            np.testing.assert_array_equal(rows.arrays[modality], np.stack([s[at] for s in samples]))
            assert rows.lengths[modality].tolist() == [max(t + 1 for t in range(50) if s[at][t].any()) for s in samples]
        assert rows.labels.tolist() == labels
    assert made.manifest["left_out"] == {"empty_text": 1}
    assert made.manifest["changed"]["audio_minus_infinity"] == 1
    size = sum(p.stat().st_size for p in (tmp_path / "fake").iterdir())
    assert size < 1 << 20


def test_each_rule_on_samples_worked_by_hand(tmp_path: Path) -> None:
    data = content(n=4, steps=53)
    train = data["train"]
    train["text"][0] = 0  # Left out: no text.
    train["text"][1, 0, 0], train["text"][1, 0, 1], train["text"][1, 1:] = 2, -2, 0  # Sums to 0 but for two.
    train["text"][1, 0, 2:] = 0
    train["text"][2, :2] = 0  # Starts two rows late: 51 remain, one is cut.
    train["vision"][2, :2] = 9
    train["audio"][2, 2, 1] = -np.inf
    train["audio"][2, 0, 0] = -np.inf  # Before the text: not stored, not counted.
    train["text"][3, :50] = 0  # Three rows remain.
    train["vision"][3, 51:] = 0  # Of vision one.
    found = ready(data, tmp_path)
    rows = found.read("train")
    assert rows.ids == ("train-00002-v2", "train-00003-v3")
    assert {m: n.tolist() for m, n in rows.lengths.items()} == {
        "vision": [50, 1], "audio": [50, 3], "text": [50, 3]
    }  # fmt: skip
    assert rows.arrays["audio"][0, 0].tolist() == [1, 0, 1]
    assert rows.arrays["vision"][0].max() == 1
    assert rows.arrays["text"][1].sum() == 3 * 4
    report = list(csv.DictReader((tmp_path / "out/report/rejects.csv").open()))
    assert [(r["id"], r["reason"]) for r in report] == [
        ("train-00000-v0", "empty_text"), ("train-00001-v1", "empty_text")
    ]  # fmt: skip
    assert "cancel" in report[1]["detail"]
    changes = [
        (c["id"], c["reason"], c["detail"])
        for c in csv.DictReader((tmp_path / "out/report/changes.csv").open())
        if c["split"] == "train"
    ]
    assert changes == [
        ("train-00002-v2", "leading_rows", "2 of 53 rows come before the text"),
        ("train-00002-v2", "cut", "1 rows beyond 50 steps"),
        ("train-00002-v2", "audio_minus_infinity", "1 values became 0"),
        ("train-00003-v3", "leading_rows", "50 of 53 rows come before the text"),
    ]


@pytest.mark.parametrize(
    ("name", "values", "labels"),
    [("mosi", [-0.2, 0.0, 3.0], [0, 1, 1]), ("ur_funny", [-1, 0, 1], [0, 0, 1]), ("mustard", [1, -1, 1], [1, 0, 1])],
)  # fmt: skip
def test_labels(name: str, values: list[float], labels: list[int], tmp_path: Path) -> None:
    data = content()
    data["test"]["labels"] = np.array(values)[:, None, None]
    assert ready(data, tmp_path, name).labels("test").tolist() == labels


def test_a_copy_with_74_audio_features_differs_and_is_taken(tmp_path: Path) -> None:
    found = ready(content(features=(20, 74, 300)), tmp_path)
    assert found.read("test").arrays["audio"].shape == (3, 50, 74)
    assert "features.audio: 5 published, 74 found" in found.manifest["differences"]
    assert "samples.test: 686 published, 3 found" in found.manifest["differences"]
    assert not any("vision" in d for d in found.manifest["differences"])


def test_ids_of_any_kind_stay_unique_and_printable(tmp_path: Path) -> None:
    data = content()
    data["test"]["id"] = np.array([[b"a\xe9", 1.5], ["a\n", 2], ["a", 3]], dtype=object)
    data["train"]["id"] = np.array([b"same"] * 3)
    found = ready(data, tmp_path)
    assert found.ids("test") == ("test-00000-aé_1.5", "test-00001-a?_2", "test-00002-a_3")
    assert found.ids("train") == ("train-00000-same", "train-00001-same", "train-00002-same")


def test_a_limit_takes_the_first_samples_and_says_so(tmp_path: Path) -> None:
    data = content()
    data["test"]["text"][0] = 0
    found = ready(data, tmp_path, limit="2")
    assert found.ids("test") == ("test-00001-v1", "test-00002-v2")
    assert found.rows("train") == 2
    assert found.manifest["found"]["samples"]["train"] == 3
    assert any("only the first 2 samples" in d for d in found.manifest["differences"])
    with pytest.raises(UsageError, match="limit=-1"):
        ready(data, tmp_path, limit="-1")


def test_other_keys_are_noted(tmp_path: Path) -> None:
    data = content()
    data["mean"] = {}
    data["valid"]["raw_text"] = ["a"]
    found = ready(data, tmp_path)
    assert {"the key 'mean' is not used", "the key 'raw_text' of valid is not used"} <= set(
        found.manifest["differences"]
    )


def test_values_that_are_not_finite_stop_it_or_are_listed(tmp_path: Path) -> None:
    data = content()
    data["test"]["vision"][1, 2, 0] = np.nan
    data["test"]["audio"] = data["test"]["audio"].astype(np.float64)
    data["test"]["audio"][2, 0, 0] = 1e300
    data["train"]["text"][0, 0, :2] = np.inf, -np.inf
    with pytest.raises(EvalsetError) as caught:
        ready(data, tmp_path)
    for word in ("3 samples", "test-00001-v1: NaN or infinity in vision", "not_finite=drop"):
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()
    found = ready(data, tmp_path, not_finite="drop")
    assert found.ids("test") == ("test-00000-v0",)
    assert found.manifest["left_out"] == {"not_finite": 3}
    assert found.manifest["settings"]["not_finite"] == "drop"
    assert np.isfinite(found.read("train").arrays["text"]).all()


def broken(kind: str) -> Any:
    data: Any = content()
    if kind == "no dictionary":
        return [1]
    if kind == "no split":
        del data["valid"]
    if kind == "no key":
        del data["test"]["audio"]
    if kind == "flat":
        data["test"]["audio"] = np.ones((3, 4))
    if kind == "objects":
        data["test"]["audio"] = np.array([["a"]], dtype=object)
    if kind == "list":
        data["test"]["audio"] = [[1.0]]
    if kind == "samples":
        data["train"]["vision"] = data["train"]["vision"][:2]
    if kind == "steps":
        data["train"]["vision"] = data["train"]["vision"][:, :2]
    if kind == "features":
        data["train"]["vision"] = data["train"]["vision"][..., :1]
    if kind == "labels":
        data["train"]["labels"] = np.ones((3, 2))
    if kind == "label":
        data["train"]["labels"][1] = np.nan
    if kind == "huge":
        data["train"]["labels"] = [10**400, 1, 1]
    if kind == "words":
        data["train"]["labels"] = ["a", "b", "c"]
    if kind == "ids":
        data["train"]["id"] = ["a"]
    if kind == "empty":
        data["test"]["text"][:] = 0
    return data


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("no dictionary", "is no dictionary"), ("no split", "lacks valid"), ("no key", "test lacks audio"),
        ("flat", "test.audio is float64 (3, 4)"), ("objects", "test.audio is object"), ("list", "test.audio is list"),
        ("samples", "unequal samples"), ("steps", "unequal samples or steps"), ("features", "[1, 2] features"),
        ("labels", "shape (3, 2)"), ("label", "labels[1] is nan"), ("words", "no numbers"), ("huge", "no numbers"),
        ("ids", "1 entries for 3"),
        ("empty", "no sample of test is left"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_described_is_one_line(kind: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(EvalsetError) as caught:
        ready(broken(kind), tmp_path)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_wrong_label_of_two_classes(tmp_path: Path) -> None:
    data = content()
    data["train"]["labels"][2] = 2
    with pytest.raises(EvalsetError, match=r"labels\[2\] is 2.0"):
        ready(data, tmp_path, "mustard")


def test_a_hostile_pickle_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "sarcasm.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(EvalsetError, match="asks for os.system"):
        prepare_arrays(module("mustard"), tmp_path, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_an_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(EvalsetError, match=r"mosi_data.pkl is missing: download mosi_data.pkl"):
        prepare_arrays(module("mosi"), tmp_path, tmp_path / "out", {})
    with pytest.raises(UsageError, match="steps"):
        prepare_arrays(module("mosi"), tmp_path, tmp_path / "out", {"steps": "3"})
    with pytest.raises(UsageError, match="keep"):
        prepare_arrays(module("mosi"), tmp_path, tmp_path / "out", {"not_finite": "keep"})


def test_the_length_baseline() -> None:
    query, target = np.array([3, 5], np.int32), np.array([3, 5, 6, 3], np.int32)
    assert retrieval.length_scores(query, target).tolist() == [[0, -2, -3, 0], [-2, 0, -1, -2]]
    # Lengths that are all different name the pair, equal ones give exactly chance.
    for lengths, expected in ((np.arange(40, dtype=np.int32), 1.0), (np.full(40, 7, np.int32), 10 / 40)):
        scores = retrieval.length_scores(lengths, lengths)
        ranks = metrics.rank(lambda part, s=scores: s[part], np.arange(40), 40)
        assert metrics.outcome("recall@10", ranks.greater, ranks.ties).mean() == pytest.approx(expected)
