"""The machine a training runs on: its processes, precision, trackers and progress bars."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from birdmml.errors import UsageError
from birdmml.training.journal import PROJECT, trackers
from birdmml.training.state import Saving

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """ "auto" takes cuda, then mps, then cpu. Raises UsageError for a device that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if there[d]))
    if name not in there:
        raise UsageError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}")
    if not there[name]:
        raise UsageError(f"device {name} is not available here: use --device auto")
    return torch.device(name)


def lacks_memory(error: Exception) -> bool:
    """Whether this says that memory has run out."""
    # torch's CPU allocator has no error class of its own, a file that cannot be mapped and a thread that gets no
    # stack have other names for it.
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = ("DefaultCPUAllocator: ", "can't start new thread")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in said)


def precision(asked: str, device: torch.device) -> str:
    """What "auto" means here. Raises UsageError for float16 where it cannot work."""
    if asked == "auto":
        asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "").replace("no", "fp32")
        asked = asked or ("bf16" if device.type == "cuda" else "fp32")
    if asked == "fp16" and device.type == "cpu":
        raise UsageError("training.precision fp16 needs a GPU: use bf16 or fp32 on a CPU")
    if asked not in ("fp32", "bf16", "fp16"):
        raise UsageError(f"mixed precision {asked!r} was launched: use bf16, fp16 or no")
    return asked


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


def bar(what: str, total: int, unit: str, quiet: bool) -> tqdm[Any]:
    """A progress bar on standard error."""
    # In a log file a line every few seconds is enough.
    pause = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(desc=what, total=total, unit=unit, disable=quiet, mininterval=pause, leave=False)


def is_main() -> bool:
    """Whether this is the process that writes files and talks, by what `torchrun` and its like set."""
    return os.environ.get("RANK", "0") == "0"
