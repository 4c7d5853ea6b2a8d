"""The figures in the repository follow from the items in the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran

from birdmml.leaderboard.verify import verify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
XOR = sorted((BENCHMARKS / "xor").rglob("result.json"))


def test_the_recorded_board_is_what_its_results_give(cli: Callable[..., Ran]) -> None:
    ran = cli("leaderboard", "table", BENCHMARKS / "results", "--allow-demo")
    assert ran.code == 0, ran.err
    assert ran.out == (BENCHMARKS / "LEADERBOARD.md").read_text(encoding="utf-8")


def test_the_figure_of_xor_follows_from_its_items() -> None:
    (path,) = (p for p in XOR if "figure" in p.parts and p.parent.name == "confu")
    verify(path.parent)


@pytest.mark.drill
@pytest.mark.parametrize("path", XOR, ids=lambda p: "/".join(p.parts[-4:-1]))
def test_every_recorded_run_of_xor_follows_from_its_items(path: Path) -> None:
    verify(path.parent)
