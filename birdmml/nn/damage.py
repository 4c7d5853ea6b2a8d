"""One corruption at work on batches: on waveforms before the log-mel, on pixels after the resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdmml.corrupt import Corruption, apply_audio, apply_images
from birdmml.errors import MediaError, UsageError
from birdmml.nn.preprocess import Preprocessor

Sound = NDArray[np.float32]
# ids -> for each item the recording that kind "song" mixes in, without padding; None where none was found.
Others = Callable[[Sequence[str]], Sequence[Sound | None]]
NO_SIGNAL = ("no_signal", "audio_empty")


class Damage:
    """What a corruption does to items on their way into the model.

    `left_out` collects the ids of those to which it cannot be done, for they are silent or black. They pass
    unchanged, so that batches keep their shapes and all else its last bit; what comes of them must be dropped.
    """

    def __init__(
        self, corruption: Corruption, preprocessor: Preprocessor, others: Others | None = None
    ) -> None:
        if corruption.kind == "song" and others is None:
            raise UsageError(f"{corruption.name} needs recordings of other species: there are none here")
        self.corruption, self.others = corruption, others
        self.rate_hz, self.heard = preprocessor.settings.rate_hz, preprocessor.heard
        self.left_out: set[str] = set()

    @property
    def missing(self) -> str:
        """The modality that the model is not given; empty if it gets all."""
        return self.corruption.modality if self.corruption.kind == "missing" else ""

    def waves(
        self, clips: Sequence[Sound], ids: Sequence[str], seconds: Sequence[float] | None = None
    ) -> list[Sound]:
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
        pictures = np.split(compact.cpu().numpy(), len(compact))
        worse = [self._picture(p, *names) for p, names in zip(pictures, named, strict=True)]
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

    def _picture(self, picture: NDArray[np.uint8], name: str, item_id: str) -> NDArray[np.float32]:
        try:
            return apply_images(self.corruption, picture, [name])
        except MediaError as e:
            self._leave_out(item_id, e)
            return picture.astype(np.float32) / np.float32(255)

    def _leave_out(self, item_id: str, why: MediaError) -> None:
        """Only what has no SNR is left out; any other fault is the caller's to hear of."""
        if why.reason not in NO_SIGNAL:
            raise why
        self.left_out.add(item_id)
