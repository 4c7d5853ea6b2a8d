"""XOR: the data against a loop, the batched trainer against single models, the exact score against brute force."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Ran

from birdmml.bench.xor import answered, one, run
from birdmml.bench.xor.fit import answers, authors, batches, exact, fit
from birdmml.bench.xor.plan import XorRun, XorSettings, network, plan
from birdmml.core import discover
from birdmml.errors import TrainingError, UnknownName, UsageError
from birdmml.evalsets import xor
from birdmml.leaderboard.verify import verify
from birdmml.results import outcomes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHORT = XorSettings(p=(0.0, 0.5, 1.0), seeds=(0, 3), steps=6, batch_size=16)


def run_of(method: str, settings: XorSettings, anchor: str | None = None) -> XorRun:
    return next(r for r in plan([method], settings).runs if anchor is None or r.anchor == anchor)


def bit_loop(code: int) -> list[int]:
    return [int(letter) for letter in f"{code:05b}"]


@pytest.mark.parametrize("modalities", [3, 4])
def test_samples_are_what_a_loop_over_bits_makes_of_them(modalities: int) -> None:
    drawn = xor.draw(np.array([0.0, 0.4, 1.0]), 400, modalities, np.random.default_rng(5))
    mixed = np.zeros((3, 400), dtype=bool)
    for share, row in product(range(3), range(400)):
        a, b, c, *d = (bit_loop(int(drawn[n][share, row])) for n in xor.names(modalities))
        whole = [(x + y + sum(z)) % 2 for x, y, *z in zip(a, b, *d, strict=True)]
        assert c in (a, whole)
        mixed[share, row] = c == whole
    silent = drawn["b"][0] ^ drawn.get("d", 0 * drawn["b"])[0]
    assert (mixed[0] == (silent == 0)).all()
    assert mixed[2].all()
    assert 0.32 < mixed[1].mean() < 0.52
    np.testing.assert_array_equal(drawn["a"][0], drawn["a"][2])
    np.testing.assert_array_equal(xor.bits(drawn["a"][0, :9]), [bit_loop(int(c)) for c in drawn["a"][0, :9]])


@pytest.mark.parametrize("modalities", [3, 4])
def test_the_cells_are_everything_that_can_happen_once(modalities: int) -> None:
    codes, switch = xor.cells(modalities)
    seen = set(zip(*(codes[n].tolist() for n in codes), switch.tolist(), strict=True))
    assert len(seen) == len(switch) == 2 * 32 ** (modalities - 1)
    for p in (0.0, 0.3, 1.0):
        assert xor.weights(p, switch).sum() == pytest.approx(1)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_nobody_beats_the_ceiling_and_a_table_of_frequencies_reaches_it(p: float) -> None:
    codes, switch = xor.cells(3)
    chances: dict[tuple[int, int], dict[int, float]] = {}
    for a, b, c, w in zip(codes["a"], codes["b"], codes["c"], xor.weights(p, switch), strict=True):
        found = chances.setdefault((int(a), int(c)), dict.fromkeys(range(32), 0.0))
        found[int(b)] += w
    assert sum(max(f.values()) for f in chances.values()) == pytest.approx(xor.ceiling(p))


def test_one_variable_alone_says_nothing_of_b() -> None:
    codes, switch = xor.cells(3)
    joint = np.zeros((32, 32))
    np.add.at(joint, (codes["b"], codes["c"]), xor.weights(0.7, switch))
    np.testing.assert_allclose(joint, 1 / 32**2)


def test_the_test_set_is_even_and_holds_the_share_asked_for() -> None:
    codes, switch = xor.cells(3)
    for p in (0.0, 0.1, 0.55, 1.0):
        picked = xor.test_cells(p)
        pairs = np.bincount(codes["a"][picked] * 32 + codes["b"][picked], minlength=1024)
        assert (pairs == 2).all()
        assert switch[picked].sum() == round(p * 2048)
    assert len(set(xor.test_cells(0.5, 4).tolist())) == 2048


@pytest.mark.parametrize("method", discover.names("method"))
def test_the_batched_trainer_trains_what_single_models_would(method: str) -> None:
    job = run_of(method, SHORT)
    fitted = fit(job, SHORT)
    for k, (seed, _) in enumerate(product(SHORT.seeds, SHORT.p)):
        torch.manual_seed(seed)
        model = network(job, SHORT)
        own = model.head.parameter_groups() if hasattr(model.head, "parameter_groups") else []
        mine = {id(w) for group in own for w in group["params"]}
        rest = [w for w in model.parameters() if id(w) not in mine]
        optimiser = torch.optim.AdamW([*own, {"params": rest}], lr=SHORT.learning_rate, weight_decay=1e-4)
        decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (1 - step / SHORT.steps) / 0.25))
        torch.manual_seed(0)
        for x in batches(SHORT):
            optimiser.zero_grad()
            loss = model({name: v[k] for name, v in x.items()})
            loss.backward()
            optimiser.step()
            decay.step()
        torch.testing.assert_close(fitted.losses[k], loss.detach(), rtol=1e-5, atol=1e-5)
        for name, weight in model.named_parameters():
            # AdamW divides by the gradient's size: where it is all but zero, rounding shows.
            torch.testing.assert_close(fitted.weights[name][k], weight.detach(), rtol=1e-4, atol=1e-4)


def test_a_model_does_not_depend_on_its_company() -> None:
    alone = dataclasses.replace(SHORT, p=(0.5,), seeds=(3,))
    for method in ("confu", "symile"):
        together = fit(run_of(method, SHORT), SHORT)
        single = fit(run_of(method, alone), alone)
        for name, weight in single.weights.items():
            torch.testing.assert_close(together.weights[name][4], weight[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("method", "anchor"), [("symile", None), ("gram", "a"), ("clip", "b")])
def test_the_exact_accuracy_is_that_of_brute_force(method: str, anchor: str | None) -> None:
    settings = XorSettings(p=(0.3, 1.0), seeds=(1,), steps=30, batch_size=64)
    job = run_of(method, settings, anchor)
    fitted = fit(job, settings)
    found = exact(answers(fitted, settings), settings)
    for k, (p, model) in enumerate(zip(settings.p, fitted.models(), strict=True)):
        right = 0.0
        for a, b, mixed in product(range(32), range(32), (False, True)):
            seen = {"a": a, "c": a ^ b if mixed else a}
            x = {n: torch.tensor([[2.0 * bit - 1 for bit in bit_loop(c)]]) for n, c in seen.items()}
            every = {"b": torch.tensor([[2.0 * bit - 1 for bit in bit_loop(c)] for c in range(32)])}
            with torch.no_grad():
                scores = model.head.score("a+c", "b", model.embed(x), model.embed(every))[0]
            above, level = int((scores > scores[b] + 1e-6).sum()), int((scores >= scores[b] - 1e-6).sum())
            weight = (p if mixed else 1 - p) / 1024
            right += weight / (level - above) if above == 0 else 0.0
        assert found[0, k] == pytest.approx(right, abs=1e-9)


def test_a_short_run_separates_what_sees_three_variables_from_what_sees_two(tmp_path: Path) -> None:
    settings = XorSettings(p=(1.0,), seeds=(0,), steps=120, batch_size=64)
    found = {m: one(settings, tmp_path, run_of(m, settings)) for m in ("confu", "symile", "clip", "tri_clip")}
    assert found["confu"].exact[0, 0] > 0.6
    assert found["symile"].exact[0, 0] > 0.95
    assert found["clip"].exact[0, 0] < 0.1
    assert found["tri_clip"].exact[0, 0] < 0.1
    for name, done in found.items():
        figure = verify(tmp_path / done.run.folder).figures[0]
        assert (figure.n, figure.chance, figure.ceiling) == (2048, 1 / 32, 1.0)
        assert figure.value == pytest.approx(done.exact.mean(), abs=1e-9), name


def test_the_number_of_workers_changes_no_figure(tmp_path: Path) -> None:
    made = plan(["symile", "tri_clip"], SHORT)
    alone, _ = run(made, tmp_path / "one", workers=1)
    heard: list[str] = []
    side_by_side, _ = run(made, tmp_path / "two", workers=2, report=lambda done: heard.append(done.run.name))
    assert [d.result.figures for d in alone] == [d.result.figures for d in side_by_side]
    assert [d.run.method for d in side_by_side] == ["symile", "tri_clip"]
    assert sorted(heard) == ["symile", "tri_clip"]


def test_items_are_the_same_for_every_seed_and_say_what_was_asked() -> None:
    settings = XorSettings(p=(0.25,), seeds=(0, 1), steps=1, batch_size=8)
    found = answers(fit(run_of("symile", settings), settings), settings)
    items = answered(settings, 0, found)
    for item, target in zip(items.ids, items.targets, strict=True):
        assert item.split(":")[1].split("-")[1] == target
    assert sum(item.endswith("-1") for item in items.ids) == 512


def test_every_anchor_that_can_name_b_is_tried() -> None:
    runs = {(r.method, r.anchor) for r in plan(joint_anchor=True).runs}
    assert {a for m, a in runs if m == "gram"} == {a for m, a in runs if m == "triangle"} == {"a", "b", "c", "all"}
    assert {a for m, a in runs if m == "clip"} == {"b"}
    assert {a for m, a in runs if m == "confu"} == {None}
    assert {(r.method, r.anchor) for r in plan().runs} == {(m, a) for m, a in runs if a != "all"}
    assert all(r.config.dim == 16 for r in plan().runs)


def test_four_variables_take_fusions_of_three_and_leave_triangle_out() -> None:
    made = plan((), XorSettings(modalities=4))
    assert made.settings.query == "a+c+d"
    assert next(r for r in made.runs if r.method == "confu").config.order == 3
    assert "triangle" not in {r.method for r in made.runs}
    assert "triangle is defined for 3" in made.left_out[0]
    with pytest.raises(UsageError, match="triangle is defined for 3"):
        plan(["triangle"], XorSettings(modalities=4))


def test_a_loss_that_is_not_finite_names_step_share_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    method = discover.load("method", "symile")
    whole = method.Model.loss
    monkeypatch.setattr(method.Model, "loss", lambda *a, **k: {n: v * float("nan") for n, v in whole(*a, **k).items()})
    with pytest.raises(TrainingError, match="symile: the loss at step 0 is nan with p = 0, seed 0"):
        fit(run_of("symile", SHORT), SHORT)


@pytest.mark.parametrize(
    "bad",
    [{"p": (1.1,)}, {"p": (-0.1,)}, {"p": (math.nan,)}, {"p": ()}, {"p": (0.5, 0.5)}, {"modalities": 5}]
    + [{"seeds": ()}, {"seeds": (0, 0)}, {"dim": 0}, {"steps": 0}, {"batch_size": 1}]
    + [{"learning_rate": 0.0}, {"decay": 0.0}],
)  # fmt: skip
def test_senseless_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        XorSettings(**bad)  # type: ignore[arg-type]


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        plan(["conf"])
    assert caught.value.nearest[0] == "confu"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--p", "0,1.5"], "--p 1.5"),
        (["--p", "half"], "--p half"),
        (["--modalities", "5"], "--modalities 5"),
        (["--seeds", "0"], "--seeds 0"),
        (["--workers", "0"], "--workers 0"),
        (["--method", "conf"], "nearest are confu"),
        (["--data", "x"], "--data"),
        (["--suite", "retrieval"], "alone"),
    ],
)
def test_the_command_refuses_bad_input_in_one_line(cli: Callable[..., Ran], options: list[str], said: str) -> None:
    ran = cli("bench", "--suite", "xor", *options)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_the_command_writes_results_a_table_and_a_picture(cli: Callable[..., Ran], tmp_path: Path) -> None:
    words = "bench --suite=xor --method symile --method tri-clip --p 0,1 --seeds 2 --steps 40 --workers 1".split()
    ran = cli(*words, "--out", tmp_path, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [r["method"] for r in found] == ["symile", "tri_clip"]
    folder = Path(found[0]["folder"]).parent
    assert (folder / "xor.png").stat().st_size > 10_000
    text = (folder / "xor.md").read_text(encoding="utf-8")
    assert all(word in text for word in ("symile", "tri_clip", "*ceiling* | 3.1 | 100.0"))
    for written in found:
        result = verify(Path(written["folder"]))
        assert [f.task for f in result.figures] == ["a+c->b p=0", "a+c->b p=1"]
    items = {m: outcomes.read(folder / m, "predictions/xor.p-1.parquet") for m in ("symile", "tri_clip")}
    assert items["symile"].ids == items["tri_clip"].ids
    assert cli("leaderboard", "table", tmp_path).code == 0


def test_a_dry_run_writes_nothing(cli: Callable[..., Ran], tmp_path: Path) -> None:
    ran = cli("bench", "--suite", "xor", "--dry-run", "--json", "--out", tmp_path / "none")
    assert json.loads(ran.out)["steps"].startswith("1,000 of 128")
    assert not (tmp_path / "none").exists()


def test_the_authors_values_are_those_of_the_facts() -> None:
    paper = authors()
    assert set(paper) == {"confu", "symile", "gram", "triangle", "clip"}
    assert all(len(values) == 11 for values in paper.values())
    assert (paper["confu"][0.5], paper["symile"][0.1], paper["gram"][0.6]) == (0.515, 0.1, 0.145)
    assert (BENCHMARKS / "paper" / "xor.csv").read_text(encoding="utf-8").startswith("#")
