"""The machine a training runs on: its processes, precision, trackers and progress bars."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from birdmml.errors import UsageError
from birdmml.training.journal import PROJECT, trackers
from birdmml.training.state import Saving


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


def bar(what: str, total: int, unit: str, quiet: bool) -> tqdm[Any]:
    """A progress bar on standard error."""
    # In a log file a line every few seconds is enough.
    pause = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(desc=what, total=total, unit=unit, disable=quiet, mininterval=pause, leave=False)


def is_main() -> bool:
    """Whether this is the process that writes files and talks, by what `torchrun` and its like set."""
    return os.environ.get("RANK", "0") == "0"
