"""Figures are believed only if their items give them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Ran

from birdmml.errors import ResultError
from birdmml.leaderboard.verify import verify
from birdmml.results import outcomes
from birdmml.results.metrics import summarise
from birdmml.results.result import FILE, read_result, write_result
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

Cli = Callable[..., Ran]
ITEMS = "predictions/zero-shot.test-split.A.parquet"


def make(folder: Path, demo: bool = False, method: str = "confu", seed: int = 0) -> Path:
    """A small true result: forty items, two seeds, four classes."""
    generator = np.random.default_rng(seed)
    names, n = ("a", "b", "c", "d|e"), 40
    greater = generator.integers(0, 4, (2, n))
    targets = [names[i % 4] for i in range(n)]
    picked = tuple(
        tuple(t if g == 0 else names[(i + 1) % 4] for i, (t, g) in enumerate(zip(targets, row, strict=True)))
        for row in greater
    )
    items = outcomes.Predictions(
        (0, 1),
        4,
        tuple(f"i{k}" for k in range(n)),
        tuple(targets),
        picked,
        greater,
        np.zeros((2, n), dtype=np.int64),
        demo,
    )
    outcomes.write(folder / ITEMS, items)
    s = summarise("accuracy", items.greater, items.ties, 4)
    figure = Figure("zero-shot", "test-split", "A", "accuracy", **vars(s), ceiling=None, predictions=ITEMS)
    about = {"name": "birdmml-demo" if demo else "birds", "digest": "0123456789"}
    write_result(
        folder, Result(RESULT_SCHEMA_VERSION, demo, method, "tiny", (0, 1), {"limit": None}, about, {}, (figure,))
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "one")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / FILE
    values = json.loads(path.read_text())
    values["figures"][0].update(changes)
    path.write_text(json.dumps(values))


def rewrite(folder: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
    table = pq.read_table(folder / ITEMS)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), folder / ITEMS)


def test_a_true_result_is_accepted_and_read_back_as_written(folder: Path) -> None:
    result = verify(folder)
    assert result == read_result(folder / FILE)
    table = pq.read_table(folder / ITEMS).to_pydict()
    right = [p == t for p, t in zip(table["prediction"], table["target"], strict=True)]
    assert result.figures[0].value == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", 0.9), ("low", 0.0), ("high", 1.0), ("n", 41), ("chance", 0.1), ("sd", None), ("sd", 0.5),
     ("per_seed", [0.1, 0.2]), ("per_seed", [0.5])],
)  # fmt: skip
def test_an_edited_figure_is_refused_by_name(folder: Path, field: str, value: Any) -> None:
    edit(folder, **{field: value})
    with pytest.raises(ResultError, match="zero-shot test-split A accuracy"):
        verify(folder)


def test_the_demo_cannot_be_passed_off_by_editing_its_mark(tmp_path: Path) -> None:
    path = make(tmp_path / "one", demo=True) / FILE
    path.write_text(path.read_text().replace('"demo": true', '"demo": false'))
    with pytest.raises(ResultError, match="being the demo"):
        verify(path.parent)


def test_a_difference_within_the_tolerance_is_accepted(folder: Path) -> None:
    edit(folder, value=verify(folder).figures[0].value + 5e-7)
    verify(folder)
    edit(folder, value=verify(folder).figures[0].value + 5e-6)
    with pytest.raises(ResultError):
        verify(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["outcome"].__setitem__(0, 0.123), "outcomes do not follow"),
        (lambda c: c["greater"].__setitem__(slice(None), [0] * 80), "outcomes do not follow"),
        (lambda c: c.update(prediction=list(c["target"])), "predicted right but beaten"),
        (lambda c: c["id"].__setitem__(1, "i0"), "seeds were not scored on the same items"),
        (lambda c: [c["id"].__setitem__(k, "i0") for k in (1, 41)], "twice"),
        (lambda c: c["seed"].__setitem__(0, 1), "same number of items"),
        (lambda c: c["prediction"].__setitem__(0, None), "gaps"),
        (lambda c: [v.clear() for v in c.values()], "empty"),
    ],
)
def test_edited_items_are_refused(folder: Path, change: Callable[[dict[str, list[Any]]], object], words: str) -> None:
    rewrite(folder, change)
    with pytest.raises(ResultError, match=words):
        verify(folder)


@pytest.mark.parametrize("name", ["../one/" + ITEMS, "/etc/passwd", "predictions\\x", "", "nothing.parquet"])
def test_items_outside_the_folder_are_refused(folder: Path, name: str) -> None:
    edit(folder, predictions=name)
    with pytest.raises(ResultError):
        verify(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / ITEMS, tmp_path / "elsewhere.parquet")
    (folder / ITEMS).symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(ResultError):
        verify(folder)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"schema_version": 99}', "[" * 100_000, '{"schema_version": 1, "figures": 3}']
)
def test_a_file_that_is_no_result_is_refused(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    with pytest.raises(ResultError):
        verify(folder)


def test_the_table_has_a_row_a_result_and_a_row_of_chance(cli: Cli, tmp_path: Path) -> None:
    make(tmp_path / "runs" / "a")
    make(tmp_path / "runs" / "b", method="tri_clip", seed=1)
    ran = cli("leaderboard", "table", tmp_path / "runs")
    assert ran.code == 0
    lines = [line for line in ran.out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines] == ["method", "---", "confu", "tri_clip", "chance"]
    assert {line.count("|") for line in lines} == {5}
    value = read_result(tmp_path / "runs" / "a").figures[0].value
    assert f"{100 * value:.1f} ±" in lines[2]
    assert "25.0" in lines[4]
    assert "demo" not in ran.out


def test_the_demo_is_refused_unless_asked_for_and_then_marked(cli: Cli, tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", demo=True)
    refused = cli("leaderboard", "table", tmp_path)
    assert refused.code == 1
    assert "--allow-demo" in refused.err
    assert refused.out == ""
    shown = cli("leaderboard", "table", tmp_path, "--allow-demo", "--out", tmp_path / "LEADERBOARD.md")
    assert shown.code == 0
    text = (tmp_path / "LEADERBOARD.md").read_text()
    assert text.count("**demo**") == 2  # the note and the one row
    assert "say nothing about real birds" in " ".join(text.split())


def test_other_data_get_a_table_and_a_chance_of_their_own(cli: Cli, tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", demo=True)
    text = cli("leaderboard", "table", tmp_path, "--allow-demo").out
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(heads) == 2
    assert text.count("| chance |") == 2


def test_one_false_result_stops_the_table(cli: Cli, tmp_path: Path) -> None:
    make(tmp_path / "a")
    edit(make(tmp_path / "b"), value=0.99)
    ran = cli("leaderboard", "table", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "its items give" in ran.err
    assert cli("leaderboard", "table", tmp_path / "nothing").code == 1


def test_a_variant_other_than_the_papers_is_named(cli: Cli, tmp_path: Path) -> None:
    for variant in ("paper", "reference"):
        folder = make(tmp_path / variant)
        value = json.loads((folder / "result.json").read_text())
        value["settings"]["method"] = {"variant": variant}
        (folder / "result.json").write_text(json.dumps(value))
    ran = cli("leaderboard", "table", tmp_path)
    assert ran.code == 0, ran.err
    assert ran.out.count("| confu |") == 1
    assert ran.out.count("| confu (reference) |") == 1
