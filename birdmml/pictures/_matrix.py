"""Square tables of shares beside each other, with words below: laid out in inches, so that nothing is cut off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.files import atomic_write
from birdmml.outcomes.columns import Floats
from birdmml.picture import INK, caption
from birdmml.schema import Result

MAP, EMPTY, HATCH, FRAME = "Blues", "#f3f1ec", "#b9b2a3", "#9aa5b1"
NAMED, NUMBERED = 64, 12  # At most so many classes have their names, and their shares in figures.
LONGEST = 32  # Letters of a class's name that are shown.
HEAD, SMALL = 9.0, 7.0  # Points: titles, words below the tables.
EDGE, GAP, BAR = 0.15, 0.4, 0.12  # Inches: around all, between panels, the width of the colour bar.
HEAD_LINE, LINE = 0.19, 0.15  # Inches from line to line.
TICKS = (0, 1, 5, 10, 25, 50, 100)
WRONG, NONE_WRONG = "most confused pairs, share of the row's items", "no item was taken for another class"


@dataclass(frozen=True)
class Panel:
    """One table: `shares` [C, C], a row without values NaN; `words` (share, pair) a line below it."""

    title: str
    shares: Floats
    words: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Plan:
    """Inches: the `side` of a table, the left edge of the first, their pitch, edges from the top; points: `size`."""

    side: float
    left: float
    pitch: float
    top: float
    words: float
    notes: float
    size: float
    width: float
    height: float

    def box(self, left: float, width: float) -> tuple[float, float, float, float]:
        """A rectangle beside the tables, as shares of the whole."""
        bottom = self.height - self.top - self.side
        return left / self.width, bottom / self.height, width / self.width, self.side / self.height

    def write(
        self, canvas: Any, left: float, top: float, words: str, size: float = SMALL, **more: Any
    ) -> None:
        """One line whose upper edge is `top` inches below that of the picture."""
        at = left / self.width, 1 - top / self.height
        more = {"va": "top", "fontsize": size, "color": INK, "parse_math": False} | more
        canvas.text(*at, words, **more)


def draw(
    result: Result,
    path: Path,
    title: str,
    classes: Sequence[str],
    panels: Sequence[Panel],
    notes: Sequence[str],
) -> None:
    """Write a PNG: panels from left to right, whose rows are named once; the colour is that of a share's root."""
    head, notes = [*caption(result).splitlines(), title], [note for note in notes if note]
    names = [short(name) for name in classes] if len(classes) <= NAMED else []
    plan = _plan(len(classes), names, panels, head, notes)
    canvas = _canvas(plan.width, plan.height)
    for i, line in enumerate(head):
        plan.write(canvas, EDGE, EDGE + HEAD_LINE * i, line, HEAD)
    for i, panel in enumerate(panels):
        left = plan.left + i * plan.pitch
        axis = canvas.add_axes(plan.box(left, plan.side))
        image = _table(axis, panel)
        _labels(axis, names, plan.size, first=i == 0)
        _below(canvas, plan, left, panel.words)
    _colours(canvas, canvas.add_axes(plan.box(left + plan.side + EDGE, BAR)), image)
    for i, note in enumerate(notes):
        plan.write(canvas, EDGE, plan.notes + LINE * i, note)
    _save(canvas, path)


def say(result: Result, path: Path, title: str, words: str) -> None:
    """Write a PNG of words alone, where there is nothing that could be drawn."""
    lines = [*caption(result).splitlines(), title, words]
    width, height = _inches(lines, HEAD) + 2 * EDGE, 2 * EDGE + HEAD_LINE * len(lines)
    plan = _Plan(0, 0, 0, 0, 0, 0, 0, width, height)
    canvas = _canvas(width, height)
    for i, line in enumerate(lines):
        plan.write(canvas, EDGE, EDGE + HEAD_LINE * i, line, HEAD)
    _save(canvas, path)


def short(name: str) -> str:
    """A name of at most LONGEST letters, all of which can be printed on one line."""
    clean = "".join(c if c.isprintable() else "?" for c in name)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def plain(name: str) -> str:
    """A name as part of a file's: letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9+=-]+", "_", name)


def _plan(
    count: int, names: Sequence[str], panels: Sequence[Panel], head: Sequence[str], notes: Sequence[str]
) -> _Plan:
    side = max(3.2, 0.108 * count) if names else 4.6
    size = min(8.0, 0.8 * 72 * side / count)
    longest = _inches(names, size)
    texts = [_edge(p.words) + _inches([pair for _, pair in p.words], SMALL) for p in panels]
    titles = [_inches(p.title.splitlines(), HEAD) for p in panels]
    pitch = max(side, *texts, *titles) + GAP
    left = EDGE + 0.3 + longest
    last = max(pitch, side + EDGE + BAR + 0.85)
    width = max(
        left + pitch * (len(panels) - 1) + last,
        _inches(head, HEAD) + 2 * EDGE,
        _inches(notes, SMALL) + 2 * EDGE,
    )
    top = EDGE + HEAD_LINE * len(head) + 0.45
    words = top + side + longest + 0.4
    below = words + LINE * (2.5 + max(len(p.words) for p in panels))
    return _Plan(side, left, pitch, top, words, below, size, width, below + LINE * len(notes) + EDGE)


def _table(axis: Any, panel: Panel) -> Any:
    from matplotlib.colors import PowerNorm

    image = axis.imshow(panel.shares, cmap=MAP, norm=PowerNorm(0.5, 0, 1), aspect="auto")
    for row in np.flatnonzero(np.isnan(panel.shares).any(axis=1)):
        axis.axhspan(row - 0.5, row + 0.5, facecolor=EMPTY, edgecolor=HATCH, hatch="////", lw=0)
    if len(panel.shares) <= NUMBERED:
        for at in np.arange(1, len(panel.shares)) - 0.5:
            axis.axhline(at, color="white", lw=0.8)
        for (row, column), share in np.ndenumerate(panel.shares):
            if share >= 0.005:  # Less would read 0, which its colour says.
                colour = "white" if share > 0.4 else INK
                axis.text(
                    column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=SMALL, color=colour
                )
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


def _below(canvas: Any, plan: _Plan, left: float, words: Sequence[tuple[str, str]]) -> None:
    """The heading and the lines below a table: shares end where pairs begin."""
    plan.write(canvas, left, plan.words, WRONG if words else NONE_WRONG, weight="bold")
    for i, (share, pair) in enumerate(words, 1):
        top, edge = plan.words + LINE * i, left + _edge(words)
        plan.write(canvas, edge - 0.08, top, share, ha="right")
        plan.write(canvas, edge, top, pair)


def _edge(words: Sequence[tuple[str, str]]) -> float:
    """Inches from the left edge of a table's words to where its pairs begin."""
    return _inches([share for share, _ in words], SMALL) + 0.1


def _colours(canvas: Any, axis: Any, image: Any) -> None:
    bar = canvas.colorbar(image, cax=axis, ticks=[tick / 100 for tick in TICKS])
    bar.ax.set_yticklabels([str(tick) for tick in TICKS], fontsize=SMALL, color=INK)
    bar.ax.tick_params(length=2, color=FRAME)
    bar.outline.set_color(FRAME)
    bar.set_label("percent of the row's items", fontsize=SMALL, color=INK)


def _inches(lines: Sequence[str], size: float) -> float:
    """The width of the longest line, as it will be drawn."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines]
    return float(max(widths, default=0.0)) / 72


def _canvas(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height))
    FigureCanvasAgg(canvas)
    return canvas


def _save(canvas: Any, path: Path) -> None:
    with atomic_write(path) as f:
        canvas.savefig(f, format="png", dpi=150, metadata={"Software": None})
