"""Both directions and several right answers, against full sorts, loops, and every order of what is level."""

from __future__ import annotations

import tracemalloc
from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import ResultError
from birdmml.results.gallery import (
    SpeciesRanks,
    answerable,
    chance_average_precision,
    chance_first_hit,
    chance_first_rank,
    first_hit,
    first_rank,
    rank_both,
    ranks_of_species,
)
from birdmml.results.metrics import Ranks, hit, rank

LEVEL = 1e-6
seeds = st.integers(0, 2**32 - 1)


def both(scores: np.ndarray, tolerance: float = 0.0, **sizes: int) -> tuple[Ranks, Ranks]:
    return rank_both(lambda q, t: scores[q, t], len(scores), tolerance, **sizes)


def species(scores: np.ndarray, queries: list[int], gallery: list[int], **options: object) -> SpeciesRanks:
    return ranks_of_species(lambda part: scores[part], np.array(queries), np.array(gallery), **options)  # type: ignore[arg-type]


def unit(n: int, dim: int, seed: int) -> np.ndarray:
    z = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def precision(right: list[bool]) -> float:
    found = [sum(right[: j + 1]) / (j + 1) for j, one in enumerate(right) if one]
    return sum(found) / len(found)


def orders(scores: list[float], right: list[bool]) -> list[list[bool]]:
    """Every ranking, best first, that agrees with the scores: what is level comes in every order."""
    found = []
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in zip(order, order[1:], strict=False)):
            found.append([right[i] for i in order])
    return found


# Both directions


def same(a: Ranks, b: Ranks) -> bool:
    pairs = ((a.greater, b.greater), (a.ties, b.ties), (a.best, b.best))
    return all(np.array_equal(x, y) for x, y in pairs)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 14), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 1.0]), seeds)
def test_both_directions_at_once_equal_one_after_the_other(
    n: int, rows: int, columns: int, tolerance: float, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, (n, n)).astype(np.float32)
    own = np.arange(n)
    there, back = both(scores, tolerance, rows=rows, columns=columns)
    assert same(there, rank(lambda part: scores[part], own, n, tolerance))
    assert same(back, rank(lambda part: scores.T[part], own, n, tolerance))


def test_both_directions_equal_a_full_argsort_with_ties_against_the_match() -> None:
    a, b = unit(700, 16, 1), unit(700, 16, 2)
    b[100:140] = b[100]  # forty targets are one and the same
    scores = a @ b.T
    there, back = both(scores, LEVEL, rows=64, columns=100)
    for ranks, block in ((there, scores), (back, scores.T)):
        for i, row in enumerate(block):
            others = np.flatnonzero(np.abs(row - row[i]) <= LEVEL)
            shown = row.copy()
            shown[others] = row[i] + LEVEL
            shown[i] = row[i]
            order = np.argsort(-shown, kind="stable")
            assert ranks.greater[i] + ranks.ties[i] == np.flatnonzero(order == i)[0]
            assert ranks.ties[i] == len(others) - 1
            assert row[ranks.best[i]] == row.max()
    assert (there.ties[100:140] == 39).all()


def test_a_block_stored_by_columns_is_counted_the_same() -> None:
    a, b = unit(600, 8, 3), unit(600, 8, 4)
    scores = a @ b.T
    plain, turned = both(scores), both(np.asfortranarray(scores))
    assert same(plain[0], turned[0]) and same(plain[1], turned[1])


def test_a_block_may_reuse_its_buffer() -> None:
    a, b = unit(50, 8, 5), unit(50, 8, 6)
    buffer, labels = np.empty(7 * 20, dtype=np.float32), np.arange(50) % 4

    def block(q: slice, t: slice) -> np.ndarray:
        rows, columns = q.stop - q.start, t.stop - t.start
        return np.matmul(a[q], b[t].T, out=buffer[: rows * columns].reshape(rows, columns))

    found, plain = rank_both(block, 50, LEVEL, rows=7, columns=20), both(a @ b.T, LEVEL)
    assert same(found[0], plain[0]) and same(found[1], plain[1])
    rows = np.empty((10, 50), dtype=np.float32)
    again = ranks_of_species(lambda q: np.matmul(a[q], b.T, out=rows), labels, labels, LEVEL, rows=10)
    once = species(a @ b.T, list(labels), list(labels), tolerance=LEVEL)
    assert again.average_precision == pytest.approx(once.average_precision)


def test_the_match_is_never_its_own_rival_though_blocks_round_it_differently() -> None:
    scores = np.eye(6)

    def block(q: slice, t: slice) -> np.ndarray:
        return scores[q, t] + (1e-12 if (q, t) != (q, q) else 0.0)

    there, back = rank_both(block, 6, rows=2, columns=3)
    assert not (there.greater.any() or there.ties.any() or back.greater.any() or back.ties.any())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_raise(bad: float) -> None:
    scores = np.ones((6, 6))
    scores[1, 5] = bad
    with pytest.raises(ResultError, match="1 of 4 scores are not finite"):
        both(scores, rows=2, columns=4)
    with pytest.raises(ResultError, match="1 of 36 scores are not finite"):
        species(scores, [0] * 6, [0] * 6)


def test_blocks_of_the_wrong_shape_raise() -> None:
    with pytest.raises(ResultError, match="shape"):
        rank_both(lambda q, t: np.ones((2, 3)), 5, rows=2, columns=2)
    with pytest.raises(ResultError, match="shape"):
        ranks_of_species(lambda part: np.ones((2, 3)), np.zeros(2, int), np.zeros(4, int))
    with pytest.raises(ResultError, match="choose 1 to 255"):
        both(np.ones((2, 2)), rows=256)


def test_memory_grows_with_the_items_and_not_with_their_square() -> None:
    n = 6000
    a, b = unit(n, 8, 0), unit(n, 8, 1)
    tracemalloc.start()
    rank_both(lambda q, t: a[q] @ b[t].T, n, LEVEL, rows=128, columns=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20  # one block of floats and its masks, and 8 counts an item; n x n floats are 137 MiB


# Several right answers


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6), st.integers(1, 7))
def test_hits_ranks_and_precision_are_means_over_every_order(answers: list[tuple[int, bool]], k: int) -> None:
    scores, right = [float(s) for s, _ in answers], [r for _, r in answers]
    if not any(right):
        right[0] = True
    found = species(np.array([scores]), [1], [int(r) for r in right], tolerance=0.25)
    every = orders(scores, right)
    counts = (found.greater, found.ties, found.level)
    assert first_hit(*counts, k)[0] == pytest.approx(np.mean([any(o[:k]) for o in every]))
    assert first_rank(*counts)[0] == pytest.approx(np.mean([1 + o.index(True) for o in every]))
    assert found.average_precision[0] == pytest.approx(np.mean([precision(o) for o in every]))
    assert (found.relevant[0], found.candidates[0]) == (sum(right), len(right))
    assert scores[found.best[0]] == max(scores)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 3), st.integers(1, 5), st.booleans(), seeds)
def test_species_of_distinct_scores_equal_a_full_sort(n: int, kinds: int, rows: int, leave: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.concatenate((np.arange(kinds), np.arange(kinds), generator.integers(0, kinds, n)))
    total = len(labels)
    scores = generator.permuted(np.tile(np.arange(float(total)), (total, 1)), axis=1)
    left = np.arange(total) if leave else None
    found = species(scores, list(labels), list(labels), leave_out=left, rows=rows)
    for i in range(total):
        order = [j for j in np.argsort(-scores[i]) if not (leave and j == i)]
        right = [bool(labels[j] == labels[i]) for j in order]
        assert (found.greater[i], found.ties[i], found.level[i]) == (right.index(True), 0, 1)
        assert found.average_precision[i] == pytest.approx(precision(right))
        assert (found.relevant[i], found.candidates[i]) == (sum(right), len(right))
        assert found.best[i] == order[0]


def test_one_right_answer_is_placed_as_metrics_places_it() -> None:
    scores = np.random.default_rng(2).integers(0, 4, (40, 30)).astype(np.float32)
    targets = np.arange(40) % 30
    one, many = rank(lambda part: scores[part], targets, 30), species(scores, list(targets), list(range(30)))
    assert same(one, Ranks(many.greater, many.ties, many.best))
    for k in (1, 5, 10):
        assert first_hit(many.greater, many.ties, many.level, k) == pytest.approx(hit(one.greater, one.ties, k))


def test_tolerance_by_hand() -> None:
    # Right: 5.0, 4.9 and 4.7 (too far from 5.0, so a group of its own), 1.0; wrong: 5.1, 4.85, 4.75, 2.0.
    scores = np.array([[5.0, 4.9, 4.7, 1.0, 5.1, 4.85, 4.75, 2.0]])
    found = species(scores, [1], [1, 1, 1, 1, 0, 0, 0, 0], tolerance=0.21)
    # 5.0, 4.9 and 5.1, 4.85 are level, then 4.7 and 4.75, then 2.0, then 1.0.
    assert (found.greater[0], found.ties[0], found.level[0]) == (0, 2, 2)
    every = orders([9, 9, 8, 1, 9, 9, 8, 2], [True] * 4 + [False] * 4)
    assert found.average_precision[0] == pytest.approx(np.mean([precision(o) for o in every]))


def test_a_long_run_of_close_scores_is_not_one_tie() -> None:
    right = np.arange(0.0, 1.0, 0.05)
    found = species(np.concatenate((right, [0.5]))[None], [1], [1] * 20 + [0], tolerance=0.12)
    assert (found.level[0], found.greater[0], found.ties[0]) == (3, 0, 0)


def test_equal_images_stay_level_when_rounding_parts_them() -> None:
    scores = np.array([[0.5, 0.5 + 2e-7, 0.5 - 2e-7, 0.1]], dtype=np.float32)
    found = species(scores, [1], [1, 0, 1, 0], tolerance=LEVEL)
    assert (found.greater[0], found.ties[0], found.level[0]) == (0, 1, 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50))
def test_a_constant_score_gives_exactly_chance(relevant: int, wrong: int, k: int) -> None:
    gallery = [1] * relevant + [0] * wrong
    found = species(np.zeros((1, len(gallery))), [1], gallery)
    counts = (found.greater, found.ties, found.level)
    assert first_hit(*counts, k) == pytest.approx(chance_first_hit(found.candidates, found.relevant, k))
    assert first_rank(*counts) == pytest.approx(chance_first_rank(found.candidates, found.relevant))
    assert found.average_precision == pytest.approx(chance_average_precision(found.candidates, found.relevant))


@pytest.mark.parametrize(("candidates", "relevant"), [(1, 1), (2, 1), (5, 2), (6, 3), (7, 1), (7, 7)])
def test_chance_is_the_mean_over_all_orders(candidates: int, relevant: int) -> None:
    every = orders([0.0] * candidates, [i < relevant for i in range(candidates)])
    c, r = np.array([candidates]), np.array([relevant])
    assert chance_average_precision(c, r)[0] == pytest.approx(np.mean([precision(o) for o in every]))
    assert chance_first_rank(c, r)[0] == pytest.approx(np.mean([1 + o.index(True) for o in every]))
    for k in range(1, candidates + 2):
        assert chance_first_hit(c, r, k)[0] == pytest.approx(np.mean([any(o[:k]) for o in every]))


def test_chance_of_average_precision_against_random_orders() -> None:
    generator = np.random.default_rng(0)
    right = np.tile(np.arange(200) < 15, (4000, 1))
    drawn = generator.permuted(right, axis=1)
    values = (drawn * drawn.cumsum(axis=1) / np.arange(1, 201)).sum(axis=1) / 15
    wanted = chance_average_precision(np.array([200]), np.array([15]))[0]
    assert values.mean() == pytest.approx(wanted, abs=4 * values.std() / 4000**0.5)


@pytest.mark.parametrize("k", [1, 10, 1000, 149_000])
def test_chance_of_a_hit_keeps_its_digits_in_a_large_gallery(k: int) -> None:
    c, r = 149_681, 12
    exact = 1 - comb(c - r, k) / comb(c, k) if k < 2000 else 1.0
    assert chance_first_hit(np.array([c]), np.array([r]), k)[0] == pytest.approx(exact, rel=1e-10)


def test_a_query_without_a_right_answer_is_refused_and_can_be_found_beforehand() -> None:
    labels = np.array([0, 0, 1])
    assert answerable(labels, labels).tolist() == [True, True, True]
    assert answerable(labels, labels, np.arange(3)).tolist() == [True, True, False]
    assert answerable(labels, labels, np.full(3, -1)).tolist() == [True, True, True]
    assert answerable(np.array([7, 0]), labels).tolist() == [False, True]
    assert answerable(labels, np.array([], dtype=np.int64)).tolist() == [False] * 3
    with pytest.raises(ResultError, match="1 of 3 queries have no right answer .* query 2 with label 1"):
        species(np.ones((3, 3)), list(labels), list(labels), leave_out=np.arange(3))


@pytest.mark.parametrize("left", [[0, 1], [0, 1, 3], [0, -2, 1]])
def test_leaving_out_what_is_not_there_raises(left: list[int]) -> None:
    with pytest.raises(ResultError, match="leave_out needs"):
        species(np.ones((3, 3)), [0, 0, 0], [0, 0, 0], leave_out=np.array(left))


def test_only_the_left_out_candidate_is_left_out() -> None:
    scores = np.array([[9.0, 1.0, 2.0], [9.0, 1.0, 2.0]])
    found = species(scores, [0, 0], [0, 0, 1], leave_out=np.array([0, -1]))
    assert found.best.tolist() == [2, 0]
    assert found.greater.tolist() == [1, 0]
    assert found.candidates.tolist() == [2, 3]
    assert scores[0, 0] == 9.0  # the caller's scores stay as they were
