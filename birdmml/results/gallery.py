"""Galleries of any size: both directions from one product, and species with several right answers. numpy only.

Placing one match takes counting alone. Placing all right answers of a query takes their order: a plain float32
sort of its scores, then a search for each right one. As measured, an argsort takes five times as long, and a search of
every score among the right ones ten times. `benchmarks/retrieval.py` measures again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import ResultError
from birdmml.results.metrics import BLOCK_ELEMENTS, Floats, Ints, Ranks, check_scores

Doubles = NDArray[np.float64]

# A block of 240 x 2,000 float32 scores is 2 MB: it is counted while it is still in the cache. Counts of columns
# add up in bytes, so a block never has more than 255 rows.
ROWS, COLUMNS, MOST_ROWS = 240, 2000, 255


@dataclass(frozen=True)
class SpeciesRanks:
    """For each of Q queries, where its right answers land among its `candidates` [Q].

    `greater` wrong candidates score above the best right one; `ties` wrong and `level` right ones (itself included)
    share its score. `relevant`: how many right answers there are. `best`: the candidate with the
    highest score. `average_precision`: expected, with level candidates in random order.
    """

    greater: Ints
    ties: Ints
    level: Ints
    relevant: Ints
    candidates: Ints
    best: Ints
    average_precision: Doubles


def rank_both(
    block: Callable[[slice, slice], Floats], n: int, tolerance: float = 0.0, rows: int = ROWS, columns: int = COLUMNS
) -> tuple[Ranks, Ranks]:
    """Place N matched pairs in both directions: query i among the targets, and target i among the queries.

    `block(q, t)` gives the scores [len(q), len(t)] of the queries in slice `q` with the targets in slice `t`; each
    is asked for once, and counted along both axes, so it must mean the same both ways (cosine does). Memory does not
    grow with N x N. Equal to two calls of `metrics.rank`. Raises ResultError for scores that are not finite or of the
    wrong shape.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise ResultError(f"blocks of {rows} rows cannot be counted: choose 1 to {MOST_ROWS}")
    # The pairs' own scores [N], from the squares on the diagonal.
    blocks = [np.empty(0, dtype=np.float32)]
    for part in _slices(n, rows):
        scores = block(part, part)
        check_scores(scores, part.stop - part.start, part.stop - part.start)
        blocks.append(np.diagonal(scores).copy())
    own = np.concatenate(blocks[1:] or blocks)
    there, back = _Tally(own, tolerance), _Tally(own, tolerance)
    for part in _slices(n, rows):
        for across in _slices(n, columns):
            scores = block(part, across)
            check_scores(scores, part.stop - part.start, across.stop - across.start)
            there.add(scores, part, across)
            back.add(scores.T, across, part)
    return there.ranks, back.ranks


def ranks_of_species(
    block: Callable[[slice], Floats],
    query_labels: Ints,
    gallery_labels: Ints,
    tolerance: float = 0.0,
    leave_out: Ints | None = None,
    rows: int | None = None,
) -> SpeciesRanks:
    """Place every query's right answers: the candidates of its label.

    `block(s)` gives the scores [len(s), C] of the queries in slice `s`; labels are [Q] and [C]. `leave_out` [Q] is
    the candidate that each query does not see, itself as a rule; -1 leaves out none. Scores within `tolerance`
    of the highest of them are level. Raises ResultError for scores that are not finite or of the wrong shape,
    and for a query without a right answer: `answerable` finds them beforehand.
    """
    total, members = len(query_labels), _members(gallery_labels)
    left = np.full(total, -1, dtype=np.int64) if leave_out is None else leave_out
    _check_labels(query_labels, gallery_labels, left)
    harmonic = _harmonic(len(gallery_labels))
    greater, ties, level, relevant, seen, best = (np.empty(total, dtype=np.int64) for _ in range(6))
    out = SpeciesRanks(greater, ties, level, relevant, seen, best, np.empty(total))
    for part in _slices(total, rows or max(1, BLOCK_ELEMENTS // max(1, len(gallery_labels)))):
        scores = block(part)
        check_scores(scores, part.stop - part.start, len(gallery_labels))
        for i, row in zip(range(part.start, part.stop), scores, strict=True):
            _place_all(out, i, row, members[int(query_labels[i])], int(left[i]), tolerance, harmonic)
    return out


def answerable(query_labels: Ints, gallery_labels: Ints, leave_out: Ints | None = None) -> NDArray[np.bool_]:
    """Whether each query [Q] has a right answer in the gallery [C] once its own `leave_out` [Q] is gone."""
    labels, counts = np.unique(gallery_labels, return_counts=True)
    at = np.minimum(np.searchsorted(labels, query_labels), max(0, len(labels) - 1))
    if len(labels) == 0:
        return np.zeros(len(query_labels), dtype=np.bool_)
    relevant = np.where(labels[at] == query_labels, counts[at], 0)
    if leave_out is not None:
        relevant = relevant - ((leave_out >= 0) & (gallery_labels[leave_out] == query_labels))
    return np.asarray(relevant > 0)


def first_hit(greater: Ints, ties: Ints, level: Ints, k: int) -> Doubles:
    """Expected hit@k [...]: a right answer is among the first k, the level candidates in random order.

    m = k - greater places remain for T = ties + level candidates, and all go to wrong ones with probability
    C(ties, m) / C(T, m): a product of min(m, level) factors, which loses no digits to large factorials.
    With one right answer it is metrics.hit.
    """
    total = np.asarray(ties + level, dtype=np.float64)
    places = np.clip(k - np.asarray(greater), 0, total)
    few, many = np.minimum(places, level), np.maximum(places, level)
    missed = np.ones(total.shape)
    for i in range(int(few.max(initial=0))):
        factor = np.maximum(total - many - i, 0.0) / np.maximum(total - i, 1.0)
        missed = np.where(i < few, missed * factor, missed)
    return 1.0 - missed


def first_rank(greater: Ints, ties: Ints, level: Ints) -> Doubles:
    """Expected rank [...] of the first right answer; a wrong one precedes `level` right ones 1 time in level + 1."""
    return np.asarray(1.0 + greater + ties / (level + 1.0))


def chance_first_hit(candidates: Ints, relevant: Ints, k: int) -> Doubles:
    """Hit@k [...] of a score that says nothing: 1 - C(C - R, k) / C(C, k)."""
    return first_hit(np.zeros_like(relevant), candidates - relevant, relevant, k)


def chance_first_rank(candidates: Ints, relevant: Ints) -> Doubles:
    """Mean rank [...] of the first of R right answers in a random order of C: (C + 1) / (R + 1)."""
    return np.asarray((candidates + 1.0) / (relevant + 1.0))


def chance_average_precision(candidates: Ints, relevant: Ints) -> Doubles:
    """Mean average precision [...] of a random order of C candidates, R of them right.

    E = [H + (R - 1) (C - H) / (C - 1)] / C with H = 1 + 1/2 + ... + 1/C: place j holds a right answer with
    probability R / C, and then (j - 1) (R - 1) / (C - 1) others stand before it on average.
    """
    c, r = np.asarray(candidates, dtype=np.float64), np.asarray(relevant, dtype=np.float64)
    h = _harmonic(int(np.max(candidates, initial=0)))[candidates]
    return np.asarray((h + (r - 1.0) * (c - h) / np.maximum(c - 1.0, 1.0)) / c)


class _Tally:
    """Counts of one direction, block after block."""

    def __init__(self, own: Floats, tolerance: float) -> None:
        self.lower, self.upper = own - tolerance, own + tolerance
        self.top = np.full(len(own), -np.inf, dtype=own.dtype)
        self.ranks = Ranks(*(np.zeros(len(own), dtype=np.int64) for _ in range(3)))

    def add(self, scores: Floats, part: slice, across: slice) -> None:
        """Count the scores [R, C] of the items in `part` with those in `across`."""
        upper, lower = self.upper[part, None], self.lower[part, None]
        above, not_below = _trues(scores > upper), _trues(scores >= lower)
        # The match is no rival of its own, whatever rounding makes of it in this block.
        i = np.arange(max(part.start, across.start), min(part.stop, across.stop))
        match = scores[i - part.start, i - across.start]
        above[i - part.start] -= match > self.upper[i]
        not_below[i - part.start] -= match >= self.lower[i]
        self.ranks.greater[part] += above
        self.ranks.ties[part] += not_below - above
        # argmax only where the maximum grew: along columns it costs ten times as much as the maximum.
        high = scores.max(axis=1)
        grown = np.flatnonzero(high > self.top[part])
        self.top[part.start + grown] = high[grown]
        self.ranks.best[part.start + grown] = across.start + scores[grown].argmax(axis=1)


def _trues(mask: NDArray[np.bool_]) -> Ints:
    """Trues of each row of [R, C], counted along the memory: in bytes where that is down the columns."""
    if mask.flags.c_contiguous:
        return np.array([np.count_nonzero(row) for row in mask], dtype=np.int64)
    small = mask.shape[1] <= MOST_ROWS
    return np.asarray(mask.sum(axis=1, dtype=np.uint8 if small else np.int64), dtype=np.int64)


def _place_all(
    out: SpeciesRanks, i: int, row: Floats, members: Ints, left: int, tolerance: float, harmonic: Doubles
) -> None:
    """One query's row of scores [C] into place `i` of `out`."""
    row, right = row.copy(), members
    if left >= 0:
        row[left], right = -np.inf, members[members != left]
    out.best[i] = row.argmax()
    own = np.sort(row[right])
    row.sort()
    starts = _group_starts(own, tolerance)
    high = own[::-1][starts]
    sizes = np.diff(starts, append=len(own))
    # Wrong candidates above each group of right ones, and level with it; one level with two counts for the upper.
    above = _count_above(row, high + tolerance, "right") - _count_above(own, high + tolerance, "right")
    reached = _count_above(row, high - tolerance, "left") - _count_above(own, high - tolerance, "left")
    before = np.maximum(above, np.concatenate(([0], reached[:-1])))
    wrong = reached - before
    out.greater[i], out.ties[i], out.level[i] = before[0], wrong[0], sizes[0]
    out.relevant[i], out.candidates[i] = len(right), len(row) - (left >= 0)
    out.average_precision[i] = _precision(starts, sizes, before, wrong, harmonic).sum() / len(right)


def _group_starts(own: Floats, tolerance: float) -> Ints:
    """Where groups of level scores begin in `own` [R] read from its end, the highest, down.

    A group holds what is within `tolerance` of its highest score. Runs without a larger gap are groups
    already, unless a run is wider than that: only then must it be walked through.
    """
    down = own[::-1]
    edge = np.flatnonzero(np.concatenate(([True], down[:-1] - down[1:] > tolerance)))
    ends = np.append(edge[1:], len(own))
    wide = np.flatnonzero(down[edge] - down[ends - 1] > tolerance)
    more: list[int] = []
    for start, end in zip(edge[wide].tolist(), ends[wide].tolist(), strict=True):
        while True:
            floor = down[start] - own.dtype.type(tolerance)
            start = len(own) - int(np.searchsorted(own, floor, side="left"))
            if start >= end:
                break
            more.append(start)
    return np.sort(np.concatenate((edge, np.array(more, dtype=np.int64))))


def _count_above(ascending: Floats, values: Floats, side: str) -> Ints:
    """How many of [C] are greater ("right") than each value, or not less ("left")."""
    at = np.searchsorted(ascending, values, side="right" if side == "right" else "left")
    return np.asarray(len(ascending) - at, dtype=np.int64)


def _precision(starts: Ints, sizes: Ints, before: Ints, wrong: Ints, harmonic: Doubles) -> Doubles:
    """The sum of precisions that each group's right answers add on average [G].

    Of n level candidates r are right, N = P + `before` stand above, P of them right. Place j of the group holds a
    right one with probability r / n, which finds P + 1 + (j - 1) (r - 1) / (n - 1) right ones among N + j. The sum over
    j is (r / n) [(P + 1) D + (r - 1) / (n - 1) (n - (N + 1) D)] with D = 1/(N + 1) + ... + 1/(N + n): the
    tie-aware average precision of McSherry and Najork (ECIR 2008).
    """
    n, over = sizes + wrong, starts + before
    d = np.where(n == 1, 1.0 / (over + 1.0), harmonic[over + n] - harmonic[over])
    share = (sizes - 1.0) / np.maximum(n - 1, 1)
    return np.asarray(sizes / n * ((starts + 1.0) * d + share * (n - (over + 1.0) * d)))


def _harmonic(n: int) -> Doubles:
    """H_0 ... H_n [n + 1]."""
    return np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, n + 1))))


def _members(labels: Ints) -> dict[int, Ints]:
    """label -> the places that carry it, ascending."""
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def _check_labels(queries: Ints, gallery: Ints, left: Ints) -> None:
    if left.shape != queries.shape or (left.size and not -1 <= left.min() <= left.max() < len(gallery)):
        raise ResultError(f"leave_out needs {len(queries)} places below {len(gallery)}, or -1, got {left}")
    lost = np.flatnonzero(~answerable(queries, gallery, left))
    if len(lost):
        example = f"query {lost[0]} with label {queries[lost[0]]}"
        raise ResultError(
            f"{len(lost)} of {len(queries)} queries have no right answer in the gallery, as {example}:"
            " leave them out and count them"
        )


def _slices(n: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]
