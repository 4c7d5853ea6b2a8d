"""Little films: a bird that bobs, hops and opens its beak to the song on the sound track."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import ImageDraw

from birdmml.demo.draw import Lens, Pixels, Pose, develop, paint, some_lens, some_pose
from birdmml.demo.scene import backdrop, some_scene
from birdmml.demo.sing import Note, Sound, score, sing, some_ambience, some_voice
from birdmml.demo.traits import Look, Song

FPS = 8
# Drawn twice as large as shown; the camera's window is this much smaller than the scene, so that it can drift.
_FINE = 2
_MARGIN = 0.06


@dataclass(frozen=True)
class Film:
    """`frames` uint8 [F, side, side, 3] at FPS, `audio` float32 [T]."""

    frames: Pixels
    audio: Sound


@dataclass(frozen=True)
class _Motion:
    """Rates in Hz, times in s, lengths in shares of the frame."""

    bob_hz: float
    nod: float
    hop_at_s: float
    hop_height: float
    hop_length: float
    drift: tuple[float, float]
    phase: float


def shoot(look: Look, song: Song, side: int, seconds: float, rng: np.random.Generator) -> Film:
    """A film of `seconds` s, `side` px square rounded down to an even number (as H.264 needs)."""
    side -= side % 2
    scene, pose, lens = some_scene(rng), some_pose(rng), _steady(some_lens(rng))
    voice, ambience, motion = some_voice(rng), some_ambience(rng), _some_motion(rng, seconds)
    large = round(_FINE * side * (1 + _MARGIN))
    behind = backdrop(scene, large, side)
    notes = score(song, voice, seconds)
    count = round(seconds * FPS)
    frames = np.empty((count, side, side, 3), dtype=np.uint8)
    for f in range(count):
        t = (f + 0.5) / FPS
        picture = behind.copy()
        paint(ImageDraw.Draw(picture), look, _pose_at(pose, motion, notes, t), large)
        x, y = _window(motion, t / seconds, large - _FINE * side)
        shown = picture.crop((x, y, x + _FINE * side, y + _FINE * side)).reduce(_FINE)
        frames[f] = develop(np.asarray(shown), scene, lens, rng)
    return Film(frames, sing(song, voice, ambience, seconds, rng))


def _some_motion(rng: np.random.Generator, seconds: float) -> _Motion:
    u = rng.random(7).tolist()
    return _Motion(
        bob_hz=0.5 + 0.9 * u[0],
        nod=0.08 + 0.12 * u[1],
        hop_at_s=(0.1 + 0.7 * u[2]) * seconds,
        hop_height=0.03 + 0.05 * u[3],
        hop_length=0.05 * (2 * u[4] - 1),
        drift=(2 * u[5] - 1, 2 * u[6] - 1),
        phase=6.28 * u[6],
    )


def _pose_at(pose: Pose, motion: _Motion, notes: tuple[Note, ...], t: float) -> Pose:
    """The pose at `t` s: swaying always, one hop, the beak open while a note sounds."""
    sway = float(np.sin(2 * np.pi * motion.bob_hz * t + motion.phase))
    singing = any(n.start_s <= t <= n.start_s + n.seconds for n in notes)
    hop = min(1.0, max(0.0, (t - motion.hop_at_s) / 0.4))
    return replace(
        pose,
        x=pose.x + motion.hop_length * hop,
        nod=pose.nod * 0.6 + motion.nod * sway - (0.12 if singing else 0.0),
        cock=pose.cock + 0.12 * sway,
        gape=0.9 if singing else 0.0,
        hop=motion.hop_height * 4 * hop * (1 - hop),
    )


def _window(motion: _Motion, part: float, spare: int) -> tuple[int, int]:
    """Upper left corner of the camera's window, px, at `part` (0..1) of the film."""
    x, y = (round(spare / 2 * (1 + d * (2 * part - 1))) for d in motion.drift)
    return x, y


def _steady(lens: Lens) -> Lens:
    """Video is denoised by its codec anyway: strong grain would only cost bits."""
    return replace(lens, noise=0.5 * lens.noise)
