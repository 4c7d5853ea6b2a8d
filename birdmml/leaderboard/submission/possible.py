"""Values that no run can give, whatever its outcomes: each has its own message, beside the computation anew."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from birdmml.leaderboard.submission.model import at
from birdmml.leaderboard.submission.reading import MAX_CANDIDATES
from birdmml.results import metrics
from birdmml.results.metrics import CLASS_MEAN, MEDIAN_RANK
from birdmml.results.outcomes import Measures, Outcomes, Predictions
from birdmml.results.result import figure_key
from birdmml.schema import Figure, Result

SHARES = re.compile(r"accuracy|class-mean accuracy|mAP|(recall@|top-)\d+( accuracy)?")
_CUTOFF = re.compile(r"(recall@|top-)(\d+)( accuracy)?")
# How suites note what they could not ask of an item; figures_of and linear_probe write it.
_LEFT_OUT = re.compile(r"(\d+) items (?:lack a modality|of classes without a training item are left out)")
# In these every item of a split is asked, or noted as left out; few-shot draws its queries.
FULL_SUITES = ("retrieval", "zero-shot", "linear-probe", "noise", "competition", "affect")
SLACK = 1e-6


def of_items(items: Outcomes) -> Iterator[str]:
    """What cannot be in one predictions file, and would make nonsense of a computation."""
    if len(set(items.seeds)) < len(items.seeds):
        yield f"a seed comes twice in {items.seeds}"
    if isinstance(items, Measures):
        return
    many = np.asarray(items.candidates)
    if int(many.max()) > MAX_CANDIDATES or int(many.min()) < 1:
        yield f"{int(many.min()):,} to {int(many.max()):,} candidates"
        return
    # One by one: the sum of two huge counts may come out negative.
    above, level = items.greater, items.ties
    bad = (above < 0) | (level < 0) | (above >= many) | (level >= many)
    bad |= np.where(bad, 0, above) + np.where(bad, 0, level) >= many
    if bad.any():
        seed, item = (int(i) for i in np.argwhere(bad)[0])
        yield (
            f"rank outside the gallery: item {items.ids[item]!r} has {above[seed, item]} candidates above it and"
            f" {level[seed, item]} level with it, of {int(np.broadcast_to(many, above.shape)[seed, item])}"
        )
    if isinstance(items, Predictions):
        names = set(items.targets).union(*items.predictions)
        if len(names) > items.candidates:
            yield f"{len(names)} different candidates are named, of {items.candidates}"


def of_figure(result: Result, figure: Figure, items: Outcomes) -> Iterator[tuple[str, str]]:
    """(field, what cannot be of it) of one figure over these items."""
    drawn = isinstance(items, Predictions) and items.draws is not None and figure.metric == MEDIAN_RANK
    n = len(items.ids) if drawn else len(set(items.ids))
    if figure.n != n:
        yield "n", f"n is {figure.n}, its file holds {n} items"
    if len(figure.per_seed) != len(result.seeds):
        counts = f"{len(figure.per_seed)} values by seed, for {len(result.seeds)} seeds"
        yield "number of seeds", counts
    if not figure.low <= figure.high:
        yield "interval", f"the interval's low end {figure.low} is above its high end {figure.high}"
    if figure.sd is not None and (figure.sd < 0 or len(result.seeds) == 1):
        yield "sd", f"a standard deviation of {figure.sd} over {len(result.seeds)} seeds"
    least, most = _range(figure, items)
    numbers = [(name, getattr(figure, name)) for name in ("value", "low", "high", "chance")]
    numbers += [(f"seed {i + 1}", value) for i, value in enumerate(figure.per_seed)]
    numbers += [] if figure.ceiling is None else [("best possible", figure.ceiling)]
    for name, value in numbers:
        if not least - SLACK <= value <= most + SLACK:
            yield name, f"{name} {value} lies outside {least:g} to {most:g}"
    if not isinstance(items, Predictions):
        return
    luck = 1.0 / items.candidates if figure.metric == CLASS_MEAN else None
    if figure.metric not in (CLASS_MEAN, "mAP") and (figure.metric == MEDIAN_RANK or SHARES.fullmatch(figure.metric)):
        luck = metrics.chance(figure.metric, items.candidates)
    if luck is not None and abs(luck - figure.chance) > SLACK:
        yield ("chance", f"chance is given as {figure.chance}, among {items.candidates} candidates it is {luck}")


def of_result(result: Result) -> Iterator[str]:
    """What cannot be of a result as a whole."""
    if not result.figures:
        yield "no figure"
    if not result.seeds or len(set(result.seeds)) < len(result.seeds):
        yield f"seeds {result.seeds} are not different ones"
    if result.models and [m.get("seed") for m in result.models] != list(result.seeds):
        yield f"models of seeds {[m.get('seed') for m in result.models]}, figures of {list(result.seeds)}"
    if result.dataset.get("demo") is True and not result.demo:
        yield "its dataset is the demo, it says that it is not"
    keys = Counter(map(figure_key, result.figures))
    yield from (f"{key} is given twice" for key, times in sorted(keys.items()) if times > 1)
    owners: dict[str, set[tuple[str, str, str]]] = {}
    for f in result.figures:
        owners.setdefault(f.predictions, set()).add((f.suite, f.evalset, f.task))
    yield from (f"{file} is given as the items of {len(o)} tasks" for file, o in owners.items() if len(o) > 1)
    yield from _falling(result.figures)


def incomplete(result: Result, figure: Figure, items: Outcomes) -> str:
    """Where a figure is over other than all rows of a split that the result itself counts; "" where it is not."""
    split = figure.evalset.removesuffix("-split")
    rows = at(result.dataset, "rows", split)
    if not figure.evalset.endswith("-split") or not isinstance(rows, int):
        return ""
    limit = result.settings.get("limit")
    total = min(rows, limit) if isinstance(limit, int) else rows
    return miscounted(figure, len(set(items.ids)), total)


def miscounted(figure: Figure, n: int, total: int) -> str:
    """Where `n` items and those noted as left out are not the `total` that there are."""
    gone = sum(int(k) for k in _LEFT_OUT.findall(figure.note))
    if n > total or (figure.suite in FULL_SUITES and n + gone != total):
        noted = f" and {gone} noted as left out" if gone else ""
        return f"{n} items{noted}, {figure.evalset} has {total}"
    return ""


def _range(figure: Figure, items: Outcomes) -> tuple[float, float]:
    if SHARES.fullmatch(figure.metric):
        return 0.0, 1.0
    if figure.metric == MEDIAN_RANK and not isinstance(items, Measures):
        return 1.0, float(np.asarray(items.candidates).max())
    return -math.inf, math.inf


def _falling(figures: Sequence[Figure]) -> Iterator[str]:
    """recall@1 above recall@5, of one task; by seed as well."""
    tasks: dict[tuple[str, str, str, str], dict[int, Figure]] = {}
    for f in figures:
        if cutoff := _CUTOFF.fullmatch(f.metric):
            tasks.setdefault((f.suite, f.evalset, f.task, cutoff[1]), {})[int(cutoff[2])] = f
        elif f.metric == "accuracy":
            tasks.setdefault((f.suite, f.evalset, f.task, "top-"), {})[1] = f
    for by_cutoff in tasks.values():
        for small, large in itertools.pairwise(dict(sorted(by_cutoff.items())).values()):
            pairs = [(small.value, large.value), *zip(small.per_seed, large.per_seed, strict=False)]
            if any(a > b + SLACK for a, b in pairs):
                yield f"{figure_key(small)} is above {large.metric}"
