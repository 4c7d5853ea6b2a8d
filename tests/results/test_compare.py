"""Paired comparisons against a loop over the same draws, worked examples, enumeration and simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import ResultError
from birdmml.results.compare import (
    Comparison,
    Outcomes,
    adjust,
    compare,
    compare_all,
    differs,
    fewest_samples,
    groups,
    holm,
)


def outcomes(name: str, values: np.ndarray, ids: tuple[str, ...] | None = None) -> Outcomes:
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return Outcomes(name, ids or tuple(f"item{i}" for i in range(rows.shape[1])), rows)


def pair(first: str, second: str, p: float) -> Comparison:
    return Comparison(first, second, 0.1, 0.0, 0.2, p, p, 10)


def test_interval_and_p_equal_a_loop_over_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((3, 40)) < 0.6).astype(float), (rng.random((2, 40)) < 0.45).astype(float)
    found = compare(outcomes("a", a), outcomes("b", b), samples=400, seed=7)
    generator, means = np.random.default_rng(7), []
    for drawn in generator.integers(0, 40, size=(400, 40)):
        first = np.mean([np.mean([v[i] for i in drawn]) for v in a])
        second = np.mean([np.mean([v[i] for i in drawn]) for v in b])
        means.append(round(first - second, 12))
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    below, above = sum(m <= 0 for m in means), sum(m >= 0 for m in means)
    assert found.p == pytest.approx(min(1.0, 2 * (min(below, above) + 1) / 401))
    assert (found.units, found.adjusted) == (40, found.p)


def test_clusters_equal_a_loop_that_draws_whole_items() -> None:
    rng = np.random.default_rng(1)
    cluster = np.array([5, 5, 5, 9, 9, 2, 2, 2, 2, 7])
    a, b = rng.random(10), rng.random(10)
    found = compare(outcomes("a", a), outcomes("b", b), cluster, samples=300, seed=3)
    items, means = [2, 5, 7, 9], []
    for drawn in np.random.default_rng(3).integers(0, 4, size=(300, 4)):
        chosen = [i for k in drawn for i in range(10) if cluster[i] == items[k]]
        means.append(np.mean([a[i] - b[i] for i in chosen]))
    assert found.value == pytest.approx(np.mean(a - b))
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert found.units == 4


def test_clusters_of_one_change_nothing_and_equal_draws_narrow_nothing() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(30), rng.random(30)
    plain = compare(outcomes("a", a), outcomes("b", b))
    assert compare(outcomes("a", a), outcomes("b", b), np.arange(30)) == plain
    # Five identical draws of each item hold what one holds; as items of their own they would seem five times as many.
    repeated = [outcomes(n, np.repeat(v, 5)) for n, v in (("a", a), ("b", b))]
    grouped = compare(*repeated, np.repeat(np.arange(30), 5))
    assert (grouped.low, grouped.high, grouped.p) == pytest.approx((plain.low, plain.high, plain.p))
    loose = compare(*repeated)
    assert loose.high - loose.low < 0.6 * (plain.high - plain.low)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    a, b = outcomes("a", rng.random((2, 31))), outcomes("b", rng.random((2, 31)))
    whole = compare(a, b, samples=257)
    monkeypatch.setattr("birdmml.results.compare.BLOCK_ELEMENTS", 4 * 31 * 10)
    assert compare(a, b, samples=257) == whole


def test_identical_methods_differ_by_nothing() -> None:
    values = np.random.default_rng(4).random((3, 50))
    found = compare(outcomes("a", values), outcomes("b", values))
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_order_of_items_and_of_methods_does_not_matter(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = outcomes("a", rng.random((2, n))), outcomes("b", rng.random((2, n)))
    there, back = compare(a, b, samples=99), compare(b, a, samples=99)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert there.p == back.p
    order = rng.permutation(n)
    shuffled = Outcomes("b", tuple(b.ids[i] for i in order), b.values[:, order])
    assert compare(a, shuffled, samples=99) == there


def test_few_unequal_items_prove_nothing() -> None:
    a = np.ones(3)
    assert compare(outcomes("a", a), outcomes("b", a * 0)).p == 0.25  # of 2^3 swaps, two are as extreme
    a = np.repeat([1.0, 0.0], [4, 996])
    assert compare(outcomes("a", a), outcomes("b", a * 0)).p >= 0.125
    a = np.ones(30)
    assert compare(outcomes("a", a), outcomes("b", a * 0)).p == 2 / 2001


def test_intervals_cover_and_null_differences_are_rarely_significant() -> None:
    rng, covered, rejected, rounds = np.random.default_rng(5), 0, 0, 400
    for _ in range(rounds):
        hard = rng.random(120)
        a, b = (rng.random((2, 120)) < hard).astype(float)
        null = compare(outcomes("a", a), outcomes("b", b), samples=400)
        rejected += null.p <= 0.05
        better = (rng.random(120) < np.sqrt(hard)).astype(float)
        shifted = compare(outcomes("a", better), outcomes("b", b), samples=400)
        covered += shifted.low <= 2 / 3 - 1 / 2 <= shifted.high
    assert 0.91 <= covered / rounds <= 0.98
    assert 0.02 <= rejected / rounds <= 0.085


def naive_holm(p: list[float]) -> list[float]:
    """The smallest alpha at which the step-down procedure rejects each: the largest of the steps up to its own."""
    ranked = sorted(range(len(p)), key=lambda i: p[i])
    return [min(1.0, max((len(p) - j) * p[ranked[j]] for j in range(ranked.index(i) + 1))) for i in range(len(p))]


def test_holm_by_hand() -> None:
    # 0.005 x 4, 0.01 x 3, then 0.03 x 2, and 0.04 x 1 may not fall below it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_the_definition_and_keeps_the_order(p: list[float]) -> None:
    found = holm(p)
    assert found == pytest.approx(naive_holm(p))
    assert (found >= p).all() and (found <= np.minimum(1.0, len(p) * np.array(p)) + 1e-15).all()
    for i, j in combinations(range(len(p)), 2):
        assert (p[i] <= p[j]) <= (found[i] <= found[j])


def test_a_family_is_adjusted_together() -> None:
    rng = np.random.default_rng(6)
    methods = [outcomes(n, rng.random(60) + gap) for n, gap in (("a", 0.0), ("b", 0.1), ("c", 0.4))]
    found = compare_all(methods)
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [c.adjusted for c in found] == pytest.approx(naive_holm([c.p for c in found]))
    alone = compare(methods[0], methods[2])
    assert (found[1].value, found[1].low, found[1].high, found[1].p) == pytest.approx(
        (alone.value, alone.low, alone.high, alone.p)
    )
    assert adjust(found[:1])[0].adjusted == found[0].p


def test_too_few_samples_for_a_family_are_refused() -> None:
    assert (fewest_samples(1), fewest_samples(45), fewest_samples(55)) == (39, 1799, 2199)
    for m in (1, 7, 45, 55, 300):
        assert holm([2 / (fewest_samples(m) + 1)] * m)[0] <= 0.05 + 1e-12
        assert holm([2 / fewest_samples(m)] * m)[0] > 0.05
    methods = [outcomes(f"m{i}", np.random.default_rng(i).random(5)) for i in range(11)]
    with pytest.raises(ResultError, match="11 methods cannot differ at 0.05 with 2000 samples: take 2199"):
        compare_all(methods)


def test_groups_by_hand() -> None:
    # a and b are level, b and c are level, a and c differ; d differs from all.
    apart = {("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")}
    found = [pair(x, y, 0.01 if (x, y) in apart else 0.5) for x, y in combinations("abcd", 2)]
    assert groups(found) == (("a", "b"), ("b", "c"), ("d",))
    assert differs(found) == {"a": ("c", "d"), "b": ("d",), "c": ("a", "d"), "d": ("a", "b", "c")}
    assert groups([pair("a", "b", 0.5), pair("a", "c", 0.5)]) == (("a", "b"), ("a", "c"))  # b, c: not compared


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.data())
def test_groups_equal_an_enumeration_of_all_sets(n: int, data: st.DataObject) -> None:
    names = "abcdefg"[:n]
    found = [pair(x, y, data.draw(st.sampled_from([0.01, 0.5]))) for x, y in combinations(names, 2)]
    level = {frozenset((c.first, c.second)) for c in found if c.adjusted > 0.05}
    good = [
        set(s)
        for size in range(1, n + 1)
        for s in combinations(names, size)
        if all(frozenset(two) in level for two in combinations(s, 2))
    ]
    wanted = sorted(tuple(sorted(s)) for s in good if not any(s < t for t in good))
    assert list(groups(found)) == wanted


def test_different_items_are_refused_with_counts_and_examples() -> None:
    a = outcomes("confu", np.zeros(3), ("x", "y", "z"))
    b = outcomes("gram", np.zeros(2), ("y", "w"))
    with pytest.raises(ResultError, match=r"2 of 3 in confu alone \('x', 'z'\); 1 of 2 in gram alone \('w'\)"):
        compare(a, b)


@pytest.mark.parametrize(
    ("values", "ids", "said"),
    [
        ([[0.0, np.nan]], ("x", "y"), "1 of 2 outcomes of b are not finite"),
        ([[0.0, 1.0]], ("x", "x"), "b lists 1 items more than once, as 'x'"),
        ([[0.0, 1.0, 2.0]], ("x", "y"), "b needs outcomes"),
        (np.zeros((0, 2)), ("x", "y"), "b needs outcomes"),
    ],
)
def test_broken_outcomes_are_refused(values: np.ndarray, ids: tuple[str, ...], said: str) -> None:
    good = outcomes("a", np.zeros(2), ("x", "y"))
    with pytest.raises(ResultError, match=said):
        compare(good, Outcomes("b", ids, np.asarray(values)))


def test_other_misuse_is_refused() -> None:
    a, b = outcomes("a", np.zeros(4)), outcomes("b", np.ones(4))
    with pytest.raises(ResultError, match="names of their own"):
        compare(a, a)
    with pytest.raises(ResultError, match="clusters need one entry for each of 4 items"):
        compare(a, b, np.zeros(3, dtype=np.int64))
    with pytest.raises(ResultError, match="0 samples"):
        compare(a, b, samples=0)
    with pytest.raises(ResultError, match="two methods at least"):
        compare_all([a])
    with pytest.raises(ResultError, match="41 methods are too many"):
        groups([pair("m0", f"m{i}", 0.5) for i in range(1, 41)])
