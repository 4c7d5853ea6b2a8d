"""Shared fixtures: the command line in this process, a folder of media, a small built demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Ran, bird_folder

# The suite runs where there is no network; nothing may wait for one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes what the user's own builds have left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("BIRDMML_DATA", raising=False)
    monkeypatch.setenv("BIRDMML_CACHE", "")  # Nothing is kept, but where a test says so.


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


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A sound folder of three species, five photos and five recordings each."""
    return bird_folder(tmp_path / "birds")


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo at 6 species, 10 triplets each, small pictures and short songs; read only."""
    from birdmml.core import discover
    from birdmml.dataset.build import build
    from birdmml.dataset.recipe import BuildSettings, Limits

    source = discover.load("source", "demo")
    own = source.Settings(species=6, per_species=10, image_size=48, clip_seconds=2.0, eval_videos=1)
    out = tmp_path_factory.mktemp("demo") / "data"
    build(BuildSettings("demo", own, limits=Limits(clip_s=2.0)), out)
    yield out


@pytest.fixture(scope="session")
def licensed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three species whose rows have licences of every kind; read only."""
    from helpers.licensed import build_folder, licensed_folder

    root = tmp_path_factory.mktemp("licensed")
    return build_folder(licensed_folder(root / "birds"), root / "data")


@pytest.fixture(scope="session")
def free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three species that may be published; read only."""
    from helpers.licensed import build_folder, licensed_folder

    root = tmp_path_factory.mktemp("free")
    kinds = ("CC-BY-4.0", "CC0-1.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-4.0")
    return build_folder(licensed_folder(root / "birds", kinds, kinds), root / "data")
