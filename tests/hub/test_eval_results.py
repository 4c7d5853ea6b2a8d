"""`.eval_results/`: the values of the model card, as the Hub's own client reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import submitted
from huggingface_hub import ModelCard, ModelCardData, eval_result_entries_to_yaml, parse_eval_result_entries

from birdmml.errors import ResultError
from birdmml.hub import model_card
from birdmml.hub.model import render
from birdmml.hub.model_card import ModelAbout, ResultFolder, VerifiedResult
from birdmml.results.result import read_result

REPO, BENCHMARK = "someone/birds", "someone/bench"


def shelf(folder: Path, **changes: Any) -> ResultFolder:
    """A result whose second model, of seed 1, is published."""
    submitted.result_in(folder, **changes)
    return ResultFolder(f"results/{folder.name}", VerifiedResult(folder, read_result(folder), 1, ()))


def test_the_hub_reads_what_the_card_says(tmp_path: Path) -> None:
    one = shelf(tmp_path / "small-1")
    told = yaml.safe_load(render(REPO, BENCHMARK, [one]))
    found = {entry.task_id: entry for entry in parse_eval_result_entries(told)}
    assert eval_result_entries_to_yaml(list(found.values())) == told
    figures = one.scored.result.figures
    assert len(found) == len(told) == len(figures)
    data = ModelCardData(model_name="birds", eval_results=list(model_card._eval_results(one.scored, ModelAbout(REPO))))
    on_card = ModelCard(f"---\n{data.to_yaml()}\n---\n").data.eval_results
    by_name = {(r.task_name, r.metric_name): r for r in on_card}
    assert len(by_name) == len(figures)
    for entry, f in zip(found.values(), figures, strict=True):
        r = by_name[f.suite, f"{f.task} {f.metric}"]
        assert entry.value == r.metric_value == f.per_seed[1]
        assert (entry.dataset_id, entry.date) == (BENCHMARK, "2026-01-02")
        assert entry.source_url == f"https://huggingface.co/{REPO}/tree/main/results/small-1"
        assert (entry.notes or "").startswith(f"seed 1, n {f.n}, chance {f.chance:.6g}, mean of 2 seeds {f.value:.6g}")


def test_the_names_of_tasks_are_plain(tmp_path: Path) -> None:
    told = yaml.safe_load(render(REPO, BENCHMARK, [shelf(tmp_path / "small-1")]))
    assert [entry["dataset"]["task_id"] for entry in told] == [
        "retrieval.test-split.image-text.recall-1",
        "retrieval.test-split.image-text.recall-5",
        "retrieval.test-split.image-text.recall-10",
        "retrieval.test-split.image-text.median-rank",
        "zero-shot.test-split.a.accuracy",
        "few-shot.test-split.a-1-shot.accuracy",
        "retrieval.test-split.image-text-by-species.map",
        "retrieval.test-split.image-text-by-species.recall-1",
        "retrieval.test-split.image-text-by-species.median-rank",
        "competition.test-split.a-swapped.swap-drop",
    ]


def test_a_benchmark_takes_no_demo_no_part_and_no_task_twice(tmp_path: Path) -> None:
    one, two = shelf(tmp_path / "one"), shelf(tmp_path / "two", seed=1)
    with pytest.raises(ResultError, match=r"two results give retrieval\."):
        render(REPO, BENCHMARK, [one, two])
    with pytest.raises(ResultError, match="nothing to tell"):
        render(REPO, BENCHMARK, [])
    with pytest.raises(ResultError, match="of the demo"):
        render(REPO, BENCHMARK, [shelf(tmp_path / "demo", demo=True)])
    limited = {**one.scored.result.settings, "limit": 5}
    with pytest.raises(ResultError, match="limited to some rows"):
        render(REPO, BENCHMARK, [shelf(tmp_path / "limited", settings=limited)])
