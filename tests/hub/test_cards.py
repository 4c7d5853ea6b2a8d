"""The cards that are kept are those that the code makes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard

from birdmml.core import discover

CARDS = Path(__file__).parents[2] / "cards"


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(CARDS / "make_cards.py"))


def test_the_kept_cards_are_up_to_date(maker: dict[str, Any], small_demo: Path) -> None:
    made = maker["cards"](small_demo)
    assert list(maker["stale"](made)) == [], "run python cards/make_cards.py"
    assert {f"evalsets/{name}.md" for name in discover.names("evaluation set")} <= made.keys()


def test_a_card_that_is_changed_or_too_many_is_found(maker: dict[str, Any], small_demo: Path) -> None:
    made = maker["cards"](small_demo)
    assert list(maker["stale"]({**made, "model-example.md": "x", "evalsets/new.md": "y"})) == [
        "evalsets/new.md",
        "model-example.md",
    ]
    made.pop("demo/README.md")
    assert list(maker["stale"](made)) == ["demo/README.md"]


def test_their_front_matter_is_read_by_the_hubs_own_code() -> None:
    demo = DatasetCard((CARDS / "demo" / "README.md").read_text(encoding="utf-8")).data
    assert demo.license == ["cc0-1.0"] and "not Bird-MML" in demo.pretty_name
    model = ModelCard((CARDS / "model-example.md").read_text(encoding="utf-8")).data
    assert model.license == "cc0-1.0" and "demo" in model.tags
