"""A confusion matrix as SVG, and the pairs that were mistaken most often."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from birdmml.site.items import Confusion
from birdmml.site.text import number, plain

# Matrices of more classes are no picture; the most confused pairs are listed instead.
MOST_CELLS = 60
CELL, NARROWEST, SHADES, SHORT, MOST_PAIRS = 15, 6, 10, 22, 15


def matrix(found: Confusion, name: str) -> Markup:
    """Rows are what an item is, columns what it was taken for; darker is a larger share of the row.

    `name` is its id in the page.
    """
    n = len(found.names)
    cell = max(NARROWEST, min(CELL, 900 // n))
    names = [_short(text) for text in found.names]
    edge = 12 + round(max(map(len, names)) * min(11.0, 0.8 * cell) * 0.6)
    right = int(found.count[found.true == found.said].sum())
    told = f"{right} of {int(found.count.sum())} on the diagonal; the most confused pairs are in the table beside it."
    return Markup(
        '<svg class="matrix" width="{0}" height="{0}" viewBox="0 0 {0} {0}" role="img" aria-labelledby="{1}-t {1}-d">'
        '<title id="{1}-t">Confusion matrix of {2} classes</title><desc id="{1}-d">{3}</desc>'
        '<g transform="translate({4} {4})"><rect class="ground" width="{5}" height="{5}"/>{6}{7}</g></svg>'
    ).format(
        edge + n * cell,
        name,
        n,
        told,
        edge,
        n * cell,
        _cells(found, cell),
        Markup("").join(_label(text, i, cell) for i, text in enumerate(names)),
    )


def confused(found: Confusion) -> list[tuple[str, str, int]]:
    """The pairs (is, taken for, times) that were mistaken most often."""
    wrong = np.flatnonzero(found.true != found.said)
    order = wrong[np.argsort(-found.count[wrong], kind="stable")][:MOST_PAIRS]
    return [(found.names[found.true[i]], found.names[found.said[i]], int(found.count[i])) for i in order]


def _cells(found: Confusion, cell: int) -> Markup:
    """One path a colour and step of darkness: a thousand rectangles would weigh ten times as much."""
    totals = np.bincount(found.true, found.count)
    shades: dict[tuple[str, int], list[str]] = {}
    for true, said, count in zip(found.true.tolist(), found.said.tolist(), found.count.tolist(), strict=True):
        kind = "right" if true == said else "wrong", math.ceil(SHADES * count / totals[true])
        square = f"M{said * cell} {true * cell}h{cell - 1}v{cell - 1}h{1 - cell}z"
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


def _short(text: str) -> str:
    line = plain(text)
    return line if len(line) <= SHORT else f"{line[: SHORT - 1].rstrip()}…"
