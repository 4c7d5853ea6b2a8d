"""Shared fixtures: the command line in this process, a folder of media, a small built demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

# The suite runs where there is no network; nothing may wait for one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes what the user's own builds have left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("BIRDMML_DATA", raising=False)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `birdmml ARGS...` in this process; a traceback fails the test by itself."""
    from birdmml.cli import main

    def run(*args: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["birdmml", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        seen = capfd.readouterr()
        return Ran(int(stop.value.code or 0), seen.out, seen.err)

    return run


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """A small noisy picture in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def sound(path: Path, seed: int = 0, seconds: float = 1.5, rate: int = 8000, channels: int = 1) -> Path:
    """A short noisy recording in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


SPECIES = ("Setophaga petechia", "Turdus migratorius", "Cyanocitta cristata")


def bird_folder(root: Path, photos: int = 5, recordings: int = 5, species: tuple[str, ...] = SPECIES) -> Path:
    """A folder by species with sound media of everything."""
    for s, name in enumerate(species):
        for i in range(photos):
            photo(root / "images" / name / f"p{i}.jpg", seed=100 * s + i)
        for i in range(recordings):
            sound(root / "audio" / name / f"r{i}.wav", seed=100 * s + i)
    return root


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A sound folder of three species, five photos and five recordings each."""
    return bird_folder(tmp_path / "birds")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo at 6 species, 10 triplets each, small pictures and short songs; read only."""
    from birdmml import discover
    from birdmml.build.ingest import Limits
    from birdmml.build.run import BuildSettings, build

    source = discover.load("source", "demo")
    own = source.Settings(species=6, per_species=10, image_size=48, clip_seconds=1.0, eval_videos=1)
    out = tmp_path_factory.mktemp("demo") / "data"
    build(BuildSettings("demo", own, limits=Limits(clip_s=1.0)), out)
    yield out
