"""Little bird pictures: a plumage on a jointed outline, drawn large, scaled down and photographed badly.

The bird's own coordinates: facing right, y down, one unit about 1.4 times its trunk. Points are complex
numbers x + iy: turning them is one multiplication.
"""

from __future__ import annotations

import cmath
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFilter

from birdmml.sources.demo.scene import LIGHTS, PERCH_Y, Scene, backdrop, tint
from birdmml.sources.demo.world import COLOURS, RGB, Plumage

Points = NDArray[np.complex128]
Weights = NDArray[np.float64]
Corners = Sequence[tuple[float, float]]

CREAM: RGB = (246, 232, 198)
DARK: RGB = (52, 42, 46)
WHITE: RGB = (250, 248, 242)

# Outlines in the bird's coordinates, of which layers are made, back to front.
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
    (0.452, -0.285), (0.415, -0.352), (0.29, -0.425), (0.155, -0.365), (0.10, -0.28), (0.22, -0.305), (0.34, -0.315),
]  # fmt: skip
_MASK = [(0.45, -0.265), (0.36, -0.325), (0.24, -0.30), (0.13, -0.255), (0.17, -0.205), (0.30, -0.215), (0.43, -0.215)]
_CREST = [(0.40, -0.355), (0.28, -0.465), (0.17, -0.545), (0.04, -0.62), (0.08, -0.47), (0.14, -0.33), (0.27, -0.36)]
_UPPER_BEAK = [(0.425, -0.295), (0.52, -0.262), (0.605, -0.218), (0.52, -0.225), (0.425, -0.222)]
_LOWER_BEAK = [(0.425, -0.232), (0.52, -0.228), (0.585, -0.214), (0.50, -0.192), (0.42, -0.188)]
_SPOTS = [
    (0.33, -0.05), (0.25, -0.03), (0.285, 0.055), (0.19, 0.055), (0.215, 0.145), (0.125, 0.13),
    (0.105, 0.205), (0.02, 0.175), (-0.02, 0.235), (-0.10, 0.165), (-0.15, 0.215), (-0.22, 0.15),
]  # fmt: skip
_STREAKS = [
    (0.345, -0.09), (0.265, -0.085), (0.325, 0.0), (0.235, 0.005), (0.27, 0.09), (0.165, 0.09), (0.10, 0.15),
    (0.0, 0.165),
]  # fmt: skip
_BACK_STREAKS = [(0.06, -0.20), (-0.04, -0.165), (-0.15, -0.115), (-0.26, -0.06)]
_BARS = [((0.02, -0.165), (-0.07, 0.155)), ((-0.15, -0.125), (-0.22, 0.14)), ((-0.31, -0.035), (-0.37, 0.125))]
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
class DrawingPlan:
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
def layers(look: Plumage) -> DrawingPlan:
    """The plan of a look."""
    pad, colours = _Pad(), _palette(look)
    _trunk(pad, colours)
    _breast(pad, look, colours)
    _wing(pad, look, colours)
    _head(pad, look, colours)
    points = np.concatenate(pad.points)
    x, y = points.real, points.imag
    # Smooth weights keep the outline in one piece at neck and rump.
    head = _step((0.75 * x - y - 0.13) / 0.22)
    tail = _step((-x - 0.36) / 0.12)
    return DrawingPlan(points, head, tail, np.array(pad.jaw), tuple(pad.layers))


def _palette(look: Plumage) -> _Palette:
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


def _breast(pad: _Pad, look: Plumage, colours: _Palette) -> None:
    belly = _smooth(_BELLY)
    middle = 0.12 + 0.08j
    pad.add("area", tint(colours.belly, 0.88), belly)
    pad.add("area", colours.belly, middle + 0.86 * (belly - middle))
    if look.pattern == "spotted":
        pad.add("dots", colours.mark, _points(_SPOTS), 0.030)
    if look.pattern == "streaked":
        for x, y in _STREAKS:
            pad.add("line", colours.mark, _points([(x, y), (x - 0.045, y + 0.085)]), 0.028)


def _wing(pad: _Pad, look: Plumage, colours: _Palette) -> None:
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


def _head(pad: _Pad, look: Plumage, colours: _Palette) -> None:
    heads = {
        "capped": (colours.head, _CAP), "masked": (colours.head, _MASK), "crested": (tint(colours.base, 0.72), _CREST),
    }  # fmt: skip
    if look.head in heads:
        colour, outline = heads[look.head]
        pad.add("area", colour, _smooth(outline))
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


Pixels = NDArray[np.uint8]

_FEET = 0.03 + 0.40j
_NECK = 0.24 - 0.16j
_RUMP = -0.36 + 0.04j
_HIPS = np.array([-0.06 + 0.18j, 0.05 + 0.18j])
_LEG = (92, 70, 58)


@dataclass(frozen=True)
class Pose:
    """How a bird stands: feet at (`x`, perch - `hop`) in shares of the frame, angles in radians.

    `lean` raises the breast, `nod` turns the head down, `cock` lifts the tail, `gape` (0..1) opens the beak.
    """

    x: float
    scale: float
    lean: float
    left: bool
    plump: float
    nod: float = 0.0
    cock: float = 0.0
    gape: float = 0.0
    hop: float = 0.0


@dataclass(frozen=True)
class Lens:
    """What the camera adds: blur in shares of the frame, exposure, vignette (0..1), noise in grey levels."""

    blur: float
    exposure: float
    vignette: float
    noise: float


def some_pose(rng: np.random.Generator) -> Pose:
    """A random posture and size."""
    u = rng.random(8).tolist()
    left = bool(u[0] < 0.5)
    lean = 0.05 + 0.5 * u[1]
    scale = 0.50 + 0.12 * u[2]
    # The tail is longer than the beak: shift the feet towards the beak so that the bird is centred.
    shift = 0.14 * scale * (-1 if left else 1)
    return Pose(
        x=0.5 + shift + 0.08 * (u[3] - 0.5),
        scale=scale,
        lean=lean,
        left=left,
        plump=0.92 + 0.18 * u[4],
        nod=0.5 * (u[5] - 0.5),
        cock=0.5 * (u[6] - 0.4),
        gape=0.8 if u[7] < 0.25 else 0.0,
    )


def some_lens(rng: np.random.Generator) -> Lens:
    """A random camera."""
    u = rng.random(4).tolist()
    return Lens(blur=0.008 * u[0] ** 2, exposure=0.9 + 0.2 * u[1], vignette=0.30 * u[2], noise=1.0 + 4.0 * u[3])


def photo(look: Plumage, scene: Scene, pose: Pose, lens: Lens, side: int, rng: np.random.Generator) -> Pixels:
    """One photo, uint8 [side, side, 3]."""
    fine = 3 if side <= 160 else 2  # Drawn so much larger: enough for soft edges, cheap where pixels are many.
    picture = backdrop(scene, fine * side, side)
    paint(ImageDraw.Draw(picture), look, pose, fine * side)
    picture = picture.reduce(fine)
    if lens.blur * side > 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(lens.blur * side))
    return develop(np.asarray(picture), scene, lens, rng)


def develop(picture: Pixels, scene: Scene, lens: Lens, rng: np.random.Generator) -> Pixels:
    """Light, vignette and noise over uint8 [side, side, 3]."""
    side = picture.shape[0]
    # Rows of 3 * side numbers: numpy is several times slower where the last axis is a mere 3.
    colour = np.tile(np.array(LIGHTS[scene.light], dtype=np.float32) * np.float32(lens.exposure), side)
    lit = picture.reshape(side, 3 * side).astype(np.float32)
    lit *= (1 - np.float32(lens.vignette) * _corners(side)) * colour
    # Grain hits the three channels alike, as on film.
    grain = rng.standard_normal((side, side), dtype=np.float32) * np.float32(lens.noise)
    lit += np.repeat(grain, 3, axis=1)
    return np.clip(lit, 0, 255, out=lit).astype(np.uint8).reshape(side, side, 3)


def paint(brush: ImageDraw.ImageDraw, look: Plumage, pose: Pose, side: int) -> None:
    """Draw the bird on a canvas of `side` px."""
    unit = pose.scale * side
    plan = layers(look)
    # The pose moves the lower beak, the head and the tail.
    bent: Points = plan.points + (pose.gape * plan.jaw) * (-0.035 + 0.075j)
    bent = _NECK + (bent - _NECK) * np.exp((1j * pose.nod) * plan.head)
    bent = _RUMP + (bent - _RUMP) * np.exp((1j * pose.cock) * plan.tail)
    bent.imag *= 1.0 + (pose.plump - 1.0) * (1.0 - plan.head)
    flat = _to_canvas(bent, pose, side).view(np.float64).tolist()
    _legs(brush, pose, side)
    for layer in plan.layers:
        xy = flat[2 * layer.start : 2 * layer.stop]
        if layer.kind == "area":
            brush.polygon(xy, fill=layer.colour)
        elif layer.kind == "line":
            brush.line(xy, fill=layer.colour, width=max(1, round(layer.width * unit)), joint="curve")
        else:
            r = layer.width * unit
            for x, y in zip(xy[::2], xy[1::2], strict=True):
                brush.ellipse((x - r, y - r, x + r, y + r), fill=layer.colour)


def _to_canvas(points: Points, pose: Pose, side: int) -> Points:
    """Lean about the feet, mirror, scale and place: bird coordinates [P] to px."""
    leaned: Points = (points - _FEET) * (pose.scale * side * cmath.exp(-1j * pose.lean))
    if pose.left:
        leaned = -leaned.conj()
    return np.asarray(leaned + _ground(pose, side))


def _ground(pose: Pose, side: int) -> complex:
    """Where the feet are, px."""
    return complex(pose.x * side, (PERCH_Y - pose.hop) * side)


def _legs(brush: ImageDraw.ImageDraw, pose: Pose, side: int) -> None:
    """Two legs from the leaning trunk down to toes that stay level."""
    unit, forward = pose.scale * side, -1 if pose.left else 1
    width = max(1, round(0.026 * unit))
    ground = _ground(pose, side)
    for hip, apart in zip(_to_canvas(_HIPS, pose, side).tolist(), (-0.05, 0.05), strict=True):
        x, y = ground.real + apart * unit, ground.imag
        brush.line([(hip.real, hip.imag), (x, y)], fill=_LEG, width=width)
        toes = [(x - 0.03 * unit * forward, y), (x + 0.07 * unit * forward, y + 0.01 * unit)]
        brush.line(toes, fill=_LEG, width=width)


@lru_cache(maxsize=4)
def _corners(side: int) -> NDArray[np.float32]:
    """0 in the middle to 1 in the corners, once a channel, [side, 3 * side]."""
    axis = np.square(np.linspace(-1, 1, side))
    both = (axis[:, None] + np.repeat(axis, 3)[None, :]) / 2
    return np.asarray(both, dtype=np.float32)
