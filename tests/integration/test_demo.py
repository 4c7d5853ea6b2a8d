"""What `make demo` does, at its real size: the figures must be what the demo's information allows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Ran
from scipy.stats import binom

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture
def benched(folder: Path, cli: Cli) -> tuple[dict[str, Any], Path]:
    """The result of the two commands, run once."""
    if not (folder / "data").exists():
        built = cli("build", "--out", folder / "data")
        assert built.code == 0, built.err
        assert "DEMO DATA" in built.out
        assert "image 50.0 %, audio 33.3 %, image+audio 100.0 %" in built.out
        scored = cli("bench", "--method", "confu", "--data", folder / "data", "--out", folder / "results")
        assert scored.code == 0, scored.err
        assert "DEMO DATA" in scored.out
        assert "best possible" in scored.out
    (path,) = (folder / "results").glob("*/result.json")
    return json.loads(path.read_bytes()), path.parent


def figures(result: dict[str, Any], suite: str, metric: str) -> list[dict[str, Any]]:
    return [f for f in result["figures"] if f["suite"] == suite and f["metric"] == metric]


def test_the_demo_is_about_a_thousand_triplets(benched: tuple[dict[str, Any], Path], folder: Path) -> None:
    manifest = json.loads((folder / "data/manifest.json").read_bytes())
    assert manifest["demo"] is True
    assert manifest["counts"]["rows"] == 1008
    assert manifest["counts"]["species"] == 24
    assert "not Bird-MML" in (folder / "data/README.md").read_text()
    assert "not Bird-MML" in (folder / "data/report/index.html").read_text()


def test_both_together_name_the_species(benched: tuple[dict[str, Any], Path]) -> None:
    fused = [f for f in figures(benched[0], "zero-shot", "accuracy") if f["task"] == "A+V"]
    assert {f["evalset"] for f in fused} == {"test-split", "demo-videos"}
    for figure in fused:
        assert figure["value"] >= 0.85
        assert figure["ceiling"] == 1.0


def test_either_alone_comes_near_its_ceiling_and_never_significantly_above(
    benched: tuple[dict[str, Any], Path],
) -> None:
    alone = [f for f in figures(benched[0], "zero-shot", "accuracy") if f["task"] in ("A", "V")]
    assert len(alone) == 4
    for figure in alone:
        ceiling, n = figure["ceiling"], figure["n"]
        assert ceiling == pytest.approx(1 / 3 if figure["task"] == "A" else 1 / 2)
        # Right by luck among the species that share the look or song: binomial with the ceiling's rate.
        right = round(figure["value"] * n)
        assert binom.sf(right - 1, n, ceiling) > 0.005, f"{figure['task']} is above what can be known"
        assert figure["value"] >= ceiling - 0.15


def test_retrieval_is_far_above_chance(benched: tuple[dict[str, Any], Path]) -> None:
    recalls = [f for f in figures(benched[0], "retrieval", "recall@10") if "species" not in f["task"]]
    assert len(recalls) == 9
    for figure in recalls:
        assert figure["chance"] == pytest.approx(10 / 96)
        assert figure["low"] > 2 * figure["chance"], figure["task"]


def test_a_leaderboard_refuses_the_demo_unless_asked(
    benched: tuple[dict[str, Any], Path], folder: Path, cli: Cli
) -> None:
    result, where = benched
    assert result["demo"] is True
    assert "demo" in where.name
    refused = cli("leaderboard", "table", folder / "results")
    assert refused.code != 0
    assert "--allow-demo" in refused.err
    allowed = cli("leaderboard", "table", folder / "results", "--allow-demo")
    assert allowed.code == 0, allowed.err
    assert "demo" in allowed.out.lower()
