"""Linear probe: a linear classifier learns from all training items, and names the test items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdmml.bench.suites import _probe
from birdmml.bench.suites._contract import LEVEL, Material, Request, Scorer, Subject
from birdmml.bench.suites._probe import FittedProbe, Floats, Ints, Labelled
from birdmml.errors import EvalsetError, UsageError
from birdmml.results.metrics import rank
from birdmml.results.tasks import Scored
from birdmml.schema import Card

CARD = Card(
    summary="accuracy of a linear probe on A, V and A+V embeddings, fitted on the training split",
    license="protocol, no licence",
    citation="Linear evaluation as in Radford et al., ICML 2021 (arXiv 2103.00020), here with C from a short grid",
    url="https://arxiv.org/abs/2103.00020",
)
OWN_CLASSIFIER = True  # the method's own score is not asked
TRAIN, VALIDATION = "train", "validation"
TENTH = 10  # Little, as C's ten times apart are easy to tell and the others are needed to learn from.


@dataclass(frozen=True)
class Options:
    """`grid` of C, the inverse strength of the L2 penalty on the summed loss; at most `iterations` of L-BFGS a fit.

    The C with the highest validation accuracy is taken, the smallest of several; the search goes from a strong
    penalty to a weak one, and ends after `patience` without a better one (0: the whole grid). `split` is reported.
    """

    grid: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
    iterations: int = 500
    patience: int = 2
    split: str = "test"

    def __post_init__(self) -> None:
        if not self.grid or not all(0 < c < math.inf for c in self.grid) or self.iterations < 1:
            raise UsageError(
                f"linear-probe.grid {list(self.grid)}, linear-probe.iterations {self.iterations}:"
                " give numbers over 0, one C at least"
            )
        if self.patience < 0:
            raise UsageError(f"linear-probe.patience {self.patience}: give 0 (the whole grid) or more")
        if self.split in (TRAIN, VALIDATION):
            raise UsageError(f"linear-probe.split is {self.split}, which the probe learns from: give another")


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The test, training and (where there is one) validation split; none for what is for testing only."""
    if not _probe.can_be_probed(subject) or not {TRAIN, options.split} <= set(subject.splits):
        return ()
    splits = (options.split, TRAIN, *({VALIDATION} & set(subject.splits)))
    return tuple(Request(subject.name, split) for split in splits)


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Scored, ...]:
    """One task for each of A, V, A+V, from the materials of test, train and perhaps validation.

    Without a validation split, C is chosen on a tenth of the training items, drawn with seed 0; the probe that is
    reported learns from all of them. Large products use every thread that BLAS has: another number of threads may
    move a score in its last bits. Raises EvalsetError where there are fewer than two classes to learn, or no item.
    """
    del scorer
    return tuple(_task(task, name, materials, options) for task, name in _probe.tasks(materials[0]).items())


def _task(task: str, name: str, materials: Sequence[Material], options: Options) -> Scored:
    test, train, *more = (_probe.labelled(material, name) for material in materials)
    classes = np.unique(train.labels)
    rows = np.flatnonzero(np.isin(test.labels, classes))  # What was never seen cannot be named.
    if len(classes) < 2 or len(rows) == 0:
        raise EvalsetError(
            f"{materials[0].evalset}: {task} has {len(classes)} classes to learn and {len(rows)} items of them to"
            " ask for: a linear probe needs two and one"
        )
    probe, c, on = _chosen(train, more[0] if more else None, options)
    targets = np.searchsorted(classes, test.labels[rows])

    def block(part: slice) -> Floats:
        return probe.scores(test.x[rows[part]])

    ranks = rank(block, targets, len(classes), LEVEL)
    names, strange = materials[0].class_names, len(test.ids) - len(rows)
    at_end = len(options.grid) > 1 and c in (min(options.grid), max(options.grid))
    notes = [
        f"C = {c:g} chosen on {on}" + (", at the end of its grid" if at_end else ""),
        _probe.SIDE_BY_SIDE if "+" in name and name not in materials[0].arrays else "",
        f"{strange} items of classes without a training item are left out" if strange else "",
        f"{train.left_out} training items lack a modality" if train.left_out else "",
        "" if probe.converged else f"the fit stopped at {options.iterations} iterations",
    ]
    return Scored(
        task,
        name,
        _probe.METRICS,
        len(classes),
        tuple(test.ids[i] for i in rows),
        tuple(names[i] for i in test.labels[rows]),
        tuple(names[i] for i in classes[ranks.best]),
        ranks.greater,
        ranks.ties,
        test.left_out,
        "; ".join(filter(None, notes)),
    )


def _chosen(train: Labelled, validation: Labelled | None, options: Options) -> tuple[FittedProbe, float, str]:
    """The probe of all training items with the best C of the grid, that C, and what it was chosen on."""
    if validation is not None and len(validation.ids):
        on = f"the validation split ({len(validation.ids)} items)"
        learn, check = np.arange(len(train.ids)), validation
    else:
        # At random and sorted; one item at least is kept apart.
        order = np.random.default_rng(0).permutation(len(train.ids))
        many = max(1, len(train.ids) // TENTH)
        learn, held = np.sort(order[many:]), np.sort(order[:many])
        on, check = f"a tenth of the training items ({len(held)})", _part(train, held)
    x, labels = train.x[learn], train.labels[learn]
    tried: list[tuple[int, FittedProbe, float]] = []
    # Each fit starts where the last one ended. Weak penalties take most of the time and are seldom the best.
    for c in sorted(options.grid):
        probe = _probe.fit(x, labels, c, options.iterations, tried[-1][1] if tried else None)
        right = probe.classes[probe.scores(check.x).argmax(axis=1)] == check.labels
        tried.append((int(right.sum()), probe, c))
        counts = [n for n, *_ in tried]
        if options.patience and len(counts) - 1 - counts.index(max(counts)) >= options.patience:
            break
    # The first of several equal ones, so the strongest penalty.
    _, best, c = max(tried, key=lambda one: one[0])
    weights = best if len(learn) == len(train.ids) else _probe.fit(train.x, train.labels, c, options.iterations)
    return weights, c, on


def _part(items: Labelled, places: Ints) -> Labelled:
    ids = tuple(items.ids[i] for i in places)
    return Labelled(ids, items.x[places], items.labels[places], items.rows[places], items.total)
