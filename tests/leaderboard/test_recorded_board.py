"""The board in the repository follows from the items in the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran

from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.verify import verify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SUBMISSIONS = BENCHMARKS / "submissions"
XOR = sorted((BENCHMARKS / "xor").rglob("result.json"))


@pytest.mark.parametrize("name", ["demo", "avmnist-cpu", "xor"])
def test_every_figure_of_the_recorded_submissions_follows_from_its_items(name: str) -> None:
    report = check(SUBMISSIONS / name)
    assert report.problems == ()
    assert report.figures > 0


def test_the_recorded_site_is_what_its_submissions_give(cli: Callable[..., Ran], tmp_path: Path) -> None:
    made = tmp_path / "site"
    ran = cli("leaderboard", "build", "--submissions", SUBMISSIONS, "--out", made, "--strict")
    assert ran.code == 0, ran.err
    recorded = BENCHMARKS / "site"
    names = [{p.relative_to(top) for p in top.rglob("*") if p.is_file()} for top in (made, recorded)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (made / name).read_bytes() == (recorded / name).read_bytes(), name
    assert (made / "LEADERBOARD.md").read_bytes() == (BENCHMARKS / "LEADERBOARD.md").read_bytes()


@pytest.mark.drill
@pytest.mark.parametrize("path", XOR, ids=lambda p: "/".join(p.parts[-4:-1]))
def test_every_recorded_run_of_xor_follows_from_its_items(path: Path) -> None:
    verify(path.parent)
