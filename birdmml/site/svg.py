"""Curves and intervals as SVG inside a page. Colours come from the page's style by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from birdmml.schema import Figure
from birdmml.site.curves import Line, Panel
from birdmml.site.text import number, plain

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 46
COLOURS = 6
TASKS = ("A", "V", "A+V")
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
    ).format(
        number(low), number(max(0.4, high - low)), number(luck), number(min(99.0, max(0.0, value - 0.5)))
    )


def curves(panel: Panel, name: str) -> Markup:
    """The panel as a picture in percent with 95 % intervals; `name` is its id in the page."""
    figures = [p.figure for line in panel.lines for p in line.points]
    top = _top(figures)
    xs = sorted({p.x for line in panel.lines for p in line.points})
    across, up = _across(xs, panel.log), _up(top)
    parts = [_grid(top, up), _ticks(xs, across, panel.x), *_levels(panel, across, up)]
    parts += [_line(line, _colour(line, k), across, up) for k, line in enumerate(panel.lines)]
    told = "; ".join(f"{line.name}: {_told(line)}" for line in panel.lines)
    return Markup(
        '<svg class="curves" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        name,
        name,
        name,
        plain(panel.title),
        name,
        plain(f"Accuracy over {panel.x}. {told}", 2000),
        Markup("").join(parts),
    )


def _colour(line: Line, k: int) -> int:
    """The same for a task in every picture; lines of other names by their place."""
    return TASKS.index(line.name) if line.name in TASKS else k % COLOURS


def _top(figures: Sequence[Figure]) -> float:
    """The end of the axis in percent: a round number above everything that is drawn."""
    known = [v for f in figures for v in (f.high, f.value, f.chance, f.ceiling or 0.0) if math.isfinite(v)]
    most = min(1.0, max([0.05, *known]))
    return next(t for t in (5, 10, 20, 40, 60, 80, 100) if t >= 100 * most - 1e-9)


def _across(xs: Sequence[float], log: bool) -> Place:
    scale: Callable[[float], float] = (lambda x: math.log(x)) if log else (lambda x: x)
    low, span = scale(xs[0]), (scale(xs[-1]) - scale(xs[0])) or 1.0
    return lambda x: number(LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * (scale(x) - low) / span)


def _up(top: float) -> Place:
    return lambda share: number(
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, 100 * share / top))
    )


def _grid(top: float, up: Place) -> Markup:
    lines = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 7, number(float(y) + 4), f"{top * k / 4:g}")
        for k in range(5)
        for y in [up(top * k / 400)]
    ]
    return Markup("").join(lines)


def _ticks(xs: Sequence[float], across: Place, label: str) -> Markup:
    # More than a dozen would run into each other.
    step = math.ceil(len(xs) / 12)
    marks = [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            across(x), HEIGHT - BOTTOM + 18, f"{x:g}"
        )
        for x in xs[::step]
    ]
    name = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        number((LEFT + WIDTH - RIGHT) / 2), HEIGHT - 8, plain(label)
    )
    return Markup("").join([*marks, name])


def _levels(panel: Panel, across: Place, up: Place) -> list[Markup]:
    """Luck and the best possible value along the axis; the clean value of each line."""
    points = sorted({p.x: p.figure for line in panel.lines for p in line.points}.items())
    found = [_path("chance", [(across(x), up(f.chance)) for x, f in points])]
    known = [(across(x), up(f.ceiling)) for x, f in points if f.ceiling is not None]
    if len(known) > 1:
        found.append(_path("ceiling", known))
    for k, line in enumerate(panel.lines):
        if line.level is not None:
            y = up(line.level.value)
            found.append(_path(f"clean c{_colour(line, k)}", [(str(LEFT), y), (str(WIDTH - RIGHT), y)]))
    return found


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


def _path(name: str, points: Sequence[tuple[str, str]]) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(name, " ".join(f"{x},{y}" for x, y in points))


def _told(line: Line) -> str:
    said = ", ".join(f"{100 * p.figure.value:.1f} % at {p.x:g}" for p in line.points)
    return f"{said}, clean {100 * line.level.value:.1f} %" if line.level else said


def legend(panel: Panel) -> Markup:
    """What the colours and dashes mean."""
    keys = [
        Markup('<span><i class="key c{}"></i>{}</span>').format(
            _colour(line, k), plain(line.name).replace("->", "→")
        )
        for k, line in enumerate(panel.lines)
    ]
    keys.append(Markup('<span><i class="key chance"></i>{}</span>').format(escape("chance")))
    if any(p.figure.ceiling is not None for line in panel.lines for p in line.points):
        keys.append(Markup('<span><i class="key ceiling"></i>best possible</span>'))
    if any(line.level for line in panel.lines):
        keys.append(Markup('<span><i class="key clean"></i>clean</span>'))
    return Markup(" ").join(keys)
