"""The paper's values: all of them are there, and their contradictions are the marked ones, no more and no fewer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.bench.xor.fit import authors
from birdmml.core import discover, files
from birdmml.errors import UsageError
from birdmml.results import paper
from birdmml.results.paper import Reported, reported, slips

ROWS = reported()
MEANS = [row for row in ROWS if row.task.startswith("mean")]


def value(evalset: str, method: str, task: str, condition: str = "", suite: str = "zero-shot") -> float:
    found = [r for r in reported(suite, evalset, method) if (r.task, r.condition) == (task, condition)]
    assert len(found) == 1
    return found[0].value


def marked(rows: tuple[Reported, ...]) -> set[Reported]:
    return {row for row in rows if row.mark == "slip"}


def test_every_cell_of_every_table_is_there_once() -> None:
    assert Counter(row.table for row in ROWS) == {
        "xor": 5 * 11,
        "retrieval_affect": 3 * (7 + 4 + 11 + 4 + 11),
        "zero_shot_birds": 2 * (2 + 2 + 1 + 1 + 3 + 3),
        "noise_ssw60": 6 * 6,
        "avmnist": 6 + 4 + 4,
    }
    assert tuple(sorted({row.table for row in ROWS})) == paper.tables()
    keys = [(r.suite, r.evalset, r.task, r.method, r.metric, r.condition) for r in ROWS]
    assert len(set(keys)) == len(keys)


def test_values_are_those_of_the_poster() -> None:
    assert value("ssw60", "confu", "A+V") == 71.4
    assert value("VE100", "gram", "V") == 13.7
    assert value("av_mnist", "tri-clip", "A") == 40.0
    assert value("ssw60", "Symile", "A+V", "degraded=V snr_db=15", "noise") == 25.9
    assert value("mustard", "confu", "image->audio", "column=1>2", "retrieval") == 73.8
    assert value("ur-funny", "tri_clip", "text->audio", "column=3>2", "retrieval") == 16.8
    assert value("mosi", "symile", "image+audio->text", "column=3>12", "retrieval") == 17.1
    assert value("mosi", "gram", "text->image+audio", "column=3>12", "retrieval") == 12.0


def test_the_slips_found_are_the_marked_ones_and_each_mark_says_what_to_read() -> None:
    found = slips()
    assert {slip.row for slip in found} == marked(ROWS)
    assert len(found) == 2
    assert all(f"{slip.expected:.1f}" in slip.row.note for slip in found)
    assert {(s.row.value, round(s.expected, 3)) for s in found} == {(69.0, 60.0), (66.0, 69.0)}


def test_a_stale_mark_is_noticed() -> None:
    mended = tuple(replace(r, value=60.0) if r.mark == "slip" and r.value == 69.0 else r for r in ROWS)
    assert {slip.row for slip in slips(mended)} != marked(mended)


def test_every_mean_is_that_of_its_cells_worked_out_by_hand() -> None:
    assert len(MEANS) == 3 * (1 + 1 + 2 + 1 + 2)
    single = {f"column={c}" for c in "1>2 1>3 2>1 2>3 3>1 3>2".split()}
    double = {f"column={c}" for c in "1>23 2>13 3>12".split()}
    for row in MEANS:
        wanted = single if row.task == "mean 1->1" else double
        cells = [r.value for r in reported("retrieval", row.evalset, row.method) if r.condition in wanted]
        assert len(cells) == len(wanted)
        assert (abs(sum(cells) / len(cells) - row.value) < 0.11) == (row.mark != "slip")


@given(st.sampled_from([r for r in MEANS if not r.mark]), st.sampled_from([-0.3, 0.3, 5.0]))
def test_a_wrong_mean_is_found(row: Reported, off: float) -> None:
    wrong = replace(row, value=row.value + off)
    found = slips(tuple(wrong if r == row else r for r in ROWS))
    assert wrong in {slip.row for slip in found}
    assert len(found) == 3


def test_noise_that_is_heard_a_passed_ceiling_and_a_value_of_over_a_hundred_are_found() -> None:
    deaf = next(r for r in ROWS if r.suite == "noise" and r.task == "A" and "degraded=V" in r.condition)
    high = next(r for r in ROWS if r.suite == "xor" and r.condition == "p=0.5")
    bird = next(r for r in ROWS if r.suite == "zero-shot" and r.method == "gram")
    for row, worth, expected in ((deaf, 31.0, 31.1), (high, 0.522, 0.515625), (bird, 101.0, 100.0)):
        wrong = replace(row, value=worth)
        (slip,) = slips((wrong, *(r for r in ROWS if r.mark != "slip" and r != row)))
        assert (slip.row, slip.expected) == (wrong, expected)


def test_what_is_not_certain_is_marked() -> None:
    for row in ROWS:
        if row.suite == "retrieval" and len(row.conditions["column"]) == 4:
            assert row.mark == "ambiguous"
            query, _, target = row.task.partition("->")
            assert ("+" in query, "+" in target) == (row.method == "symile", row.method != "symile")
    sure = {(r.method, r.task) for r in reported(evalset="av_mnist") if r.mark != "unconfirmed"}
    assert sure == {("confu", "A+V"), ("confu", "V")}


def test_names_are_this_projects_and_shares_are_shares() -> None:
    assert {row.method for row in ROWS} <= set(discover.names("method"))
    assert {row.unit for row in ROWS} == {"%", "share"}
    assert all(0 <= row.share <= 1 for row in ROWS)
    assert value("ssw60", "clip", "V") == 70.1
    assert reported("zero-shot", "ssw60", "clip")[1].share == pytest.approx(0.701)
    assert reported(suite="noise")[0].conditions == {"degraded": "A", "snr_db": "10"}


def test_what_is_not_reported_is_nothing() -> None:
    assert reported(method="siglip") == reported("few-shot") == reported("zero-shot", "mosi") == ()


def test_xor_has_one_copy_and_reads_as_before() -> None:
    assert not list(files.PACKAGE.joinpath("evalsets").glob("*.csv"))
    read = authors()
    assert list(read) == ["confu", "symile", "gram", "triangle", "clip"]
    assert [read["confu"][p] for p in (0.0, 0.5, 1.0)] == [0.032, 0.515, 1.0]
    assert set(read["clip"].values()) == {0.03}
    assert all(list(values) == [i / 10 for i in range(11)] for values in read.values())


def test_the_files_are_found_in_a_checkout_in_an_installed_package_and_missed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.folder("paper") == Path(__file__).parents[2] / "benchmarks" / "paper"
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "birdmml")
    with pytest.raises(UsageError, match="install it again"):
        files.folder("paper")
    inside = tmp_path / "birdmml" / "benchmarks" / "paper"
    inside.mkdir(parents=True)
    assert files.folder("paper") == inside


@pytest.mark.parametrize(
    "text",
    ["suite,evalset\nxor,xor\n", ",".join(paper.COLUMNS) + "\na,b,c,d,e,f,1,%,,s,more\n",
     ",".join(paper.COLUMNS) + "\na,b,c,d,e,f,1,percent,,s\n", ",".join(paper.COLUMNS) + "\na,b,c,d,e,f,1,%\n"],
)  # fmt: skip
def test_a_table_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=r"t\.csv"):
        list(paper._read_paper(tmp_path / "t.csv"))
