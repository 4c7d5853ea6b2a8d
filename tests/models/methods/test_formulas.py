"""Losses and scores of every method against naive float64 ones, and against the published test vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.naive import area, arrays, features, loss, model_of, score, shapes, species, symile_pairs, volume
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.core import discover
from birdmml.models.methods import confu, gram, symile, tri_clip, triangle

METHODS = discover.names("method")
SINGLES = ("image", "audio", "text")
SCALE = torch.tensor(2.5).exp()


@pytest.fixture()
def z() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    names = (*SINGLES, "image+audio", "image+text", "audio+text")
    return {name: F.normalize(torch.randn(4, 8), dim=-1) for name in names}


def test_confu_and_tri_clip_give_the_published_values(z: dict[str, torch.Tensor]) -> None:
    assert float(confu.loss(z, 0.5, 0.07, variant="reference")["loss"]) == pytest.approx(3.1182487, abs=2e-6)
    assert float(tri_clip.loss({m: z[m] for m in SINGLES}, 0.07)["loss"]) == pytest.approx(5.0353470, abs=2e-6)


@pytest.mark.parametrize(
    ("module", "value", "sizes"),
    [(gram, 2.5784938, (0.9891204, 0.8428216)), (triangle, 7.0505490, (1.7079468, 0.7276913))],
)
def test_gram_and_triangle_give_the_published_values(
    z: dict[str, torch.Tensor], module: type[gram], value: float, sizes: tuple[float, float]
) -> None:
    model = module.Model(module.Config(dim=8, variant="reference"), dict.fromkeys(SINGLES, 8))
    found = model.size([z["image"]], [z["audio"], z["text"]])
    assert found[0, :2].tolist() == pytest.approx(list(sizes), abs=2e-6)
    terms = model.terms({m: z[m] for m in SINGLES}, 0.07)
    assert float(terms["loss"]) == pytest.approx(value, abs=2e-6)


def test_symile_gives_the_published_values(z: dict[str, torch.Tensor]) -> None:
    singles = {m: z[m] for m in SINGLES}
    assert float(symile.loss(singles, SCALE, "n_squared")["loss"]) == pytest.approx(3.4193103, abs=2e-6)
    torch.manual_seed(0)
    assert float(symile.loss(singles, SCALE, "n")["loss"]) == pytest.approx(1.9470235, abs=2e-6)


@pytest.mark.parametrize("name", METHODS)
@settings(deadline=None, max_examples=12)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**31), st.booleans())
def test_every_loss_equals_its_naive_float64_twin(name: str, batch: int, dim: int, seed: int, masked: bool) -> None:
    model, h = model_of(name, dim=dim, seed=seed), features(batch, seed)
    same = species(batch, seed) if masked else None
    torch.manual_seed(seed)
    terms = model.loss(h, None if same is None else torch.from_numpy(same))
    wanted = loss(name, arrays(model.embed(h)), seed, same)
    assert terms["loss"].item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**31), st.booleans())
def test_symile_with_all_pairs_equals_the_triple_loop(batch: int, dim: int, seed: int, masked: bool) -> None:
    model, h = model_of("symile", dim=dim, seed=seed, negatives="n_squared"), features(batch, seed)
    same = species(batch, seed) if masked else None
    found = model.loss(h, None if same is None else torch.from_numpy(same))["loss"]
    z = arrays(model.embed(h))
    assert found.item() == pytest.approx(symile_pairs(z, math.exp(2.5), same), rel=1e-5, abs=1e-5)


def test_recomputed_blocks_of_symile_have_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model, h = model_of("symile", negatives="n_squared"), features(5)
    gradients = []
    for most in (2**40, 0):
        monkeypatch.setattr(symile, "SAVED_ELEMENTS", most)
        model.zero_grad()
        model.loss(h)["loss"].backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["gram", "triangle"])
@pytest.mark.parametrize("anchor", [*SINGLES, "all"])
def test_each_anchor_is_its_own_loss_and_all_is_their_mean(name: str, anchor: str) -> None:
    model, h = model_of(name, anchor=anchor, learned_temperature=False, temperature=0.2), features(6)
    z = arrays(model.embed(h))
    anchors = SINGLES if anchor == "all" else (anchor,)
    size = volume if name == "gram" else area
    assert model.loss(h)["loss"].item() == pytest.approx(shapes(size, z, anchors, 0.2), rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_every_score_of_every_pair_equals_a_loop_over_items(name: str) -> None:
    model = model_of(name)
    queries, candidates = model.embed(features(3, 1)), model.embed(features(4, 2))
    q, c = arrays(queries), arrays(candidates)
    for query, target in model.pairs():
        block = model.score(query, target, queries, candidates).detach()
        wanted = [[score(name, query, target, q, c, i, j) for j in range(4)] for i in range(3)]
        np.testing.assert_allclose(block.numpy(), wanted, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["gram", "triangle"])
def test_scores_in_blocks_of_queries_are_the_same_scores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    z = model.embed(features(17))
    whole = model.score("image+text", "audio", z, z)
    monkeypatch.setattr("birdmml.models.heads.BLOCK_ELEMENTS", 40)
    torch.testing.assert_close(model.score("image+text", "audio", z, z), whole)


def test_triangles_closed_form_is_the_broadcast_one_and_the_same_from_each_corner() -> None:
    a, b, c = F.normalize(torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    u, v = a[:, None] - b[None], a[:, None] - c[None]
    wanted = (u.square().sum(-1) * v.square().sum(-1) - (u * v).sum(-1).square()) / 2
    torch.testing.assert_close(triangle.area([a], [b, c]), wanted)
    torch.testing.assert_close(triangle.area([b, a], [c]).diagonal(), wanted.diagonal())


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.integers(0, 2**31))
def test_the_determinant_is_numpys(size: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(size, size))
    found = gram.determinant([[torch.tensor(x, dtype=torch.float64) for x in row] for row in matrix])
    assert float(found) == pytest.approx(float(np.linalg.det(matrix)), rel=1e-6, abs=1e-6)


def test_no_score_of_a_thousand_takes_a_tensor_of_three_sizes() -> None:
    """1000 x 1000 x 512 values are 2 GB: a score that made them would need many times this limit."""
    n, dim = 1000, 512
    z = {m: F.normalize(torch.randn(n, dim), dim=-1) for m in SINGLES}
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    for name in ("gram", "triangle", "symile"):
        model = model_of(name, dim=dim)
        with Watch():
            model.score("image+audio", "text", z, z)
    assert largest <= 2 * n * n


def test_a_volume_of_two_is_blind_to_the_sign() -> None:
    a = F.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(1)), dim=-1)
    cosine = a @ a.T
    torch.testing.assert_close(gram.volume([a], [a]), (1 - cosine**2).clamp_min(0).sqrt(), atol=1e-3, rtol=0)
    torch.testing.assert_close(gram.volume([a], [-a]), gram.volume([a], [a]))
