"""Run by test_ranks.py: trains every method on one process and on two (gloo), and writes what each learned.

One process forks the others before torch has computed anything: three imports of torch would take longer than
the whole test.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from birdmml.core import discover, settings
from birdmml.models.network import Network
from birdmml.models.ranks import ProcessRanks, global_batch_norm
from birdmml.models.step import chunks_of, numerics, optimiser, step
from helpers.small import SMALLEST

ROWS, STEPS = 9, 10
# Batch norm stays: its statistics must span the ranks. Nine rows do not divide by two.
PRESET = settings.override(SMALLEST, ["encoders.text.dropout=0.0"])


def inputs(number: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(number)
    return {
        "image": torch.randint(0, 256, (ROWS, 3, 24, 24), dtype=torch.uint8, generator=g),
        "audio": torch.randn(ROWS, 1, 16, 40, generator=g) * 20 - 30,
        "text": torch.randint(1, 50, (ROWS, 9), generator=g),
    }


def widen(network: Network) -> None:
    """Weights and inputs in float64, where rounding no longer hides a difference, or looks like one."""
    network.double()
    made = network.preprocessor
    image, audio = made.finish_image, made.finish_audio
    vars(made)["finish_image"] = lambda compact: image(compact).double()
    vars(made)["finish_audio"] = lambda compact: audio(compact).double()


def learn(method: str, ranks: ProcessRanks, chunk_size: int, double: bool = False) -> dict[str, Tensor]:
    """Loss and gradients of the first step, and the weights after ten; in float64 if `double`."""
    torch.manual_seed(1)
    module = discover.load("method", method)
    config = dataclasses.replace(module.Config(), dim=PRESET.dim)
    if hasattr(config, "dropout"):
        config = dataclasses.replace(config, dropout=0.0)
    network = Network(PRESET, module, config, 50).train()
    if double:
        widen(network)
    learner, how, out = optimiser(network, PRESET.training), numerics("fp32", torch.device("cpu")), {}
    weights = list(network.parameters())
    with global_batch_norm(network, ranks):
        for number in range(STEPS):
            mine = ranks.share(np.arange(ROWS))
            torch.manual_seed(100 + number)

            def loss_of(features: dict[str, Tensor]) -> dict[str, Tensor]:
                return network.model.loss(ranks.gather(features, ROWS))

            terms = step(
                network,
                {k: v[mine] for k, v in inputs(number).items()},
                loss_of,
                how,
                chunks_of(ROWS, chunk_size, ranks),
            )
            ranks.average_gradients(weights)
            if number == 0:
                out |= {f"term.{k}": v.clone() for k, v in terms.items()}
                out |= {f"gradient.{k}": p.grad.clone() for k, p in network.named_parameters() if p.grad is not None}
            learner.step()
            learner.zero_grad()
    return out | {f"weight.{k}": v.clone() for k, v in network.state_dict().items()}


def work(rank: int, size: int, folder: Path, chunk_size: int, double: bool = False) -> None:
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group(
            "gloo",
            f"file://{folder}/meet-{size}-{chunk_size}-{double}",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=60),
        )
    # Chunks are each method's business in test_step.py; here once, for their meeting at batch norm.
    for method in ("confu",) if chunk_size else discover.names("method"):
        found = learn(method, ProcessRanks(rank, size), chunk_size, double)
        found = {k: v.contiguous() for k, v in found.items()}
        kind = "double." if double else ""
        save_file(found, folder / f"{method}.{kind}{size}.{chunk_size}.{rank}.safetensors")
    if size > 1:
        dist.destroy_process_group()


def main(folder: Path) -> None:
    fork = multiprocessing.get_context("fork")
    jobs = [(0, 1, folder, 0), (0, 2, folder, 0), (1, 2, folder, 0), (0, 2, folder, 3), (1, 2, folder, 3)]
    jobs += [(0, 1, folder, 0, True), (0, 2, folder, 0, True), (1, 2, folder, 0, True)]
    running = [fork.Process(target=work, args=job) for job in jobs]
    for process in running:
        process.start()
    for process in running:
        process.join()
    print(json.dumps([process.exitcode for process in running]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
