"""The device that models run on, and what running out of its memory looks like; torch comes when asked."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from birdmml.errors import UsageError

if TYPE_CHECKING:
    import torch


DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """ "auto" takes cuda, then mps, then cpu. Raises UsageError for a device that is not there."""
    import torch

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
    import torch

    # torch's CPU allocator has no error class of its own, a file that cannot be mapped and a thread that gets no
    # stack have other names for it.
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    signs = ("DefaultCPUAllocator: ", "can't start new thread")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(s in str(error) for s in signs)
