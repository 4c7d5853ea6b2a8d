from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from birdmml.core import species
from birdmml.dataset import caption_probe
from birdmml.dataset.caption_probe import caption_leakage
from birdmml.dataset.names import BirdNames
from birdmml.dataset.ridge import folds
from birdmml.errors import BuildError

SPECIES = {s.label: s for s in species.all_species()}


def texts(labels: Sequence[int], seed: int, telling: int, words: int = 12, own: int = 6) -> list[str]:
    """Random words, `telling` of them from the few that only the species' captions use."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(
            rng.permutation(
                [
                    *(f"w{w}" for w in rng.integers(0, 60, words)),
                    *(f"own{label}x{w}" for w in rng.integers(0, own, telling)),
                ]
            )
        )
        for label in labels
    ]


def leak(captions: list[str], labels: Any, groups: Any = None, **options: Any) -> dict[str, Any]:
    rows = np.arange(len(captions)) if groups is None else groups
    return caption_leakage(captions, np.asarray(labels), rows, SPECIES, **options)


def test_shares_of_names_worked_by_hand() -> None:
    captions = ["A Canada Goose.", "Branta canadensis", "some geese", "a bird", "The wood duck (Aix sponsa)", ""]
    found = leak(captions, [0, 0, 0, 0, 1, 1])
    assert (found["n"], found["common"], found["scientific"]) == (6, 2 / 6, 2 / 6)
    assert (found["part"], found["any"], found["repeated"]) == (1 / 6, 4 / 6, 0.0)


def test_telling_words_are_found_and_plain_ones_are_at_chance() -> None:
    labels = np.arange(600) % 6
    loud = leak(texts(labels, seed=1, telling=2), labels)["probe"]
    plain = leak(texts(labels, seed=1, telling=0), labels)["probe"]
    assert loud["accuracy"] > 0.95
    assert loud["low"] <= loud["accuracy"] <= loud["high"]
    assert loud["low"] > loud["shuffled"]["high"]
    for at_chance in (plain, loud["shuffled"], plain["shuffled"]):
        assert at_chance["low"] < 1 / 6 < at_chance["high"]
    assert (loud["n"], loud["classes"], loud["learnable"]) == (600, 6, 1.0)
    assert loud["chance_uniform"] == loud["chance_largest"] == 1 / 6


def test_what_only_tells_the_group_is_no_leak() -> None:
    """Words shared within an observation alone must not help: its rows lie on one side."""
    labels = np.repeat(np.arange(80) % 4, 5)
    group = np.repeat(np.arange(80), 5)
    captions = [f"{t} mark{g} mark{g}b" for t, g in zip(texts(labels, 2, 0), group, strict=True)]
    grouped = leak(captions, labels, group)["probe"]
    torn = leak(captions, labels, None)["probe"]
    assert grouped["low"] < 1 / 4 < grouped["high"]
    assert torn["accuracy"] > 0.9


def test_captions_that_repeat_are_never_trained_and_scored() -> None:
    """Each species has one text of its own for all its rows: nothing is left to learn it from."""
    labels = np.arange(300) % 3
    found = leak([f"text of {label}" for label in labels], labels)
    assert found["repeated"] == 1.0
    assert found["probe"] is None
    assert "same captions lie in every group" in found["reason"]
    half = [
        f"text of {label}" if i % 2 else t for i, (label, t) in enumerate(zip(labels, texts(labels, 3, 0), strict=True))
    ]
    assert leak(half, labels)["probe"]["accuracy"] < 0.5


@pytest.mark.parametrize(
    ("captions", "labels", "groups", "reason"),
    [
        ([], [], [], "too few captions: 0 of at least 50"),
        (["a"] * 49, [0, *[1] * 48], range(49), "49 of at least 50"),
        ([str(i) for i in range(60)], [3] * 60, range(60), "one species only"),
        ([str(i) for i in range(60)], [0, 1] * 30, [1] * 60, "too few groups: 1 of at least 5"),
    ],
)
def test_too_little_to_probe_says_so(captions: list[str], labels: list[int], groups: Any, reason: str) -> None:
    found = leak(captions, labels, list(groups))
    assert found["probe"] is None
    assert reason in found["reason"]
    json.dumps(found, allow_nan=False)


def test_texts_without_words_and_without_shared_words_do_not_crash() -> None:
    for captions in ([" " * i for i in range(60)], ["!?" * i for i in range(60)], [f"only{i}" for i in range(60)]):
        found = leak(captions, [0, 1] * 30)
        assert (found["probe"], found["reason"]) == (None, "no two captions share a word")
    hostile = ["\x00", "\ud800" * 100_000, "a" * 1_000_000, "x " * 500_000, "\u202e(.*)+$"] * 12
    assert leak(hostile, [0, 1, 2] * 20, list(range(60)))["n"] == 60


def test_same_seed_same_figures_and_no_more_rows_than_asked() -> None:
    labels = np.repeat(np.arange(5), [400, 200, 100, 50, 3])
    captions = texts(labels, 4, 1)
    once = leak(captions, labels, max_rows=300, seed=7)
    assert once == leak(captions, labels, max_rows=300, seed=7)
    assert once != leak(captions, labels, max_rows=300, seed=8)
    assert (once["n"], once["probe"]["n"], once["probe"]["classes"]) == (753, 300, 5)


def test_classes_of_unequal_size_are_compared_with_the_largest() -> None:
    labels = np.repeat([0, 1], [180, 60])
    probe = leak(texts(labels, 5, 0), labels)["probe"]
    assert (probe["chance_uniform"], probe["chance_largest"]) == (0.5, 0.75)


def test_unknown_groups_stand_alone() -> None:
    labels = np.arange(120) % 2
    captions = texts(labels, 6, 2)
    by_row = leak(captions, labels, list(range(120)))
    for unknown in ([""] * 120, [None] * 120, [-1] * 120, np.full(120, -1), np.array([""] * 120)):
        assert leak(captions, labels, unknown) == by_row


def test_labels_without_species_and_wrong_lengths_are_refused() -> None:
    with pytest.raises(BuildError, match="label 150 has no species"):
        leak(["a"], [150])
    with pytest.raises(BuildError, match="1 captions, 2 labels and 1 groups"):
        leak(["a"], [1, 2], [0])
    ospreys = {7: BirdNames(("Osprey",))}
    assert caption_leakage(["an osprey"], np.array([7]), [0], ospreys)["common"] == 1.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 14)), min_size=20, max_size=120), st.integers(0, 5))
def test_folds_keep_groups_whole_and_sides_keep_captions_apart(rows: list[tuple[int, int]], seed: int) -> None:
    y = np.unique([label for label, _ in rows], return_inverse=True)[1]
    group = np.unique([g for _, g in rows], return_inverse=True)[1]
    text = np.arange(len(rows)) % 17
    fold = folds(y, group, 5, np.random.default_rng(seed), by_commonest=True)
    assert all(len(set(fold[group == g])) == 1 for g in group)
    scored = np.zeros(len(rows), dtype=int)
    for train, test in caption_probe._sides(fold, text):
        scored += test
        assert not set(text[train]) & set(text[test])
        assert not set(group[train]) & set(group[test])
        # Nothing but a scored caption keeps a row of another fold from being trained on.
        assert ((train | test) | np.isin(text, text[test])).all()
    assert (scored == 1).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(1, 200), st.integers(0, 5))
def test_a_sample_holds_each_class_in_proportion(sizes: list[int], rows: int, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    chosen = caption_probe._stratified(labels, rows, np.random.default_rng(seed))
    n = min(rows, len(labels))
    assert len(set(chosen.tolist())) == len(chosen) == n
    held = np.bincount(labels[chosen], minlength=len(sizes))
    wanted = np.array(sizes) * n / len(labels)
    assert (np.abs(held - wanted) <= len(sizes)).all()
    assert n < len(sizes) or (held > 0).all()


def test_the_probe_is_ridge_regression_on_centred_one_hot_targets() -> None:
    """Against the normal equations, written out for dense arrays."""
    labels = np.arange(90) % 3
    x = caption_probe._features(texts(labels, 9, 1))
    fold, text = np.arange(90) % 5, np.arange(90)
    guessed = caption_probe._cross_validated(x, labels[:, None], fold, text, 3)[:, 0]
    dense = x.toarray().astype(np.float64)
    for k in range(5):
        train = fold != k
        mean, share = dense[train].mean(axis=0), np.eye(3)[labels[train]].mean(axis=0)
        a = dense[train] - mean
        w = np.linalg.solve(a.T @ a + np.eye(a.shape[1]), a.T @ (np.eye(3)[labels[train]] - share))
        assert (((dense[~train] - mean) @ w + share).argmax(axis=1) == guessed[~train]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 40), st.integers(3, 60), st.integers(0, 99))
def test_both_ways_to_the_regression_lead_to_the_same_scores(rows: int, features: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = sparse.csr_array(rng.random((rows, features)) * (rng.random((rows, features)) < 0.4), dtype=np.float32)
    train = np.arange(rows) % 3 != 0
    wanted = rng.standard_normal((int(train.sum()), 5)).astype(np.float32)
    wanted -= wanted.mean(axis=0)
    few = caption_probe._by_rows(x, sparse.csr_array(x @ x.T).toarray(), train, ~train, wanted)
    many = caption_probe._by_features(x, caption_probe._gram(x), train, ~train, wanted)
    np.testing.assert_allclose(few, many, atol=1e-4)
