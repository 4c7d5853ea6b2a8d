"""Few-shot: a linear classifier learns each class from 1 to 20 items, and names all the others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from birdmml.bench.suites import _probe
from birdmml.bench.suites._contract import LEVEL, Material, Request, Scorer, Subject
from birdmml.bench.suites._probe import Floats, Ints, Labelled
from birdmml.errors import EvalsetError, UsageError
from birdmml.results.metrics import Ranks, rank
from birdmml.results.tasks import Scored
from birdmml.schema import Card

CARD = Card(
    summary="accuracy of a linear probe on A, V and A+V embeddings, for each number of labelled items a class",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)
OWN_CLASSIFIER = True  # the method's own score is not asked
MOST = 1000


@dataclass(frozen=True)
class Options:
    """Labelled items a class (`shots`), and how many random draws of each number; draw i has seed i.

    Shots come from `support_split`, queries are all of `split` that was not drawn. Empty, as in the paper: both from
    `split`; so it is, with a note, for a subject that has no such split. `c` and `iterations` are the logistic
    regression's: the paper states 500, and no C, so it is scikit-learn's own, 1.
    """

    shots: tuple[int, ...] = (1, 2, 5, 10, 20)
    draws: int = 10
    split: str = "test"
    support_split: str = ""
    c: float = 1.0
    iterations: int = 500

    def __post_init__(self) -> None:
        if not self.shots or len(set(self.shots)) < len(self.shots):
            raise UsageError(f"few-shot.shots is {list(self.shots)}: give different numbers, one at least")
        if not all(1 <= number <= MOST for number in (*self.shots, self.draws)):
            raise UsageError(f"few-shot.shots and few-shot.draws must lie in 1 to {MOST}")
        if not 0 < self.c < math.inf or self.iterations < 1:
            raise UsageError(f"few-shot.c {self.c}, few-shot.iterations {self.iterations}: they must be over 0")


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """What is asked, and what is learned from where that is another split."""
    if not _probe.can_be_probed(subject):
        return ()
    apart = options.support_split in set(subject.splits) - {options.split}
    splits = (options.split, options.support_split) if apart else (options.split,)
    return tuple(Request(subject.name, split) for split in splits)


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Scored, ...]:
    """One task for each of A, V, A+V and each number of shots, named "A 5-shot".

    A class counts where it has its shots and one item more to be asked for. Where fewer than two do, the number of
    shots is skipped and the other tasks say so; raises EvalsetError where nothing is left.
    """
    del scorer
    done, skipped = [], []
    # Many small products: one thread is the fastest, and gives the same bits on any number of cores.
    with threadpool_limits(1, user_api="blas"):
        for task, name in _probe.tasks(materials[0]).items():
            sides = _Sides(*(_probe.labelled(material, name) for material in (materials[0], materials[-1])))
            notes = _notes(materials, sides, name, options)
            for shots in options.shots:
                outcome = _task(f"{task} {shots}-shot", name, shots, materials[0].class_names, sides, options)
                if outcome is None:
                    skipped.append(f"{task} {shots}-shot")
                else:
                    done.append(_noted(outcome, *notes))
    few = f"skipped, as fewer than two classes have enough items: {', '.join(skipped)}" if skipped else ""
    if not done:
        raise EvalsetError(
            f"{materials[0].evalset}: {few}; give smaller few-shot.shots, or a few-shot.support_split to draw them from"
        )
    return tuple(_noted(outcome, few) for outcome in done)


@dataclass(frozen=True)
class _Sides:
    """The items to name and those to learn from; `twins` [N of support] are their places among the former, or -1."""

    queries: Labelled
    support: Labelled

    @property
    def twins(self) -> Ints:
        place = {name: i for i, name in enumerate(self.queries.ids)}
        return np.asarray([place.get(name, -1) for name in self.support.ids], dtype=np.int64)


def _task(task: str, query: str, shots: int, names: tuple[str, ...], sides: _Sides, options: Options) -> Scored | None:
    """All draws of one number of shots; None where fewer than two classes have enough items."""
    query_rows, twins = sides.queries, sides.twins
    query_counts, support = (np.bincount(s.labels, minlength=len(names)) for s in (query_rows, sides.support))
    within = np.bincount(sides.support.labels[twins >= 0], minlength=len(names))
    # Enough to learn from and one more to ask for: in the worst draw all shots are items that would be asked for.
    kept = np.flatnonzero((support >= shots) & (query_counts > np.minimum(within, shots)))
    if len(kept) < 2:
        return None
    open_to = np.isin(query_rows.labels, kept)
    drawn = [_draw(sides.support, kept, shots, draw) for draw in range(options.draws)]
    # What was drawn is not asked for, by its place among the queries; an item that is none of them has place -1.
    queries = [np.setdiff1d(np.flatnonzero(open_to), twins[rows]) for rows in drawn]
    accuracies = [_one(sides, *rows, options) for rows in zip(drawn, queries, strict=True)]
    ranks = [ranks for ranks, _ in accuracies]
    flat = np.concatenate(queries)
    best = kept[np.concatenate([r.best for r in ranks])]
    few, slow = len(names) - len(kept), sum(not converged for _, converged in accuracies)
    notes = [
        f"{few} of {len(names)} classes have too few items for {shots} shots and a query: left out, with"
        f" their {int((~open_to).sum())} queries"
        if few
        else "",
        f"{slow} of {options.draws} fits stopped at {options.iterations} iterations" if slow else "",
    ]
    return Scored(
        task,
        query,
        _probe.METRICS,
        len(kept),
        tuple(query_rows.ids[i] for i in flat),
        tuple(names[i] for i in query_rows.labels[flat]),
        tuple(names[i] for i in best),
        np.concatenate([r.greater for r in ranks]),
        np.concatenate([r.ties for r in ranks]),
        query_rows.left_out,
        "; ".join(filter(None, notes)),
        np.repeat(np.arange(options.draws), [len(rows) for rows in queries]),
    )


def _draw(support: Labelled, kept: Ints, shots: int, draw: int) -> Ints:
    """`shots` places of each class in `kept`, at random; sorted by class.

    Keys are drawn for all items, so that tasks share what they draw as far as modalities allow, and one shot is
    among the two, two among the five.
    """
    keys = np.random.default_rng(draw).random(support.total)[support.rows]
    order = np.lexsort((keys, support.labels))
    labels = support.labels[order]
    nth = np.arange(len(order)) - np.searchsorted(labels, labels)
    return np.asarray(order[(nth < shots) & np.isin(labels, kept)])


def _one(sides: _Sides, drawn: Ints, queries: Ints, options: Options) -> tuple[Ranks, bool]:
    """Learn from the items drawn, and place the class of every query; whether the solver was done."""
    support, query_rows = sides.support, sides.queries
    probe = _probe.fit(support.x[drawn], support.labels[drawn], options.c, options.iterations)
    targets = np.searchsorted(probe.classes, query_rows.labels[queries])

    def block(part: slice) -> Floats:
        return probe.scores(query_rows.x[queries[part]])

    return rank(block, targets, len(probe.classes), LEVEL), probe.converged


def _notes(materials: Sequence[Material], sides: _Sides, name: str, options: Options) -> list[str]:
    """What holds for every number of shots."""
    apart, wanted = len(materials) > 1, options.support_split
    same = not apart and wanted not in ("", options.split)
    lacking = sides.support.left_out if apart else 0
    return [
        _probe.SIDE_BY_SIDE if "+" in name and name not in materials[0].arrays else "",
        f"shots are from {wanted}" if apart else "",
        f"shots are from {options.split}: there is no {wanted}" if same else "",
        f"{lacking} items to draw from lack a modality" if lacking else "",
    ]


def _noted(outcome: Scored, *notes: str) -> Scored:
    return dataclasses.replace(outcome, note="; ".join(filter(None, (outcome.note, *notes))))
