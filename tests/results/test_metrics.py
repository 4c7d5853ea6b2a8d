"""Ranks and intervals against a sort, a loop, and what random tie-breaking gives on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdmml.errors import ResultError, UnknownName
from birdmml.results.metrics import bootstrap, chance, hit, outcome, rank, summarise


def ranked(scores: np.ndarray, targets: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = rank(lambda part: scores[part], targets, scores.shape[1], **options)
    return found.greater, found.ties, found.best


def test_ranks_of_distinct_scores_equal_those_of_a_full_sort() -> None:
    generator = np.random.default_rng(1)
    scores = generator.permuted(np.tile(np.arange(50.0), (40, 1)), axis=1)
    targets = generator.integers(0, 50, 40)
    greater, ties, best = ranked(scores, targets, rows=7)
    for i in range(40):
        order = sorted(range(50), key=lambda j: -scores[i, j])
        assert greater[i] == order.index(targets[i])
        assert best[i] == order[0]
    assert not ties.any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_block_size_changes_nothing_and_counts_equal_a_loop(n: int, c: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (n, c)).astype(np.float32)
    targets = generator.integers(0, c, n)
    greater, ties, best = ranked(scores, targets, rows=rows)
    for i in range(n):
        own = scores[i, targets[i]]
        assert greater[i] == sum(s > own for s in scores[i])
        assert ties[i] == sum(s == own for s in scores[i]) - 1
        assert scores[i, best[i]] == max(scores[i])


def test_expected_hit_is_the_mean_over_random_orders_of_the_tied() -> None:
    scores = np.array([3.0, 2.0, 2.0, 2.0, 1.0, 2.0])
    target, k = 1, 3
    generator = np.random.default_rng(0)
    hits = []
    for _ in range(20_000):
        order = sorted(range(6), key=lambda j: (-scores[j], generator.random()))
        hits.append(target in order[:k])
    greater, ties, _ = ranked(scores[None], np.array([target]))
    assert hit(greater, ties, k)[0] == pytest.approx(0.5)  # two of four tied candidates fit below the best
    assert np.mean(hits) == pytest.approx(hit(greater, ties, k)[0], abs=0.015)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 60))
def test_a_constant_score_gives_exactly_chance(n: int, candidates: int, k: int) -> None:
    greater, ties, _ = ranked(np.zeros((n, candidates)), np.arange(n) % candidates)
    for metric in (f"recall@{k}", "accuracy", "median rank"):
        values = outcome(metric, greater, ties)
        assert values == pytest.approx(np.full(n, chance(metric, candidates)))


def test_equal_candidates_stay_level_when_rounding_parts_them() -> None:
    scores = np.array([[0.5, 0.5 + 1e-7, 0.2]])
    assert ranked(scores, np.array([0]), tolerance=1e-6)[:2] == (0, 1)
    assert ranked(scores, np.array([0]), tolerance=0.0)[:2] == (1, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_raise(bad: float) -> None:
    scores = np.ones((3, 4))
    scores[1, 2] = bad
    with pytest.raises(ResultError, match="1 of 12 scores are not finite"):
        ranked(scores, np.zeros(3, dtype=np.int64))


def test_a_block_of_the_wrong_shape_raises() -> None:
    with pytest.raises(ResultError, match="shape"):
        rank(lambda part: np.ones((2, 3)), np.zeros(2, dtype=np.int64), 4)


def test_summary_of_two_seeds_by_hand() -> None:
    greater, ties = np.array([[0, 0, 4, 9], [0, 2, 4, 9]]), np.zeros((2, 4), dtype=np.int64)
    one = summarise("recall@1", greater, ties, 10)
    assert (one.value, one.per_seed, one.n, one.chance) == (0.375, (0.5, 0.25), 4, 0.1)
    assert one.sd == pytest.approx(0.125 * 2**0.5)  # sample deviation of 0.5 and 0.25
    middle = summarise("median rank", greater, ties, 10)
    assert middle.per_seed == (3.0, 4.0)  # medians of ranks 1 1 5 10 and 1 3 5 10
    assert middle.chance == 5.5
    assert summarise("accuracy", greater[:1], ties[:1], 10).sd is None


def test_impossible_or_empty_counts_raise() -> None:
    with pytest.raises(ResultError, match="at least one item"):
        summarise("accuracy", np.zeros((1, 0), dtype=int), np.zeros((1, 0), dtype=int), 3)
    with pytest.raises(ResultError, match="more than 3 candidates"):
        summarise("accuracy", np.array([[2]]), np.array([[1]]), 3)
    with pytest.raises(UnknownName, match="recall@1"):
        summarise("recal@1", np.array([[0]]), np.array([[0]]), 3)


def test_bootstrap_equals_a_loop_over_the_same_draws() -> None:
    values = np.random.default_rng(3).random((2, 23))
    generator = np.random.default_rng(5)
    means, medians = [], []
    for drawn in generator.integers(0, 23, size=(300, 23)):
        means.append(np.mean([np.mean(v[drawn]) for v in values]))
        medians.append(np.mean([np.median(v[drawn]) for v in values]))
    assert bootstrap(values, samples=300, seed=5) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert bootstrap(values, True, samples=300, seed=5) == pytest.approx(np.quantile(medians, [0.025, 0.975]))


def test_bootstrap_interval_of_a_share_is_near_the_binomial_one() -> None:
    values = (np.arange(400) < 120).astype(float)[None]
    half = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert bootstrap(values) == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)


def test_bootstrap_in_blocks_equals_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((1, 31))
    whole = bootstrap(values, samples=257)
    monkeypatch.setattr("birdmml.results.metrics.BLOCK_ELEMENTS", 4 * 31 * 10)
    assert bootstrap(values, samples=257) == whole


@given(
    values=hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-9, 9)),
    median=st.booleans(),
    samples=st.integers(1, 60),
    seed=st.integers(0, 3),
)
def test_a_bootstrap_by_counts_is_one_by_drawing(values: np.ndarray, median: bool, samples: int, seed: int) -> None:
    n = values.shape[1]
    drawn = np.random.default_rng(seed).integers(0, n, size=(samples, n))
    middle = np.median if median else np.mean
    found = [np.mean([middle(row[picks]) for row in values]) for picks in drawn]
    expected = np.quantile(found, [0.025, 0.975])
    assert bootstrap(values, median, samples, seed) == pytest.approx(tuple(expected), abs=1e-9)
