"""One training step, at once or in chunks with the same gradient (GradCache); its rates, and validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from birdmml.errors import TrainingError
from birdmml.models.encoders import statistics_kept
from birdmml.models.feed import Feed, batches, to_device
from birdmml.models.network import Network
from birdmml.models.presets import Training
from birdmml.models.ranks import ProcessRanks
from birdmml.models.scores import JOINT
from birdmml.results.metrics import hit, rank

K = 10
SHARE = "share_of_rate"
Terms = dict[str, Tensor]
LossOf = Callable[[dict[str, Tensor]], Terms]


@dataclass(frozen=True)
class Numerics:
    """How a step computes: the dtype of autocast (None: float32 throughout) and the scale that keeps float16."""

    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context that forward passes run in."""
        return nullcontext() if self.dtype is None else torch.autocast(device.type, self.dtype)


def numerics(precision: str, device: torch.device) -> Numerics:
    """ "fp32", "bf16" or "fp16" on a device; only float16 needs its loss scaled."""
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return Numerics(dtype, torch.amp.GradScaler(device.type, enabled=precision == "fp16"))


def step(
    network: Network, inputs: Mapping[str, Tensor], loss_of: LossOf, how: Numerics, parts: Sequence[int] = ()
) -> Terms:
    """Loss terms of one batch, detached; gradients are left in the parameters (of the scaled loss in float16).

    `loss_of` maps the encoder outputs h_m [B, D_m] to the terms. `parts`: rows of each chunk; none or one is the
    usual single pass.
    """
    device = next(iter(inputs.values())).device
    if len(parts) > 1:
        return _in_chunks(network, inputs, loss_of, how, parts)
    with how.autocast(device):
        terms = loss_of(network.features(inputs))
    how.scaler.scale(terms["loss"]).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {name: value.detach() for name, value in terms.items()}


def _in_chunks(
    network: Network, inputs: Mapping[str, Tensor], loss_of: LossOf, how: Numerics, parts: Sequence[int]
) -> Terms:
    """GradCache (Gao et al. 2021, arXiv 2101.06983): outputs first, the loss on all of them, then chunk by chunk.

    Memory is that of one chunk; every chunk passes twice, the second time with the same random numbers.
    """
    device = next(iter(inputs.values())).device
    pieces = {name: torch.split(value, list(parts)) for name, value in inputs.items()}
    chunks = [{name: piece[number] for name, piece in pieces.items()} for number in range(len(parts))]
    states, outputs = [], []
    with torch.no_grad(), how.autocast(device), statistics_kept(network):
        for chunk in chunks:
            states.append(_random_state(device))
            outputs.append(network.features(chunk))
    features = {k: torch.cat([part[k] for part in outputs]).requires_grad_() for k in outputs[0]}
    with how.autocast(device):
        terms = loss_of(features)
    how.scaler.scale(terms["loss"]).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    after = _random_state(device)  # The chunks' second pass rewinds the generator; the next step goes on here.
    gradients = {
        name: torch.split(value.grad, list(parts)) for name, value in features.items() if value.grad is not None
    }
    for number, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        _set_random_state(device, state)
        with how.autocast(device):
            again = network.features(chunk)
        used = [name for name in again if name in gradients and again[name].requires_grad]
        if used:  # frozen encoders have nothing to learn
            torch.autograd.backward([again[n] for n in used], [gradients[n][number] for n in used])
    _set_random_state(device, after)
    return {name: value.detach() for name, value in terms.items()}


def chunks_of(rows: int, chunk_size: int, ranks: ProcessRanks) -> list[int]:
    """Rows of each chunk of this rank; all ranks have equally many chunks, so that they meet at each."""
    if not chunk_size:
        return []
    sizes = ranks.shares(rows)
    count = min(-(-max(sizes) // chunk_size), min(sizes))
    mine = sizes[ranks.rank]
    return [mine // count + (i < mine % count) for i in range(count)]


def checkpoint_activations(network: Network) -> None:
    """Let each block of each encoder keep its input only, and compute the rest again on the way back."""
    for encoder in network.encoders.values():
        for block in _blocks(encoder):
            _checkpointed(block)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost module lists: stages of a ResNet, layers of a transformer."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


def _checkpointed(block: nn.Module) -> None:
    plain = block.forward

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), statistics_kept(block)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return plain(*args, **kwargs)
        return checkpoint(plain, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    block.forward = forward


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    own = torch.get_device_module(device).get_rng_state() if device.type != "cpu" else None
    return torch.get_rng_state(), own


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(device).set_rng_state(state[1])


def rates(settings: Training) -> list[float]:
    """The rate of each epoch: a cosine from `learning_rate` towards `final_learning_rate` (arXiv 1608.03983).

    By torch's recursion, not the closed form: equal to the last bit to CosineAnnealingLR stepped once an epoch.
    """
    low, span = settings.final_learning_rate, settings.epochs
    values = [settings.learning_rate]
    for epoch in range(1, span):
        now, before = (1 + math.cos(math.pi * e / span) for e in (epoch, epoch - 1))
        values.append(now / before * (values[-1] - low) + low)
    return values


def optimiser(network: Network, settings: Training) -> torch.optim.AdamW:
    """AdamW on everything that learns; a method's `parameter_groups()` has its own rates and decay.

    A group's "lr" is its rate at the start; it then falls by the same cosine as the others.
    """
    hook = getattr(network.model, "parameter_groups", None)
    own: list[dict[str, Any]] = [] if hook is None else [dict(group) for group in hook()]
    taken = {id(p) for group in own for p in group["params"]}
    groups = [{"params": [p for p in network.parameters() if id(p) not in taken]}, *own]
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("nothing is left to train: unfreeze an encoder, or choose a method with weights")
    device = next(network.parameters()).device.type
    adamw = torch.optim.AdamW(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=device in ("cpu", "cuda", "mps")
    )
    for group in adamw.param_groups:
        group[SHARE] = group["lr"] / settings.learning_rate
    return adamw


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[SHARE]


@torch.inference_mode()
def validate(network: Network, feed: Feed, batch_size: int) -> dict[str, float]:
    """ "loss" over batches in row order, and recall@10 averaged over the 1->1 and over the 2->1 pairs.

    Draws no random numbers: a training with validation rows learns the same as one without.
    """
    device = next(network.parameters()).device
    network.eval()  # Batch statistics of validation rows must not enter the running ones.
    losses, sizes, parts = [], [], []
    for inputs in feed.stream(list(batches(np.arange(len(feed)), batch_size))):
        features = network.features(to_device(inputs, device))
        losses.append(float(network.model.loss(features)["loss"]))
        sizes.append(len(inputs["text"]))
        parts.append(network.model.embed(features))
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    recalls: dict[str, list[float]] = {"1->1": [], "2->1": []}
    for query, target in network.model.pairs():

        def block(part: slice, query: str = query, target: str = target) -> NDArray[np.floating]:
            queries = {name: value[part] for name, value in vectors.items()}
            return np.asarray(network.model.score(query, target, queries, vectors).float().cpu())

        ranks = rank(block, np.arange(len(feed)), len(feed))
        recalls["2->1" if JOINT in query else "1->1"].append(float(hit(ranks.greater, ranks.ties, K).mean()))
    means = {f"recall@{K} {name}": float(np.mean(values)) for name, values in recalls.items() if values}
    return {"loss": float(np.average(losses, weights=sizes))} | means


def score(recalls: Mapping[str, float]) -> float:
    """What "best" is decided by: the mean of the recalls, higher is better."""
    return float(np.mean([value for name, value in recalls.items() if name.startswith("recall")]))
