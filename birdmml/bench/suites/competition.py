"""Competition: how much image and sound each decide together, by swapping, removing and Shapley values."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdmml.bench.suites._contract import Arrays, Material, Request, Scorer, Subject, place, scored
from birdmml.errors import EvalsetError, UsageError
from birdmml.media.corruption import Swap, lenders
from birdmml.results.metrics import Ranks, hit
from birdmml.results.tasks import Measured, Outcome, Scored
from birdmml.schema import Card

Vectors = NDArray[np.floating]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of the squared length: float32 vectors that should be equal differ by less.
ROUNDING = 1e-12


def probe_hits(
    train: Vectors, labels: Ints, test: Vectors, targets: Ints, strength: float, steps: int
) -> tuple[Floats, bool]:
    """[N] 1.0 where a linear probe fitted on `train` [T, D] names the target of `test` [N, D], else 0.0.

    Multinomial logistic regression on features of unit variance; `strength` is the inverse of the L2 penalty. With
    one class in `labels` it always names that one. Also whether the fit settled within `steps`.
    """
    classes = np.unique(labels)
    if len(classes) == 1:
        return (targets == classes[0]).astype(np.float64), True
    from sklearn.linear_model import LogisticRegression  # Here, as it takes a second to import.

    # A constant feature is left as it is: it would be divided by nothing.
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-8, spread, 1.0)
    model = LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That it did not settle is said in the result.
        model.fit((train - mean) / spread, labels)
    hits = (model.predict((test - mean) / spread) == targets).astype(np.float64)
    return hits, bool(np.max(model.n_iter_) < steps)


def explained(train: tuple[Vectors, Vectors], test: tuple[Vectors, Vectors], ridge: float) -> tuple[Floats, Floats]:
    """(SST_i - SSE_i, SST_i) [N] each: their sums' ratio is the R^2 of ridge regression of y on x, (x, y) each.

    Fitted on `train`, measured on `test` against the mean of the training targets, so that naming this mean gives
    exactly 0. `ridge` is the penalty in units of the mean variance of x.
    """
    x, y = (np.asarray(part, dtype=np.float64) for part in train)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x  # Solved in [D, D]: training rows are many more than dimensions.
    # Never 0: vectors that are all alike would leave a singular system.
    penalty = ridge * max(float(np.trace(gram)) / len(gram), np.finfo(np.float64).tiny)
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), x.T @ y)
    wanted = test[1] - y_mean
    missed = wanted - (test[0] - x_mean) @ weights
    total = (wanted**2).sum(axis=1)
    return total - (missed**2).sum(axis=1), total


def rank_shares(vectors: Vectors) -> tuple[Floats, Floats]:
    """(v, w) [N] each with exp(sum v / sum w) = exp(entropy of p), p_d = lambda_d / sum lambda, of `vectors` [N, D].

    lambda are the eigenvalues of their covariance: the effective rank of the covariance matrix (Roy & Vetterli,
    EUSIPCO 2007). v_i = -sum_d y_id^2 log p_d and w_i = sum_d y_id^2, y the centred vectors in the eigenbasis: then
    sum_i y_id^2 is N lambda_d. It lies between 1 and min(N - 1, D); vectors that differ by rounding alone have 1.
    Resampling items keeps eigenvectors and p as they are.
    """
    matrix = np.asarray(vectors, dtype=np.float64)
    centred = matrix - matrix.mean(axis=0)
    if (centred**2).sum() <= ROUNDING * (matrix**2).sum():
        return np.zeros(len(matrix)), np.ones(len(matrix))
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    power = size**2
    # The others are rounding, and their logarithm would weigh.
    kept = power > power.max(initial=0.0) * np.finfo(np.float64).eps
    share = power[kept] / power[kept].sum()
    squares = (left[:, kept] * size[kept]) ** 2
    return -(squares @ np.log(share)), squares.sum(axis=1)


def side_by_side(parts: Sequence[Vectors]) -> Floats:
    """[N, D1], [N, D2], ... -> float64 [N, D1 + D2 + ...]."""
    return np.concatenate(parts, axis=1).astype(np.float64)


CARD = Card(
    summary="what image and sound each add to the decision from both: swapped, removed, Shapley value, fused gain",
    license="protocol, no licence",
    citation="This project's own suite: Koutoupis et al., CVPR 2026 (arXiv 2511.21331) name modality competition, but"
    " their experiment is not public",
    url="https://arxiv.org/abs/2511.21331",
    modalities=("image", "audio"),
)
FUSED = "image+audio"
SINGLES = {"A": "audio", "V": "image"}
TASKS = {**SINGLES, "A+V": FUSED}
OTHER = {"A": "V", "V": "A"}

# What each metric says, and what it does not.
WORDS = {
    "accuracy": "the share of items named right, here over items that have both image and sound only; under a swap"
    " the right name is that of the medium which was kept",
    "swap drop": "accuracy lost when one medium is another class's: it tells how much the decision leans on it, and"
    " includes being misled; it does not tell whether the medium alone would do",
    "follows": "how often the decision goes to the class of the swapped-in medium; what follows neither medium is"
    " the rest",
    "removal drop": "accuracy lost when one medium is left out and the other asks alone; below 0, it did harm; it is"
    " small for a medium that the other one can replace, however much it tells",
    "Shapley value": "a medium's share of the accuracy over chance, the mean of what it adds to nothing and to the"
    " other one; the two shares add up to the whole; half of what both know goes to each, so a share is not what one"
    " alone knows",
    "interaction": "what both together have over the sum of the single ones: above 0 synergy, below 0 redundancy"
    " or competition, which accuracy alone cannot tell apart",
    "fused gain": "accuracy over the better single medium; that one is picked on the same items, which flatters it, so"
    " a gain is rather understated",
    "conditional gain": "what a linear probe gains when it sees the fused vector beside the single ones; 0 does not"
    " mean that the fused vector says nothing, only nothing more for a linear probe",
    "R2": "how much of the fused vector a linear map of the single ones gives, against naming its training mean:"
    " near 1, fusion adds nothing but a linear map",
    "effective rank": "how many directions the vectors use, by the entropy of the covariance's eigenvalues: 1 is"
    " collapse, at most min(items - 1, width); many directions need not be useful ones, and the interval takes the"
    " directions as given",
}


@dataclass(frozen=True)
class Options:
    """`draws` swaps of each modality from `seed` on (0: none), class prompts' `templates`, the split that is scored.

    Probes are fitted on at most `fit_rows` training rows (0: no probes): `ridge` is the penalty of the regression in
    units of the features' mean variance, `strength` the inverse L2 penalty of the logistic probe, `steps` its limit.
    """

    templates: tuple[str, ...] = ("{common_name}",)
    split: str = "test"
    draws: int = 3
    seed: int = 0
    fit_rows: int = 20_000
    ridge: float = 1e-3
    strength: float = 1.0
    steps: int = 500

    def __post_init__(self) -> None:
        counts = {"draws": self.draws, "seed": self.seed, "fit_rows": self.fit_rows}
        for name, value in counts.items():
            if not 0 <= value <= (100 if name == "draws" else 10**8):
                raise UsageError(f"competition.{name} is {value}: give 0 to {100 if name == 'draws' else 10**8}")
        if not (self.ridge > 0 and self.strength > 0 and self.steps > 0):
            raise UsageError("competition.ridge, strength and steps must be over 0")


@dataclass(frozen=True)
class _Decision:
    """The items with both modalities, and how each input decides them: `hits` [N] by task, "A+V" at least.

    A hit is 1.0 or 0.0, so that drops and shares are means over items and get their intervals by resampling these.
    """

    material: Material
    rows: NDArray[np.int64]
    ranks: Mapping[str, Ranks]
    hits: Mapping[str, NDArray[np.float64]]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.material.ids[i] for i in self.rows)

    @property
    def labels(self) -> NDArray[np.int64]:
        return _labels(self.material)[self.rows]

    @property
    def left_out(self) -> int:
        return len(self.material.ids) - len(self.rows)

    @property
    def luck(self) -> float:
        return 1.0 / len(self.material.class_names)

    def accuracy(self, task: str, query: str, ranks: Ranks, times: int = 1) -> Scored:
        """How often the items are named right; `times` in a row, where there are several draws of them."""
        names, rows, labels = self.material.class_names, np.tile(self.rows, times), np.tile(self.labels, times)
        outcome = scored(task, query, ("accuracy",), self.material, rows, names, labels, ranks)
        return replace(outcome, left_out=self.left_out)

    def measured(self, task: str, metric: str, values: NDArray[np.float64], note: str = "") -> Measured:
        return Measured(task, FUSED, metric, self.ids, values, left_out=self.left_out, note=note)


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The split of a subject with classes, image and sound; its swaps; then its training rows, where it has any."""
    if subject.kind == "arrays":  # Bringing back one of many pictures or sounds is defined for media only.
        return ()
    if subject.classes < 2 or not {"image", "audio"} <= set(subject.modalities):
        return ()
    clean = Request(subject.name, options.split, options.templates)
    swaps = [replace(clean, templates=(), pairing=str(swap)) for swap in _swaps(options)]
    fits = "train" in subject.splits and options.split != "train" and options.fit_rows > 0
    return (clean, *swaps, *([Request(subject.name, "train")] if fits else []))


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Outcome, ...]:
    """Every figure that the method defines; none at all where it does not score image and sound together.

    Raises EvalsetError for fewer than two classes, or fewer than two items with image and sound.
    """
    if (FUSED, "text") not in scorer.pairs:
        return ()
    decision = _decide(materials[0], scorer)
    swaps = _swaps(options)
    fitted = 1 + len(swaps)
    return (
        *_accuracies(decision),
        *_swapped(decision, list(zip(swaps, materials[1:fitted], strict=True)), scorer),
        *_without(decision),
        *_held(decision, materials[fitted:], options),
    )


def _swaps(options: Options) -> tuple[Swap, ...]:
    draws = range(options.seed, options.seed + options.draws)
    return tuple(Swap(kind, draw) for kind in SINGLES.values() for draw in draws)


def _decide(material: Material, scorer: Scorer) -> _Decision:
    rows = material.having(FUSED)
    if len(material.class_names) < 2 or len(rows) < 2:
        raise EvalsetError(
            f"{material.evalset} has {len(material.class_names)} classes and {len(rows)} items with image and sound: "
            "competition needs two of each"
        )
    queries = {task: query for task, query in TASKS.items() if (query, "text") in scorer.pairs}
    labels = _labels(material)[rows]
    ranks = {
        task: place(scorer, query, "text", material.at(rows), material.prompts, labels)
        for task, query in queries.items()
    }
    return _Decision(material, rows, ranks, {task: hit(r.greater, r.ties, 1) for task, r in ranks.items()})


def _accuracies(decision: _Decision) -> Iterator[Outcome]:
    """What the drops and shares are taken of, on the very same items; and what could not be measured."""
    lacking = []
    if not set(SINGLES) <= set(decision.hits):
        lacking.append("it does not score image and sound alone: no removal, Shapley value or fused gain")
    if FUSED not in decision.material.arrays:
        lacking.append("it has no fused vector: no conditional gain, R2 or effective rank of one")
    for task, ranks in decision.ranks.items():
        accuracy = decision.accuracy(task, TASKS[task], ranks)
        yield replace(accuracy, note="; ".join(lacking)) if task == "A+V" else accuracy


def _swapped(decision: _Decision, swaps: Sequence[tuple[Swap, Material]], scorer: Scorer) -> Iterator[Outcome]:
    """Accuracy, its loss, and the share that follows, over all draws; an item's draws are resampled together."""
    clean, rows, labels = decision.material, decision.rows, decision.labels
    for task, kind in SINGLES.items():
        draws = {swap.seed: material for swap, material in swaps if swap.kind == kind}
        if not draws:
            continue
        kept, followed = [], []
        for seed, material in draws.items():
            # The cache keeps no lenders: the same seed draws the same ones again.
            lent = _labels(clean)[lenders(_labels(clean), rows, seed)][rows]
            own, theirs = (place(scorer, FUSED, "text", material.at(rows), clean.prompts, t) for t in (labels, lent))
            kept.append(own)
            followed.append(hit(theirs.greater, theirs.ties, 1))
        times, name = len(draws), f"{task} swapped"
        ranks = Ranks(*(np.concatenate([getattr(r, part) for r in kept]) for part in ("greater", "ties", "best")))
        accuracy = decision.accuracy(name, FUSED, ranks, times)
        # Draws of one item are no independent ones: intervals must not shrink with their number.
        yield replace(accuracy, draws=np.repeat(np.asarray(list(draws), dtype=np.int64), len(rows)))
        lost = np.tile(decision.hits["A+V"], times) - hit(ranks.greater, ranks.ties, 1)
        yield replace(decision.measured(name, "swap drop", lost), ids=accuracy.ids)
        followed_hits = np.concatenate(followed)
        yield replace(decision.measured(name, "follows", followed_hits), ids=accuracy.ids, chance=decision.luck)


def _without(decision: _Decision) -> Iterator[Outcome]:
    """Removal, Shapley values v over {}, A, V, A+V with v({}) = chance, and the gain over the better single one."""
    if not set(SINGLES) <= set(decision.hits):
        return
    hits, luck = decision.hits, decision.luck
    both = hits["A+V"]
    for task, other in OTHER.items():
        yield decision.measured(f"{task} removed", "removal drop", both - hits[other])
    for task, other in OTHER.items():
        share = ((hits[task] - luck) + (both - hits[other])) / 2
        yield decision.measured(task, "Shapley value", share)
    yield decision.measured("A+V", "interaction", both - hits["A"] - hits["V"] + luck)
    best = max(SINGLES, key=lambda task: float(hits[task].mean()))
    note = f"the better single modality is {SINGLES[best]}, picked on the same items, which flatters it"
    yield decision.measured("A+V", "fused gain", both - hits[best], note)


def _held(decision: _Decision, train: Sequence[Material], options: Options) -> Iterator[Outcome]:
    """What the vectors themselves hold: probes where there are training rows, and effective ranks."""
    arrays = decision.material.at(decision.rows)
    if FUSED in arrays and train:
        yield from _probes(decision, arrays, train[0], options)
    note = "" if train else "no training rows here: no conditional gain and no R2"
    for task, name in TASKS.items():
        if name in arrays:
            values, weights = rank_shares(arrays[name])
            measured = decision.measured(task, "effective rank", values, note)
            # Its logarithm is what is averaged: a chance of 0 is a rank of 1.
            yield replace(measured, query=name, weights=weights, exponential=True)


def _probes(decision: _Decision, arrays: Arrays, train: Material, options: Options) -> Iterator[Outcome]:
    rows = train.having(FUSED)
    if len(rows) < 2:
        raise EvalsetError(
            f"{train.evalset} has {len(rows)} items with image and sound: probes need two; "
            "leave them out with --set competition.fit_rows=0"
        )
    chosen = np.sort(np.random.default_rng(options.seed).permutation(rows)[: options.fit_rows])
    fit, labels = train.at(chosen), _labels(train)[chosen]
    note = f"fitted on {len(chosen)} of {len(rows)} rows of {train.evalset}"
    seen, learned = (side_by_side([a["image"], a["audio"]]) for a in (arrays, fit))
    more, taught = (side_by_side([a["image"], a["audio"], a[FUSED]]) for a in (arrays, fit))
    (alone, first), (beside, second) = (
        probe_hits(x, labels, y, decision.labels, options.strength, options.steps)
        for x, y in ((learned, seen), (taught, more))
    )
    stopped = "" if first and second else f", and stopped after {options.steps} steps"
    yield decision.measured("A+V", "conditional gain", beside - alone, note + stopped)
    values, weights = explained((learned, fit[FUSED]), (seen, arrays[FUSED]), options.ridge)
    yield replace(decision.measured("A+V", "R2", values, note), weights=weights)


def _labels(material: Material) -> NDArray[np.int64]:
    if material.labels is None:
        raise EvalsetError(f"{material.evalset} has no labels: competition needs classes")
    return material.labels
