"""Several processes as one: a global batch cut among them, put together again with its gradient.

Each rank encodes its own rows; the encoder outputs are gathered, and every rank computes the same loss of the
whole batch. Going back, the gather sums what all ranks send to a row, that is `size` times its gradient; the mean
over ranks of the parameters' gradients then is the gradient of one process, for encoders and head alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from birdmml.errors import UsageError
from birdmml.models.encoders import batch_norms
from birdmml.models.journal import PROJECT, trackers
from birdmml.models.losses import full_precision
from birdmml.models.state import Saving

BUCKET_ELEMENTS = 2**23


@dataclass(frozen=True)
class ProcessRanks:
    """This process and how many there are; alone, everything here changes nothing."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This rank's part of a batch; the parts of all ranks, one after the other, are the batch."""
        return np.array_split(rows, self.size)[self.rank]

    def shares(self, rows: int) -> list[int]:
        """How many of `rows` each rank has."""
        return [len(part) for part in np.array_split(np.empty(rows), self.size)]

    def gather(self, features: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Encoder outputs [B_rank, D] of all ranks -> [B, D], with gradient; B = `rows`."""
        if self.size == 1:
            return features
        sizes = self.shares(rows)
        return {name: gathered(full_precision(value), sizes) for name, value in features.items()}

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over ranks; a few large messages instead of many small ones."""
        if self.size == 1:
            return
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            dist.all_reduce(flat)
            flat /= self.size  # The sum over ranks is size times one process's gradient: see the head of this file.
            for gradient, mean in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def reseed(self, *key: int) -> None:
        """Random numbers of this step and rank: ranks must not drop the same units of different rows."""
        if self.size > 1:
            torch.manual_seed(_seed(*key, self.rank + 1))

    @contextmanager
    def same_random(self, *key: int) -> Iterator[None]:
        """Inside, all ranks draw the same: they compute one and the same loss."""
        if self.size == 1:
            yield
            return
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(_seed(*key, 0))
            yield

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            dist.barrier()


def _summed(value: Tensor) -> Tensor:
    # A copy: all ranks' sum is written in place, and autograd may hold on to what it handed over.
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = mine.new_zeros(max(sizes), *mine.shape[1:])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = _summed(gradients[0])
        start = sum(ctx.sizes[: dist.get_rank()])
        return total[start : start + ctx.sizes[dist.get_rank()]], None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def gathered(mine: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows of all ranks, in rank order; `sizes` are their numbers. Its gradient is the sum over all ranks."""
    out: Tensor = _Gather.apply(mine, list(sizes))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all ranks, on any device (torch's own needs a GPU)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B_rank, C, H, W] -> the same shape."""
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._normalise(full_precision(x)).to(x.dtype)

    def _normalise(self, x: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        local = torch.cat([x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])])
        total: Tensor = _Sum.apply(local)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        count = total[-1].detach()
        mean = total[:-1] / count
        # The variance about the global mean, in a second round: sums of squares would cancel.
        centred = x - mean.view(shape)
        squares: Tensor = _Sum.apply(centred.square().sum((0, 2, 3)))  # type: ignore[no-untyped-call]  # as above
        variance = squares / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked or 1)
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * count / (count - 1).clamp_min(1), share)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            return centred * (scale * self.weight).view(shape) + self.bias.view(shape)
        return centred * scale.view(shape)


@contextmanager
def global_batch_norm(module: nn.Module, ranks: ProcessRanks) -> Iterator[None]:
    """Batch normalisations of `module` span all ranks meanwhile; weights and their names stay."""
    layers = [m for m in batch_norms(module) if type(m) is nn.BatchNorm2d] if ranks.size > 1 else []
    for layer in layers:
        layer.__class__ = GlobalBatchNorm
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.BatchNorm2d


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        too_large = sum(g.numel() for g in bucket) + gradient.numel() > BUCKET_ELEMENTS
        if bucket and (too_large or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def precision(name: str, device: torch.device) -> str:
    """What "auto" means here. Raises UsageError for float16 where it cannot work."""
    if name == "auto":
        name = os.environ.get("ACCELERATE_MIXED_PRECISION", "").replace("no", "fp32")
        name = name or ("bf16" if device.type == "cuda" else "fp32")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("training.precision fp16 needs a GPU: use bf16 or fp32 on a CPU")
    if name not in ("fp32", "bf16", "fp16"):
        raise UsageError(f"mixed precision {name!r} was launched: use bf16, fp16 or no")
    return name


def launched(device: torch.device, saving: Saving | None) -> Accelerator:
    """The processes of this training. Raises UsageError for several where nothing is saved, or another device."""
    several = int(os.environ.get("WORLD_SIZE", "1"))
    if several > 1 and saving is None:
        raise UsageError(
            f"{several} processes were launched, but only `birdmml train` works on several: start this without"
            " `accelerate launch` or `torchrun`"
        )
    used = trackers(saving.trackers) if saving is not None else []
    accelerator = Accelerator(
        mixed_precision="no",
        cpu=device.type == "cpu",
        log_with=used or None,
        project_dir=saving.folder if saving is not None else None,
    )
    if accelerator.device.type != device.type:
        raise UsageError(f"this process already trains on {accelerator.device}: start a new one for {device}")
    if used:
        accelerator.init_trackers(PROJECT)
    return accelerator


def is_main() -> bool:
    """Whether this is the process that writes files and talks, by what `torchrun` and its like set."""
    return os.environ.get("RANK", "0") == "0"
