"""A batch in chunks learns what the batch at once learns, for every method found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
import torch
from helpers.small import SMALLEST
from torch import Tensor

from birdmml.core import discover, settings
from birdmml.models.encoders import batch_norms
from birdmml.models.network import Network
from birdmml.models.presets import Preset
from birdmml.models.ranks import ProcessRanks
from birdmml.models.step import Terms, checkpoint_activations, chunks_of, numerics, step

METHODS = discover.names("method")
FP32 = numerics("fp32", torch.device("cpu"))
# Without batch norm and dropout a row's features depend on nothing but the row.
STILL = settings.override(
    SMALLEST, ["encoders.image.norm='group'", "encoders.audio.norm='group'", "encoders.text.dropout=0.0"]
)


def network_of(method: str, preset: Preset = STILL, dropout: float = 0.0) -> Network:
    torch.manual_seed(1)
    module = discover.load("method", method)
    config = dataclasses.replace(module.Config(), dim=preset.dim)
    if hasattr(config, "dropout"):
        config = dataclasses.replace(config, dropout=dropout)
    return Network(preset, module, config, 50).train()


def batch(rows: int = 11) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    return {
        "image": torch.randint(0, 256, (rows, 3, 24, 24), dtype=torch.uint8, generator=g),
        "audio": torch.randn(rows, 1, 16, 40, generator=g) * 20 - 30,
        "text": torch.randint(1, 50, (rows, 9), generator=g),
    }


def learned(
    network: Network, inputs: Mapping[str, Tensor], parts: list[int], seed: int = 5
) -> tuple[Terms, dict[str, Tensor]]:
    """The terms of one step and the gradient of every weight that has one."""
    network.zero_grad()
    torch.manual_seed(seed)
    terms = step(network, inputs, network.model.loss, FP32, parts)
    return terms, {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Equal names; values to `tolerance`, absolute and relative to the largest of each tensor."""
    assert a.keys() == b.keys()
    for name in a:
        scale = max(1.0, float(b[name].abs().max()))
        assert float((a[name] - b[name]).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("parts", [[4, 4, 3], [1] * 11])
def test_chunks_give_the_loss_and_the_gradients_of_the_whole_batch(method: str, parts: list[int]) -> None:
    network, inputs = network_of(method), batch()
    whole, gradients = learned(network, inputs, [])
    terms, found = learned(network, inputs, parts)
    close(terms, whole)
    close(found, gradients)


@pytest.mark.parametrize("method", METHODS)
def test_with_dropout_and_batch_norm_chunks_are_the_chunked_network_to_the_last_draw(method: str) -> None:
    preset = settings.override(SMALLEST, ["encoders.text.dropout=0.3"])
    network, inputs, parts = network_of(method, preset, dropout=0.3), batch(), [6, 5]
    terms, found = learned(network, inputs, parts)
    network.zero_grad()
    torch.manual_seed(5)
    pieces = [network.features({k: v.split(parts)[i] for k, v in inputs.items()}) for i in range(2)]
    plain = network.model.loss({k: torch.cat([p[k] for p in pieces]) for k in pieces[0]})
    plain["loss"].backward()
    close(terms, {k: v.detach() for k, v in plain.items()})
    close(found, {n: p.grad for n, p in network.named_parameters() if p.grad is not None})


def test_a_row_that_passes_twice_counts_once_in_the_running_statistics() -> None:
    for change in ("chunks", "checkpointing"):
        plain, other = network_of("confu", SMALLEST), network_of("confu", SMALLEST)
        if change == "checkpointing":
            checkpoint_activations(other)
            _, a = learned(plain, batch(), [])
            _, b = learned(other, batch(), [])
            assert all(torch.equal(a[k], b[k]) for k in a)
        else:
            torch.manual_seed(5)
            with torch.no_grad():
                for i in range(2):
                    plain.features({k: v.split([6, 5])[i] for k, v in batch().items()})
            learned(other, batch(), [6, 5])
        for a, b in zip(batch_norms(plain), batch_norms(other), strict=True):
            assert torch.equal(a.running_mean, b.running_mean)
            assert torch.equal(a.running_var, b.running_var)
            assert a.num_batches_tracked == b.num_batches_tracked


@pytest.mark.parametrize("method", METHODS)
def test_checkpointed_activations_change_no_gradient(method: str) -> None:
    plain = network_of(method, settings.override(SMALLEST, ["encoders.text.dropout=0.3"]), 0.3)
    other = network_of(method, settings.override(SMALLEST, ["encoders.text.dropout=0.3"]), 0.3)
    checkpoint_activations(other)
    assert plain.state_dict().keys() == other.state_dict().keys()
    (terms, a), (again, b) = learned(plain, batch(), []), learned(other, batch(), [])
    assert all(torch.equal(terms[k], again[k]) for k in terms)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_checkpointing_keeps_less_for_the_way_back() -> None:
    kept = []
    for on in (False, True):
        network, seen = network_of("tri_clip"), [0]
        if on:
            checkpoint_activations(network)

        def note(t: Tensor, seen: list[int] = seen) -> Tensor:
            seen[0] += t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            network.model.loss(network.features(batch()))
        kept.append(seen[0])
    assert kept[1] < 0.6 * kept[0]


def test_autocast_is_near_full_precision() -> None:
    network, inputs = network_of("confu"), batch()
    full, _ = learned(network, inputs, [])
    network.zero_grad()
    low = step(network, inputs, network.model.loss, numerics("bf16", torch.device("cpu")), [])
    assert float(low["loss"]) == pytest.approx(float(full["loss"]), rel=0.02)
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in network.parameters())


def test_frozen_encoders_stay_and_the_head_learns_in_chunks() -> None:
    network, inputs = network_of("confu"), batch()
    for p in network.encoders.parameters():
        p.requires_grad_(False)
    _, whole = learned(network, inputs, [])
    _, found = learned(network, inputs, [4, 4, 3])
    assert all(name.startswith("head.") for name in found)
    close(found, whole)


@pytest.mark.parametrize("rows", [2, 3, 7, 16])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_ranks_have_equally_many_chunks_and_every_row_is_in_one(rows: int, size: int, chunk: int) -> None:
    parts = [chunks_of(rows, chunk, ProcessRanks(r, size)) for r in range(size)]
    assert len({len(p) for p in parts}) == 1
    assert sum(map(sum, parts)) == rows
    assert all(n >= 1 for p in parts for n in p)
    assert max(max(p) for p in parts) <= chunk + 1
