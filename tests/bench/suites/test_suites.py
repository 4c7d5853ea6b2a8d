"""Suites on arrays whose answers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from birdmml.bench.suites import retrieval, zero_shot
from birdmml.bench.suites._contract import Arrays, Material, Scorer, Subject
from birdmml.core import discover
from birdmml.errors import EvalsetError, ResultError
from birdmml.results.metrics import summarise
from birdmml.results.tasks import Scored, SpeciesScored
from birdmml.schema import MODALITIES

SINGLE = tuple((a, b) for a in ("image", "audio", "text") for b in ("image", "audio", "text") if a != b)
RETRIEVAL, ZERO_SHOT = retrieval.Options(by=("instance",)), zero_shot.Options()
JOINT = (("image+audio", "text"), ("image+text", "audio"), ("audio+text", "image"))


def dot(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
    return sum(queries[m] @ candidates[target].T for m in query.split("+"))  # type: ignore[return-value]


def material(n: int = 12, missing_audio: tuple[int, ...] = (), seed: int = 0) -> Material:
    generator = np.random.default_rng(seed)
    arrays = {m: generator.normal(size=(n, 6)).astype(np.float32) for m in ("image", "audio", "text")}
    present = {m: np.ones(n, dtype=bool) for m in arrays}
    for i in missing_audio:
        present["audio"][i] = False
        arrays["audio"][i] = np.nan
    labels = np.arange(n) % 3
    prompts = {"text": generator.normal(size=(3, 6)).astype(np.float32)}
    return Material("test-split", tuple(f"i{k}" for k in range(n)), arrays, present, labels, ("a", "b", "c"), prompts)


def accuracy(task: Scored) -> float:
    return summarise("accuracy", task.greater[None], task.ties[None], task.candidates).value


def test_retrieval_has_all_nine_directions_named_by_query_and_target() -> None:
    tasks = retrieval.score([material()], Scorer(dot, SINGLE + JOINT), RETRIEVAL)
    assert [t.task for t in tasks] == [f"{q}->{t}" for q, t in SINGLE + JOINT]


@pytest.mark.parametrize(("query", "target"), SINGLE + JOINT)
def test_retrieval_ranks_each_items_own_match_as_a_sort_does(query: str, target: str) -> None:
    made = material()
    (task,) = retrieval.score([made], Scorer(dot, ((query, target),)), RETRIEVAL)
    for i in range(12):
        scores = [sum(float(made.arrays[m][i] @ made.arrays[target][j]) for m in query.split("+")) for j in range(12)]
        order = sorted(range(12), key=lambda j: -scores[j])
        assert task.greater[i] == order.index(i)
        assert task.predictions[i] == f"i{order[0]}"
    assert task.targets == task.ids == made.ids


def test_swapping_query_and_target_is_another_task() -> None:
    made = material()
    there, back = retrieval.score([made], Scorer(dot, (("image", "text"), ("text", "image"))), RETRIEVAL)
    assert not np.array_equal(there.greater, back.greater)


def test_an_item_without_sound_leaves_the_tasks_that_need_sound_and_their_gallery() -> None:
    made = material(missing_audio=(1, 5))
    tasks = {t.task: t for t in retrieval.score([made], Scorer(dot, SINGLE + JOINT), RETRIEVAL)}
    assert (tasks["image->text"].candidates, tasks["image->text"].left_out) == (12, 0)
    for name in ("image->audio", "image+audio->text", "image+text->audio"):
        assert (tasks[name].candidates, tasks[name].left_out) == (10, 2)
        assert not {"i1", "i5"} & set(tasks[name].ids)
    named = {t.task: t for t in zero_shot.score([made], Scorer(dot, SINGLE + JOINT), ZERO_SHOT)}
    assert [len(named[t].ids) for t in ("A", "V", "A+V")] == [10, 12, 10]


def test_zero_shot_predicts_the_nearest_prompt() -> None:
    made = material()
    for task, query in zero_shot.TASKS.items():
        (found,) = (t for t in zero_shot.score([made], Scorer(dot, SINGLE + JOINT), ZERO_SHOT) if t.task == task)
        right = 0
        for i in range(12):
            scores = [
                sum(float(made.arrays[m][i] @ made.prompts["text"][c]) for m in query.split("+")) for c in range(3)
            ]
            assert found.predictions[i] == "abc"[int(np.argmax(scores))]
            assert found.targets[i] == "abc"[i % 3]
            right += int(np.argmax(scores)) == i % 3
        assert accuracy(found) == pytest.approx(right / 12)


def test_a_method_without_a_pair_has_no_such_task() -> None:
    tasks = zero_shot.score([material()], Scorer(dot, (("image", "text"),)), ZERO_SHOT)
    assert [t.task for t in tasks] == ["V"]


def test_photos_alone_are_asked_for_no_sound() -> None:
    whole, photos = material(), material()
    del photos.arrays["audio"], photos.present["audio"]
    scorer = Scorer(dot, SINGLE + JOINT)
    (seen,) = zero_shot.score([photos], scorer, ZERO_SHOT)
    same = {t.task: t for t in zero_shot.score([whole], scorer, ZERO_SHOT)}["V"]
    assert (seen.task, seen.predictions) == ("V", same.predictions)
    assert zero_shot.score([photos], Scorer(dot, JOINT), ZERO_SHOT) == ()


def test_a_method_without_one_to_one_scores_has_the_two_to_one_tasks_and_no_others() -> None:
    scorer = Scorer(dot, JOINT)
    assert [t.task for t in zero_shot.score([material()], scorer, ZERO_SHOT)] == ["A+V"]
    assert [t.task for t in retrieval.score([material()], scorer, RETRIEVAL)] == [f"{q}->{t}" for q, t in JOINT]


def test_a_score_that_says_nothing_gives_chance() -> None:
    def constant(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
        return np.zeros((len(next(iter(queries.values()))), len(candidates[target])))

    for task in zero_shot.score([material()], Scorer(constant, SINGLE + JOINT), ZERO_SHOT):
        assert accuracy(task) == pytest.approx(1 / 3)
    for task in retrieval.score([material()], Scorer(constant, SINGLE + JOINT), RETRIEVAL):
        assert accuracy(task) == pytest.approx(1 / 12)


def test_the_same_caption_twice_is_a_tie_not_a_win() -> None:
    made = material()
    made.arrays["text"][1] = made.arrays["text"][0]
    (task,) = retrieval.score([made], Scorer(dot, (("image", "text"),)), RETRIEVAL)
    assert task.ties[0] == task.ties[1] == 1


def test_broken_embeddings_one_class_or_nothing_to_score_raise() -> None:
    broken = material()
    broken.arrays["image"][3, 2] = np.nan
    with pytest.raises(ResultError, match="not finite"):
        retrieval.score([broken], Scorer(dot, SINGLE), RETRIEVAL)
    one = Material("x", ("i",), {}, {}, np.zeros(1, dtype=np.int64), ("a",))
    with pytest.raises(EvalsetError, match="needs two"):
        zero_shot.score([one], Scorer(dot, SINGLE), ZERO_SHOT)
    with pytest.raises(EvalsetError, match="no labelled item"):
        zero_shot.score([material(2, missing_audio=(0, 1))], Scorer(dot, (("audio", "text"),)), ZERO_SHOT)
    with pytest.raises(EvalsetError, match="needs two at least"):
        retrieval.score([material(2, missing_audio=(0,))], Scorer(dot, (("audio", "text"),)), RETRIEVAL)


@pytest.mark.parametrize("name", discover.names("suite"))
def test_a_suite_says_what_to_embed_before_anything_is(name: str) -> None:
    suite = discover.load("suite", name)
    options = suite.Options()
    own = Subject("dataset", "{split}-split", "rows", ("train", "test"), MODALITIES, 3, captions=True)
    films = Subject("demo", "demo-videos", "videos", ("test", "all"), ("image", "audio"), 3)
    steps = Subject("mosi", "mosi-{split}", "arrays", ("train", "test"), MODALITIES, 2, captions=True, prompt="")
    asked = {s.name: suite.requests(s, options) for s in (own, films, steps)}
    assert any(asked.values()) or name == "xor"
    assert all(r.evalset == subject for subject, requests in asked.items() for r in requests)


def test_by_species_every_row_of_the_species_is_right_but_the_row_itself() -> None:
    made = material()
    scorer = Scorer(dot, (("image", "text"),))
    (task,) = retrieval.score([made], scorer, retrieval.Options(by=("species",)))
    assert isinstance(task, SpeciesScored)
    assert task.task == "image->text by species"
    assert made.labels is not None
    for i in range(12):
        scores = made.arrays["image"][i] @ made.arrays["text"].T
        order = [j for j in np.argsort(-scores) if j != i]
        right = [k for k, j in enumerate(order) if made.labels[j] == made.labels[i]]
        assert task.ranks.greater[i] == right[0]
        precision = [(n + 1) / (k + 1) for n, k in enumerate(right)]
        assert task.ranks.average_precision[i] == pytest.approx(np.mean(precision))
        assert task.predictions[i] == "abc"[made.labels[order[0]]]


def test_a_score_that_differs_between_the_directions_is_ranked_in_each() -> None:
    generator = np.random.default_rng(5)
    skew = generator.normal(size=(6, 6)).astype(np.float32)

    def own(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
        return np.asarray(queries[query] @ skew @ candidates[target].T)

    made = material()
    there, back = retrieval.score([made], Scorer(own, (("image", "text"), ("text", "image"))), RETRIEVAL)
    assert isinstance(there, Scored)
    assert isinstance(back, Scored)
    for task, query, target in ((there, "image", "text"), (back, "text", "image")):
        scores = made.arrays[query] @ skew @ made.arrays[target].T
        assert task.greater.tolist() == [(row > row[i]).sum() for i, row in enumerate(scores)]


def test_a_method_that_scores_a_pair_by_vectors_of_its_own_gets_them_in_both_directions() -> None:
    made = material()
    made.arrays["text@audio"] = made.arrays["text"][::-1].copy()  # type: ignore[index]  # as CLIP's second tower

    def own(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
        mine, theirs = (name.replace("text", "text@audio") for name in (query, target))
        return np.asarray(queries[mine] @ candidates[theirs].T)

    there, back = retrieval.score([made], Scorer(own, (("audio", "text"), ("text", "audio"))), RETRIEVAL)
    assert isinstance(there, Scored)
    assert isinstance(back, Scored)
    scores = made.arrays["audio"] @ made.arrays["text@audio"].T
    assert there.greater.tolist() == [(row > row[i]).sum() for i, row in enumerate(scores)]
    assert back.greater.tolist() == [(row > row[i]).sum() for i, row in enumerate(scores.T)]
