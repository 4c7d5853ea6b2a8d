"""The linear probe against scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.probes import FILMS, NAMES, NOTHING, ROWS, material
from sklearn.linear_model import LogisticRegression

from birdmml.bench.suites import linear_probe
from birdmml.bench.suites._contract import Material, Subject
from birdmml.errors import EvalsetError, UsageError
from birdmml.results.tasks import Scored


def full(*found: Material, **options: Any) -> dict[str, Scored]:
    return {t.task: t for t in linear_probe.score(found, NOTHING, linear_probe.Options(**options))}


def test_a_linear_probe_takes_the_c_that_is_best_on_the_validation_split() -> None:
    test, train, check = (material((9, 20, 31, 15), 1.5, seed, p) for seed, p in ((0, "a"), (1, "b"), (2, "c")))
    grid = (10.0, 0.001, 0.1)
    right = {}
    for c in sorted(grid):
        known = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
        known.fit(train.arrays["image"].astype(float), train.labels)
        right[c] = known.score(check.arrays["image"], check.labels), known
    best = max(right, key=lambda c: (right[c][0], -c))
    found = full(test, train, check, grid=grid)["V"]
    assert f"C = {best:g} chosen on the validation split (75 items)" in found.note
    expected = right[best][1].predict(test.arrays["image"].astype(float))
    assert [NAMES.index(name) for name in found.predictions] == expected.tolist()
    assert found.ids == test.ids
    assert found.draws is None
    assert full(test, train, check, grid=grid[::-1])["V"].predictions == found.predictions


@pytest.mark.parametrize("patience", [0, 1, 2, 3])
def test_the_search_ends_after_so_many_without_a_better_one(patience: int) -> None:
    grid = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    test, train, check = (material((9, 20, 31), 1.2, seed, p) for seed, p in ((0, "a"), (1, "b"), (2, "c")))
    for name, task in (("audio", "A"), ("image", "V")):
        best = (-1.0, 0.0)
        behind = 0
        for c in grid:
            known = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
            known.fit(train.arrays[name].astype(float), train.labels)
            share = known.score(check.arrays[name], check.labels)
            behind = 0 if share > best[0] else behind + 1
            best = (share, c) if share > best[0] else best
            if patience and behind == patience:
                break
        found = full(test, train, check, grid=grid, patience=patience)[task]
        assert f"C = {best[1]:g} chosen" in found.note
    with pytest.raises(UsageError, match="patience -1"):
        linear_probe.Options(patience=-1)


def test_without_a_validation_split_a_tenth_of_train_chooses_and_all_of_it_teaches() -> None:
    test, train = material((9, 9, 9, 9), 1.0), material((20, 20, 20, 20), 1.0, 1, "t")
    found = full(test, train, grid=(3.0,))["A"]
    assert "a tenth of the training items (8)" in found.note
    known = LogisticRegression(C=3.0, tol=1e-10, max_iter=10_000).fit(train.arrays["audio"], train.labels)
    assert [NAMES.index(n) for n in found.predictions] == known.predict(test.arrays["audio"]).tolist()


def test_test_items_of_a_class_without_training_items_are_left_out_and_counted() -> None:
    found = full(material((5, 5, 5, 5)), material((9, 0, 9, 9), seed=1))["V"]
    assert (found.candidates, len(found.ids)) == (3, 15)
    assert "5 items of classes without a training item" in found.note
    assert "robin" not in {*found.targets, *found.predictions}
    with pytest.raises(EvalsetError, match="1 classes to learn"):
        full(material((5, 5)), material((9, 0), seed=1))


def test_a_linear_probe_asks_for_train_and_leaves_sets_that_have_none() -> None:
    options = linear_probe.Options()
    assert [r.split for r in linear_probe.requests(ROWS, options)] == ["test", "train", "validation"]
    assert linear_probe.requests(FILMS, options) == ()
    two = Subject("ssw60", "ssw60-videos", "videos", ("train", "test"), ("image", "audio"), 60)
    assert [r.split for r in linear_probe.requests(two, options)] == ["test", "train"]
