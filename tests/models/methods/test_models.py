"""Every method's model keeps the contract of nn.heads.Head, for any modalities, any batch, any input."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from helpers.naive import WIDTHS, features, model_of, species
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.core import discover
from birdmml.errors import UnknownName, UsageError
from birdmml.models.heads import TOWER

METHODS = discover.names("method")
FOUR = {"a": 3, "b": 4, "c": 5, "d": 6}
SINGLE = {(a, b) for a in WIDTHS for b in WIDTHS if a != b}
JOINT = {("image+audio", "text"), ("image+text", "audio"), ("audio+text", "image")}
WITH_TEXT = {(a, b) for a, b in SINGLE if "text" in (a, b)}
PAIRS = {
    "clip": WITH_TEXT | {("image+audio", "text")},
    "symile": JOINT,
    "triangle": JOINT,
    **dict.fromkeys(("confu", "gram", "hub", "siglip", "tri_clip"), SINGLE | JOINT),
}
TEMPERATURES = {"siglip": 0.1, "symile": None}


def part_of(name: str) -> set[str]:
    """The modalities that an embedding comes from: "text@audio" is a text."""
    return {part.split(TOWER)[0] for part in name.split("+")}


@pytest.mark.parametrize("name", METHODS)
def test_the_card_is_complete_and_the_defaults_are_the_papers(name: str) -> None:
    module = discover.load("method", name)
    assert all((module.CARD.summary, module.CARD.license, module.CARD.citation, module.CARD.url))
    config = module.Config()
    assert (config.dim, getattr(config, "temperature", None)) == (512, TEMPERATURES.get(name, 0.07))
    assert getattr(config, "variant", "paper") == "paper"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_losses_are_finite_scalars_and_reach_every_weight(name: str, batch: int) -> None:
    model = model_of(name)
    terms = model.loss(features(batch))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    terms["loss"].backward()
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()
        assert batch == 1 or weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", METHODS)
def test_one_row_has_nothing_to_tell_apart(name: str) -> None:
    model = model_of(name)
    loss = model.loss(features(1))["loss"]
    if name == "siglip":
        assert loss > 0
    else:
        assert loss == 0
        loss.backward()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("widths", [WIDTHS, FOUR, {"vision": 5, "audio": 4, "text": 3}, {"a": 3, "b": 4}], ids=len)
def test_any_subset_of_modalities_embeds_to_the_same_unit_vectors(name: str, widths: dict[str, int]) -> None:
    if name == "triangle" and len(widths) != 3:
        pytest.skip("defined for three")
    model = model_of(name, widths)
    h = features(5, widths=widths)
    whole = model.embed(h)
    assert set(widths) <= set(whole)
    for count in range(1, len(widths) + 1):
        for only in combinations(widths, count):
            part = model.embed({m: h[m] for m in only})
            assert set(part) == {key for key in whole if part_of(key) <= set(only)}
            for key, value in part.items():
                torch.testing.assert_close(value, whole[key])
                torch.testing.assert_close(value.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("name", METHODS)
def test_the_defined_pairs_are_the_methods_own(name: str) -> None:
    pairs = model_of(name).pairs()
    assert set(pairs) == PAIRS[name]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("widths", [WIDTHS, FOUR, {"a": 3, "b": 4}], ids=len)
def test_each_defined_pair_scores_and_others_are_refused(name: str, widths: dict[str, int]) -> None:
    if name == "triangle" and len(widths) != 3:
        with pytest.raises(UsageError, match="triangle is defined for 3 modalities.*use confu"):
            model_of(name, widths)
        return
    model = model_of(name, widths)
    queries, candidates = model.embed(features(3, 1, widths)), model.embed(features(4, 2, widths))
    assert model.pairs()
    for query, target in model.pairs():
        block = model.score(query, target, queries, candidates)
        assert block.shape == (3, 4)
        assert block.isfinite().all()
        assert block.dtype == torch.float32
        for i in range(3):  # a block is nothing but its rows
            one = {key: value[i : i + 1] for key, value in queries.items()}
            torch.testing.assert_close(model.score(query, target, one, candidates)[0], block[i])
    first = next(iter(widths))
    with pytest.raises(UsageError, match=f"{name} defines no score {first}->{first}"):
        model.score(first, first, queries, candidates)


def test_symile_and_triangle_have_no_one_to_one_score() -> None:
    for name in ("symile", "triangle"):
        z = model_of(name).embed(features(3))
        with pytest.raises(UsageError, match="no score image->text"):
            model_of(name).score("image", "text", z, z)


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_functions_of_the_batch_alone(name: str) -> None:
    model, h = model_of(name), features(6)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(model.loss(h)["loss"])
        model.loss(features(4, 9))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_of_the_same_species_is_no_negative(name: str) -> None:
    model, h = model_of(name), features(6)
    everyone, nobody = torch.ones(6, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)
    torch.manual_seed(0)
    plain = model.loss(h)["loss"]
    torch.manual_seed(0)
    same = model.loss(h, nobody)["loss"]
    if name != "symile":  # its shuffles can bring the positive back by chance, which the mask then leaves out
        torch.testing.assert_close(same, plain)
    alone = model.loss(h, everyone)["loss"]
    assert alone < plain
    if name != "siglip":
        assert alone == 0
    torch.manual_seed(0)
    assert model.loss(h, torch.from_numpy(species(6, 1)))["loss"] < plain


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("negatives", ["n", "n_squared"])
@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.lists(st.sampled_from(["zero", "same", "opposite", "tiny", "huge", "random"]), min_size=3, max_size=3),
             min_size=1, max_size=5),
    st.booleans(),
)  # fmt: skip
def test_gradients_are_finite_at_identical_opposite_and_zero_vectors(
    name: str, negatives: str, kinds: list[list[str]], masked: bool
) -> None:
    if negatives == "n_squared" and name != "symile":
        return
    widths = dict.fromkeys(WIDTHS, 4)
    options = {"negatives": negatives} if name == "symile" else {}
    model = model_of(name, widths, dim=4, **options)
    with torch.no_grad():  # h comes through to the formula as it is
        for projection in model.projections.values():
            projection.weight.copy_(torch.eye(4))
            projection.bias.zero_()
    base = torch.tensor([1.0, 2.0, 0.0, -1.0])
    made = {"zero": 0 * base, "same": base, "opposite": -base, "tiny": 1e-30 * base, "huge": 1e18 * base}
    generator = torch.Generator().manual_seed(len(kinds))
    h = {
        m: torch.stack([made.get(row[i], torch.randn(4, generator=generator)) for row in kinds]).requires_grad_()
        for i, m in enumerate(widths)
    }
    same = torch.from_numpy(species(len(kinds), 0)) if masked else None
    loss = model.loss(h, same)["loss"]
    loss.backward()
    assert loss.isfinite()
    for value in (*h.values(), *model.parameters()):
        assert value.grad is None or value.grad.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_under_autocast_the_formula_runs_in_full_precision(name: str) -> None:
    model = model_of(name)
    h = features(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = model.embed(h)
        torch.manual_seed(0)
        terms = model.loss(h)
    assert all(value.dtype == torch.float32 for value in (*z.values(), *terms.values()))
    torch.manual_seed(0)
    torch.testing.assert_close(terms["loss"], model.loss(h)["loss"], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_can_be_batched_over_models_as_seeds(name: str) -> None:
    models, h = [model_of(name, seed=s) for s in (0, 1)], features(5)
    stacked, _ = torch.func.stack_module_state(models)

    def of(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(models[0], weights, (h,))["loss"]

    for model in models:
        model.forward = model.loss
    torch.manual_seed(0)
    found = torch.func.vmap(torch.func.grad(of), randomness="same")(stacked)
    for i, model in enumerate(models):
        torch.manual_seed(0)
        model.loss(h)["loss"].backward()
        for key, weight in model.named_parameters():
            torch.testing.assert_close(found[key][i], weight.grad)


@pytest.mark.parametrize("name", METHODS)
def test_a_missing_modality_and_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="needs text too"):
        model_of(name).loss({k: v for k, v in features(3).items() if k != "text"})
    for widths in ({"image": 4}, {"a+b": 4, "c": 4, "d": 4}, {"a.b": 4, "c": 4, "d": 4}):
        with pytest.raises(UsageError):
            model_of(name, widths)


@pytest.mark.parametrize("name", ["clip", "hub", "gram", "triangle"])
def test_an_unknown_anchor_names_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        model_of(name, anchor="txet")
    assert caught.value.nearest[0] == "text"


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *((name, {"temperature": 0.0}) for name in METHODS if name != "symile"),
        ("gram", {"label_smoothing": 1.0}),
        ("symile", {"scale_learning_rate": 0.0}),
        ("symile", {"log_scale": float("nan")}),
        ("confu", {"fused_weight": 1.5}),
        ("confu", {"dropout": 1.0}),
        ("confu", {"hidden": 0}),
        ("confu", {"order": 1}),
        ("confu", {"mask_ratio": -0.1}),
    ],
)
def test_senseless_settings_are_refused(name: str, bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        discover.load("method", name).Config(**bad)
