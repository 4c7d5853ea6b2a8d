"""The front end of training and evaluation: decoded media to tensors; random changes and corruptions on the way.

`Preprocessor` works in two halves. `images` and `audio` make compact tensors that are worth keeping (uint8 pixels,
log-mel in dB); `finish_image` and `finish_audio` turn a batch of those into network input.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from birdmml.errors import MediaError, UsageError
from birdmml.media.corrupt import apply_audio, apply_images
from birdmml.media.corruption import Corruption
from birdmml.models.presets import Augment, FrontEnd

POWER_FLOOR = 1e-10  # -100 dB: below the noise of 16 bits, and far from the logarithm's edge.
# How many items go together: memory of the float copies. On a CPU one clip: two no longer fit its cache.
CHUNK, CPU_CLIPS = 64, 1
BANDS_TOGETHER = 16
LARGE_PIXELS = 2**14  # 128 x 128: smaller ones are exact, and fast all the same.
NO_SIGNAL = ("no_signal", "audio_empty")
Sound = NDArray[np.float32]
# ids -> for each item the recording that kind "song" mixes in, without padding; None where none was found.
Others = Callable[[Sequence[str]], Sequence[Sound | None]]


class Preprocessor(nn.Module):
    """Resize and log-mel with fixed settings; holds no learned weights and nothing that is saved."""

    window: Tensor
    filterbank: Tensor
    pixel_mean: Tensor
    pixel_deviation: Tensor

    def __init__(self, settings: FrontEnd) -> None:
        super().__init__()
        self.settings = settings
        s = settings
        bank = mel_filterbank(s.bands, s.n_fft, s.rate_hz, s.low_hz, s.high_hz)
        constants = {
            "window": torch.hann_window(s.n_fft, periodic=True),
            "filterbank": bank,
            "pixel_mean": torch.tensor(s.pixel_mean).view(3, 1, 1),
            "pixel_deviation": torch.tensor(s.pixel_deviation).view(3, 1, 1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(torch.float32), persistent=False)
        # The first and the last bin (exclusive) that any of the triangles [n, bins] reads.
        read = [torch.nonzero(part.any(dim=0)).flatten() for part in torch.split(bank, BANDS_TOGETHER)]
        self.spans = [(int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 1) for bins in read]

    @property
    def heard(self) -> int:
        """Samples from the start of a clip that its log-mel reads; what comes later is not heard."""
        s = self.settings
        return s.hop * (s.frames - 1) + s.n_fft - s.n_fft // 2

    def images(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """uint8 [H, W, 3] of any sizes -> uint8 [B, 3, S, S], antialiased; equal shapes go together."""
        size = self.settings.image_size
        out = torch.empty(len(pictures), 3, size, size, dtype=torch.uint8, device=self.window.device)
        for rows in _by_shape(pictures, CHUNK):
            pixels = resize(self._together(pictures, rows).movedim(-1, 1), size)
            if len(rows) == len(pictures):
                return pixels.contiguous()
            out[rows] = pixels
        return out

    def audio(self, clips: Sequence[NDArray[np.float32]]) -> Tensor:
        """float32 [T] of any lengths -> log-mel float32 [B, 1, bands, frames] in dB."""
        s = self.settings
        out = torch.empty(len(clips), 1, s.bands, s.frames, device=self.window.device)
        together = CPU_CLIPS if self.window.device.type == "cpu" else CHUNK
        for rows in _by_shape(clips, together):
            mels = self.log_mel(self._together(clips, rows))
            if len(rows) == len(clips):
                return mels[:, None]
            out[rows, 0] = mels
        return out

    def _together(self, arrays: Sequence[NDArray[Any]], rows: Sequence[int]) -> Tensor:
        """Arrays of one shape as one batch on the device; a single one that torch can look at is not copied."""
        one = arrays[rows[0]]
        if len(rows) == 1 and one.flags.writeable and one.flags.c_contiguous:
            return torch.from_numpy(one)[None].to(self.window.device)
        return torch.from_numpy(np.stack([arrays[i] for i in rows])).to(self.window.device)

    def log_mel(self, waves: Tensor) -> Tensor:
        """float32 [B, T] -> [B, bands, frames] in dB: 10 log10(max(mel power, 1e-10)).

        Centred, reflect-padded Hann frames. The mel is cut or padded with zero power (-100 dB) at its end.
        """
        s, waves = self.settings, waves.float()
        # No more samples than the frames wanted read: clips can be minutes long.
        waves = waves[:, : s.hop * (s.frames - 1) + s.n_fft]
        if waves.shape[-1] <= s.n_fft // 2:  # too short to mirror
            waves = F.pad(waves, (0, s.n_fft - waves.shape[-1]))
        padded = F.pad(waves[:, None], (s.n_fft // 2, s.n_fft // 2), mode="reflect")[:, 0]
        frames = padded.unfold(-1, s.n_fft, s.hop)[:, : s.frames]
        spectrum = torch.fft.rfft(frames * self.window)
        power = spectrum.real.square()
        power.addcmul_(spectrum.imag, spectrum.imag)
        # A few triangles at a time, each with the bins that it reads: most of the filterbank is zero.
        triangles = zip(torch.split(self.filterbank, BANDS_TOGETHER), self.spans, strict=True)
        bands = [power[..., low:high] @ part[:, low:high].T for part, (low, high) in triangles]
        mel = torch.cat(bands, dim=-1).clamp_min_(POWER_FLOOR).log10_().mul_(10.0).mT
        missing = s.frames - mel.shape[-1]
        if missing:
            mel = F.pad(mel, (0, missing), value=10.0 * math.log10(POWER_FLOOR))
        return mel.contiguous()

    def finish_image(self, compact: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] -> float32 in [0, 1], with mean and deviation taken out if set so.

        float32 pixels are in units of [0, 1] already, and noise may have taken them beyond: they are not clipped.
        Precomputed features [B, T, D] stay as they are.
        """
        if compact.ndim == 3:
            return compact
        pixels = compact.float() / 255.0 if compact.dtype == torch.uint8 else compact
        return (pixels - self.pixel_mean) / self.pixel_deviation if self.settings.pixel_normalise else pixels

    def finish_audio(self, compact: Tensor) -> Tensor:
        """Log-mel in dB [B, 1, bands, frames] -> shifted by `db_centre`, divided by `db_scale`.

        Precomputed features [B, T, D] stay as they are.
        """
        if compact.ndim == 3:
            return compact
        return (compact.float() - self.settings.db_centre) / self.settings.db_scale

    def bytes_per_row(self) -> int:
        """Memory of one row's compact image, audio and token ids."""
        s = self.settings
        return 3 * s.image_size**2 + 4 * s.bands * s.frames + 4 * s.max_tokens


def resize(batch: Tensor, size: int) -> Tensor:
    """uint8 [B, 3, H, W] -> uint8 [B, 3, S, S], bilinear with antialiasing, rounded to whole levels.

    Large pictures on a CPU go through torch's integer kernel, 15 times as fast and at most a level off.
    """
    if batch.device.type == "cpu" and batch.shape[-1] * batch.shape[-2] > LARGE_PIXELS:
        return F.interpolate(batch, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    wide = F.interpolate(batch.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return wide.round().clamp(0, 255).to(torch.uint8)


def mel_filterbank(bands: int, n_fft: int, rate_hz: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangles [bands, n_fft / 2 + 1], peak 1, equally spaced on the HTK mel scale, float64.

    HTK: mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987).
    """
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    frequencies = torch.linspace(0.0, rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64, device="cpu")
    mels = torch.linspace(low, high, bands + 2, dtype=torch.float64, device="cpu")
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - left) / (middle - left)
    falling = (right - frequencies) / (right - middle)
    return torch.minimum(rising, falling).clamp_min(0.0)


def _by_shape(arrays: Sequence[NDArray[np.generic]], most: int) -> list[list[int]]:
    """Row numbers in groups of one shape, at most `most` together."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, array in enumerate(arrays):
        groups[array.shape].append(i)
    return [rows[i : i + most] for rows in groups.values() for i in range(0, len(rows), most)]


def augment(batch: dict[str, Tensor], settings: Augment) -> dict[str, Tensor]:
    """A randomly changed copy of a compact batch: image uint8 [B, 3, S, S], audio in dB [B, 1, bands, frames].

    Precomputed features [B, T, D] stay as they are.
    """
    image, audio = batch["image"], batch["audio"]
    if image.ndim == 4 and settings.mirror:
        mirrored = torch.rand(len(image)) < 0.5
        image = torch.where(mirrored.to(image.device)[:, None, None, None], image.flip(-1), image)
    if image.ndim == 4 and settings.shift_px:
        image = shifted(image, _draw(len(image), settings.shift_px), _draw(len(image), settings.shift_px))
    if audio.ndim == 4 and settings.roll_frames:
        audio = rolled(audio, _draw(len(audio), settings.roll_frames))
    if audio.ndim == 4 and settings.gain_db:
        audio = audio + ((torch.rand(len(audio)) * 2 - 1) * settings.gain_db).to(audio.device)[:, None, None, None]
    return {**batch, "image": image, "audio": audio}


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


class Damage:
    """What a corruption does to items on their way into the model: to waveforms before the log-mel, to resized pixels.

    `left_out` collects the ids of those to which it cannot be done, for they are silent or black. They pass
    unchanged, so that batches keep their shapes and all else its last bit; what comes of them must be dropped.
    """

    def __init__(self, corruption: Corruption, preprocessor: Preprocessor, others: Others | None = None) -> None:
        if corruption.kind == "song" and others is None:
            raise UsageError(f"{corruption.name} needs recordings of other species: there are none here")
        self.corruption, self.others = corruption, others
        self.rate_hz, self.heard = preprocessor.settings.rate_hz, preprocessor.heard
        self.left_out: set[str] = set()

    @property
    def missing(self) -> str:
        """The modality that the model is not given; empty if it gets all."""
        return self.corruption.modality if self.corruption.kind == "missing" else ""

    def waves(self, clips: Sequence[Sound], ids: Sequence[str], seconds: Sequence[float] | None = None) -> list[Sound]:
        """Each clip [T], any T, made worse where it is heard: the SNR is that of what the front end reads of it.

        `seconds` of each are the recording, the rest is padding and stays. Raises MediaError for samples out of range.
        """
        if self.corruption.modality != "audio" or self.missing:
            return list(clips)
        song = self.corruption.kind == "song"
        others = self.others(ids) if song and self.others is not None else repeat(None, len(clips))
        real = [len(c) / self.rate_hz for c in clips] if seconds is None else seconds
        items = zip(clips, ids, real, others, strict=True)
        return [self._wave(*item) for item in items]

    def pixels(self, compact: Tensor, ids: Sequence[str], frames: int = 0) -> Tensor:
        """uint8 [B, 3, S, S] -> float32 in units of [0, 1], not clipped; as it is if pictures are not concerned.

        With `frames` each of the B / frames items is a film, and its frame f has noise of its own, that of "id/f".
        """
        if self.corruption.modality != "image" or self.missing:
            return compact
        named = [(f"{i}/{f}", i) for i in ids for f in range(frames)] if frames else [(i, i) for i in ids]
        worse = []
        for picture, (name, item_id) in zip(np.split(compact.cpu().numpy(), len(compact)), named, strict=True):
            try:
                worse.append(apply_images(self.corruption, picture, [name]))
            except MediaError as e:
                self._leave_out(item_id, e)
                worse.append(picture.astype(np.float32) / np.float32(255))
        return torch.from_numpy(np.concatenate(worse)).to(compact.device)

    def _wave(self, clip: Sound, item_id: str, seconds: float, other: Sound | None) -> Sound:
        if self.corruption.kind == "song" and other is None:
            self.left_out.add(item_id)
            return clip
        valid = min(len(clip), self.heard, round(seconds * self.rate_hz))
        try:
            return apply_audio(self.corruption, clip, self.rate_hz, item_id, other, valid)
        except MediaError as e:
            self._leave_out(item_id, e)
            return clip

    def _leave_out(self, item_id: str, why: MediaError) -> None:
        """Only what has no SNR is left out; any other fault is the caller's to hear of."""
        if why.reason not in NO_SIGNAL:
            raise why
        self.left_out.add(item_id)
