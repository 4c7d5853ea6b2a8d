"""The board in the repository follows from the items in the repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.verify import verify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SUBMISSIONS = BENCHMARKS / "submissions"
XOR = sorted((BENCHMARKS / "xor").rglob("result.json"))


@pytest.mark.parametrize("name", [pytest.param("demo", marks=pytest.mark.drill), "avmnist-cpu", "xor"])
def test_every_figure_of_the_recorded_submissions_follows_from_its_items(name: str) -> None:
    report = check(SUBMISSIONS / name)
    assert report.problems == ()
    assert report.figures > 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board") / "site"
    words = ["leaderboard", "build", "--submissions", str(SUBMISSIONS), "--out", str(out), "--strict"]
    ran = subprocess.run([sys.executable, "-m", "birdmml", *words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return out


def test_the_recorded_table_is_what_its_submissions_give(site: Path) -> None:
    assert (site / "LEADERBOARD.md").read_bytes() == (BENCHMARKS / "LEADERBOARD.md").read_bytes()


def test_the_site_has_a_page_for_every_result_and_no_link_that_leads_nowhere(site: Path) -> None:
    results = list(SUBMISSIONS.rglob("result.json"))
    entries = list((site / "entries").glob("*.html"))
    assert len(entries) == len(results) > 0
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#?]+)[^"]*"', page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith(("data:", "mailto:")):
                assert (page.parent / link).exists(), f"{page.name} leads to {link}"


def test_the_site_is_made_and_not_kept() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "benchmarks/site"], cwd=BENCHMARKS.parent, capture_output=True, text=True
    )
    assert listed.stdout == ""


@pytest.mark.drill
@pytest.mark.parametrize("path", XOR, ids=lambda p: "/".join(p.parts[-4:-1]))
def test_every_recorded_run_of_xor_follows_from_its_items(path: Path) -> None:
    verify(path.parent)
