"""What a training will take, before it starts: weights, memory, work. Nothing is computed, only shapes.

A step is traced with torch's fake tensors: matrix products and convolutions are counted, and what autograd keeps
for the way back is added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from birdmml.core import discover
from birdmml.core.files import human_bytes
from birdmml.models.network import Network
from birdmml.models.presets import Preset, Training
from birdmml.models.step import checkpoint_activations

# Weights, gradients and two moments of AdamW, float32.
COPIES = 4
# Largest factor, either way, between estimate and a measured step (see tests/models/test_estimate.py).
FACTOR = 2.0
# Not all that is free now can be had: other processes take some, and torch's allocator leaves gaps.
MARGIN = 0.8
TRACED = (4, 8)


@dataclass(frozen=True)
class Estimate:
    """`fixed_bytes` whatever the batch, `row_bytes` kept for each row of a pass, `row_flops` forward and backward."""

    parameters: Mapping[str, int]
    fixed_bytes: int
    row_bytes: int
    row_flops: int

    def memory(self, settings: Training) -> int:
        """Peak bytes of a step: weights and their like, and the rows that are under way at once."""
        return self.fixed_bytes + self.row_bytes * (settings.chunk_size or settings.batch_size)

    def flops(self, settings: Training) -> int:
        """Floating-point operations of a step; chunks and checkpointed blocks pass forward twice."""
        again = bool(settings.chunk_size) + settings.activation_checkpointing
        return int(self.row_flops * settings.batch_size * (1 + again / 3))


def estimate(preset: Preset, method: str, config: Any, vocabulary: int) -> Estimate:
    """Trace two small batches; the difference between them is what a row costs."""
    with torch.device("meta"):
        network = Network(preset, discover.load("method", method), config, vocabulary).train()
    if preset.training.activation_checkpointing:
        checkpoint_activations(network)
    # Fake tensors beside "meta": transformers looks into attention masks unless it sees that nothing is there.
    with FakeTensorMode(allow_non_fake_inputs=True):
        (less, work), (more, twice) = (_traced(network, preset, rows) for rows in TRACED)
    parts, rows = network.parameters_by_part(), TRACED[1] - TRACED[0]
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    fixed = 4 * (sum(parts.values()) + (COPIES - 1) * learned)
    return Estimate(parts, fixed, (more - less) // rows, (twice - work) // rows)


def _traced(network: Network, preset: Preset, rows: int) -> tuple[int, int]:
    """Bytes kept for the way back, and operations there and back, of one batch."""
    kept: dict[int, Tensor] = {}
    weights = {p.untyped_storage()._cdata for p in network.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in weights:
            kept[storage] = tensor  # held, so that no other tensor gets its number
        return tensor

    f = preset.front_end
    inputs = {
        "image": torch.empty(rows, 3, f.image_size, f.image_size, dtype=torch.uint8, device="meta"),
        "audio": torch.empty(rows, 1, f.bands, f.frames, device="meta"),
        "text": torch.empty(rows, f.max_tokens, dtype=torch.int32, device="meta"),
    }
    counter = FlopCounterMode(display=False)
    with counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            features = network.features(inputs)
        # The loss itself is small beside the encoders.
        total = torch.stack([value.sum() for value in features.values()]).sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return sum(t.untyped_storage().nbytes() for t in kept.values()), counter.get_total_flops()


def too_large(preset: Preset, method: str, config: Any, vocabulary: int, device: torch.device) -> str:
    """What to say when a step ran out of memory: how many rows at once would fit what is free now."""
    settings = preset.training
    memory = estimate(preset, method, config, vocabulary)
    if device.type == "cuda":
        # What torch holds in reserve is free for a step, too.
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        free -= torch.cuda.memory_allocated(device)
    else:
        free = psutil.virtual_memory().available
    fit = int(MARGIN * max(0, free) / max(1, memory.row_bytes))
    rows = settings.chunk_size or settings.batch_size
    row = human_bytes(memory.row_bytes)
    message = f"out of memory on {device} with {rows} rows at once ({row} a row by the dry run)"
    if fit < 1:
        return f"{message}: not one row fits; choose a smaller preset, or another device"
    if fit >= rows:
        fit = max(1, rows // 2)
    return (
        f"{message}: about {fit} would fit; add --chunk-size {fit}, which leaves the contrastive batch as it is, or"
        f" --batch-size {fit}"
    )
