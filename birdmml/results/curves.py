"""A result's figures as curves: over shots, over noise, over the time of a single frame, over the share of XOR.

One model for every picture: `birdmml.results.pictures` draws it as PNG, the leaderboard's pages as SVG.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from birdmml.errors import BirdmmlError
from birdmml.media.corruption import KINDS
from birdmml.results.tasks import condition_of, frame_of
from birdmml.schema import Figure, Result

_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"
_SHOT = re.compile(r"(.{1,60}) (\d{1,6})-shot")
_XOR = re.compile(rf"(.{{1,60}}) p={_NUMBER}")
MOST_PANELS = 40  # A submitted result may name any number of sets.


@dataclass(frozen=True)
class Point:
    """One figure at `x`."""

    x: float
    figure: Figure


@dataclass(frozen=True)
class Line:
    """The points of one task, x ascending; `level` is a value without x, as the clean one under noise."""

    name: str
    points: tuple[Point, ...]
    level: Figure | None = None

    @property
    def xs(self) -> list[float]:
        """Where its points are."""
        return [p.x for p in self.points]

    @property
    def figures(self) -> list[Figure]:
        """What its points show."""
        return [p.figure for p in self.points]


@dataclass(frozen=True)
class Panel:
    """One picture: `x` names the axis, logarithmic with `log`; `kind` is that of the noise ("audio gaussian")."""

    title: str
    x: str
    lines: tuple[Line, ...] = ()
    log: bool = False
    evalset: str = ""
    kind: str = ""

    @property
    def xs(self) -> list[float]:
        """Every x of any line, ascending."""
        return sorted({x for line in self.lines for x in line.xs})

    @property
    def figures(self) -> list[Figure]:
        """What the points of its lines show."""
        return [f for line in self.lines for f in line.figures]


Spot = tuple[Panel | None, str, float]  # Panel (still without lines), line and x; without a panel: its level.


def panels(result: Result) -> tuple[Panel, ...]:
    """Every curve of at least two points, by suite and evaluation set."""
    drawn = [panel for spot_of in (shot, noise, frame, xor) for panel in panels_of(result, spot_of)]
    return tuple(p for p in drawn if any(len(set(line.xs)) > 1 for line in p.lines))[:MOST_PANELS]


def panels_of(result: Result, spot_of: Callable[[Figure], Spot | None]) -> list[Panel]:
    """Panels and their lines in the order of the figures; `spot_of` is one of the functions below."""
    levels: dict[tuple[str, str], Figure] = {}
    grouped: dict[Panel, dict[str, list[Point]]] = {}
    for figure in result.figures:
        spot = spot_of(figure) if figure.metric == "accuracy" else None
        if spot is None:
            continue
        panel, name, x = spot
        if panel is None:
            levels[figure.evalset, name] = figure
        else:
            grouped.setdefault(panel, {}).setdefault(name, []).append(Point(x, figure))
    return [
        replace(
            panel,
            lines=tuple(
                Line(name, tuple(sorted(points, key=lambda p: p.x)), levels.get((panel.evalset, name)))
                for name, points in lines.items()
            ),
        )
        for panel, lines in grouped.items()
    ]


def shot(f: Figure) -> Spot | None:
    """Few-shot accuracy over the number of shots, a panel an evaluation set."""
    match = _SHOT.fullmatch(f.task) if f.suite == "few-shot" else None
    if match is None or int(match[2]) < 1:
        return None
    panel = Panel(f"few-shot on {f.evalset}", "labelled items a class", log=True, evalset=f.evalset)
    return panel, match[1], float(match[2])


def noise(f: Figure) -> Spot | None:
    """Accuracy over the level of noise, a panel an evaluation set and kind; lines have the clean level."""
    try:
        condition = condition_of(f.task) if f.suite == "noise" else None
    except (BirdmmlError, ValueError):
        return None  # A task of another kind: it stands in the table of figures.
    if condition is None:
        return None
    task, worse = condition
    if worse is None:
        return None, task, 0.0
    if worse.kind == "missing":
        return None
    title = f"{worse.kind} noise on the {worse.modality}, {f.evalset}"
    axis, kind = KINDS[worse.modality][worse.kind].measure, f"{worse.modality} {worse.kind}"
    return Panel(title, axis, evalset=f.evalset, kind=kind), task, worse.level


def frame(f: Figure) -> Spot | None:
    """Accuracy of single frames over their time in s, a panel an evaluation set."""
    at = frame_of(f.task)
    panel = Panel(f"single frames of {f.evalset}", "seconds into the video", evalset=f.evalset)
    return None if at is None else (panel, *at)


def xor(f: Figure) -> Spot | None:
    """Accuracy over the share of samples that only all variables together explain."""
    match = _XOR.fullmatch(f.task) if f.suite == "xor" else None
    panel = Panel("XOR", "share p of samples with c = a xor b")
    return None if match is None else (panel, match[1], float(match[2]))
