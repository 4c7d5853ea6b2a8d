"""What stands in one table, what the paper says beside it, and which differences are real."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from helpers import boards

from birdmml.leaderboard.site import model, significance, tables
from birdmml.leaderboard.site.items import ItemOutcomes, read
from birdmml.leaderboard.site.significance import compared
from birdmml.results import compare, paper


def table_of(*submissions: boards.Submission) -> model.BoardTable:
    (table,), left_out = tables.tables(tables.members(submissions))
    assert left_out == 0
    return table


def reader(member: model.BoardMember, name: str) -> ItemOutcomes | None:
    return read(member.folder, name, ["accuracy"])


def test_another_dataset_protocol_or_limit_is_another_table(tmp_path: Path) -> None:
    made = [
        boards.submission(tmp_path, "a"),
        boards.submission(tmp_path, "b", dataset={"name": "birds", "digest": "other"}),
        boards.submission(tmp_path, "c", settings={"protocol": {"name": "p", "digest": "d"}}),
        boards.submission(tmp_path, "d", settings={"limit": 10}),
        boards.submission(tmp_path, "e", suite="noise"),
        boards.submission(tmp_path, "f", evalset="ssw60-all"),
    ]
    found, _ = tables.tables(tables.members(made))
    assert len(found) == len({t.id for t in found}) == 6
    assert all(sum(r.member is not None for r in t.rows) == 1 for t in found)


def test_another_number_of_candidates_is_another_column(tmp_path: Path) -> None:
    one = boards.submission(tmp_path, "a", tasks=("A",))
    figures = [f.__class__(**{**vars(f), "chance": 0.5}) for f in one.entries[0].result.figures]
    result = one.entries[0].result.__class__(**{**vars(one.entries[0].result), "figures": tuple(figures)})
    two = boards.Submission("b", (boards.Entry(one.entries[0].folder, result),))
    assert [c.chance for c in table_of(one, two).columns] == [0.25, 0.5]


def test_the_order_of_submissions_changes_nothing(tmp_path: Path) -> None:
    made = [boards.submission(tmp_path, s, seed=i, hits=0.3 + i / 10) for i, s in enumerate("abc")]
    assert table_of(*made) == table_of(*reversed(made))


def test_labels_say_what_limits_a_result(tmp_path: Path) -> None:
    one = boards.submission(
        tmp_path,
        "a",
        seeds=(3,),
        provenance={"code": {"dirty": True}},
        settings={"limit": 9, "protocol": {"name": "p", "digest": "d", "departures": ["x"]}},
    )
    assert tables.members([one])[0].labels == ("single seed", "limited", "dirty", "departs from protocol")


def test_reported_values_stand_beside_measured_ones(tmp_path: Path) -> None:
    one = boards.submission(tmp_path, "a", evalset="ssw60-all", hits=0.9)
    table = table_of(one)
    claimed = {r.name: r.cells[0].value for r in table.rows if r.member is None and r.cells[0]}
    assert claimed == {"symile": 0.602, "triangle": 0.641, "gram": 0.569, "confu": 0.714}
    # The paper scores every video: beside the test split alone its values would mislead.
    assert all(r.member for r in table_of(boards.submission(tmp_path, "b", evalset="ssw60")).rows)


@pytest.mark.parametrize(
    ("suite", "evalset", "task", "metric", "method", "share"),
    [
        ("noise", "ssw60-all", "A+V | audio gaussian 10 dB", "accuracy", "confu", 0.712),
        ("xor", "xor", "a+c->b p=0.5", "accuracy", "confu", 0.515),
        ("affect", "mosi", "image->audio", "recall@10", "tri_clip", 0.229),
        ("retrieval", "mosi", "mean 1->1", "recall@10", "gram", 0.061),
    ],
)
def test_each_reported_table_is_found_under_the_names_that_results_use(
    suite: str, evalset: str, task: str, metric: str, method: str, share: float
) -> None:
    found = {c.method: c.share for c in paper.claims(suite, evalset, task, metric)}
    assert found[method] == pytest.approx(share)


@pytest.mark.parametrize("clustered", [False, True])
def test_p_values_are_those_of_the_pairwise_comparison(clustered: bool) -> None:
    values = (np.random.default_rng(1).random((5, 60)) < [[0.3], [0.4], [0.6], [0.62], [0.9]]).astype(float)
    units = np.arange(60) // 3 if clustered else None
    ids = tuple(map(str, range(60)))
    known = compare.compare_all([compare.Outcomes(str(i), ids, v[None]) for i, v in enumerate(values)], units)
    sums, sizes = significance._units(values, units)
    drawn = significance._resample(sums, sizes, 2000)
    assert significance.p_values(sums, drawn) == pytest.approx([c.p for c in known], abs=1e-12)
    letters = significance.letters([values], units)[0]
    assert letters is not None
    apart = {frozenset((c.first, c.second)) for c in known if c.adjusted <= 0.05}
    for i, j in combinations(range(5), 2):
        assert (frozenset((str(i), str(j))) in apart) == (not set(letters[i]) & set(letters[j]))


def test_rows_that_share_no_letter_differ_and_the_table_says_what_was_compared(tmp_path: Path) -> None:
    made = [
        boards.submission(tmp_path, s, seed=i, hits=h)
        for i, (s, h) in enumerate(zip("abc", (0.1, 0.5, 1.0), strict=True))
    ]
    made.append(boards.submission(tmp_path, "d", ids=[f"other-{i}" for i in range(40)], hits=0.7))
    table, tasks = compared(table_of(*made), reader)
    cells = {r.member.slug: r.cells[0] for r in table.rows if r.member}
    assert [cells[s].letters for s in "abcd" if cells[s]] == ["c", "b", "a", ""]
    assert [cells[s].best for s in "abcd" if cells[s]] == [False, False, True, False]
    assert table.columns[0].compared == "3 rows compared; scored on other items: 1"
    assert [len(t.values) for t in tasks] == [3, 3]


def test_of_many_rows_the_best_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birdmml.leaderboard.site.significance.MOST", 2)
    made = [boards.submission(tmp_path, s, seed=i, hits=0.2 + i / 4) for i, s in enumerate("abc")]
    table, _ = compared(table_of(*made), reader)
    assert table.columns[0].compared == "the best 2 of 3 rows compared"
    assert [r.cells[0].letters for r in table.rows if r.cells[0]][2] == ""
