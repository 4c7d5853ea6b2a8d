"""Competition on arrays whose truth is known in closed form, and against naive loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.small import OPTIONS as SMALL
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from birdmml.bench import plan as bench_plan
from birdmml.bench import run as bench_run
from birdmml.bench.suites import competition
from birdmml.bench.suites._contract import Arrays, Material, Scorer, Subject
from birdmml.bench.suites.competition import FUSED, WORDS, Options, explained, probe_hits, rank_shares
from birdmml.errors import EvalsetError, UsageError
from birdmml.leaderboard.verify import verify
from birdmml.media.corruption import lenders
from birdmml.results import result
from birdmml.results.tasks import Measured, Outcome, Scored

C = 5
PAIRS = tuple((query, "text") for query in ("image", "audio", FUSED))
OPTIONS = Options(draws=2, seed=3, fit_rows=0)
Codes = NDArray[np.int64]


def cosine(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
    return queries[query] @ candidates[target].T


def one_hot(codes: Codes) -> NDArray[np.float32]:
    return np.eye(C, dtype=np.float32)[codes % C]


def made(rule: str, look: Codes, song: Codes, labels: Codes) -> Material:
    """Vectors that say what the rule lets the best decider say; class prompts are the axes."""
    arrays = {
        "xor": {"image": one_hot(look), "audio": one_hot(song), FUSED: one_hot(look + song)},
        "redundant": {
            "image": one_hot(look), "audio": one_hot(song), FUSED: one_hot(look) + one_hot(song),
        },
        "image": {"image": one_hot(look), "audio": 0 * one_hot(song), FUSED: one_hot(look)},
    }[rule]  # fmt: skip
    n = len(labels)
    present = {m: np.ones(n, dtype=bool) for m in ("image", "audio")}
    names = tuple("abcde")
    return Material(
        "test-split", tuple(f"i{k}" for k in range(n)), arrays, present, labels, names, {"text": one_hot(np.arange(C))}
    )  # fmt: skip


def world(rule: str, times: int = 4) -> tuple[Codes, Codes, Codes]:
    """look, song, class: every look with every song in "xor", one look and one song a class in the others."""
    if rule == "xor":
        look, song = (np.tile(x.ravel(), times) for x in np.meshgrid(np.arange(C), np.arange(C)))
        return look, song, (look + song) % C
    own = np.tile(np.arange(C), times)
    return own, own, own


def swapped(rule: str, options: Options = OPTIONS, times: int = 4) -> list[Material]:
    """Clean material and every swap that the suite asks for, made by hand."""
    look, song, labels = world(rule, times)
    found = [made(rule, look, song, labels)]
    everyone = np.arange(len(labels))
    for kind in ("audio", "image"):
        for seed in range(options.seed, options.seed + options.draws):
            lent = lenders(labels, everyone, seed)
            a, v = (song[lent], look) if kind == "audio" else (song, look[lent])
            found.append(made(rule, v, a, labels))
    return found


def run(rule: str, pairs: tuple[tuple[str, str], ...] = PAIRS) -> dict[tuple[str, str], Outcome]:
    outcomes = competition.score(swapped(rule), Scorer(cosine, pairs), OPTIONS)
    return {(o.task, metric): o for o in outcomes for metric in metrics(o)}


def metrics(outcome: Outcome) -> tuple[str, ...]:
    return outcome.metrics if isinstance(outcome, Scored) else (outcome.metric,)


def value(outcome: Outcome) -> float:
    """The figure as results make it."""
    return result.joined([outcome], (0,), True).summary(metrics(outcome)[0]).value


LUCK = 1 / C
CLOSED = {
    "xor": {
        ("A", "accuracy"): LUCK, ("V", "accuracy"): LUCK, ("A+V", "accuracy"): 1.0,
        ("A removed", "removal drop"): 1 - LUCK, ("V removed", "removal drop"): 1 - LUCK,
        ("A", "Shapley value"): (1 - LUCK) / 2, ("V", "Shapley value"): (1 - LUCK) / 2,
        ("A+V", "interaction"): 1 - LUCK, ("A+V", "fused gain"): 1 - LUCK,
    },
    "redundant": {
        ("A", "accuracy"): 1.0, ("V", "accuracy"): 1.0, ("A+V", "accuracy"): 1.0,
        ("A removed", "removal drop"): 0.0, ("V removed", "removal drop"): 0.0,
        ("A", "Shapley value"): (1 - LUCK) / 2, ("V", "Shapley value"): (1 - LUCK) / 2,
        ("A+V", "interaction"): LUCK - 1, ("A+V", "fused gain"): 0.0,
        # Either medium's class is as near as the other's: an even tie.
        ("A swapped", "accuracy"): 0.5, ("A swapped", "swap drop"): 0.5, ("A swapped", "follows"): 0.5,
        ("V swapped", "accuracy"): 0.5, ("V swapped", "swap drop"): 0.5, ("V swapped", "follows"): 0.5,
    },
    "image": {
        ("A", "accuracy"): LUCK, ("V", "accuracy"): 1.0, ("A+V", "accuracy"): 1.0,
        ("A removed", "removal drop"): 0.0, ("V removed", "removal drop"): 1 - LUCK,
        ("A", "Shapley value"): 0.0, ("V", "Shapley value"): 1 - LUCK,
        ("A+V", "interaction"): 0.0, ("A+V", "fused gain"): 0.0,
        ("A swapped", "accuracy"): 1.0, ("A swapped", "swap drop"): 0.0, ("A swapped", "follows"): 0.0,
        ("V swapped", "accuracy"): 0.0, ("V swapped", "swap drop"): 1.0, ("V swapped", "follows"): 1.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("rule", CLOSED)
def test_what_is_known_in_closed_form_is_measured(rule: str) -> None:
    found = run(rule)
    for key, wanted in CLOSED[rule].items():
        assert value(found[key]) == pytest.approx(wanted, abs=1e-12), key


def test_a_swap_of_pure_synergy_is_scored_item_by_item_as_a_loop_does() -> None:
    look, song, labels = world("xor")
    found = run("xor")
    for task, kept, lost in (("A", look, song), ("V", song, look)):
        own, theirs = [], []
        for seed in (3, 4):
            lent = lenders(labels, np.arange(len(labels)), seed)
            for i, j in enumerate(lent):
                decided = (kept[i] + lost[j]) % C
                own.append(float(decided == labels[i]))
                theirs.append(float(decided == labels[j]))
        drop, follows = (found[f"{task} swapped", m] for m in ("swap drop", "follows"))
        assert isinstance(drop, Measured)
        assert isinstance(follows, Measured)
        np.testing.assert_allclose(drop.values, 1 - np.array(own))
        np.testing.assert_allclose(follows.values, theirs)
        assert drop.ids == 2 * tuple(f"i{k}" for k in range(len(labels)))
        # The song of a random item of another class is anything: one in C fits by luck.
        assert value(drop) == pytest.approx(1 - LUCK, abs=0.1)


@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=2, max_size=30))
def test_shapley_values_share_out_the_accuracy_over_chance(hits: list[tuple[bool, bool, bool]]) -> None:
    """phi_A + phi_V = v(A+V) - v(none), for every item and for the whole, whatever the hits."""
    table = dict(zip(("audio", "image", FUSED), np.asarray(hits).T, strict=True))
    labels = np.arange(len(hits)) % 2
    arrays = {m: np.eye(2, dtype=np.float32)[np.where(h, labels, 1 - labels)] for m, h in table.items()}
    present = {m: np.ones(len(hits), dtype=bool) for m in ("image", "audio")}
    ids = tuple(map(str, range(len(hits))))
    material = Material("t", ids, arrays, present, labels, ("a", "b"), {"text": np.eye(2, dtype=np.float32)})
    outcomes = competition.score([material], Scorer(cosine, PAIRS), Options(draws=0, fit_rows=0))
    shares = {o.task: o.values for o in outcomes if isinstance(o, Measured) and o.metric == "Shapley value"}
    np.testing.assert_allclose(shares["A"] + shares["V"], table[FUSED] - 0.5, atol=1e-12)
    naive = [0.5 * ((a - 0.5) + (av - v)) for a, v, av in hits]
    np.testing.assert_allclose(shares["A"], naive, atol=1e-12)


def test_items_without_sound_are_left_out_and_counted_and_lend_nothing() -> None:
    materials = swapped("image", Options(draws=0), times=4)
    materials[0].present["audio"][[2, 3]] = False
    outcomes = competition.score(materials, Scorer(cosine, PAIRS), Options(draws=0, fit_rows=0))
    assert {o.left_out for o in outcomes} == {2}
    assert all(not {"i2", "i3"} & set(o.ids) for o in outcomes)


def test_a_method_is_told_what_it_does_not_define() -> None:
    assert competition.score(swapped("xor"), Scorer(cosine, PAIRS[:2]), OPTIONS) == ()
    found = run("redundant", PAIRS[2:])
    assert {m for _, m in found} == {"accuracy", "swap drop", "follows", "effective rank"}
    assert "alone" in found["A+V", "accuracy"].note

    def summed(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
        return sum(queries[m] @ candidates[target].T for m in query.split("+"))  # type: ignore[return-value]

    materials = swapped("redundant")
    for material in materials:
        del material.arrays[FUSED]  # type: ignore[attr-defined]  # a dict here
    outcomes = competition.score([*materials, materials[0]], Scorer(summed, PAIRS), OPTIONS)
    assert "no fused vector" in next(o.note for o in outcomes if o.task == "A+V")
    assert not {"R2", "conditional gain"} & {m for o in outcomes for m in metrics(o)}


def test_the_better_single_modality_is_named() -> None:
    assert "is image" in run("image")["A+V", "fused gain"].note


def test_every_metric_has_its_words_and_every_word_its_metric() -> None:
    options = Options(draws=1)
    materials = swapped("redundant", options)
    outcomes = competition.score([*materials, materials[0]], Scorer(cosine, PAIRS), options)
    assert {m for o in outcomes for m in metrics(o)} == set(WORDS)
    assert len({result.file_name("competition", "t", o) for o in outcomes}) == len(outcomes)


def test_requests_are_the_split_its_swaps_and_the_training_rows() -> None:
    own = Subject("dataset", "{split}-split", "rows", ("train", "test"), ("image", "audio", "text"), 3)
    films = Subject("demo", "demo-videos", "videos", ("test", "all"), ("image", "audio"), 3)
    assert [(r.split, r.pairing) for r in competition.requests(own, Options(draws=1, seed=5))] == [
        ("test", ""), ("test", "swap:audio:5"), ("test", "swap:image:5"), ("train", ""),
    ]  # fmt: skip
    assert [r.split for r in competition.requests(films, Options(draws=0))] == ["test"]
    pictures = Subject("cub", "cub", "images", ("test",), ("image",), 3)
    assert competition.requests(pictures, Options()) == ()
    for bad in ({"draws": -1}, {"draws": 101}, {"ridge": 0.0}, {"fit_rows": -1}):
        with pytest.raises(UsageError, match="competition"):
            Options(**bad)  # type: ignore[arg-type]


def test_too_few_items_or_classes_are_said() -> None:
    one = made("image", *(np.zeros(1, dtype=np.int64),) * 3)
    with pytest.raises(EvalsetError, match="1 items"):
        competition.score([one], Scorer(cosine, PAIRS), Options(draws=0))


def test_a_probe_gains_what_only_the_fused_vector_shows_it() -> None:
    """Signs whose product is the class: no line tells it from the two, any line from their product."""
    signs = np.array([(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)] * 20)
    labels = (signs.prod(axis=1) > 0).astype(np.int64)
    alone, _ = probe_hits(signs, labels, signs, labels, 1.0, 100)
    both = np.column_stack([signs, signs.prod(axis=1)])
    beside, settled = probe_hits(both, labels, both, labels, 1.0, 100)
    assert settled
    assert beside.mean() == 1.0
    assert alone.mean() <= 0.5
    assert probe_hits(both, labels, both, labels, 1.0, 1)[1] is False
    assert probe_hits(signs, 0 * labels, signs, labels, 1.0, 9)[0].mean() == 0.5


def test_r2_is_one_of_a_linear_map_zero_of_the_training_mean_and_as_a_naive_loop_has_it() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(200, 4)), rng.normal(size=(50, 4))
    weights = rng.normal(size=(4, 3))
    above, below = explained((x, x @ weights + 2), (new, new @ weights + 2), 1e-9)
    assert above.sum() / below.sum() == pytest.approx(1.0, abs=1e-6)
    y, noise = rng.normal(size=(200, 3)), rng.normal(size=(50, 3))
    above, below = explained((x, y), (new, noise), 1e9)
    assert above.sum() / below.sum() == pytest.approx(0.0, abs=1e-6)
    from sklearn.linear_model import Ridge

    above, below = explained((x, y), (new, noise), 0.1)
    centred = x - x.mean(axis=0)
    model = Ridge(alpha=0.1 * float((centred**2).sum()) / 4).fit(x, y)
    wrong = sum(sum((noise[i, d] - model.predict(new[i : i + 1])[0, d]) ** 2 for d in range(3)) for i in range(50))
    total = sum(sum((noise[i, d] - y[:, d].mean()) ** 2 for d in range(3)) for i in range(50))
    assert above.sum() / below.sum() == pytest.approx(1 - wrong / total, rel=1e-9)


@given(st.integers(0, 10_000), st.integers(3, 30), st.integers(1, 8))
def test_effective_rank_is_the_entropy_of_the_covariances_eigenvalues(seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, width)) * rng.uniform(0.1, 3, width)).astype(np.float32)
    values, weights = rank_shares(vectors)
    spread = np.linalg.eigvalsh(np.atleast_2d(np.cov(vectors.astype(np.float64).T)))
    share = [v / spread.sum() for v in spread if v > 1e-12 * spread.max()]
    wanted = math.exp(-sum(p * math.log(p) for p in share))
    assert math.exp(values.sum() / weights.sum()) == pytest.approx(wanted, rel=1e-6)
    assert wanted <= min(n - 1, width) + 1e-6


def test_effective_rank_counts_even_directions_and_a_collapse_is_one() -> None:
    corners = np.concatenate([np.eye(8), -np.eye(8)])[:, :5]
    corners = corners[(corners != 0).any(axis=1)]
    values, weights = rank_shares(corners)
    assert math.exp(values.sum() / weights.sum()) == pytest.approx(5.0)
    values, weights = rank_shares(np.full((7, 3), 0.1, dtype=np.float32))
    assert math.exp(values.sum() / weights.sum()) == 1.0
    line = run("image")["A", "effective rank"]
    assert value(line) == 1.0
    assert result.joined([line], (0,), True).summary("effective rank").chance == 1.0


def test_a_trained_model_is_measured_on_rows_and_films_and_every_figure_follows_from_its_items(
    small_demo: Path, tmp_path: Path
) -> None:
    options = [*SMALL, "competition.draws=2", "training.epochs=1"]
    plan = bench_plan.plan(small_demo, "confu", bench_plan.Choice(["competition"], overrides=options))
    result, folder = bench_run.run(plan, tmp_path, quiet=True)
    verify(folder)
    found = {(f.evalset, f.task, f.metric): f for f in result.figures}
    assert {m for _, _, m in found} == set(WORDS)
    for evalset in ("test-split", "demo-videos"):
        clean = found[evalset, "A+V", "accuracy"]
        shares = [found[evalset, task, "Shapley value"].value for task in ("A", "V")]
        assert sum(shares) == pytest.approx(clean.value - clean.chance)
        for task in ("A swapped", "V swapped"):
            left, drop = (found[evalset, task, metric] for metric in ("accuracy", "swap drop"))
            assert left.value + drop.value == pytest.approx(clean.value)
            assert left.n == drop.n == clean.n
    assert ("test-split", "A+V", "R2") in found
    assert ("demo-videos", "A+V", "R2") not in found
    assert "no training rows" in found["demo-videos", "A", "effective rank"].note
