"""One contract over everything that discovery finds: a new plug-in is tested without a new test file."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from birdmml import discover
from birdmml.build.ingest import Limits
from birdmml.build.run import BuildSettings, build
from birdmml.build.validate import validate
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
def test_every_source_offers_records_that_build(name: str, tmp_path: Path) -> None:
    source = discover.load("source", name)
    settings = source.fake(tmp_path / "fake", seed=3)
    assert is_dataclass(settings)
    assert "clip_seconds" in {f.name for f in fields(settings)}
    found = list(source.records(settings))
    assert found == list(source.records(settings))
    assert all(isinstance(r, Photo | Recording | Reject) for r in found)
    media = [r for r in found if not isinstance(r, Reject)]
    assert len({(type(r), r.id) for r in media}) == len(media)
    plan = BuildSettings(name, settings, limits=Limits(clip_s=settings.clip_seconds))
    first = build(plan, tmp_path / "a")
    again = build(plan, tmp_path / "b")
    assert first.manifest == again.manifest
    assert first.validation["rejects"] == []
    assert validate(tmp_path / "a").problems == ()
    used = first.manifest["counts"]
    assert used["photos"] == sum(isinstance(r, Photo) for r in media)
