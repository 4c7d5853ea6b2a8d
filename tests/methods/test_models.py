"""Every method's model keeps the contract of nn.heads.Head; scores equal loops over items."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import pytest
import torch

from birdmml import discover
from birdmml.errors import UsageError
from birdmml.nn.heads import Head

WIDTHS = {"image": 6, "audio": 5, "text": 4}
METHODS = discover.names("method")


def model_of(name: str) -> Head:
    torch.manual_seed(0)
    module = discover.load("method", name)
    model = module.Model(dataclasses.replace(module.Config(), dim=8), WIDTHS)
    model.eval()
    return model  # type: ignore[no-any-return]  # the module is only known by its contract


def features(batch: int, seed: int = 0, only: tuple[str, ...] = tuple(WIDTHS)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(batch, width, generator=generator) for name, width in WIDTHS.items()}
    return {name: made[name] for name in only}


@pytest.mark.parametrize("name", METHODS)
def test_the_card_is_complete_and_the_defaults_are_the_papers(name: str) -> None:
    module = discover.load("method", name)
    assert all((module.CARD.summary, module.CARD.license, module.CARD.citation, module.CARD.url))
    assert (module.Config().dim, module.Config().temperature) == (512, 0.07)


def test_confus_fusion_is_the_papers() -> None:
    module = discover.load("method", "confu")
    config = module.Config()
    assert (config.fused_weight, config.hidden, config.dropout) == (0.5, 512, 0.1)
    fusion = module.Model(config, WIDTHS).fusions["image+audio"]
    assert [type(layer).__name__ for layer in fusion] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert (fusion[0].in_features, fusion[0].out_features, fusion[3].out_features) == (11, 512, 512)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_losses_are_finite_scalars_and_reach_every_weight(name: str, batch: int) -> None:
    model = model_of(name)
    terms = model.loss(features(batch))
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    if batch > 1:
        terms["loss"].backward()
        assert isinstance(model, torch.nn.Module)
        for weight in model.parameters():
            assert weight.grad is not None
            assert weight.grad.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_any_subset_of_modalities_embeds_to_the_same_unit_vectors(name: str) -> None:
    model = model_of(name)
    whole = model.embed(features(5))
    for count in (1, 2, 3):
        for only in combinations(WIDTHS, count):
            part = model.embed(features(5, only=only))
            assert set(part) == {key for key in whole if set(key.split("+")) <= set(only)}
            for key, value in part.items():
                torch.testing.assert_close(value, whole[key])
                torch.testing.assert_close(value.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("name", METHODS)
def test_each_defined_pair_scores_and_others_are_refused(name: str) -> None:
    model = model_of(name)
    queries, candidates = model.embed(features(3, 1)), model.embed(features(4, 2))
    assert len(model.pairs()) == 9
    for query, target in model.pairs():
        block = model.score(query, target, queries, candidates)
        assert block.shape == (3, 4)
        for i in range(3):  # a block is nothing but its rows
            one = {key: value[i : i + 1] for key, value in queries.items()}
            torch.testing.assert_close(model.score(query, target, one, candidates)[0], block[i])
    with pytest.raises(UsageError, match="text->text"):
        model.score("text", "text", queries, candidates)


def test_confu_scores_two_to_one_with_the_fused_vector() -> None:
    model = model_of("confu")
    queries, candidates = model.embed(features(3, 1)), model.embed(features(4, 2))
    found = model.score("image+text", "audio", queries, candidates)
    for i in range(3):
        for j in range(4):
            assert float(found[i, j]) == pytest.approx(
                float(torch.dot(queries["image+text"][i], candidates["audio"][j])), abs=1e-6
            )


def test_tri_clip_scores_two_to_one_with_the_sum_of_two_cosines() -> None:
    model = model_of("tri_clip")
    queries, candidates = model.embed(features(3, 1)), model.embed(features(4, 2))
    found = model.score("image+audio", "text", queries, candidates)
    for i in range(3):
        for j in range(4):
            text = candidates["text"][j]
            wanted = torch.dot(queries["image"][i], text) + torch.dot(queries["audio"][i], text)
            assert float(found[i, j]) == pytest.approx(float(wanted), abs=1e-6)
    assert "extension" in discover.load("method", "tri_clip").EXTENSIONS


def test_a_missing_modality_and_senseless_settings_are_refused() -> None:
    module = discover.load("method", "confu")
    with pytest.raises(UsageError, match="image, audio, text"):
        module.Model(module.Config(), {"image": 4, "audio": 4})
    for bad in ({"temperature": 0.0}, {"fused_weight": 1.5}, {"dropout": 1.0}, {"hidden": 0}):
        with pytest.raises(UsageError):
            module.Config(**bad)
