"""One contract over everything that discovery finds: a new plug-in is tested without a new test file."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import fakes
import pytest
from helpers import raw_sources, tree

from birdmml.core import discover
from birdmml.dataset.build import build
from birdmml.dataset.intake import session_of
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.dataset.validate import validate
from birdmml.errors import UnknownName
from birdmml.schema import Card, Photo, Recording, Reject

PLUGINS = [(kind, name) for kind in discover.FOLDERS for name in discover.names(kind)]


@pytest.mark.parametrize(("kind", "name"), PLUGINS, ids=str)
def test_every_plugin_says_what_it_is_and_where_it_comes_from(kind: str, name: str) -> None:
    assert 10 < len(discover.summary(kind, name)) < 120
    card = discover.load(kind, name).CARD
    assert isinstance(card, Card)
    assert card.summary
    assert card.license
    assert card.modalities


@pytest.mark.parametrize("kind", list(discover.FOLDERS))
def test_names_are_forgiving_about_case_and_dashes_and_helpful_otherwise(kind: str) -> None:
    for name in discover.names(kind):
        assert discover.canonical(kind, name.upper().replace("_", "-")) == name
    with pytest.raises(UnknownName) as caught:
        discover.load(kind, "nonesuch")
    assert bool(caught.value.nearest) == bool(discover.names(kind))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", discover.names("source"))
def test_every_source_offers_records_that_build(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fakes.source(name, tmp_path / "fake", seed=3)
    with ExitStack() as stack:
        if name in fakes.SERVED:
            monkeypatch.setenv("XENO_CANTO_KEY", raw_sources.KEY)
            served = stack.enter_context(raw_sources.services(tmp_path / "fake"))
            settings = replace(settings, **served.addresses)
        records_build(name, settings, tmp_path)


def records_build(name: str, settings: Any, tmp_path: Path) -> None:
    assert is_dataclass(settings)
    assert "clip_seconds" in {f.name for f in fields(settings)}
    plan = BuildSettings(name, settings, limits=Limits(clip_s=settings.clip_seconds))
    found, absent = offered(name, plan, tmp_path / "one")
    assert (found, absent) == offered(name, plan, tmp_path / "two")
    assert all(isinstance(r, Photo | Recording | Reject) for r in found)
    media = [r for r in found if not isinstance(r, Reject)]
    assert len({(type(r), r.id) for r in media}) == len(media)
    assert all(r.absent and r.reason for r in absent)
    first = build(plan, tmp_path / "a")
    again = build(plan, tmp_path / "b")
    assert first.manifest == again.manifest
    assert first.validation["rejects"] == []
    assert validate(tmp_path / "a").problems == ()
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    # Every photo is used, but for those whose rows lack their recording.
    recordings = {r.id for r in media if isinstance(r, Recording)}
    whole = [r for r in media if isinstance(r, Photo) and (r.partner is None or r.partner in recordings)]
    assert first.manifest["counts"]["photos"] == len(whole) > 0
    assert first.validation["absent_by_reason"] == Counter(r.reason for r in absent)


def offered(name: str, plan: BuildSettings, folder: Path) -> tuple[list[Photo | Recording | Reject], list[Reject]]:
    """What a source's session delivers, and what it says is absent."""
    source = discover.load("source", name)
    with closing(session_of(source, plan, folder, lambda stage, done, total: None)) as session:
        found = [d.record for d in session]
        if name in fakes.SERVED:  # They answer in an order of their own.
            found.sort(key=lambda r: (type(r).__name__, r.path if isinstance(r, Reject) else r.id))
        return found, list(session.absent())
