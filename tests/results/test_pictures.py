"""Confusions against a naive count, single frames by their time, and pictures of which nothing is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.cli._result import closing
from birdmml.core import species
from birdmml.results import confusion, outcomes, pictures
from birdmml.results.confusion import Pair, confusion_data, names_of, order, pairs
from birdmml.results.curves import frame, panels_of
from birdmml.results.outcomes import Predictions
from birdmml.results.pictures import _bars, _frame_panel, sweep
from birdmml.results.result import record
from birdmml.results.tasks import Scored, frame_of
from birdmml.schema import Figure, Result


def placed(targets: Sequence[str], *named: Sequence[str], candidates: int = 5) -> Predictions:
    """Predictions of one task, one sequence of names a seed; nothing is level."""
    wrong = np.array([[int(a != b) for a, b in zip(targets, row, strict=True)] for row in named])
    ids = tuple(f"item {i}" for i in range(len(targets)))
    names = tuple(map(tuple, named))
    return Predictions(tuple(range(len(named))), candidates, ids, tuple(targets), names, wrong, np.zeros_like(wrong))


def many(count: int, items: int, seeds: int = 2, prefix: str = "") -> Predictions:
    """Random confusions among `count` birds, of which the fourth has no item."""
    rng = np.random.default_rng(count)
    names = [f"{prefix}{s.common_name}" for s in species.all_species()]
    names = (names + [f"Another Rather Long Name {i}" for i in range(count)])[:count]
    true = rng.choice(np.delete(np.arange(count), 3), items)
    # A third is taken for one of four classes, the one without items among them.
    said = [np.where(rng.random(items) < 0.7, true, true // 4 * 4 + rng.integers(0, 4, items)) for _ in range(seeds)]
    return placed(
        [names[i] for i in true], *([names[min(i, count - 1)] for i in row] for row in said), candidates=count
    )


def stored(root: Path, tasks: dict[str, Predictions], evalset: str = "demo-videos") -> Result:
    """A result of suite zero-shot whose items lie below `root`."""
    figures = []
    for task, found in tasks.items():
        file = f"predictions/{task}.parquet"
        (root / "predictions").mkdir(parents=True, exist_ok=True)
        outcomes.write(root / file, found)
        value = vars(found.summary("accuracy"))
        figures.append(Figure("zero-shot", evalset, task, "accuracy", **value, predictions=file))
    seeds = next(iter(tasks.values())).seeds
    return Result(1, True, "confu", "tiny", seeds, {}, {"name": "demo"}, {}, tuple(figures))


# Confusions.

LETTERS = st.sampled_from("abcd")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LETTERS, LETTERS, LETTERS), min_size=1, max_size=20))
def test_shares_are_those_of_a_naive_count(rows: list[tuple[str, str, str]]) -> None:
    targets, first, second = zip(*rows, strict=True)
    found = placed(targets, first, second)
    table = confusion_data(found, "dcba")
    for i, true in enumerate("dcba"):
        of_class = [k for k, t in enumerate(targets) if t == true]
        assert table.items[i] == len(of_class)
        for j, named in enumerate("dcba"):
            per_seed = [sum(seed[k] == named for k in of_class) for seed in (first, second)]
            if of_class:
                mean = sum(n / len(of_class) for n in per_seed) / 2
                assert table.shares[i, j] == pytest.approx(mean, abs=1e-12)
            else:
                assert np.isnan(table.shares[i, j])
    measured = table.items > 0
    np.testing.assert_allclose(table.shares[measured].sum(axis=1), 1.0)
    right = np.diag(np.nan_to_num(table.shares)) @ table.items / len(targets)
    assert right == pytest.approx(found.summary("accuracy").value)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(LETTERS, LETTERS), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_holds_every_class_once_whatever_the_order_of_items(rows: list[tuple[str, str]], chance: Any) -> None:
    def ordered(rows: list[tuple[str, str]]) -> tuple[str, ...]:
        found = placed(*zip(*rows, strict=True))
        return order([confusion_data(found, names_of([found]))])

    first = ordered(rows)
    assert sorted(first) == sorted({name for row in rows for name in row})
    chance.shuffle(rows)
    assert ordered(rows) == first


def test_classes_taken_for_each_other_stand_together() -> None:
    found = placed("aaacccbbddd", "aaccacbbddb")  # a and c are confused, so are b and d
    chosen = order([confusion_data(found, names_of([found]))])
    assert {frozenset(chosen[:2]), frozenset(chosen[2:])} == {frozenset("ac"), frozenset("bd")}


def test_pairs_are_directed_largest_first_and_rows_without_items_have_none() -> None:
    found = placed("aaaabbc", "abbbbcc", "aabbbcc")
    table = confusion_data(found, "abcx")
    assert pairs(table) == (Pair("a", "b", 5 / 8, 4), Pair("b", "c", 0.5, 2))
    assert pairs(table, most=1) == (Pair("a", "b", 5 / 8, 4),)
    assert np.isnan(table.shares[3]).all()
    right = confusion_data(placed("ab", "ab"), "ab")
    assert pairs(right) == ()


def test_equal_shares_are_ordered_by_items_then_by_name() -> None:
    found = placed("aabbcccc", "abcbaacc")
    told = [(p.true, p.named) for p in pairs(confusion_data(found, "cba"))]
    assert told == [("c", "a"), ("a", "b"), ("b", "c")]


def test_items_level_between_classes_are_told() -> None:
    found = placed("aabb", "aaba")
    level = Predictions(*(*vars(found).values(),)[:6], np.array([[1, 0, 0, 0]]))  # type: ignore[arg-type]
    assert confusion_data(level, "ab").level == 0.25
    assert any("25.0 %" in note for note in confusion._notes(2, [confusion_data(level, "ab")]))


# Pictures.


@pytest.fixture
def canvases(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every canvas that is written."""
    kept: list[Any] = []
    save = pictures.save
    monkeypatch.setattr(confusion, "save", lambda canvas, path: (kept.append(canvas), save(canvas, path)))
    return kept


@pytest.mark.parametrize("count", [2, 10, 24, 120])
def test_no_words_leave_the_picture_or_touch_each_other(count: int, canvases: list[Any], tmp_path: Path) -> None:
    found = many(count, 8 * count) if count > 2 else placed("aab", "aba", candidates=2)
    result = stored(tmp_path, {"A": found, "V": found, "A+V": found})
    (path,) = confusion.draw(result, tmp_path, tmp_path)
    assert path.name == "confusion.zero-shot.demo-videos.png"
    (canvas,) = canvases
    canvas.canvas.draw()
    renderer = canvas.canvas.get_renderer()
    texts = [t for t in canvas.findobj(lambda a: hasattr(a, "get_text")) if t.get_text() and t.get_visible()]
    boxes = [t.get_window_extent(renderer) for t in texts]
    assert len(texts) > 20
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= 0 and box.y0 >= 0, text.get_text()
        assert box.x1 <= canvas.bbox.x1 and box.y1 <= canvas.bbox.y1, text.get_text()
    for (a, one), (b, other) in combinations(zip(texts, boxes, strict=True), 2):
        wide = min(one.x1, other.x1) - max(one.x0, other.x0)
        high = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert wide <= 1 or high <= 2, (a.get_text(), b.get_text())
    shown = [t.get_text() for t in texts]
    assert ("Mallard" in shown) == (2 < count <= confusion.NAMED)
    assert sum("→" in t for t in shown) == 3 * min(10, len(pairs(confusion_data(found, names_of([found])))))


def test_rows_without_items_are_hatched_and_said(canvases: list[Any], tmp_path: Path) -> None:
    found = placed("aab", "aac", candidates=9)
    confusion.draw(stored(tmp_path, {"V": found}), tmp_path, tmp_path)
    hatched = [p for p in canvases[0].axes[0].patches if p.get_hatch()]
    assert len(hatched) == 1
    told = " ".join(t.get_text() for t in canvases[0].texts)
    assert "Hatched rows (1 in all)" in told
    assert "6 of 9 classes have no item and were never named" in told


def test_the_same_items_give_the_same_bytes_and_names_cannot_break_them(tmp_path: Path) -> None:
    found = many(12, 80, prefix="$x^2$\n\x00{}")
    result = stored(tmp_path, {"V": found, "A+V": found}, evalset="../a b")
    (first,) = confusion.draw(result, tmp_path, tmp_path / "one")
    (again,) = confusion.draw(result, tmp_path, tmp_path / "two")
    assert first.read_bytes() == again.read_bytes()
    assert first.parent == tmp_path / "one"


def test_too_many_classes_are_said_in_words(canvases: list[Any], tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(confusion.MOST_CLASSES + 1)]
    found = placed(names, names, candidates=len(names))
    (path,) = confusion.draw(stored(tmp_path, {"V": found}), tmp_path, tmp_path)
    assert path.is_file()
    assert "1,001 classes: too many" in canvases[0].texts[-1].get_text()


# Single frames.


def swept(times: Sequence[float], n: Sequence[int], evalset: str = "ssw60-videos-all") -> Result:
    def figure(task: str, value: float, n: int) -> Figure:
        return Figure("zero-shot", evalset, task, "accuracy", value, value - 0.1, value + 0.1, n, 1 / 60)

    singles = [figure(f"{t} at {s} s", 0.5, k) for t in ("V", "A+V") for s, k in zip(times, n, strict=True)]
    figures = (figure("A", 0.3, 99), figure("V", 0.6, 99), *singles)
    return Result(1, True, "confu", "tiny", (0,), {}, {"name": "demo"}, {}, figures)


def test_single_frames_are_sorted_by_their_time_beside_their_average(tmp_path: Path) -> None:
    result = swept((10.0, 0.5, 2.0), (7, 99, 50))
    (panel,) = panels_of(result, frame)
    assert {line.name: [(p.x, p.figure.n) for p in line.points] for line in panel.lines} == {
        task: [(0.5, 99), (2.0, 50), (10.0, 7)] for task in ("V", "A+V")
    }
    assert sweep(result, tmp_path / "one.png")
    assert sweep(result, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_lines_are_the_average_the_papers_value_and_chance() -> None:
    from matplotlib.figure import Figure as Canvas

    result = swept((0.5, 1.0), (99, 99))
    (panel,) = panels_of(result, frame)
    axis = Canvas().subplots()
    _frame_panel(axis, panel, {("ssw60-videos-all", "V"): result.figures[1]}, "confu")
    _, labels = axis.get_legend_handles_labels()
    assert labels == [
        "V, one frame, 95 % band", "V, mean of 8 frames, 60.0, n = 99", "V, 8 frames, paper, 69.4",
        "A+V, one frame, 95 % band", "chance, 1.7",
    ]  # fmt: skip


def test_without_single_frames_there_is_no_picture_and_the_overview_shows_none(tmp_path: Path) -> None:
    assert not sweep(swept((), ()), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    shown = [f.task for figures in _bars(swept((0.5,), (9,))).values() for f in figures]
    assert shown == ["A", "V"]


def test_a_tasks_frame_is_read_from_its_name() -> None:
    assert frame_of("A+V at 0.5 s") == ("A+V", 0.5)
    assert [frame_of(t) for t in ("V", "V at s", "V | audio gaussian 10 dB", "A 5-shot")] == [None] * 4


# Where pictures are drawn and named.


def test_pictures_are_drawn_with_the_result_printed_and_replaced(tmp_path: Path) -> None:
    ids, names = ("1", "2", "3"), ("a", "b", "a")

    def task(name: str) -> Scored:
        ranks = np.array([0, 1, 0]), np.zeros(3, dtype=np.int64)
        return Scored(name, "image", ("accuracy",), 3, ids, names, ("a", "a", "a"), *ranks)

    head = Result(1, True, "confu", "tiny", (0,), {}, {"name": "demo"}, {}, (), dict.fromkeys(
        ("total", "train", "embed_and_score"), 1.0
    ))  # fmt: skip
    result = record(tmp_path, head, [{("zero-shot", "demo-videos"): (task("V"), task("V at 0.5 s"))}])
    told = [Path(x.split()[-1]) for x in closing(result, tmp_path, False) if x.startswith("picture")]
    assert [path.name for path in told] == [
        "confusion.zero-shot.demo-videos.png", "overview.png", "zero-shot.sweep.png",
    ]  # fmt: skip
    record(tmp_path, head, [{("zero-shot", "other"): (task("V"),)}])
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "confusion.zero-shot.other.png", "overview.png",
    ]  # fmt: skip
