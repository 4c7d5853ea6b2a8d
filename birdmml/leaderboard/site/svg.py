"""Curves, losses, confusions and intervals as SVG inside a page. Colours come from the page's style by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from markupsafe import Markup

from birdmml.core.text import number, plain
from birdmml.leaderboard.site.items import ConfusionCounts
from birdmml.results.curves import Line, Panel
from birdmml.schema import Figure, Result

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 46
COLOURS = 6
TASKS = ("A", "V", "A+V")
# A picture is 520 px wide: more points or lines would lie on each other.
MOST_POINTS, MOST_SEEDS = 400, 20
# Matrices of more classes are no picture; the most confused pairs are listed instead.
MOST_CELLS = 60
CELL, NARROWEST, SHADES, SHORT, MOST_PAIRS = 15, 6, 10, 22, 15

Losses = dict[int, list[tuple[int, float]]]
Place = Callable[[float], str]


def interval(figure: Figure) -> Markup:
    """A bar from 0 to 100 %: the interval, the value, and where luck lies."""
    low, high, value, luck = (
        min(100.0, max(0.0, 100 * v)) for v in (figure.low, figure.high, figure.value, figure.chance)
    )
    return Markup(
        '<svg class="interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rail" y="4" width="100" height="2"/>'
        '<rect class="range" x="{}" y="2" width="{}" height="6"/>'
        '<rect class="luck" x="{}" width=".5" height="10"/>'
        '<rect class="value" x="{}" width="1" height="10"/></svg>'
    ).format(number(low), number(max(0.4, high - low)), number(luck), number(min(99.0, max(0.0, value - 0.5))))


# Curves of a result's figures.


def curves(panel: Panel, name: str) -> Markup:
    """The panel as a picture in percent with 95 % intervals; `name` is its id in the page."""
    xs = panel.xs
    values = [v for f in panel.figures for v in (f.high, f.value, f.chance, f.ceiling or 0.0) if math.isfinite(v)]
    most = min(1.0, max([0.05, *values]))
    # The end of the axis in percent: a round number above everything that is drawn.
    top = next(t for t in (5, 10, 20, 40, 60, 80, 100) if t >= 100 * most - 1e-9)
    across, height = _across(xs, panel.log), _up(0.0, top)

    def up(share: float) -> str:
        return height(100 * share)

    # More than a dozen would run into each other.
    ticks = [(across(x), f"{x:g}") for x in xs[:: math.ceil(len(xs) / 12)]]
    parts = [_grid((height(top * k / 4), f"{top * k / 4:g}") for k in range(5)), _ticks(ticks, plain(panel.x))]
    parts += _levels(panel, across, up)
    parts += [_line(line, _colour(line, k), across, up) for k, line in enumerate(panel.lines)]
    words = []
    for line in panel.lines:
        shares = ", ".join(f"{100 * p.figure.value:.1f} % at {p.x:g}" for p in line.points)
        words.append(f"{line.name}: {shares}" + (f", clean {100 * line.level.value:.1f} %" if line.level else ""))
    return _chart(name, plain(panel.title), plain(f"Accuracy over {panel.x}. {'; '.join(words)}", 2000), parts)


def legend(panel: Panel) -> Markup:
    """What the colours and dashes mean."""
    keys = [_key(f"c{_colour(line, k)}", plain(line.name).replace("->", "→")) for k, line in enumerate(panel.lines)]
    keys.append(_key("chance", "chance"))
    if any(f.ceiling is not None for f in panel.figures):
        keys.append(_key("ceiling", "best possible"))
    if any(line.level for line in panel.lines):
        keys.append(_key("clean", "clean"))
    return Markup(" ").join(keys)


def _colour(line: Line, k: int) -> int:
    """The same for a task in every picture; lines of other names by their place."""
    return TASKS.index(line.name) if line.name in TASKS else k % COLOURS


def _levels(panel: Panel, across: Place, up: Place) -> list[Markup]:
    """Luck and the best possible value along the axis; the clean value of each line."""
    points = sorted({p.x: p.figure for line in panel.lines for p in line.points}.items())
    paths = [_path("chance", [(across(x), up(f.chance)) for x, f in points])]
    ceiling = [(across(x), up(f.ceiling)) for x, f in points if f.ceiling is not None]
    if len(ceiling) > 1:
        paths.append(_path("ceiling", ceiling))
    for k, line in enumerate(panel.lines):
        if line.level is not None:
            y = up(line.level.value)
            paths.append(_path(f"clean c{_colour(line, k)}", [(str(LEFT), y), (str(WIDTH - RIGHT), y)]))
    return paths


def _line(line: Line, colour: int, across: Place, up: Place) -> Markup:
    at = [(across(p.x), p.figure) for p in line.points]
    marks = [
        Markup('<line class="spread" x1="{}" x2="{}" y1="{}" y2="{}"/><circle cx="{}" cy="{}" r="3.4"/>').format(
            x, x, up(f.low), up(f.high), x, up(f.value)
        )
        for x, f in at
    ]  # fmt: skip
    path = _path("trace", [(x, up(f.value)) for x, f in at])
    return Markup('<g class="c{}">{}{}</g>').format(colour, path, Markup("").join(marks))


# The loss over the epochs of each seed's training. Strangers' values: only finite numbers are drawn.


def losses(result: Result) -> Losses:
    """{seed: [(epoch from 1, mean loss of the epoch)]} of models that were trained with the result; else nothing."""
    by_seed: Losses = {}
    for model in result.models[:MOST_SEEDS]:
        values, seed = model.get("loss_by_epoch"), model.get("seed")
        if not isinstance(values, list | tuple) or not isinstance(seed, int):
            continue
        points = [(i, float(v)) for i, v in enumerate(values, 1) if type(v) in (int, float) and abs(v) < 1e30]
        if len(points) > 1:
            step = math.ceil(len(points) / MOST_POINTS)
            by_seed[seed] = [*points[:-1:step], points[-1]]
    return by_seed


def loss_chart(by_seed: Losses) -> Markup:
    """One line a seed, over epochs, between the smallest and the largest loss."""
    points = [p for line in by_seed.values() for p in line]
    last, values = max(x for x, _ in points), [y for _, y in points]
    across, up = _across((1, last)), _up(min(values), max(values))
    levels = (min(values) + (max(values) - min(values)) * k / 4 for k in range(5))
    parts = [
        _grid((up(level), f"{level:.3g}") for level in levels),
        _ticks([(across(x), str(x)) for x in sorted({1, (1 + last) // 2, last})], "epoch"),
    ]
    for k, line in enumerate(by_seed.values()):
        trace = _path("trace", [(across(x), up(y)) for x, y in line])
        parts.append(Markup('<g class="c{}">{}</g>').format(k % COLOURS, trace))
    words = "; ".join(f"seed {seed}: from {first} to {last}" for seed, first, last, _ in loss_ends(by_seed))
    return _chart("loss", "Training loss", f"Mean loss of each epoch. {words}", parts)


def loss_legend(by_seed: Losses) -> Markup:
    """Which colour is which seed."""
    return Markup(" ").join(_key(f"c{k % COLOURS}", f"seed {seed}") for k, seed in enumerate(by_seed))


def loss_ends(by_seed: Losses) -> Sequence[tuple[int, str, str, int]]:
    """(seed, first loss, last loss, epochs): the picture as a table."""
    return [(seed, f"{p[0][1]:.4g}", f"{p[-1][1]:.4g}", p[-1][0]) for seed, p in by_seed.items()]


# What charts are made of.


def _across(xs: Sequence[float], log: bool = False) -> Place:
    scale: Callable[[float], float] = math.log if log else float
    low, span = scale(xs[0]), (scale(xs[-1]) - scale(xs[0])) or 1.0
    return lambda x: number(LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * (scale(x) - low) / span)


def _up(low: float, high: float) -> Place:
    """`low` lies on the axis, `high` at the top, and what is beyond them there too; in the middle if they are equal."""

    def place(value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.5
        return number(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, share)))

    return place


def _grid(levels: Iterable[tuple[str, str]]) -> Markup:
    """Lines across at (y, the words beside it)."""
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>')
    return Markup("").join(
        line.format(LEFT, WIDTH - RIGHT, y, y, LEFT - 7, number(float(y) + 4), words) for y, words in levels
    )


def _ticks(ticks: Sequence[tuple[str, str]], name: str) -> Markup:
    """Words below the axis at (x, the words), and the axis's name."""
    mark = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
    axis = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>')
    middle = number((LEFT + WIDTH - RIGHT) / 2)
    marks = [mark.format(x, HEIGHT - BOTTOM + 18, words) for x, words in ticks]
    return Markup("").join([*marks, axis.format(middle, HEIGHT - 8, name)])


def _path(name: str, points: Sequence[tuple[str, str]]) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(name, " ".join(f"{x},{y}" for x, y in points))


def _key(name: str, words: str) -> Markup:
    return Markup('<span><i class="key {}"></i>{}</span>').format(name, words)


def _chart(name: str, title: str, words: str, parts: Sequence[Markup]) -> Markup:
    """The whole picture; `name` is its id in the page, `words` say what it shows."""
    return Markup(
        '<svg class="curves" viewBox="0 0 {1} {2}" role="img" aria-labelledby="{0}-t {0}-d">'
        '<title id="{0}-t">{3}</title><desc id="{0}-d">{4}</desc>{5}</svg>'
    ).format(name, WIDTH, HEIGHT, title, words, Markup("").join(parts))


# Confusions.


def matrix(counts: ConfusionCounts, name: str) -> Markup:
    """Rows are what an item is, columns what it was taken for; darker is a larger share of the row.

    `name` is its id in the page.
    """
    n = len(counts.names)
    cell = max(NARROWEST, min(CELL, 900 // n))
    names = [plain(text) for text in counts.names]
    names = [text if len(text) <= SHORT else f"{text[: SHORT - 1].rstrip()}…" for text in names]
    edge = 12 + round(max(map(len, names)) * min(11.0, 0.8 * cell) * 0.6)
    right = int(counts.count[counts.true == counts.named].sum())
    words = f"{right} of {int(counts.count.sum())} on the diagonal; the most confused pairs are in the table beside it."
    return Markup(
        '<svg class="matrix" width="{0}" height="{0}" viewBox="0 0 {0} {0}" role="img" aria-labelledby="{1}-t {1}-d">'
        '<title id="{1}-t">Confusion matrix of {2} classes</title><desc id="{1}-d">{3}</desc>'
        '<g transform="translate({4} {4})"><rect class="ground" width="{5}" height="{5}"/>{6}{7}</g></svg>'
    ).format(
        edge + n * cell,
        name,
        n,
        words,
        edge,
        n * cell,
        _cells(counts, cell),
        Markup("").join(_label(text, i, cell) for i, text in enumerate(names)),
    )


def confused(counts: ConfusionCounts) -> list[tuple[str, str, int]]:
    """The pairs (is, taken for, times) that were mistaken most often."""
    wrong = np.flatnonzero(counts.true != counts.named)
    order = wrong[np.argsort(-counts.count[wrong], kind="stable")][:MOST_PAIRS]
    names = counts.names
    return [(names[counts.true[i]], names[counts.named[i]], int(counts.count[i])) for i in order]


def _cells(counts: ConfusionCounts, cell: int) -> Markup:
    """One path a colour and step of darkness: a thousand rectangles would weigh ten times as much."""
    totals = np.bincount(counts.true, counts.count)
    shades: dict[tuple[str, int], list[str]] = {}
    for true, named, count in zip(*(a.tolist() for a in (counts.true, counts.named, counts.count)), strict=True):
        kind = "right" if true == named else "wrong", math.ceil(SHADES * count / totals[true])
        square = f"M{named * cell} {true * cell}h{cell - 1}v{cell - 1}h{1 - cell}z"
        shades.setdefault(kind, []).append(square)
    return Markup("").join(
        Markup('<path class="{}" fill-opacity="{}" d="{}"/>').format(
            name, number(0.12 + 0.88 * step / SHADES), "".join(squares)
        )
        for (name, step), squares in sorted(shades.items())
    )


def _label(text: str, i: int, cell: int) -> Markup:
    """The name of row and column i."""
    at, size = number((i + 0.75) * cell), number(min(11.0, 0.8 * cell))
    return Markup(
        '<text x="-5" y="{0}" font-size="{1}" text-anchor="end">{2}</text>'
        '<text font-size="{1}" transform="translate({0} -5) rotate(-90)">{2}</text>'
    ).format(at, size, text)
