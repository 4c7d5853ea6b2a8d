"""The three services of `--source inat-xc` over a world that `fakes.inaturalist` wrote, and builds from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fakes.inaturalist import SERVICES

from birdmml.dataset.build import FinishedBuild, build
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.sources import inat_xc
from birdmml.sources.inat_xc import settings
from helpers.services import Faults, Service, wikipedia, xeno_canto

KEY = "0123456789abcdef0123"


@dataclass(frozen=True)
class Served:
    """The services, each on a port of its own."""

    photos: Service
    xeno_canto: Service
    wikipedia: Service

    @property
    def all(self) -> tuple[Service, ...]:
        return (self.photos, self.xeno_canto, self.wikipedia)

    @property
    def addresses(self) -> dict[str, str]:
        """For the settings."""
        return {name: getattr(self, name).url for name in SERVICES}

    def counts(self) -> tuple[int, ...]:
        """Requests so far."""
        return tuple(s.requests for s in self.all)


@contextmanager
def services(root: Path, faults: Faults | None = None, calm: Faults | None = None) -> Iterator[Served]:
    """Serve what `fakes.inaturalist` wrote below `root`; `calm` is for the two APIs, if they have other faults."""
    faults = faults or Faults()
    other = faults if calm is None else calm
    with (
        Service(root / SERVICES["photos"], faults=faults) as photos,
        xeno_canto(root / SERVICES["xeno_canto"], other, KEY) as sounds,
        wikipedia(root / SERVICES["wikipedia"], other) as texts,
    ):
        yield Served(photos, sounds, texts)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right key."""
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the report, nor at leaks."""
    monkeypatch.setattr("birdmml.dataset.build.write_report", lambda *a, **k: None)


def plan(settings: settings.RawSettings, served: Served, **own: Any) -> BuildSettings:
    """The build that the command line would make of these settings."""
    chosen = replace(settings, **{**served.addresses, **own})
    limits = Limits(clip_s=chosen.clip_seconds)
    return BuildSettings("inat_xc", chosen, seed=chosen.seed, passes=inat_xc.PASSES, limits=limits)


def make(
    settings: settings.RawSettings, served: Served, out: Path, max_rejects: float = 0.2, **own: Any
) -> FinishedBuild:
    """Build in this process."""
    return build(plan(settings, served, **own), out, max_rejects=max_rejects)


def absent(built: FinishedBuild) -> list[tuple[str, str]]:
    """(reason, path and detail) of all that did not come."""
    return [(a["reason"], f"{a['path']}: {a['detail']}") for a in built.validation["absent"]]
