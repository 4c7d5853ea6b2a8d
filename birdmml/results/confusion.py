"""Which class the items of each class were taken for: a matrix a task, and the pairs most often confused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.results import outcomes
from birdmml.results.outcomes import Floats, Ints, Predictions
from birdmml.results.pictures import INK, blank, caption, save
from birdmml.schema import Figure, Result

SUITES, TASKS, METRIC = ("zero-shot", "linear-probe"), ("A", "V", "A+V"), "accuracy"
MOST_CLASSES, MOST_PAIRS = 1000, 10
# Turning branches so that neighbours are alike takes the cube of the number of classes.
MOST_TURNED = 300
MAP, EMPTY, HATCH, FRAME = "Blues", "#f3f1ec", "#b9b2a3", "#9aa5b1"
NAMED, NUMBERED = 64, 12  # At most so many classes have their names, and their shares in figures.
LONGEST = 32  # Letters of a class's name that are shown.
HEAD, SMALL = 9.0, 7.0  # Points: titles, words below the tables.
EDGE, GAP, BAR = 0.15, 0.4, 0.12  # Inches: around all, between panels, the width of the colour bar.
HEAD_LINE, LINE = 0.19, 0.15  # Inches from line to line.
TICKS = (0, 1, 5, 10, 25, 50, 100)
WRONG, NONE_WRONG = "most confused pairs, share of the row's items", "no item was taken for another class"


@dataclass(frozen=True)
class ConfusionMatrix:
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


def confusion_data(outcome: Predictions, classes: Sequence[str]) -> ConfusionMatrix:
    """The confusions of one task; `classes` [C], in the order of rows and columns, must hold every name that occurs."""
    place = {name: i for i, name in enumerate(classes)}
    size, seeds = len(classes), len(outcome.predictions)
    true = np.asarray([place[name] for name in outcome.targets], dtype=np.int64)
    named = np.asarray([[place[name] for name in names] for names in outcome.predictions], dtype=np.int64)
    counts = np.bincount((true * size + named).reshape(-1), minlength=size * size).reshape(size, size)
    items = np.bincount(true, minlength=size)
    shares = np.full((size, size), np.nan)
    np.divide(counts, seeds * items[:, None], out=shares, where=items[:, None] > 0)
    level = float(((outcome.greater == 0) & (outcome.ties > 0)).mean())
    return ConfusionMatrix(tuple(classes), shares, items, level)


def names_of(tasks: Sequence[Predictions]) -> tuple[str, ...]:
    """Every class that an item has or was taken for, by name."""
    names = {name for task in tasks for part in (task.targets, *task.predictions) for name in part}
    return tuple(sorted(names))


def order(tables: Sequence[ConfusionMatrix]) -> tuple[str, ...]:
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


def pairs(table: ConfusionMatrix, most: int = MOST_PAIRS) -> tuple[Pair, ...]:
    """The pairs with the largest shares; of equal ones those of more items, then by name."""
    off = np.nan_to_num(table.shares)  # A class without items was taken for none.
    np.fill_diagonal(off, 0.0)
    confused = [
        Pair(table.classes[i], table.classes[j], float(off[i, j]), int(table.items[i])) for i, j in np.argwhere(off > 0)
    ]
    return tuple(sorted(confused, key=lambda p: (-p.share, -p.items, p.true, p.named))[:most])


def _is_shown(figure: Figure) -> bool:
    named = figure.suite in SUITES and figure.task in TASKS and figure.metric == METRIC
    return named and bool(figure.predictions)


def _one(result: Result, suite: str, evalset: str, items: Path, folder: Path) -> Path:
    figures = [f for f in result.figures if _is_shown(f) and (f.suite, f.evalset) == (suite, evalset)]
    read = [(f, outcomes.read(items, f.predictions)) for f in figures]
    placed = [(f, outcome) for f, outcome in read if isinstance(outcome, Predictions)]
    names = names_of([outcome for _, outcome in placed])
    path = folder / f"confusion.{plain(suite)}.{plain(evalset)}.png"
    title = f"{suite}, {evalset}: the class of an item (row) and what it was taken for (column)"
    if len(names) > MOST_CLASSES:
        say(result, path, title, f"{len(names):,} classes: too many for a matrix ({MOST_CLASSES:,})")
        return path
    chosen = order([confusion_data(outcome, names) for _, outcome in placed])
    tables = [confusion_data(outcome, chosen) for _, outcome in placed]
    panels = []
    for (f, _), table in zip(placed, tables, strict=True):
        head = f"{f.task}: {100 * f.value:.1f} % right\nn = {f.n:,}, chance {100 * f.chance:.1f} %"
        confused = [
            (f"{100 * p.share:.0f} % of {p.items:,}", f"{short(p.true)} → {short(p.named)}") for p in pairs(table)
        ]
        panels.append(MatrixPanel(head, table.shares, confused))
    draw_matrices(result, path, title, chosen, panels, _notes(placed[0][1].candidates, tables))
    return path


def _notes(candidates: int, tables: Sequence[ConfusionMatrix]) -> list[str]:
    """What must be known to read the matrices."""
    shown = len(tables[0].classes)
    empty = sum(not t.items[i] for i in range(shown) for t in tables)
    level = max(t.level for t in tables)
    notes = [
        "Order: classes taken for each other stand together (average linkage, over all panels).",
        f"{shown} classes: too many for their names." if shown > NAMED else "",
        f"Hatched rows ({empty} in all): no item of that class, so nothing was measured." if empty else "",
        f"{candidates - shown} of {candidates} classes have no item and were never named: left out."
        if candidates > shown
        else "",
        f"Up to {100 * level:.1f} % of a panel's items score equally for several classes: one of them is shown."
        if level
        else "",
    ]
    return [note for note in notes if note]


@dataclass(frozen=True)
class MatrixPanel:
    """One table: `shares` [C, C], a row without values NaN; `words` (share, pair) a line below it."""

    title: str
    shares: Floats
    words: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Layout:
    """In inches, so that nothing is cut off: a table's `side`, edge of the first, pitch, edges from the top."""

    side: float
    left: float
    pitch: float
    top: float
    words: float
    notes: float
    size: float  # Points, of the names of classes.
    width: float
    height: float

    def box(self, left: float, width: float) -> tuple[float, float, float, float]:
        """A rectangle beside the tables, as shares of the whole."""
        bottom = self.height - self.top - self.side
        return left / self.width, bottom / self.height, width / self.width, self.side / self.height

    def write(self, canvas: Any, left: float, top: float, words: str, size: float = SMALL, **more: Any) -> None:
        """One line whose upper edge is `top` inches below that of the picture."""
        at = left / self.width, 1 - top / self.height
        more = {"va": "top", "fontsize": size, "color": INK, "parse_math": False} | more
        canvas.text(*at, words, **more)


def draw_matrices(
    result: Result, path: Path, title: str, classes: Sequence[str], panels: Sequence[MatrixPanel], notes: Sequence[str]
) -> None:
    """Write a PNG: panels from left to right, whose rows are named once; the colour is that of a share's root."""
    head = [*caption(result).splitlines(), title]
    names = [short(name) for name in classes] if len(classes) <= NAMED else []
    layout = _laid_out(len(classes), names, panels, head, notes)
    canvas = _headed(layout, head)
    for i, panel in enumerate(panels):
        left = layout.left + i * layout.pitch
        axis = canvas.add_axes(layout.box(left, layout.side))
        image = _table(axis, panel)
        _labels(axis, names, layout.size, first=i == 0)
        _below(canvas, layout, left, panel.words)
    axis = canvas.add_axes(layout.box(left + layout.side + EDGE, BAR))
    bar = canvas.colorbar(image, cax=axis, ticks=[tick / 100 for tick in TICKS])
    bar.ax.set_yticklabels([str(tick) for tick in TICKS], fontsize=SMALL, color=INK)
    bar.ax.tick_params(length=2, color=FRAME)
    bar.outline.set_color(FRAME)
    bar.set_label("percent of the row's items", fontsize=SMALL, color=INK)
    for i, note in enumerate(notes):
        layout.write(canvas, EDGE, layout.notes + LINE * i, note)
    save(canvas, path)


def say(result: Result, path: Path, title: str, words: str) -> None:
    """Write a PNG of words alone, where there is nothing that could be drawn."""
    lines = [*caption(result).splitlines(), title, words]
    width, height = _inches(lines, HEAD) + 2 * EDGE, 2 * EDGE + HEAD_LINE * len(lines)
    save(_headed(_Layout(0, 0, 0, 0, 0, 0, 0, width, height), lines), path)


def _headed(layout: _Layout, lines: Sequence[str]) -> Any:
    """An empty picture with its heading."""
    canvas = blank(layout.width, layout.height, constrained=False)
    for i, line in enumerate(lines):
        layout.write(canvas, EDGE, EDGE + HEAD_LINE * i, line, HEAD)
    return canvas


def short(name: str) -> str:
    """A name of at most LONGEST letters, all of which can be printed on one line."""
    clean = "".join(c if c.isprintable() else "?" for c in name)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def plain(name: str) -> str:
    """A name as part of a file's: letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9+=-]+", "_", name)


def _laid_out(
    count: int, names: Sequence[str], panels: Sequence[MatrixPanel], head: Sequence[str], notes: Sequence[str]
) -> _Layout:
    side = max(3.2, 0.108 * count) if names else 4.6
    size = min(8.0, 0.8 * 72 * side / count)
    longest = _inches(names, size)
    texts = [_edge(p.words) + _inches([pair for _, pair in p.words], SMALL) for p in panels]
    titles = [_inches(p.title.splitlines(), HEAD) for p in panels]
    pitch = max(side, *texts, *titles) + GAP
    left = EDGE + 0.3 + longest
    last = max(pitch, side + EDGE + BAR + 0.85)
    width = max(
        left + pitch * (len(panels) - 1) + last, _inches(head, HEAD) + 2 * EDGE, _inches(notes, SMALL) + 2 * EDGE
    )
    top = EDGE + HEAD_LINE * len(head) + 0.45
    words = top + side + longest + 0.4
    below = words + LINE * (2.5 + max(len(p.words) for p in panels))
    return _Layout(side, left, pitch, top, words, below, size, width, below + LINE * len(notes) + EDGE)


def _table(axis: Any, panel: MatrixPanel) -> Any:
    from matplotlib.colors import PowerNorm

    # The root: a share of 2 % must be seen.
    image = axis.imshow(panel.shares, cmap=MAP, norm=PowerNorm(0.5, 0, 1), aspect="auto")
    for row in np.flatnonzero(np.isnan(panel.shares).any(axis=1)):
        axis.axhspan(row - 0.5, row + 0.5, facecolor=EMPTY, edgecolor=HATCH, hatch="////", lw=0)
    if len(panel.shares) <= NUMBERED:
        for at in np.arange(1, len(panel.shares)) - 0.5:
            axis.axhline(at, color="white", lw=0.8)
        for (row, column), share in np.ndenumerate(panel.shares):
            if share >= 0.005:  # Less would read 0, which its colour says.
                colour = "white" if share > 0.4 else INK
                axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=SMALL, color=colour)
    axis.set_title(panel.title, loc="left", fontsize=HEAD, color=INK, parse_math=False)
    axis.spines[:].set_color(FRAME)
    return image


def _labels(axis: Any, names: Sequence[str], size: float, first: bool) -> None:
    places, style = range(len(names)), {"fontsize": size, "color": INK, "parse_math": False}
    axis.set_xticks(places, names, rotation=90, **style)
    axis.set_yticks(places if first else [], names if first else [], **style)
    axis.tick_params(length=1.5, pad=1.5, color=FRAME)
    axis.set_xlabel("taken for", fontsize=8, color=INK, labelpad=2)
    if first:
        axis.set_ylabel("class of the item", fontsize=8, color=INK, labelpad=2)


def _below(canvas: Any, layout: _Layout, left: float, words: Sequence[tuple[str, str]]) -> None:
    """The heading and the lines below a table: shares end where pairs begin."""
    layout.write(canvas, left, layout.words, WRONG if words else NONE_WRONG, weight="bold")
    for i, (share, pair) in enumerate(words, 1):
        top, edge = layout.words + LINE * i, left + _edge(words)
        layout.write(canvas, edge - 0.08, top, share, ha="right")
        layout.write(canvas, edge, top, pair)


def _edge(words: Sequence[tuple[str, str]]) -> float:
    """Inches from the left edge of a table's words to where its pairs begin."""
    return _inches([share for share, _ in words], SMALL) + 0.1


def _inches(lines: Sequence[str], size: float) -> float:
    """The width of the longest line, as it will be drawn."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines]
    return float(max(widths, default=0.0)) / 72
