"""Little media for the fakes of evaluation sets: seeded, a few kilobytes each, of the real formats."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from birdmml.evalsets._annotations import FAKE_MARK
from birdmml.media.image import encode_jpeg
from birdmml.media.video import encode_video
from birdmml.schema import RATE_HZ

FPS = 10


def film(path: Path, rng: np.random.Generator, label: int, seconds: float, sound: bool = True) -> None:
    """An mp4 of 48 x 32 px whose grey goes up from frame to frame; without `sound` it has no audio track."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * FPS)
    base = rng.integers(0, 60, (1, 32, 48, 3))
    steps = np.linspace(20, 150, count).astype(np.int64)[:, None, None, None]
    frames = (base + steps + 5 * (label % 8)).astype(np.uint8)
    encode_video(path, frames, _tone(rng, label, seconds) if sound else None, FPS)


def recording(path: Path, rng: np.random.Generator, label: int, seconds: float) -> None:
    """A mono WAV at 22,050 Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, _tone(rng, label, seconds), RATE_HZ, subtype="PCM_16")


def photo(path: Path, rng: np.random.Generator, label: int) -> None:
    """A JPEG of 40 x 30 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 120, (30, 40, 3)) + 15 * (label % 8)
    path.write_bytes(encode_jpeg(pixels.astype(np.uint8)))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_lines(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """A table of values with spaces between them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows), encoding="utf-8", newline="\n")


def mark(root: Path) -> None:
    """Say in `root` that its files are a fake."""
    root.mkdir(parents=True, exist_ok=True)
    (root / FAKE_MARK).write_text("written by birdmml for its tests: noise, no data\n", encoding="utf-8")


def _tone(rng: np.random.Generator, label: int, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hiss = 0.01 * rng.standard_normal(len(t))
    return np.asarray(0.3 * np.sin(2 * np.pi * 400 * (1 + label % 8) * t) + hiss, dtype=np.float32)
