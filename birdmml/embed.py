"""A trained model and rows, texts or videos: named arrays of unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdmml.checkpoint import Checkpoint
from birdmml.nn.feed import Feed, RowSource, to_device, trimmed
from birdmml.nn.losses import normalise
from birdmml.nn.text import tokenise

Arrays = dict[str, NDArray[np.float32]]
BATCH = 128
VIDEOS_AT_ONCE = 16


class Film(Protocol):
    """A decoded video: `frames` uint8 [F, H, W, 3], `audio` float32 [T] or None without a track."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 [F, H, W, 3]."""

    @property
    def audio(self) -> NDArray[np.float32] | None:
        """float32 [T], or None."""


@dataclass(frozen=True)
class Embeddings:
    """`arrays` [N, D] of unit vectors by name; `present` [N] by modality. An absent vector is NaN."""

    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]


class Embedder:
    """Embeds with one checkpoint on one device, in float32, with dropout off."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.network = checkpoint.network.to(device).eval()
        self.tokenizer, self.device = checkpoint.tokenizer, device
        self.front_end = checkpoint.preset.front_end
        self.weights_sha256 = checkpoint.weights_sha256

    @torch.inference_mode()
    def rows(self, rows: RowSource, progress: Callable[[int], object] | None = None) -> Embeddings:
        """Image, audio, text and what the method fuses of them, for every row."""
        feed = Feed(rows, self.network.preprocessor, self.tokenizer)
        parts: list[Arrays] = []
        for start in range(0, len(feed), BATCH):
            inputs = feed.batch(np.arange(start, min(start + BATCH, len(feed))))
            parts.append(_numpy(self.network.embed(to_device(inputs, self.device))))
            if progress is not None:
                progress(len(inputs["text"]))
        everywhere = np.ones(len(rows), dtype=bool)
        present = dict.fromkeys(("image", "audio", "text"), everywhere)
        return Embeddings(tuple(map(str, rows.column("id"))), _joined(parts), present)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Arrays:
        """{"text": [N, D]} of any texts, prompts for example."""
        ids = tokenise(self.tokenizer, texts, self.front_end.max_tokens)
        parts = [trimmed(ids[i : i + BATCH]).to(self.device) for i in range(0, len(ids), BATCH)]
        return _joined([_numpy(self.network.embed({"text": part})) for part in parts])

    @torch.inference_mode()
    def images(
        self,
        ids: Sequence[str],
        pictures: Iterable[NDArray[np.uint8]],
        progress: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Image alone, of pictures uint8 [H, W, 3] in the order of `ids`; a batch of them in memory at a time."""
        parts: list[Arrays] = []
        left = iter(pictures)
        while batch := list(islice(left, BATCH)):
            seen = self.network.features({"image": self.network.preprocessor.images(batch)})
            parts.append(_numpy(self.network.model.embed(seen)))
            if progress is not None:
                progress(len(batch))
        return Embeddings(tuple(ids), _joined(parts), {"image": np.ones(len(ids), dtype=bool)})

    @torch.inference_mode()
    def videos(
        self,
        ids: Sequence[str],
        paths: Sequence[Any],
        decode: Callable[[Any], Film],
        progress: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Per video: the mean over frames of each frame's vectors, renormalised; fused with the same sound.

        Some methods' `reference` variant leaves the mean as it is.

        A video without a sound track has no audio and no fused vector. Raises MediaError where one
        cannot be decoded.
        """
        parts: list[Arrays] = []
        heard: list[bool] = []
        for start in range(0, len(paths), VIDEOS_AT_ONCE):
            films = [decode(path) for path in paths[start : start + VIDEOS_AT_ONCE]]
            parts.append(self._films(films))
            heard += [film.audio is not None for film in films]
            if progress is not None:
                progress(len(films))
        present = {"image": np.ones(len(heard), dtype=bool), "audio": np.asarray(heard, dtype=bool)}
        return Embeddings(tuple(ids), _joined(parts), present)

    def _films(self, films: Sequence[Film]) -> Arrays:
        frames, model = len(films[0].frames), self.network.model
        pictures = self.network.preprocessor.images([frame for film in films for frame in film.frames])
        seen = self.network.features({"image": pictures})
        unit = getattr(model, "renormalise_frames", True)
        averaged = {k: _frame_mean(v, frames, unit) for k, v in model.embed(seen).items()}
        clips = [film.audio for film in films if film.audio is not None]
        if not clips:
            return _numpy(averaged)
        has_sound = torch.tensor([film.audio is not None for film in films], device=self.device)
        heard = self.network.features({"audio": self.network.preprocessor.audio(clips)})
        pairs = {k: v[has_sound.repeat_interleave(frames)] for k, v in seen.items()}
        pairs |= {k: v.repeat_interleave(frames, dim=0) for k, v in heard.items()}
        for name, value in model.embed(pairs).items():
            if name not in averaged:
                averaged[name] = value.new_full((len(films), value.shape[-1]), torch.nan)
                averaged[name][has_sound] = _frame_mean(value, frames, unit)
        return _numpy(averaged)


def _frame_mean(z: Tensor, frames: int, unit: bool) -> Tensor:
    """[V * F, D] -> [V, D]: the mean over F frames, to unit length again unless the method leaves it."""
    mean = z.reshape(-1, frames, z.shape[-1]).mean(dim=1)
    return normalise(mean) if unit else mean


def _numpy(named: Mapping[str, Tensor]) -> Arrays:
    return {name: value.float().cpu().numpy() for name, value in named.items()}


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """Parts one below the other; where a part lacks a name (no sound at all), its rows are NaN."""
    names = list(dict.fromkeys(name for part in parts for name in part))
    width = {name: part[name].shape[1] for part in parts for name in part}
    rows = [len(next(iter(part.values()))) for part in parts]
    return {
        name: np.concatenate(
            [
                part.get(name, np.full((n, width[name]), np.nan, dtype=np.float32))
                for part, n in zip(parts, rows, strict=True)
            ]
        )
        for name in names
    }
