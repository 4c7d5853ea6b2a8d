"""What single methods do by their options: variants, orders, masks, towers, learned scalars."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.naive import WIDTHS, arrays, features, info_nce, loss, model_of
from helpers.small import SMALLEST

from birdmml.bench.embed import Embedder
from birdmml.core import discover
from birdmml.errors import UsageError
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.network import Network
from birdmml.models.text import train_tokenizer

METHODS = discover.names("method")
FOUR = {"a": 3, "b": 4, "c": 5, "d": 6}


def test_confus_fusion_is_the_papers_and_the_released_one_by_name() -> None:
    module = discover.load("method", "confu")
    config = module.Config()
    assert (config.fused_weight, config.hidden, config.dropout, config.mask_ratio) == (0.5, 512, 0.1, 0.0)
    fusion = module.Model(config, WIDTHS).fusions["image+audio"]
    assert [type(layer).__name__ for layer in fusion] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert (fusion[0].in_features, fusion[0].out_features, fusion[3].out_features) == (11, 512, 512)
    released = module.Model(module.Config(variant="reference"), WIDTHS).fusions["image+audio"]
    assert [type(layer).__name__ for layer in released][4:] == ["LeakyReLU", "Dropout"]
    assert released[4].negative_slope == 0.2


def test_confus_released_loss_is_the_sum_over_its_number_of_terms() -> None:
    for weight, terms in ((0.5, 6), (0.0, 3)):
        model = model_of("confu", variant="reference", fused_weight=weight)
        h = features(5)
        z = arrays(model.embed(h))
        paper = model_of("confu", fused_weight=weight)
        assert terms == len(model.loss(h)) - 1 == len(paper.loss(h)) - 1
        if weight:
            assert model.loss(h)["loss"].item() == pytest.approx(loss("confu", z, 0, variant="reference"), rel=1e-5)
        else:
            assert model.loss(h)["loss"].item() == pytest.approx(loss("tri_clip", z, 0), rel=1e-5)


def test_confu_without_fused_weight_is_tri_clip_and_scores_no_fused_query() -> None:
    model = model_of("confu", fused_weight=0.0)
    assert len(model.fusions) == 0
    assert all("+" not in query for query, _ in model.pairs())
    twin = model_of("tri_clip")
    twin.projections.load_state_dict(model.projections.state_dict())
    h = features(5)
    assert model.loss(h)["loss"].item() == pytest.approx(3 * twin.loss(h)["loss"].item())


@pytest.mark.parametrize(("order", "fusions", "fused_terms"), [(2, 6, 12), (3, 10, 16), (9, 10, 16)])
def test_confu_fuses_every_subset_up_to_its_order(order: int, fusions: int, fused_terms: int) -> None:
    model = model_of("confu", FOUR, order=order)
    assert len(model.fusions) == fusions
    h = features(4, widths=FOUR)
    terms = model.loss(h)
    assert len(terms) == 6 + fused_terms + 1
    z = arrays(model.embed(h))
    assert terms["loss"].item() == pytest.approx(loss("confu", z, 0), rel=1e-5)
    assert {(q, t) for q, t in model.pairs() if "+" in q} == {tuple(name.split("~")) for name in terms if "+" in name}


def test_confu_of_two_modalities_is_info_nce() -> None:
    widths = {"a": 3, "b": 4}
    model, h = model_of("confu", widths), features(5, widths=widths)
    z = arrays(model.embed(h))
    assert model.loss(h)["loss"].item() == pytest.approx(info_nce(z["a"], z["b"], 0.07), rel=1e-5)


@pytest.mark.parametrize(("variant", "share"), [("paper", 0.25), ("reference", 0.75)])
def test_confus_mask_zeroes_a_share_in_training_only(variant: str, share: float) -> None:
    widths = dict.fromkeys(WIDTHS, 5000)
    model = model_of("confu", widths, mask_ratio=0.25, variant=variant, hidden=1)
    h = {name: torch.ones(4, 5000) for name in widths}
    torch.manual_seed(0)
    masked = model._masked(h)
    for value in masked.values():
        assert float((value == 0).float().mean()) == pytest.approx(share, abs=0.02)
    assert torch.equal(model.embed(h)["image+audio"], model.embed(h)["image+audio"])
    model.fusions.eval()
    model.training = True
    assert not torch.equal(model.embed(h)["image+audio"], model.embed(h)["image+audio"])


def test_confus_released_masks_are_drawn_crosswise() -> None:
    h = {name: torch.ones(4, 9) for name in WIDTHS}
    model = model_of("confu", dict.fromkeys(WIDTHS, 9), mask_ratio=0.5, variant="reference")
    torch.manual_seed(0)
    found = model._masked(h)
    torch.manual_seed(0)
    first, second, third = (torch.rand(4, 9) < 0.5 for _ in range(3))
    for name, mask in (("image", first), ("audio", third), ("text", second)):
        assert torch.equal(found[name], mask.float())


@pytest.mark.parametrize("name", METHODS)
def test_parameter_groups_hold_the_learned_scalars_without_decay(name: str) -> None:
    model = model_of(name)
    groups = model.parameter_groups()
    scalars = {id(p) for p in model.parameters() if p.ndim == 0}
    assert {id(p) for g in groups for p in g["params"]} == scalars
    assert all(g["weight_decay"] == 0.0 for g in groups)
    assert [g.get("lr") for g in groups] == ([0.1] if name == "symile" else [None] * len(groups))
    learned = {"clip": 2, "gram": 1, "triangle": 1, "symile": 1, "siglip": 2}
    assert len(scalars) == learned.get(name, 0)
    torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.ones(1))]}, *groups], lr=1e-4)


def test_a_learned_temperature_starts_where_it_is_told_and_stays_above_a_hundredth() -> None:
    model = model_of("tri_clip", learned_temperature=True, temperature=0.2)
    assert model.temperature().item() == pytest.approx(0.2)
    with torch.no_grad():
        model.temperature.log_scale.fill_(20.0)
    assert model.temperature().item() == pytest.approx(0.01)
    for name in ("gram", "triangle"):
        assert model_of(name, variant="reference").temperature() == 0.07
        assert model_of(name, variant="reference", learned_temperature=True).temperature.log_scale is not None


def test_symiles_released_projections_stay_random_and_the_papers_do_not() -> None:
    for variant, trained in (("paper", True), ("reference", False)):
        model = model_of("symile", variant=variant)
        h = {k: v.requires_grad_() for k, v in features(5).items()}
        model.loss(h)["loss"].backward()
        assert all((p.grad is not None) == trained for p in model.projections.parameters())
        assert model.log_scale.grad is not None
        assert all(v.grad is not None and v.grad.any() for v in h.values())


def test_symiles_scale_starts_at_e_to_2_5_and_can_be_fixed() -> None:
    assert model_of("symile").log_scale.exp().item() == pytest.approx(math.exp(2.5))
    assert not model_of("symile", learned_scale=False).log_scale.requires_grad


def test_anchors_follow_the_variant_and_the_modalities() -> None:
    mosi = {"vision": 5, "audio": 4, "text": 3}
    xor = {"a": 3, "b": 4, "c": 5}
    for name in ("gram", "triangle"):
        assert model_of(name).anchors == ("text",)
        assert model_of(name, variant="reference").anchors == ("image",)
        assert model_of(name, mosi, variant="reference").anchors == ("vision",)
        assert model_of(name, xor).anchors == ("c",)
        assert model_of(name, xor, anchor="all").anchors == ("a", "b", "c")
    assert model_of("clip", xor, anchor="b").pairs()[:2] == (("a", "b"), ("c", "b"))
    assert model_of("hub", xor).hub == "a"
    with pytest.raises(UsageError, match="6 modalities at most"):
        model_of("gram", dict.fromkeys("abcdefg", 3))


def network_of(name: str, **options: object) -> Network:
    torch.manual_seed(0)
    module = discover.load("method", name)
    return Network(SMALLEST, module, module.Config(dim=16, **options), 100)


def inputs(batch: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (batch, 3, 24, 24), dtype=torch.uint8, generator=generator),
        "audio": torch.randn(batch, 1, 16, 40, generator=generator) * 20 - 30,
        "text": torch.randint(1, 90, (batch, 9), generator=generator),
    }


def test_clips_two_models_share_nothing() -> None:
    network = network_of("clip").train()
    assert "text@audio" in network.encoders
    terms = network(inputs())
    terms["audio~text"].backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("encoders.text@audio.") for name in touched)
    assert not any(name.startswith(("encoders.image.", "encoders.text.", "head.projections.image")) for name in touched)
    assert "head.temperatures.audio.log_scale" in touched
    assert "head.temperatures.image.log_scale" not in touched


def test_clip_with_a_shared_anchor_has_one_text_encoder() -> None:
    network = network_of("clip", shared_anchor=True)
    assert set(network.encoders) == {"image", "audio", "text"}
    assert set(network.eval().embed(inputs())) == {"image", "audio", "text"}


def test_clip_scores_each_modality_with_the_text_of_its_own_model() -> None:
    model = model_of("clip")
    z = model.embed(features(4))
    assert not torch.equal(z["text"], z["text@audio"])
    found = model.score("image+audio", "text", z, z)
    torch.testing.assert_close(found, z["image"] @ z["text"].T + z["audio"] @ z["text@audio"].T)
    torch.testing.assert_close(model.score("text", "audio", z, z), z["text@audio"] @ z["audio"].T)


def test_other_methods_have_one_encoder_a_modality() -> None:
    for name in set(METHODS) - {"clip"}:
        assert set(network_of(name).encoders) == {"image", "audio", "text"}


class Film:
    """A video of two frames with sound."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.frames = torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8, generator=generator).numpy()
        self.audio = torch.randn(22_050, generator=generator).numpy()


@pytest.mark.parametrize("name", ["gram", "triangle", "tri_clip", "confu", "clip", "symile"])
def test_only_some_released_methods_leave_the_mean_over_frames(name: str) -> None:
    films = {str(i): Film(i) for i in range(3)}
    for variant in ("paper", "reference"):
        network = network_of(name, variant=variant).eval()
        config = discover.load("method", name).Config(dim=16, variant=variant)
        ready = Checkpoint(name, config, SMALLEST, 0, network, train_tokenizer(["a bird"], 100))
        found = Embedder(ready, torch.device("cpu")).videos(
            list(films), [Path(i) for i in films], lambda path: films[path.name]
        )
        length = torch.from_numpy(found.arrays["image"]).norm(dim=1)
        left = variant == "reference" and name in ("gram", "triangle", "tri_clip")
        assert (length < 0.9999).all() if left else torch.allclose(length, torch.ones(3))
        assert torch.allclose(torch.from_numpy(found.arrays["audio"]).norm(dim=1), torch.ones(3))
