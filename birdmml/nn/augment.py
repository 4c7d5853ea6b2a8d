"""Small random changes to a training batch: mirror, shift, roll, gain. Drawn from torch's seeded generator."""

from __future__ import annotations

import torch
from torch import Tensor

from birdmml.nn.presets import Augment


def augment(batch: dict[str, Tensor], settings: Augment) -> dict[str, Tensor]:
    """A changed copy of a compact batch: image uint8 [B, 3, S, S], audio in dB [B, 1, bands, frames].

    Precomputed features [B, T, D] stay as they are.
    """
    image, audio = batch["image"], batch["audio"]
    changed = dict(batch)
    if image.ndim == 4:
        changed["image"] = _pictures(image, settings)
    if audio.ndim == 4:
        changed["audio"] = _sounds(audio, settings)
    return changed


def _pictures(image: Tensor, settings: Augment) -> Tensor:
    if settings.mirror:
        mirrored = torch.rand(len(image)) < 0.5
        image = torch.where(mirrored.to(image.device)[:, None, None, None], image.flip(-1), image)
    if settings.shift_px:
        image = shifted(image, _draw(len(image), settings.shift_px), _draw(len(image), settings.shift_px))
    return image


def _sounds(audio: Tensor, settings: Augment) -> Tensor:
    if settings.roll_frames:
        audio = rolled(audio, _draw(len(audio), settings.roll_frames))
    if settings.gain_db:
        audio = (
            audio
            + ((torch.rand(len(audio)) * 2 - 1) * settings.gain_db).to(audio.device)[:, None, None, None]
        )
    return audio


def shifted(image: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image [B, C, H, W] moved by its own number of px [B]; the edge is repeated."""
    height, width = image.shape[-2:]
    rows = (torch.arange(height) - down[:, None]).clamp(0, height - 1).to(image.device)
    columns = (torch.arange(width) - right[:, None]).clamp(0, width - 1).to(image.device)
    item = torch.arange(len(image), device=image.device)[:, None, None]
    # Indexing [B, H, W, C] by item, row and column at once moves every image in one gather.
    return image.movedim(1, -1)[item, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def rolled(audio: Tensor, by: Tensor) -> Tensor:
    """Each [B, 1, bands, frames] rolled along time by its own number of frames [B]."""
    frames = audio.shape[-1]
    at = (torch.arange(frames) - by[:, None]).remainder(frames).to(audio.device)
    return audio.gather(-1, at[:, None, None, :].expand_as(audio))


def _draw(count: int, most: int) -> Tensor:
    """Whole numbers in -most to most [count]; drawn on the CPU, so that a seed means the same on any device."""
    return torch.randint(-most, most + 1, (count,))
