"""Which class the items of each class were taken for: a matrix a task, and the pairs most often confused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmml import outcomes
from birdmml.outcomes import Predictions
from birdmml.outcomes.columns import Floats, Ints
from birdmml.pictures import _matrix
from birdmml.schema import Figure, Result

SUITES, TASKS, METRIC = ("zero-shot", "linear-probe"), ("A", "V", "A+V"), "accuracy"
MOST_CLASSES, MOST_PAIRS = 1000, 10
# Turning branches so that neighbours are alike takes the cube of the number of classes.
MOST_TURNED = 300


@dataclass(frozen=True)
class Confusion:
    """`shares` [C, C]: of the items of the row's class, those taken for the column's, mean over seeds.

    `items` [C] are the rows' numbers; the row of a class without items is NaN. `level` is the share of all items whose
    best class has an equal: they count for the one that was named.
    """

    classes: tuple[str, ...]
    shares: Floats
    items: Ints
    level: float = 0.0


@dataclass(frozen=True)
class Pair:
    """`share` of the `items` of class `true` were taken for `named`."""

    true: str
    named: str
    share: float
    items: int


def draw(result: Result, items: Path, folder: Path) -> list[Path]:
    """Write `folder`/confusion.SUITE.EVALSET.png for each suite and set whose items lie below `items`; their paths.

    Raises ResultError for items that cannot be read.
    """
    places = dict.fromkeys((f.suite, f.evalset) for f in result.figures if _is_shown(f))
    return [_one(result, suite, evalset, items, folder) for suite, evalset in places]


def confusion_data(found: Predictions, classes: Sequence[str]) -> Confusion:
    """The confusions of one task; `classes` [C], in the order of rows and columns, must hold every name that occurs."""
    place = {name: i for i, name in enumerate(classes)}
    size, seeds = len(classes), len(found.predictions)
    true = np.asarray([place[name] for name in found.targets], dtype=np.int64)
    named = np.asarray([[place[name] for name in names] for names in found.predictions], dtype=np.int64)
    counts = np.bincount((true * size + named).reshape(-1), minlength=size * size).reshape(size, size)
    items = np.bincount(true, minlength=size)
    shares = np.full((size, size), np.nan)
    np.divide(counts, seeds * items[:, None], out=shares, where=items[:, None] > 0)
    level = float(((found.greater == 0) & (found.ties > 0)).mean())
    return Confusion(tuple(classes), shares, items, level)


def names_of(found: Sequence[Predictions]) -> tuple[str, ...]:
    """Every class that an item has or was taken for, by name."""
    names = {name for one in found for part in (one.targets, *one.predictions) for name in part}
    return tuple(sorted(names))


def order(tables: Sequence[Confusion]) -> tuple[str, ...]:
    """The classes of the tables, those taken for each other side by side, whatever the direction.

    Average linkage on 2 - (share one way + share the other), the mean over the tables; of two directions the one that
    begins with the earlier name.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    names = tables[0].classes
    if len(names) < 3:
        return names
    shares = np.mean([np.nan_to_num(t.shares) for t in tables], axis=0)
    apart = 2.0 - (shares + shares.T)
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart), "average", optimal_ordering=len(names) <= MOST_TURNED)
    chosen = tuple(names[i] for i in leaves_list(tree))
    return chosen if chosen[0] < chosen[-1] else chosen[::-1]


def pairs(table: Confusion, most: int = MOST_PAIRS) -> tuple[Pair, ...]:
    """The pairs with the largest shares; of equal ones those of more items, then by name."""
    off = np.nan_to_num(table.shares)
    np.fill_diagonal(off, 0.0)
    found = [
        Pair(table.classes[i], table.classes[j], float(off[i, j]), int(table.items[i]))
        for i, j in np.argwhere(off > 0)
    ]
    return tuple(sorted(found, key=lambda p: (-p.share, -p.items, p.true, p.named))[:most])


def _is_shown(figure: Figure) -> bool:
    known = (figure.suite in SUITES, figure.task in TASKS, figure.metric == METRIC)
    return all(known) and bool(figure.predictions)


def _one(result: Result, suite: str, evalset: str, items: Path, folder: Path) -> Path:
    figures = [f for f in result.figures if _is_shown(f) and (f.suite, f.evalset) == (suite, evalset)]
    read = [(f, outcomes.read(items, f.predictions)) for f in figures]
    placed = [(f, found) for f, found in read if isinstance(found, Predictions)]
    names = names_of([found for _, found in placed])
    path = folder / f"confusion.{_matrix.plain(suite)}.{_matrix.plain(evalset)}.png"
    title = f"{suite}, {evalset}: the class of an item (row) and what it was taken for (column)"
    if len(names) > MOST_CLASSES:
        _matrix.say(result, path, title, f"{len(names):,} classes: too many for a matrix ({MOST_CLASSES:,})")
        return path
    chosen = order([confusion_data(found, names) for _, found in placed])
    tables = [confusion_data(found, chosen) for _, found in placed]
    panels = [_matrix.Panel(_title(f), t.shares, _words(t)) for (f, _), t in zip(placed, tables, strict=True)]
    _matrix.draw(result, path, title, chosen, panels, _notes(placed[0][1].candidates, tables))
    return path


def _title(figure: Figure) -> str:
    return f"{figure.task}: {100 * figure.value:.1f} % right\nn = {figure.n:,}, chance {100 * figure.chance:.1f} %"


def _words(table: Confusion) -> list[tuple[str, str]]:
    return [
        (f"{100 * p.share:.0f} % of {p.items:,}", f"{_matrix.short(p.true)} → {_matrix.short(p.named)}")
        for p in pairs(table)
    ]


def _notes(candidates: int, tables: Sequence[Confusion]) -> list[str]:
    """What must be known to read the matrices."""
    shown = len(tables[0].classes)
    empty = sum(not t.items[i] for i in range(shown) for t in tables)
    level = max(t.level for t in tables)
    return [
        "Order: classes taken for each other stand together (average linkage, over all panels).",
        f"{shown} classes: too many for their names." if shown > _matrix.NAMED else "",
        f"Hatched rows ({empty} in all): no item of that class, so nothing was measured." if empty else "",
        f"{candidates - shown} of {candidates} classes have no item and were never named: left out."
        if candidates > shown
        else "",
        f"Up to {100 * level:.1f} % of a panel's items score equally for several classes: one of them is shown."
        if level
        else "",
    ]
