"""The loss over the epochs of each seed's training, as SVG. Strangers' values: only finite numbers are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from birdmml.schema import Result
from birdmml.site.svg import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from birdmml.site.text import number

# A picture is 520 px wide: more points or lines would lie on each other.
MOST_POINTS, MOST_SEEDS = 400, 20

Losses = dict[int, list[tuple[int, float]]]


def losses(result: Result) -> Losses:
    """{seed: [(epoch from 1, mean loss of the epoch)]} of models that were trained with the result; else nothing."""
    found: Losses = {}
    for model in result.models[:MOST_SEEDS]:
        told, seed = model.get("loss_by_epoch"), model.get("seed")
        if not isinstance(told, list | tuple) or not isinstance(seed, int):
            continue
        points = [(i, float(v)) for i, v in enumerate(told, 1) if _is_number(v)]
        if len(points) > 1:
            step = math.ceil(len(points) / MOST_POINTS)
            found[seed] = [*points[:-1:step], points[-1]]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def chart(found: Losses) -> Markup:
    """One line a seed, over epochs, between the smallest and the largest loss."""
    every = [p for points in found.values() for p in points]
    last, low, high = max(x for x, _ in every), min(y for _, y in every), max(y for _, y in every)
    lines = [_line(points, k % COLOURS, last, low, high) for k, points in enumerate(found.values())]
    told = "; ".join(f"seed {seed}: from {p[0][1]:.4g} to {p[-1][1]:.4g}" for seed, p in found.items())
    return Markup(
        '<svg class="curves" viewBox="0 0 {} {}" role="img" aria-labelledby="loss-t loss-d">'
        '<title id="loss-t">Training loss</title><desc id="loss-d">Mean loss of each epoch. {}</desc>{}{}</svg>'
    ).format(WIDTH, HEIGHT, told, _frame(last, low, high), Markup("").join(lines))


def legend(found: Losses) -> Markup:
    """Which colour is which seed."""
    return Markup(" ").join(
        Markup('<span><i class="key c{}"></i>seed {}</span>').format(k % COLOURS, seed)
        for k, seed in enumerate(found)
    )


def ends(found: Losses) -> Sequence[tuple[int, str, str, int]]:
    """(seed, first loss, last loss, epochs): the picture as a table."""
    return [(seed, f"{p[0][1]:.4g}", f"{p[-1][1]:.4g}", p[-1][0]) for seed, p in found.items()]


def _line(points: Sequence[tuple[int, float]], colour: int, last: int, low: float, high: float) -> Markup:
    at = " ".join(f"{_across(x, last)},{_up(y, low, high)}" for x, y in points)
    return Markup('<g class="c{}"><polyline class="trace" points="{}"/></g>').format(colour, at)


def _frame(last: int, low: float, high: float) -> Markup:
    """Five levels with their loss, the first and the last epoch."""
    levels = [low + (high - low) * k / 4 for k in range(5)]
    lines = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 7, number(float(y) + 4), f"{level:.3g}")
        for level in levels
        for y in [_up(level, low, high)]
    ]
    ticks = [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
            _across(x, last), HEIGHT - BOTTOM + 18, x
        )
        for x in sorted({1, (1 + last) // 2, last})
    ]
    name = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">epoch</text>').format(
        number((LEFT + WIDTH - RIGHT) / 2), HEIGHT - 8
    )
    return Markup("").join([*lines, *ticks, name])


def _across(epoch: int, last: int) -> str:
    return number(LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * (epoch - 1) / max(1, last - 1))


def _up(loss: float, low: float, high: float) -> str:
    share = (loss - low) / (high - low) if high > low else 0.5
    return number(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share)
