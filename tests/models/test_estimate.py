"""The dry run's memory and work, beside a step that is measured."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from birdmml.core import discover, settings
from birdmml.models.estimate import FACTOR, Estimate, estimate
from birdmml.models.network import Network
from birdmml.models.presets import Preset, preset

ROWS = 48
SMALL = settings.override(preset("tiny"), ["front_end.image_size=112", f"training.batch_size={ROWS}"])

MEASURE = """
import dataclasses, resource, sys, torch
sys.path.insert(0, {tests!r})
from models.test_estimate import SMALL, ROWS, inputs, network_of
torch.set_num_threads(1)
def step(rows):
    network(inputs(rows))["loss"].backward(); made.step(); made.zero_grad()
network = network_of(SMALL); made = torch.optim.AdamW(network.parameters())
step(2)
def told(name):
    line = next(x for x in open("/proc/self/status") if x.startswith(name + ":"))
    return int(line.split()[1]) * 1024
open("/proc/self/clear_refs", "w").write("5")  # The peak counts from here: imports may have had a higher one.
before = told("VmRSS")
step(ROWS)
print(told("VmHWM") - before)
"""


def network_of(sizes: Preset) -> Network:
    module = discover.load("method", "tri_clip")
    return Network(sizes, module, dataclasses.replace(module.Config(), dim=sizes.dim), 500).train()


def inputs(rows: int) -> dict[str, torch.Tensor]:
    f = SMALL.front_end
    return {
        "image": torch.zeros(rows, 3, f.image_size, f.image_size, dtype=torch.uint8),
        "audio": torch.randn(rows, 1, f.bands, f.frames),
        "text": torch.randint(1, 400, (rows, f.max_tokens)),
    }


@pytest.fixture(scope="module")
def found() -> Estimate:
    module = discover.load("method", "tri_clip")
    return estimate(SMALL, "tri_clip", dataclasses.replace(module.Config(), dim=SMALL.dim), 500)


def test_memory_of_a_step_is_within_the_stated_factor_of_a_measured_one(found: Estimate) -> None:
    code = MEASURE.format(tests=str(Path(__file__).parents[1]))
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert 1 / FACTOR < found.row_bytes * (ROWS - 2) / int(ran.stdout) < FACTOR


def test_weights_gradients_and_moments_are_counted(found: Estimate) -> None:
    assert found.fixed_bytes == 16 * sum(p.numel() for p in network_of(SMALL).parameters())


def test_work_is_what_a_real_step_counts(found: Estimate) -> None:
    network, counter = network_of(SMALL), FlopCounterMode(display=False)
    with counter:
        network(inputs(4))["loss"].backward()
    assert found.row_flops * 4 == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_chunks_take_less_memory_and_a_third_more_work(found: Estimate) -> None:
    whole = SMALL.training
    chunked = dataclasses.replace(whole, chunk_size=8)
    assert found.memory(chunked) - found.fixed_bytes == (found.memory(whole) - found.fixed_bytes) // 6
    assert found.flops(chunked) == pytest.approx(found.flops(whole) * 4 / 3)


def test_checkpointed_activations_are_seen_by_the_estimate(found: Estimate) -> None:
    module = discover.load("method", "tri_clip")
    sizes = settings.override(SMALL, ["training.activation_checkpointing=true"])
    less = estimate(sizes, "tri_clip", dataclasses.replace(module.Config(), dim=SMALL.dim), 500)
    assert less.row_bytes < 0.7 * found.row_bytes
