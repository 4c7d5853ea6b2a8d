"""Losses against the published test vectors and a naive float64 loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import naive
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.models.losses import contrast, info_nce, normalise, symmetric
from birdmml.models.methods import confu, tri_clip

TAU = 0.07
# Values of facts/methods.md: torch 2.13, CPU, float32, manual_seed(0).
VECTORS = {
    ("image+audio", "text"): 9.7693682,
    ("image+text", "audio"): 4.7527485,
    ("audio+text", "image"): 7.7908249,
    ("image", "audio"): 5.1350164,
    ("audio", "text"): 5.9051042,
    ("text", "image"): 4.0659204,
}


@pytest.fixture()
def z() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    names = ("image", "audio", "text", "image+audio", "image+text", "audio+text")
    return {name: F.normalize(torch.randn(4, 8), dim=-1) for name in names}


def unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    x = generator.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_random_numbers_are_those_of_the_test_vectors(z: dict[str, torch.Tensor]) -> None:
    assert z["image"][0, :3].tolist() == pytest.approx([-0.3834694, -0.3925024, -0.0853489], abs=1e-6)


@pytest.mark.parametrize(("pair", "value"), VECTORS.items())
def test_info_nce_gives_the_published_values(z: dict[str, torch.Tensor], pair: tuple[str, str], value: float) -> None:
    assert float(info_nce(z[pair[0]], z[pair[1]], TAU)) == pytest.approx(value, abs=2e-6)


def test_confu_gives_the_published_value_at_the_reference_scale(z: dict[str, torch.Tensor]) -> None:
    assert float(confu.loss(z, 0.5, TAU)["loss"]) / 6 == pytest.approx(3.1182487, abs=2e-6)


def test_tri_clip_gives_the_published_value(z: dict[str, torch.Tensor]) -> None:
    singles = {name: z[name] for name in ("image", "audio", "text")}
    assert float(tri_clip.loss(singles, TAU)["loss"]) == pytest.approx(5.0353470, abs=2e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 12), st.floats(0.03, 2.0), st.integers(0, 2**32 - 1))
def test_info_nce_equals_the_naive_float64_one(batch: int, dim: int, tau: float, seed: int) -> None:
    a, b = unit(np.random.default_rng(seed), 2, batch, dim)
    found = float(info_nce(torch.from_numpy(a).float(), torch.from_numpy(b).float(), tau))
    assert found == pytest.approx(naive.info_nce(a, b, tau), rel=1e-5, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 7), st.integers(2, 9), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_confu_and_tri_clip_equal_their_formulas_in_float64(batch: int, dim: int, weight: float, seed: int) -> None:
    names = ("image", "audio", "text", "image+audio", "image+text", "audio+text")
    arrays = dict(zip(names, unit(np.random.default_rng(seed), 6, batch, dim), strict=True))
    tensors = {name: torch.from_numpy(value).float() for name, value in arrays.items()}

    def term(a: str, b: str) -> float:
        return naive.info_nce(arrays[a], arrays[b], TAU)

    pairwise = term("image", "audio") + term("image", "text") + term("audio", "text")
    fused = term("image+audio", "text") + term("image+text", "audio") + term("audio+text", "image")
    found = float(confu.loss(tensors, weight, TAU)["loss"])
    assert found == pytest.approx((1 - weight) * pairwise + weight * fused, rel=1e-5, abs=1e-5)
    singles = {name: tensors[name] for name in names[:3]}
    assert float(tri_clip.loss(singles, TAU)["loss"]) == pytest.approx(pairwise / 3, rel=1e-5, abs=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_confu_without_fusion_is_three_times_tri_clip(batch: int, seed: int) -> None:
    names = ("image", "audio", "text", "image+audio", "image+text", "audio+text")
    z = {n: torch.from_numpy(v) for n, v in zip(names, unit(np.random.default_rng(seed), 6, batch, 5), strict=True)}
    singles = {n: z[n] for n in names[:3]}
    assert float(confu.loss(z, 0.0, TAU)["loss"]) == pytest.approx(3 * float(tri_clip.loss(singles, TAU)["loss"]))


@pytest.mark.parametrize("case", ["identical", "opposite", "zero", "tiny"])
def test_gradients_are_finite_at_degenerate_vectors(case: str) -> None:
    x = {"identical": torch.ones(3, 4), "opposite": torch.ones(3, 4), "zero": torch.zeros(3, 4)}
    a = x.get(case, torch.full((3, 4), 1e-30)).clone().requires_grad_()
    b = (-a.detach() if case == "opposite" else a.detach()).clone().requires_grad_()
    info_nce(normalise(a), normalise(b), TAU).backward()
    for value in (a, b):
        assert value.grad is not None
        assert value.grad.isfinite().all()


def test_a_batch_of_one_has_no_negatives_and_no_loss() -> None:
    assert float(info_nce(torch.ones(1, 4), -torch.ones(1, 4), TAU)) == 0.0


def test_norms_and_softmax_stay_float32_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(16, 64, generator=generator), torch.randn(16, 64, generator=generator)
    plain = info_nce(normalise(a), normalise(b), TAU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(normalise(a), normalise(b), TAU)
    assert found.dtype == torch.float32
    assert float(found) == float(plain)


def test_different_shapes_raise() -> None:
    with pytest.raises(ValueError, match="one shape"):
        info_nce(torch.ones(3, 4), torch.ones(2, 4), TAU)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.floats(0.0, 0.9), st.booleans(), st.integers(0, 2**31))
def test_masked_and_smoothed_cross_entropy_equals_the_naive_one(
    batch: int, smoothing: float, masked: bool, seed: int
) -> None:
    logits = 5 * np.random.default_rng(seed).normal(size=(batch, batch))
    same = naive.species(batch, seed) if masked else None
    found = symmetric(torch.from_numpy(logits).float(), None if same is None else torch.from_numpy(same), smoothing)
    wanted = naive.both_ways(lambda i, j: float(logits[i, j]), batch, same, smoothing)
    assert float(found) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_smoothing_without_a_mask_is_torchs() -> None:
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    wanted = F.cross_entropy(logits, torch.arange(6), label_smoothing=0.1)
    torch.testing.assert_close(contrast(logits, smoothing=0.1), wanted)
    nobody = torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(contrast(logits, nobody, 0.1), wanted)


def test_masked_rows_get_no_gradient() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    contrast(logits, same, 0.1).backward()
    assert logits.grad is not None
    assert ((logits.grad == 0) == (same & ~torch.eye(4, dtype=torch.bool))).all()
