"""A result's figures as curves: over shots, over noise, over the time of a single frame, over the share of XOR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from birdmml.corrupt import KINDS
from birdmml.errors import BirdmmlError
from birdmml.outcomes.tasks import condition_of
from birdmml.schema import Figure, Result

_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"
_SHOT = re.compile(r"(.{1,60}) (\d{1,6})-shot")
_FRAME = re.compile(rf"(.{{1,60}}) at {_NUMBER} s")
_XOR = re.compile(rf"(.{{1,60}}) p={_NUMBER}")
MOST_PANELS = 40


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


@dataclass(frozen=True)
class Panel:
    """One picture: `x` names the axis; with `log` it is logarithmic."""

    title: str
    x: str
    lines: tuple[Line, ...]
    log: bool = False


@dataclass(frozen=True)
class _Spot:
    """Where a figure belongs: panel, line and x; without x it is the line's level in every panel of its group."""

    group: str
    panel: str
    axis: str
    line: str
    x: float
    figure: Figure


def panels(result: Result) -> tuple[Panel, ...]:
    """Every curve of at least two points, by suite and evaluation set."""
    found: list[Panel] = []
    for read in (_shots, _noisy, _frames, _xor):
        spots = [spot for spot in map(read, result.figures) if spot is not None]
        found += _drawn(spots, log=read is _shots)
    return tuple(found[:MOST_PANELS])


def _drawn(spots: Sequence[_Spot], log: bool) -> Iterator[Panel]:
    clean = {(s.group, s.line): s.figure for s in spots if not s.panel}
    order = {title: i for i, title in enumerate(dict.fromkeys(s.panel for s in spots))}
    for title, members in _grouped([s for s in spots if s.panel], lambda s: s.panel, order):
        names = {name: i for i, name in enumerate(dict.fromkeys(s.line for s in members))}
        lines = [
            Line(
                name,
                tuple(sorted((Point(s.x, s.figure) for s in mine), key=lambda p: p.x)),
                clean.get((mine[0].group, name)),
            )
            for name, mine in _grouped(members, lambda s: s.line, names)
        ]
        if max(len({p.x for p in line.points}) for line in lines) > 1:
            yield Panel(title, members[0].axis, tuple(lines), log)


def _grouped(
    spots: Sequence[_Spot], key: Callable[[_Spot], str], order: dict[str, int]
) -> Iterator[tuple[str, list[_Spot]]]:
    for name, mine in groupby(sorted(spots, key=lambda s: order[key(s)]), key):
        yield name, list(mine)


def _shots(f: Figure) -> _Spot | None:
    found = _SHOT.fullmatch(f.task) if f.suite == "few-shot" and f.metric == "accuracy" else None
    if found is None or int(found[2]) < 1:
        return None
    axis = "labelled items a class"
    return _Spot(f.evalset, f"few-shot on {f.evalset}", axis, found[1], float(found[2]), f)


def _noisy(f: Figure) -> _Spot | None:
    if f.suite != "noise" or f.metric != "accuracy":
        return None
    try:
        found = condition_of(f.task)
    except (BirdmmlError, ValueError):
        return None  # A task of another kind: it stands in the table of figures.
    if found is None or (found[1] is not None and found[1].kind == "missing"):
        return None
    task, worse = found
    if worse is None:
        return _Spot(f.evalset, "", "", task, 0.0, f)
    title = f"{worse.kind} noise on the {worse.modality}, {f.evalset}"
    return _Spot(f.evalset, title, KINDS[worse.modality][worse.kind].measure, task, worse.level, f)


def _frames(f: Figure) -> _Spot | None:
    found = _FRAME.fullmatch(f.task) if f.metric == "accuracy" else None
    if found is None:
        return None
    title, axis = f"single frames of {f.evalset}", "seconds into the video"
    return _Spot(f.evalset, title, axis, found[1], float(found[2]), f)


def _xor(f: Figure) -> _Spot | None:
    found = _XOR.fullmatch(f.task) if f.suite == "xor" and f.metric == "accuracy" else None
    if found is None:
        return None
    return _Spot(f.evalset, "XOR", "share p of samples with c = a xor b", found[1], float(found[2]), f)
