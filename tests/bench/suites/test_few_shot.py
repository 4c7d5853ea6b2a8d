"""Few-shot and linear probes against scikit-learn, by hand, and by law."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.probes import FILMS, NAMES, NOTHING, ROWS, material, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from birdmml.bench.protocol import load
from birdmml.bench.run import _extension
from birdmml.bench.score import suite_options
from birdmml.bench.suites import few_shot, linear_probe
from birdmml.bench.suites._contract import Material, Subject
from birdmml.bench.suites._probe import SIDE_BY_SIDE, fit
from birdmml.core.settings import to_dict
from birdmml.errors import EvalsetError, ResultError, UsageError
from birdmml.results.metrics import summarise
from birdmml.results.outcomes import Predictions, read
from birdmml.results.result import figures_of, joined
from birdmml.results.tasks import Scored
from birdmml.schema import Figure, Result


def run(*found: Material, **options: Any) -> dict[str, Scored]:
    return {t.task: t for t in few_shot.score(found, NOTHING, few_shot.Options(**options))}


def accuracy(task: Scored) -> float:
    return summarise("accuracy", task.greater[None], task.ties[None], task.candidates).value


# The classifier.


@pytest.mark.parametrize(("n", "width"), [(12, 40), (40, 12), (12, 12)])
@pytest.mark.parametrize("c", [0.1, 1.0, 30.0])
def test_the_fit_is_that_of_scikit_learn_with_more_items_or_more_dimensions(n: int, width: int, c: float) -> None:
    generator = np.random.default_rng(n)
    x, labels = unit(generator.normal(size=(n, width))).astype(float), np.arange(n) % 3 + 4
    asked = unit(generator.normal(size=(50, width))).astype(float)
    known = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, labels)
    mine = fit(x, labels, c, 500)
    assert mine.converged
    assert mine.classes.tolist() == [4, 5, 6]
    np.testing.assert_allclose(softmax(mine.scores(asked), axis=1), known.predict_proba(asked), atol=1e-4)
    # From elsewhere it ends at the same place.
    far = fit(x, labels, c, 500, fit(x, labels, 1000.0, 500))
    np.testing.assert_allclose(softmax(far.scores(asked), 1), softmax(mine.scores(asked), 1), atol=1e-4)


def test_a_fit_that_was_cut_short_says_so_and_every_task_notes_it() -> None:
    made = material()
    assert not fit(made.arrays["image"].astype(float), np.asarray(made.labels), 1.0, 1).converged
    found = run(made, shots=(3,), draws=4, iterations=1)
    assert "4 of 4 fits stopped at 1 iterations" in found["V 3-shot"].note


def test_a_draw_is_a_plain_refit_on_its_shots() -> None:
    made = material(spread=1.5)
    task = run(made, shots=(3,), draws=2)["V 3-shot"]
    x, labels = made.arrays["image"].astype(float), np.asarray(made.labels)
    for draw in (0, 1):
        mine = np.flatnonzero(np.asarray(task.draws) == draw)
        queries = [made.ids.index(task.ids[i]) for i in mine]
        shots = sorted(set(range(48)) - set(queries))
        assert Counter(labels[shots]) == dict.fromkeys(range(4), 3)
        known = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x[shots], labels[shots])
        scores = known.decision_function(x[queries])
        own = scores[np.arange(len(queries)), labels[queries]]
        assert task.greater[mine].tolist() == (scores > own[:, None] + 1e-5).sum(axis=1).tolist()
        assert [NAMES.index(task.predictions[i]) for i in mine] == scores.argmax(axis=1).tolist()
        assert [NAMES.index(task.targets[i]) for i in mine] == labels[queries].tolist()


# What is drawn.


def shots_of(task: Scored, made: Material) -> list[set[str]]:
    ids, draws = np.asarray(task.ids), np.asarray(task.draws)
    return [set(made.ids) - set(ids[draws == d]) for d in range(int(draws.max()) + 1)]


def test_draws_differ_come_again_and_nest_and_do_not_depend_on_the_vectors() -> None:
    made, other = material(), material(seed=5)
    found, again = run(made, shots=(1, 5)), run(other, shots=(1, 5))
    for name, task in found.items():
        assert task.ids == again[name].ids
        assert np.array_equal(np.asarray(task.draws), np.asarray(again[name].draws))
    one, five = (shots_of(found[f"A {n}-shot"], made) for n in (1, 5))
    assert len(one) == 10
    assert len(set(map(frozenset, one))) > 5
    assert all(a < b for a, b in zip(one, five, strict=True))
    assert shots_of(found["V 5-shot"], made) == five
    # More draws leave the first ones as they were.
    assert shots_of(run(made, shots=(5,), draws=3)["A 5-shot"], made) == five[:3]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=4).map(tuple), st.integers(1, 4), st.integers(0, 2**16))
def test_every_item_of_a_class_with_enough_is_a_shot_or_a_query_of_each_draw(
    counts: tuple[int, ...], shots: int, seed: int
) -> None:
    made = material(counts, seed=seed)
    kept = [i for i, n in enumerate(counts) if n > shots]
    if len(kept) < 2:
        with pytest.raises(EvalsetError, match="fewer than two classes"):
            run(made, shots=(shots,), draws=2)
        return
    for task in run(made, shots=(shots,), draws=2).values():
        draws = np.asarray(task.draws)
        for draw in (0, 1):
            asked = Counter(t for t, d in zip(task.targets, draws, strict=True) if d == draw)
            assert asked == {NAMES[i]: counts[i] - shots for i in kept}
        assert len(set(zip(task.ids, draws.tolist(), strict=True))) == len(task.ids)
        assert (task.candidates, task.left_out) == (len(kept), 0)
        assert (task.greater + task.ties < len(kept)).all()


def test_a_class_short_of_items_is_left_out_of_that_number_of_shots_and_counted() -> None:
    made = material((12, 12, 4, 2))
    found = run(made, shots=(1, 2, 4, 20))
    assert [found[f"A {n}-shot"].candidates for n in (1, 2, 4)] == [4, 3, 2]
    assert "of 4 classes" not in found["A 1-shot"].note
    assert "1 of 4 classes have too few items for 2 shots and a query: left out, with their 2 queries" in (
        found["A 2-shot"].note
    )
    assert "2 of 4 classes" in found["A 4-shot"].note
    assert "their 6 queries" in found["A 4-shot"].note
    assert "A 20-shot" not in found
    assert all("enough items: A 20-shot, V 20-shot, A+V 20-shot" in t.note for t in found.values())


def test_shots_of_another_split_leave_the_whole_query_split_to_be_asked() -> None:
    asked, learned = material((5, 5, 5, 0)), material((9, 9, 1, 9), seed=3, prefix="t")
    task = run(asked, learned, shots=(2,), support_split="train")["V 2-shot"]
    # The third class has too little to learn from, the fourth nothing to be asked for.
    assert task.candidates == 2
    assert Counter(zip(task.ids, np.asarray(task.draws).tolist(), strict=True)) == Counter(
        (name, draw) for draw in range(10) for name in asked.ids[:10]
    )
    assert "shots are from train" in task.note
    assert "2 of 4 classes" in task.note


def test_shots_of_a_split_that_holds_the_queries_are_never_asked_for() -> None:
    whole, part = material((9, 9)), material((9, 9))
    kept = [*range(4), *range(9, 13)]
    part = Material(
        "set", tuple(part.ids[i] for i in kept), {k: v[kept] for k, v in part.arrays.items()},
        {k: v[kept] for k, v in part.present.items()}, np.asarray(part.labels)[kept], part.class_names,
    )  # fmt: skip
    task = run(part, whole, shots=(3,), support_split="all")["A 3-shot"]
    shots = [len(set(part.ids) - {i for i, d in zip(task.ids, np.asarray(task.draws), strict=True) if d == n})
             for n in range(10)]  # fmt: skip
    assert len(set(shots)) > 1
    assert all(0 <= n <= 6 for n in shots)


def test_requests_name_the_query_split_first_and_a_split_that_is_missing_is_told() -> None:
    apart = few_shot.Options(support_split="train")
    assert [r.split for r in few_shot.requests(ROWS, apart)] == ["test", "train"]
    assert [r.split for r in few_shot.requests(FILMS, apart)] == ["test"]
    assert [r.split for r in few_shot.requests(ROWS, few_shot.Options(support_split="test"))] == ["test"]
    assert few_shot.requests(Subject("x", "x", "rows", ("test",), ("text",), 4), apart) == ()
    assert "there is no train" in run(material(), shots=(1,), support_split="train")["A 1-shot"].note


# What comes out.


def test_without_information_accuracy_is_chance() -> None:
    found = run(material((150,) * 4, spread=np.inf), shots=(1, 5))
    for name, task in found.items():
        items = joined([task], (0,), demo=False).summary("accuracy")
        assert items.chance == 0.25
        assert abs(items.value - 0.25) < 0.03, name  # 1.7 % is one standard deviation of 600 items


def test_a_model_that_has_collapsed_gives_exactly_chance() -> None:
    made = material()
    for array in made.arrays.values():
        array[:] = array[0]
    assert all(accuracy(t) == pytest.approx(0.25) for t in run(made, shots=(1, 5)).values())


def test_separable_classes_are_all_named_from_one_shot() -> None:
    assert all(accuracy(t) == 1.0 for t in run(material(spread=0.02), shots=(1, 5)).values())


def test_more_shots_tell_more() -> None:
    found = run(material((40,) * 4, spread=2.0), shots=(1, 5, 20))
    values = [accuracy(found[f"A+V {n}-shot"]) for n in (1, 5, 20)]
    assert values == sorted(values)
    assert values[2] > values[0] + 0.1


def test_the_methods_fused_vector_is_taken_and_else_both_side_by_side_with_a_note() -> None:
    noise = unit(np.random.default_rng(7).normal(size=(48, 5)))
    fused = run(material(**{"image+audio": noise}), shots=(5,))["A+V 5-shot"]
    beside = run(material(), shots=(5,))["A+V 5-shot"]
    assert SIDE_BY_SIDE not in fused.note
    assert SIDE_BY_SIDE in beside.note
    assert accuracy(fused) < 0.5 < accuracy(beside)
    made = material()
    both = np.hstack([made.arrays["image"], made.arrays["audio"]]) / np.sqrt(2)
    assert np.allclose(np.linalg.norm(both, axis=1), 1)
    same = run(material(**{"image+audio": both}), shots=(5,))["A+V 5-shot"]
    assert np.array_equal(same.greater, beside.greater)


def test_items_without_a_modality_are_left_out_and_counted() -> None:
    made = material()
    for i in (0, 13, 14):
        made.present["audio"][i] = False
        made.arrays["audio"][i] = np.nan
    found = run(made, shots=(2,))
    assert [found[f"{t} 2-shot"].left_out for t in ("A", "V", "A+V")] == [3, 0, 3]
    assert not {"i0", "i13", "i14"} & set(found["A 2-shot"].ids)
    assert "i0" in found["V 2-shot"].ids
    images = Material("cub", made.ids, {"image": made.arrays["image"]}, {"image": made.present["image"]},
                      made.labels, made.class_names)  # fmt: skip
    assert set(run(images, shots=(2,))) == {"V 2-shot"}


def test_intervals_resample_items_with_all_their_draws_and_are_wider_for_it(tmp_path: Path) -> None:
    task = run(material((25,) * 4, spread=1.5), shots=(2,))["V 2-shot"]
    figures = figures_of("few-shot", "set", [task, task], (0, 1), False, tmp_path)
    assert [f.metric for f in figures] == ["accuracy", "class-mean accuracy"]
    kept = read(tmp_path, figures[0].predictions)
    assert isinstance(kept, Predictions)
    mine = kept.summary("accuracy")
    assert (mine.n, mine.value) == (100, pytest.approx(accuracy(task)))
    naive = summarise("accuracy", task.greater[None], task.ties[None], task.candidates)
    assert naive.n == 10 * 92
    assert mine.high - mine.low > 1.5 * (naive.high - naive.low)


def test_notes_that_differ_between_models_are_all_kept(tmp_path: Path) -> None:
    one = linear_probe.score([material(seed=1), material()], NOTHING, linear_probe.Options(grid=(1.0,)))[0]
    two = linear_probe.score([material(seed=1), material()], NOTHING, linear_probe.Options(grid=(5.0,)))[0]
    note = figures_of("linear-probe", "set", [one, two, one], (0, 1, 2), False, tmp_path)[0].note
    assert note == (
        "C = 1 chosen on a tenth of the training items (4); C = 5 chosen on a tenth of the training items (4)"
    )


def test_what_a_method_says_of_its_scores_is_not_said_of_a_probe() -> None:
    assert "sums" in _extension("clip", "zero-shot", "image+audio")
    assert _extension("clip", "zero-shot", "image") == _extension("confu", "zero-shot", "image+audio") == ""
    assert _extension("clip", "few-shot", "image+audio") == ""
    assert _extension("clip", "linear-probe", "image+audio") == ""


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (material((9,)), EvalsetError, "1 classes"),
        (material((1, 1)), EvalsetError, "fewer than two classes"),
        (material((9, 0)), EvalsetError, "few-shot.shots"),
        (Material("x", ("i",), {}, {}, np.zeros(1, dtype=np.int64), ("a", "b")), EvalsetError, "nothing"),
        (Material("x", ("i",), {"text": np.ones((1, 2), dtype=np.float32)}, {}, None), EvalsetError, "text"),
    ],
)
def test_what_cannot_be_probed_raises_and_says_why(made: Material, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        run(made)


def test_vectors_that_are_not_finite_raise() -> None:
    made = material()
    made.arrays["image"][3, 2] = np.nan
    with pytest.raises(ResultError, match="1 of 48 image vectors"):
        run(made)


@pytest.mark.parametrize(
    "words",
    ["few-shot.shots=[]", "few-shot.shots=[1, 1]", "few-shot.shots=[0]", "few-shot.draws=1001", "few-shot.c=0",
     "few-shot.c=inf", "few-shot.iterations=0", "few-shot.shot=[1]", "linear-probe.grid=[]",
     "linear-probe.grid=[-1.0]", "linear-probe.split=train"],
)  # fmt: skip
def test_senseless_options_are_refused(words: str) -> None:
    with pytest.raises(UsageError, match=r"few-shot\.|linear-probe\."):
        suite_options([words])


def test_the_frozen_protocol_is_what_the_suite_does_by_default() -> None:
    for asked in load("paper-fewshot").evaluate:
        stated = to_dict(asked.options.few_shot)
        mine = to_dict(few_shot.Options())
        assert {name: mine[name] for name in stated} == stated


# The picture.


def test_the_picture_has_a_curve_a_task_with_shots_in_order(tmp_path: Path) -> None:
    from birdmml.results.curves import panels_of, shot
    from birdmml.results.pictures import draw_all

    figures = tuple(
        Figure("few-shot", "set", f"{task} {n}-shot", metric, n / 30, n / 40, n / 20, 100, 0.1)
        for n in (20, 1, 5) for task in ("A", "A+V") for metric in ("accuracy", "class-mean accuracy")
    )  # fmt: skip
    result = Result(1, True, "confu", "tiny", (0,), {}, {}, {}, figures)
    (panel,) = panels_of(result, shot)
    assert {line.name: line.xs for line in panel.lines} == {"A": [1, 5, 20], "A+V": [1, 5, 20]}
    draw_all(result, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few-shot.png", "overview.png"]
    assert (tmp_path / "few-shot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
