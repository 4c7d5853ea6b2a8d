"""The board in the repository follows from the items in the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers import Ran

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_recorded_board_is_what_its_results_give(cli: Callable[..., Ran]) -> None:
    ran = cli("leaderboard", "table", BENCHMARKS / "results", "--allow-demo")
    assert ran.code == 0, ran.err
    assert ran.out == (BENCHMARKS / "LEADERBOARD.md").read_text(encoding="utf-8")
