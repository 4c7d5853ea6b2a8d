"""The plan of a large build, worked by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from birdmml.sources.inat_xc import settings

FOLDER = Path(__file__).parents[2] / "benchmarks" / "scaling"


@pytest.fixture(scope="module")
def planner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling_plan", FOLDER / "plan.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["scaling_plan"] = module
    spec.loader.exec_module(module)
    return module


def test_a_plan_by_hand(planner: ModuleType) -> None:
    costs = planner.Costs(decode_s=0.036, write_s=0.0072, alone_s=0.0036, alone_bytes=100.0, base_bytes=1e8)
    services = planner.Services(
        photos_per_second=10.0, recordings_per_second=1.0, articles_per_second=0.5, clips_a_recording=4.0
    )
    p = planner.plan(1_000, 1_000_000, costs, services)
    assert p.photo_requests == 1_000_000
    assert p.photo_hours == pytest.approx(1_000_000 / 10 / 3600)
    # 250,000 recordings, 250 a species: one page of 500 each.
    assert p.recording_requests == 251_000
    assert p.recording_hours == pytest.approx(251_000 / 3600)
    assert p.article_hours == pytest.approx(2_000 / 3600)
    assert p.services_hours == p.recording_hours
    assert p.transferred == 1e6 * 1e5 + 250_000 * 1e6 + 1_000 * 5_000
    assert p.disk == 2 * p.dataset == 2 * 1e6 * 350_000
    assert (p.decode_cpu_hours, p.write_cpu_hours, p.alone_hours) == pytest.approx((10.0, 2.0, 1.0))
    assert p.memory == 2e8
    # One processor keeps up: 10 h of decoding beside 70 h of waiting.
    assert p.enough() == 1
    assert p.hours(1) == pytest.approx(p.recording_hours + 1 + 2)
    assert p.hours(4) == pytest.approx(p.recording_hours + 1 + 0.5)


def test_pages_of_a_species_with_many_recordings(planner: ModuleType) -> None:
    costs = planner.Costs(1.0, 0.0, 0.0, 0.0, 0.0)
    p = planner.plan(2, 2_002, costs, planner.Services(recordings_per_second=1.0, clips_a_recording=1.0))
    assert p.recording_requests == 2_002 + 2 * 3  # 1,001 recordings a species: three pages of 500.
    assert planner.plan(2, 2_002, planner.Costs(10.0, 0.0, 0.0, 0.0, 0.0)).enough() > 1


def test_a_species_with_few_rows_is_asked_for_several_recordings(planner: ModuleType) -> None:
    costs = planner.Costs(1.0, 0.0, 0.0, 0.0, 0.0)
    assert planner.plan(3, 3 * 60, costs).recording_requests == 3 * (20 + 1)  # Ten would give clips enough.
    assert planner.plan(3, 3 * 12, costs).recording_requests == 3 * (12 + 1)


def test_rates_are_those_that_the_source_keeps_to(planner: ModuleType) -> None:
    own, mine = settings.RawSettings(), planner.Services()
    names = ("photos_per_second", "recordings_per_second", "articles_per_second")
    assert [getattr(own, n) for n in names] == [getattr(mine, n) for n in names]


def test_the_measured_costs_give_the_plan_of_the_docs(planner: ModuleType) -> None:
    page = (FOLDER.parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    for line in planner.lines(14_000, 3_000_000, planner.measured(), planner.Services()):
        assert line in page
