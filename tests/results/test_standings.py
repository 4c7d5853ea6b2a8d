"""Several results as one table: the paper's values beside, best only where it differs from every other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birdmml.results import paper, tables
from birdmml.results.result import record
from birdmml.results.tasks import Scored
from birdmml.schema import Figure, Result


def result_of(method: str, *figures: Figure) -> Result:
    return Result(1, False, method, "tiny", (0,), {"method": {"variant": "reference"}}, {}, {}, figures)


@pytest.mark.parametrize(
    ("suite", "evalset", "task", "metric", "method"),
    [
        ("affect", "mosi-test", "image->audio", "recall@10", "tri_clip"),
        ("xor", "xor", "a+c->b p=0.5", "accuracy", "confu"),
    ],
)
def test_what_is_reported_of_affect_and_xor_stands_beside_what_was_measured(
    suite: str, evalset: str, task: str, metric: str, method: str
) -> None:
    rows = paper.reported("retrieval" if suite == "affect" else suite, evalset.split("-")[0], method)
    wanted = [r for r in rows if r.task == task.split(" p=")[0] and r.condition in ("column=1>2", "p=0.5")]
    told = Figure(suite, evalset, task, metric, 0.5, 0.4, 0.6, 10, 0.1)
    (cells,) = tables.standings([(result_of(method, told), Path("nowhere"))]).cells.values()
    assert [cell.reported for cell in cells.values()] == [pytest.approx(wanted[0].share)]


def test_the_papers_values_stand_beside_with_its_slips_marked() -> None:
    def figure(evalset: str, task: str) -> Figure:
        return Figure("zero-shot", evalset, task, "accuracy", 0.5, 0.4, 0.6, 10, 0.1)

    (row,) = (r for r in paper.reported("zero-shot", "ssw60", "clip") if r.task == "A")
    told = [figure("ssw60-videos-all", "A"), figure("ssw60-videos", "A"), figure("test-split", "A")]
    table = tables.standings([(result_of("clip", *told), Path("nowhere"))])
    cells = {place[1]: next(iter(cells.values())) for place, cells in table.cells.items()}
    assert cells["ssw60-videos-all"].reported == row.share
    assert cells["ssw60-videos"].reported is None
    assert cells["test-split"].reported is None
    assert f"[{row.value:.1f}]" in tables.text(table)
    assert "clip (reference)" in tables.standings_markdown(table)
    slips = [s.row for s in paper.slips() if (s.row.suite, s.row.condition) == ("zero-shot", "")]
    for slip in slips:
        found = tables.standings(
            [(result_of(slip.method, figure(f"{slip.evalset}-videos-all", slip.task)), Path("nowhere"))]
        )
        assert "!]" in tables.text(found)


def test_noise_stands_beside_the_papers_and_single_frames_do_not_fill_the_table() -> None:
    def figure(suite: str, task: str) -> Figure:
        return Figure(suite, "ssw60-videos-all", task, "accuracy", 0.5, 0.4, 0.6, 10, 0.1)

    tasks = {"V | audio gaussian 10 dB": 0.690, "V | image gaussian 15 dB": 0.132, "V | image jpeg 10": None}
    told = [*(figure("noise", task) for task in tasks), figure("zero-shot", "V at 0.5 s")]
    table = tables.standings([(result_of("tri_clip", *told), Path("nowhere"))])
    found = {place[2]: next(iter(cells.values())).reported for place, cells in table.cells.items()}
    assert found == {task: None if value is None else pytest.approx(value) for task, value in tasks.items()}


def test_columns_that_are_not_shown_are_said_in_a_line() -> None:
    def figure(suite: str, task: str, metric: str = "accuracy") -> Figure:
        return Figure(suite, "x", task, metric, 0.5, 0.4, 0.6, 10, 0.1)

    plain = [figure("zero-shot", "V"), figure("retrieval", "image->audio", "recall@10")]
    more = [figure("zero-shot", f"V at {s} s") for s in (0.5, 1.0)]
    more += [figure("retrieval", "image->audio by species", "mAP")]
    told = tables.standings([(result_of("clip", *plain, *more), Path("x")), (result_of("gram", *plain), Path("y"))])
    line = "Not shown here, but in each result.json: single frames (2 columns), retrieval by species (1 column)."
    assert line in told.notes
    assert {place[2] for place in told.cells} == {"V", "image->audio"}
    assert not tables.standings([(result_of("clip", *plain), Path("x"))]).notes


def task_of(task: str, right: int, prefix: str = "i") -> Scored:
    """200 items of which the first `right` are named right."""
    beaten = np.where(np.arange(200) < right, 0, 1)
    said = tuple("a" if b == 0 else "b" for b in beaten)
    ids = tuple(f"{prefix}{i}" for i in range(200))
    none = np.zeros(200, dtype=np.int64)
    return Scored(task, "image", ("accuracy",), 2, ids, ("a",) * 200, said, beaten, none)


def scored_of(folder: Path, name: str, right: int, prefix: str = "i") -> tuple[Result, Path]:
    head = Result(1, False, name, "tiny", (0,), {}, {}, {}, ())
    one = task_of("V", right, prefix)
    return record(folder / name, head, [{("zero-shot", "x"): (one,)}]), folder / name


def test_best_is_marked_only_where_it_differs_from_every_other(tmp_path: Path) -> None:
    def made(name: str, right: int) -> tuple[Result, Path]:
        return scored_of(tmp_path, name, right)

    good, less, poor = made("good", 180), made("less", 178), made("poor", 100)

    def stars(*done: tuple[Result, Path]) -> list[str]:
        (cells,) = tables.standings(done).cells.values()
        return [name for name, cell in cells.items() if cell.best]

    assert stars(poor, good) == ["good"]
    assert stars(good, less, poor) == []
    assert stars(good) == []
    # Twelve methods make 66 pairs, which need more samples than two methods do.
    many = [made(f"poor{n}", 100) for n in range(11)]
    assert stars(good, *many) == ["good"]


def test_all_columns_of_a_table_are_one_family(tmp_path: Path) -> None:
    """A difference that stands alone (p = 0.016) falls beside nine columns without one: ten times that is 0.16."""

    def made(name: str, right: int, columns: int) -> tuple[Result, Path]:
        done = tuple(task_of(f"V{k}", right if k == 0 else 150) for k in range(columns))
        head = Result(1, False, name, "tiny", (0,), {}, {}, {}, ())
        folder = tmp_path / f"{name}-{columns}"
        return record(folder, head, [{("zero-shot", "x"): done}]), folder

    def stars(columns: int) -> int:
        table = tables.standings([made("good", 160, columns), made("less", 153, columns)])
        return sum(cell.best for cells in table.cells.values() for cell in cells.values())

    # Seven items differ, all one way. By hand: a resample has none of them with (1 - 7/200)^200 = 0.0008, and the
    # least that swapping names can give is 2^-6 = 0.016; alone that is under 0.05, with ten columns 0.16 is not.
    assert stars(1) == 1
    assert stars(10) == 0


def test_methods_on_other_items_are_not_compared_and_the_table_says_so(tmp_path: Path) -> None:
    done = [scored_of(tmp_path, "one", 180), scored_of(tmp_path, "two", 100, prefix="j")]
    table = tables.standings(done)
    (cells,) = table.cells.values()
    assert not any(cell.best for cell in cells.values())
    (note,) = table.notes
    assert "zero-shot x V accuracy: not compared" in note
    assert note in tables.text(table)
    assert note in tables.standings_markdown(table)
