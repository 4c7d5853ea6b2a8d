"""Where a bird sits: soft backgrounds and perches, the same for every species."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from birdmml.sources.demo.world import RGB

PERCH_Y = 0.80
Perch = Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None]
LIGHTS: dict[str, tuple[float, float, float]] = {
    "in soft light": (1.0, 1.0, 1.0),
    "in warm evening light": (1.07, 1.0, 0.90),
    "on a misty morning": (0.96, 0.99, 1.03),
    "in bright sun": (1.07, 1.06, 1.03),
}


@dataclass(frozen=True)
class Scene:
    """One place in one light: `seed` draws its details, `blur` is how far away the background is."""

    place: int
    light: str
    seed: int
    blur: float


# The order of the draws decides the bytes of every demo: what is new must draw after what is there.
def some_scene(rng: np.random.Generator) -> Scene:
    """A random scene."""
    return Scene(
        place=int(rng.integers(len(PLACES))),
        light=tuple(LIGHTS)[int(rng.integers(len(LIGHTS)))],
        seed=int(rng.integers(2**32)),
        blur=0.015 + 0.02 * float(rng.random()),
    )


def backdrop(scene: Scene, side: int, drawn: int) -> Image.Image:
    """The scene without a bird, RGB, `side` px square; its soft parts are painted at `drawn` px."""
    rng = np.random.default_rng(scene.seed)
    place = PLACES[scene.place]
    # Top to bottom through the place's colours, with a little unevenness: twelve pixels, enlarged, which is smooth
    # and cheaper than a gradient computed at full size.
    rows = np.array([place.top, place.middle, place.bottom], dtype=np.float32)
    small = np.repeat(rows[:, None, :], 4, axis=1) + rng.normal(0.0, 9.0, (3, 4, 1)) + rng.normal(0.0, 5.0, (3, 4, 3))
    far = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8)).resize((drawn, drawn), Image.Resampling.BICUBIC)
    # Out-of-focus leaves and lights: discs a little lighter or darker than the place.
    brush, count = ImageDraw.Draw(far), int(rng.integers(5, 12))
    for x, y, size, shade in rng.random((count, 4)).tolist():
        base = place.top if y < 0.5 else place.bottom
        r = (0.04 + 0.10 * size) * drawn
        brush.ellipse((x * drawn - r, y * drawn - r, x * drawn + r, y * drawn + r), fill=tint(base, 0.78 + 0.5 * shade))
    far = far.filter(ImageFilter.GaussianBlur(scene.blur * drawn)).resize((side, side), Image.Resampling.BILINEAR)
    place.perch(ImageDraw.Draw(far), side, rng)
    return far


def tint(colour: RGB, factor: float) -> RGB:
    """`colour` times `factor`, kept within 0..255."""
    r, g, b = (min(255, max(0, round(c * factor))) for c in colour)
    return r, g, b


def _line(brush: ImageDraw.ImageDraw, points: list[tuple[float, float]], width: float, colour: RGB) -> None:
    brush.line(points, fill=colour, width=max(1, round(width)), joint="curve")


def _twig(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    slope, bark = float(rng.uniform(-0.06, 0.06)), tint((96, 78, 62), float(rng.uniform(0.8, 1.2)))
    y = (PERCH_Y + 0.015) * side
    left, right = (-9.0, y - slope * side), (side + 9.0, y + slope * side)
    _line(brush, [left, (side / 2, y), right], 0.035 * side, bark)
    _line(brush, [left, (side / 2, y - 0.008 * side), right], 0.012 * side, tint(bark, 1.25))
    for x, up in zip(rng.random(3).tolist(), rng.uniform(-1, 1, 3).tolist(), strict=True):
        start = (x * side, y + slope * side * (2 * x - 1))
        _line(brush, [start, (start[0] + 0.10 * side, start[1] + 0.16 * up * side)], 0.014 * side, bark)


def _moss(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    slope, y = float(rng.uniform(-0.05, 0.05)) * side, (PERCH_Y + 0.05) * side
    bark, moss = (86, 66, 48), tint((110, 150, 62), float(rng.uniform(0.85, 1.15)))
    _line(brush, [(-9, y - slope), (side / 2, y), (side + 9, y + slope)], 0.10 * side, bark)
    for x, r in zip(np.linspace(0, 1, 14).tolist(), rng.uniform(0.02, 0.045, 14).tolist(), strict=True):
        top = y - 0.045 * side + slope * (2 * x - 1)
        box = (x * side - 1.6 * r * side, top - r * side, x * side + 1.6 * r * side, top + r * side)
        brush.ellipse(box, fill=tint(moss, 0.8 + 9.0 * r))


def _shore(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    sand = tint((196, 178, 142), float(rng.uniform(0.9, 1.1)))
    for y, x, wide in rng.random((7, 3)).tolist():
        at = (0.52 + 0.24 * y) * side
        _line(brush, [(x * side, at), ((x + 0.12 + 0.2 * wide) * side, at)], 0.008 * side, (206, 226, 232))
    brush.ellipse((-0.4 * side, 0.76 * side, 1.4 * side, 1.5 * side), fill=sand)
    for x, y, r in rng.random((14, 3)).tolist():
        _disc(brush, x * side, (0.84 + 0.16 * y) * side, (0.006 + 0.012 * r) * side, tint(sand, 0.75 + 0.4 * r))


def _leaves(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    brush.rectangle((0, 0.77 * side, side, side), fill=(112, 82, 52))
    for x, y, turn, hue in rng.random((30, 4)).tolist():
        colour = (round(120 + 100 * hue), round(78 + 70 * turn), round(34 + 22 * hue))
        cx, cy, a = x * side, (0.77 + 0.22 * y) * side, np.pi * turn
        dx, dy = 0.045 * side * np.cos(a), 0.022 * side * np.sin(a)
        brush.polygon(
            [(cx - dx, cy - dy), (cx - dy, cy + dx / 3), (cx + dx, cy + dy), (cx + dy, cy - dx / 3)], fill=colour
        )


def _grass(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    brush.rectangle((0, 0.81 * side, side, side), fill=(92, 122, 52))
    for x, tall, lean, shade in rng.random((34, 4)).tolist():
        tip = ((x + 0.14 * (lean - 0.5)) * side, (0.86 - 0.30 * tall) * side)
        _line(brush, [(x * side, side), tip], 0.012 * side, tint((112, 148, 58), 0.7 + 0.6 * shade))


def _post(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    wood = tint((146, 132, 116), float(rng.uniform(0.85, 1.1)))
    left, right, top = 0.36 * side, 0.64 * side, (PERCH_Y - 0.005) * side
    brush.rectangle((left, top, right, side), fill=wood)
    for x, shade in rng.random((7, 2)).tolist():
        at = left + x * (right - left)
        _line(brush, [(at, top), (at, side)], 0.01 * side, tint(wood, 0.7 + 0.5 * shade))
    brush.ellipse((left, top - 0.022 * side, right, top + 0.03 * side), fill=tint(wood, 1.15))


def _rock(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    stone = tint((104, 98, 94), float(rng.uniform(0.8, 1.1)))
    brush.ellipse((0.02 * side, 0.775 * side, 0.98 * side, 1.35 * side), fill=stone)
    brush.ellipse((0.12 * side, 0.785 * side, 0.80 * side, 0.98 * side), fill=tint(stone, 1.1))
    for x, y, r in rng.random((12, 3)).tolist():
        at = (0.12 + 0.76 * x) * side, (0.86 + 0.14 * y) * side
        _disc(brush, *at, (0.008 + 0.014 * r) * side, tint(stone, 0.75 + 0.5 * r))


def _snow(brush: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    brush.ellipse((-0.5 * side, 0.77 * side, 1.2 * side, 1.6 * side), fill=(226, 234, 244))
    brush.ellipse((0.1 * side, 0.80 * side, 1.6 * side, 1.6 * side), fill=(240, 244, 250))
    for x, y, r in rng.random((16, 3)).tolist():
        _disc(brush, x * side, y * side, (0.004 + 0.007 * r) * side, (250, 252, 255))


def _disc(brush: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: RGB) -> None:
    brush.ellipse((x - r, y - r, x + r, y + r), fill=colour)


@dataclass(frozen=True)
class Habitat:
    """A kind of place: colours at its top, middle and bottom, and what is drawn under the bird."""

    words: str
    top: RGB
    middle: RGB
    bottom: RGB
    perch: Perch


PLACES: tuple[Habitat, ...] = (
    Habitat("on a mossy branch", (96, 128, 84), (62, 96, 62), (44, 70, 50), _moss),
    Habitat("on a bare twig against the sky", (150, 192, 232), (186, 214, 240), (214, 230, 244), _twig),
    Habitat("at the edge of the water", (150, 184, 190), (104, 150, 170), (82, 122, 146), _shore),
    Habitat("among fallen leaves", (120, 110, 84), (142, 112, 70), (150, 104, 56), _leaves),
    Habitat("in tall grass", (196, 206, 160), (150, 174, 96), (104, 138, 60), _grass),
    Habitat("on a weathered post", (206, 204, 190), (176, 182, 150), (138, 150, 108), _post),
    Habitat("on a rock", (178, 190, 204), (164, 172, 178), (140, 142, 140), _rock),
    Habitat("in the snow", (190, 206, 226), (214, 224, 236), (236, 240, 246), _snow),
)
