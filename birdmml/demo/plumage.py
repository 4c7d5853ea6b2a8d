"""A look as layers of outlines: which areas, lines and dots a plumage consists of, back to front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from birdmml.demo.scene import tint
from birdmml.demo.traits import COLOURS, RGB, Look

Points = NDArray[np.complex128]
Weights = NDArray[np.float64]
Corners = Sequence[tuple[float, float]]

CREAM: RGB = (246, 232, 198)
DARK: RGB = (52, 42, 46)
WHITE: RGB = (250, 248, 242)

_BODY = [
    (0.455, -0.245), (0.41, -0.345), (0.29, -0.415), (0.16, -0.36), (0.04, -0.235), (-0.14, -0.155),
    (-0.32, -0.055), (-0.44, 0.03), (-0.42, 0.095), (-0.26, 0.20), (-0.04, 0.265), (0.17, 0.215),
    (0.31, 0.08), (0.37, -0.06), (0.425, -0.165),
]  # fmt: skip
_BELLY = [
    (0.405, -0.13), (0.37, -0.04), (0.305, 0.085), (0.17, 0.208), (-0.04, 0.255), (-0.25, 0.19),
    (-0.36, 0.11), (-0.2, 0.13), (0.0, 0.14), (0.13, 0.06), (0.22, -0.06), (0.30, -0.14),
]  # fmt: skip
_WING = [
    (0.17, -0.07), (0.08, -0.155), (-0.10, -0.145), (-0.30, -0.035), (-0.56, 0.11), (-0.30, 0.13),
    (-0.08, 0.15), (0.09, 0.09),
]  # fmt: skip
_TAIL = [(-0.34, -0.05), (-0.62, 0.03), (-0.86, 0.125), (-0.84, 0.205), (-0.60, 0.16), (-0.36, 0.12)]
_CAP = [
    (0.452, -0.285),
    (0.415, -0.352),
    (0.29, -0.425),
    (0.155, -0.365),
    (0.10, -0.28),
    (0.22, -0.305),
    (0.34, -0.315),
]
_MASK = [
    (0.45, -0.265),
    (0.36, -0.325),
    (0.24, -0.30),
    (0.13, -0.255),
    (0.17, -0.205),
    (0.30, -0.215),
    (0.43, -0.215),
]
_CREST = [
    (0.40, -0.355),
    (0.28, -0.465),
    (0.17, -0.545),
    (0.04, -0.62),
    (0.08, -0.47),
    (0.14, -0.33),
    (0.27, -0.36),
]
_UPPER_BEAK = [(0.425, -0.295), (0.52, -0.262), (0.605, -0.218), (0.52, -0.225), (0.425, -0.222)]
_LOWER_BEAK = [(0.425, -0.232), (0.52, -0.228), (0.585, -0.214), (0.50, -0.192), (0.42, -0.188)]
_SPOTS = [
    (0.33, -0.05), (0.25, -0.03), (0.285, 0.055), (0.19, 0.055), (0.215, 0.145), (0.125, 0.13),
    (0.105, 0.205), (0.02, 0.175), (-0.02, 0.235), (-0.10, 0.165), (-0.15, 0.215), (-0.22, 0.15),
]  # fmt: skip
_STREAKS = [
    (0.345, -0.09),
    (0.265, -0.085),
    (0.325, 0.0),
    (0.235, 0.005),
    (0.27, 0.09),
    (0.165, 0.09),
    (0.10, 0.15),
    (0.0, 0.165),
]
_BACK_STREAKS = [(0.06, -0.20), (-0.04, -0.165), (-0.15, -0.115), (-0.26, -0.06)]
_BARS = [
    ((0.02, -0.165), (-0.07, 0.155)),
    ((-0.15, -0.125), (-0.22, 0.14)),
    ((-0.31, -0.035), (-0.37, 0.125)),
]
_TAIL_BARS = [((-0.60, 0.02), (-0.575, 0.155)), ((-0.74, 0.07), (-0.72, 0.185))]


@dataclass(frozen=True)
class Layer:
    """Points start..stop of a plan as one area, one line, or dots; widths and radii in bird units."""

    kind: str
    colour: RGB
    start: int
    stop: int
    width: float


@dataclass(frozen=True)
class Plan:
    """All points [P] of a look (x + iy), how far each follows head, tail and lower beak [P], and the layers."""

    points: Points
    head: Weights
    tail: Weights
    jaw: Weights
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class _Palette:
    base: RGB
    wing: RGB
    belly: RGB
    mark: RGB
    bar: RGB
    head: RGB
    beak: RGB


class _Pad:
    """Collects shapes into one point array, so that a pose bends them all at once."""

    def __init__(self) -> None:
        self.points: list[Points] = []
        self.jaw: list[float] = []
        self.layers: list[Layer] = []

    def add(self, kind: str, colour: RGB, points: Points, width: float = 0.0, jaw: float = 0.0) -> None:
        start = len(self.jaw)
        self.points.append(points)
        self.jaw += [jaw] * len(points)
        self.layers.append(Layer(kind, colour, start, start + len(points), width))


@lru_cache(maxsize=512)
def layers(look: Look) -> Plan:
    """The plan of a look."""
    pad, colours = _Pad(), _palette(look)
    _trunk(pad, colours)
    _breast(pad, look, colours)
    _wing(pad, look, colours)
    _head(pad, look, colours)
    _face(pad, colours)
    points = np.concatenate(pad.points)
    x, y = points.real, points.imag
    # Smooth weights keep the outline in one piece at neck and rump.
    head = _step((0.75 * x - y - 0.13) / 0.22)
    tail = _step((-x - 0.36) / 0.12)
    return Plan(points, head, tail, np.array(pad.jaw), tuple(pad.layers))


def _palette(look: Look) -> _Palette:
    base = COLOURS[look.colour]
    black, pale = look.colour == "black", look.colour in ("white", "yellow")
    return _Palette(
        base=base,
        wing=(74, 72, 86) if black else tint(base, 0.74),
        belly=CREAM if look.belly == "cream" else DARK,
        mark=(74, 48, 34) if look.belly == "cream" else CREAM,
        bar=DARK if pale else WHITE,
        head=WHITE if black else (26, 22, 26),
        beak=(58, 52, 54) if look.colour in ("red", "orange", "yellow", "pink") else (244, 160, 40),
    )


def _trunk(pad: _Pad, colours: _Palette) -> None:
    """Tail and body; shrinking copies of the outline, ever lighter, round the body."""
    pad.add("area", tint(colours.wing, 0.92), _smooth(_TAIL))
    outline = _smooth(_BODY)
    light = 0.10 - 0.14j
    for size, shade in ((1.0, 0.80), (0.95, 0.90), (0.86, 0.97), (0.70, 1.03), (0.48, 1.08)):
        pad.add("area", tint(colours.base, shade), light + size * (outline - light))


def _breast(pad: _Pad, look: Look, colours: _Palette) -> None:
    belly = _smooth(_BELLY)
    middle = 0.12 + 0.08j
    pad.add("area", tint(colours.belly, 0.88), belly)
    pad.add("area", colours.belly, middle + 0.86 * (belly - middle))
    if look.pattern == "spotted":
        pad.add("dots", colours.mark, _points(_SPOTS), 0.030)
    if look.pattern == "streaked":
        for x, y in _STREAKS:
            pad.add("line", colours.mark, _points([(x, y), (x - 0.045, y + 0.085)]), 0.028)


def _wing(pad: _Pad, look: Look, colours: _Palette) -> None:
    wing = _smooth(_WING)
    middle = -0.04 - 0.03j
    pad.add("area", tint(colours.wing, 0.82), wing)
    pad.add("area", colours.wing, middle + 0.88 * (wing - middle))
    if look.pattern == "barred":
        for bar in (*_BARS, *_TAIL_BARS):
            pad.add("line", colours.bar, _points(bar), 0.05)
        return
    for low in (0.06, 0.10):
        feather = _points([(0.02, low), (-0.22, low + 0.01), (-0.46, 0.095)])
        pad.add("line", tint(colours.wing, 0.7), feather, 0.012)
    if look.pattern == "streaked":
        for x, y in _BACK_STREAKS:
            pad.add("line", colours.bar, _points([(x, y), (x - 0.09, y + 0.05)]), 0.026)


def _head(pad: _Pad, look: Look, colours: _Palette) -> None:
    if look.head == "capped":
        pad.add("area", colours.head, _smooth(_CAP))
    elif look.head == "masked":
        pad.add("area", colours.head, _smooth(_MASK))
    elif look.head == "crested":
        pad.add("area", tint(colours.base, 0.72), _smooth(_CREST))


def _face(pad: _Pad, colours: _Palette) -> None:
    pad.add("area", tint(colours.beak, 0.8), _smooth(_LOWER_BEAK), jaw=1.0)
    pad.add("area", colours.beak, _smooth(_UPPER_BEAK))
    eye = _points([(0.345, -0.275)])
    pad.add("dots", CREAM, eye, 0.046)
    pad.add("dots", (18, 14, 16), eye, 0.036)
    pad.add("dots", (255, 255, 255), eye + (0.012 - 0.014j), 0.012)


def _points(corners: Corners) -> Points:
    return np.array([complex(x, y) for x, y in corners])


def _smooth(corners: Corners, steps: int = 5) -> Points:
    """A closed Catmull-Rom curve through the corners, [steps * C]."""
    b = _points(corners)[:, None]
    a, c, d = np.roll(b, 1), np.roll(b, -1), np.roll(b, -2)
    t = np.arange(steps) / steps
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.ravel())


def _step(x: Weights) -> Weights:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))
