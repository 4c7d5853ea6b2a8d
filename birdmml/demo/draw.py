"""Little bird pictures: a plumage on a jointed outline, drawn large, scaled down and photographed badly.

The bird's own coordinates: facing right, y down, one unit about 1.4 times its trunk. Points are complex
numbers x + iy: turning them is one multiplication.
"""

from __future__ import annotations

import cmath
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFilter

from birdmml.demo.plumage import Layer, Plan, Points, layers
from birdmml.demo.scene import LIGHTS, PERCH_Y, Scene, backdrop
from birdmml.demo.traits import Look

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
    return Lens(
        blur=0.008 * u[0] ** 2, exposure=0.9 + 0.2 * u[1], vignette=0.30 * u[2], noise=1.0 + 4.0 * u[3]
    )


def photo(look: Look, scene: Scene, pose: Pose, lens: Lens, side: int, rng: np.random.Generator) -> Pixels:
    """One photo, uint8 [side, side, 3]."""
    fine = _fine(side)
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


def paint(brush: ImageDraw.ImageDraw, look: Look, pose: Pose, side: int) -> None:
    """Draw the bird on a canvas of `side` px."""
    unit = pose.scale * side
    plan = layers(look)
    flat = _to_canvas(_bend(plan, pose), pose, side).view(np.float64).tolist()
    _legs(brush, pose, side)
    for layer in plan.layers:
        _draw_layer(brush, layer, flat[2 * layer.start : 2 * layer.stop], unit)


def _draw_layer(brush: ImageDraw.ImageDraw, layer: Layer, xy: list[float], unit: float) -> None:
    if layer.kind == "area":
        brush.polygon(xy, fill=layer.colour)
    elif layer.kind == "line":
        brush.line(xy, fill=layer.colour, width=max(1, round(layer.width * unit)), joint="curve")
    else:
        r = layer.width * unit
        for x, y in zip(xy[::2], xy[1::2], strict=True):
            brush.ellipse((x - r, y - r, x + r, y + r), fill=layer.colour)


def _bend(plan: Plan, pose: Pose) -> Points:
    """The plan's points [P] with head, tail and lower beak moved by the pose."""
    bent: Points = plan.points + (pose.gape * plan.jaw) * (-0.035 + 0.075j)
    bent = _NECK + (bent - _NECK) * np.exp((1j * pose.nod) * plan.head)
    bent = _RUMP + (bent - _RUMP) * np.exp((1j * pose.cock) * plan.tail)
    bent.imag *= 1.0 + (pose.plump - 1.0) * (1.0 - plan.head)
    return bent


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


def _fine(side: int) -> int:
    """How many times larger a picture is drawn: enough for soft edges, cheap where pixels are many."""
    return 3 if side <= 160 else 2


@lru_cache(maxsize=4)
def _corners(side: int) -> NDArray[np.float32]:
    """0 in the middle to 1 in the corners, once a channel, [side, 3 * side]."""
    axis = np.square(np.linspace(-1, 1, side))
    both = (axis[:, None] + np.repeat(axis, 3)[None, :]) / 2
    return np.asarray(both, dtype=np.float32)
