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

from birdmml import discover, settings
from birdmml.checkpoint import Checkpoint
from birdmml.corrupt import Corruption
from birdmml.nn import scores
from birdmml.nn.damage import Damage, Others
from birdmml.nn.feed import Feed, to_device, trimmed
from birdmml.nn.heads import TOWER
from birdmml.nn.losses import normalise
from birdmml.nn.read import RowSource
from birdmml.nn.text import tokenise
from birdmml.schema import MODALITIES

Arrays = dict[str, NDArray[np.float32]]
BATCH = 128
VIDEOS_AT_ONCE = 16


class DecodedFilm(Protocol):
    """A decoded video: `frames` uint8 [F, H, W, 3], `audio` float32 [T] or None without a track."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 [F, H, W, 3]."""

    @property
    def audio(self) -> NDArray[np.float32] | None:
        """float32 [T], or None."""


@dataclass(frozen=True)
class Embeddings:
    """`arrays` [N, D] of unit vectors by name; `present` [N] by modality. An absent vector is NaN.

    A name for which no item has a vector may be missing.
    """

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
        # Equal weights do not say it all: a variant may average frames, or fuse, in another way.
        self.method: Mapping[str, Any] = {
            "name": discover.label(checkpoint.method),
            "file": checkpoint.network.method_file,
            "config": settings.to_dict(checkpoint.config),
        }

    @torch.inference_mode()
    def rows(
        self,
        rows: RowSource,
        progress: Callable[[int], object] | None = None,
        corruption: Corruption | None = None,
        others: Others | None = None,
    ) -> Embeddings:
        """Image, audio, text and what the method fuses of them, for every row.

        `corruption` of one modality: see `birdmml.nn.damage`; `others` gives what kind "song" mixes in. An item
        without a signal to measure it by is absent from that modality. All that does not read the modality keeps
        every bit.
        """
        damage = self._damage(corruption, others)
        feed = Feed(rows, self.network.preprocessor, self.tokenizer, damage=damage)
        parts: list[Arrays] = []
        for start in range(0, len(feed), BATCH):
            inputs = feed.batch(np.arange(start, min(start + BATCH, len(feed))))
            parts.append(to_numpy(self._vectors(to_device(inputs, self.device))))
            if progress is not None:
                progress(len(inputs["text"]))
        ids = tuple(map(str, rows.column("id")))
        present = {name: np.ones(len(ids), dtype=bool) for name in MODALITIES}
        return _left(Embeddings(ids, joined(parts), present), damage)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Arrays:
        """{"text": [N, D]} of any texts, prompts for example."""
        ids = tokenise(self.tokenizer, texts, self.front_end.max_tokens)
        parts = [trimmed(ids[i : i + BATCH]).to(self.device) for i in range(0, len(ids), BATCH)]
        return joined([to_numpy(self.network.embed({"text": part})) for part in parts])

    @torch.inference_mode()
    def images(
        self,
        ids: Sequence[str],
        pictures: Iterable[NDArray[np.uint8]],
        progress: Callable[[int], object] | None = None,
        corruption: Corruption | None = None,
    ) -> Embeddings:
        """Image alone, of pictures uint8 [H, W, 3] in the order of `ids`; a batch of them in memory at a time."""
        parts: list[Arrays] = []
        left, damage, done = iter(pictures), self._damage(corruption, None), 0
        while batch := list(islice(left, BATCH)):
            compact = self.network.preprocessor.images(batch)
            if damage is not None and not damage.missing:
                compact = damage.pixels(compact, ids[done : done + len(batch)])
            parts.append(to_numpy(self.network.model.embed(self.network.features({"image": compact}))))
            done += len(batch)
            if progress is not None:
                progress(len(batch))
        present = {"image": np.ones(len(ids), dtype=bool)}
        return _left(Embeddings(tuple(ids), joined(parts), present), damage)

    @torch.inference_mode()
    def videos(
        self,
        ids: Sequence[str],
        paths: Sequence[Any],
        decode: Callable[[Any], DecodedFilm],
        progress: Callable[[int], object] | None = None,
        corruption: Corruption | None = None,
        others: Others | None = None,
    ) -> Embeddings:
        """Per video: the mean over frames of each frame's vectors, renormalised; fused with the same sound.

        Some methods' `reference` variant leaves the mean as it is.

        A video without a sound track has no audio and no fused vector. Raises MediaError where one
        cannot be decoded. `corruption` and `others` as for `rows`; noise differs from frame to frame, and a single
        black frame has no SNR, so that the video is absent.
        """
        damage = self._damage(corruption, others)
        parts: list[Arrays] = []
        heard: list[bool] = []
        sizes: list[int] = []
        for start in range(0, len(paths), VIDEOS_AT_ONCE):
            films = [decode(path) for path in paths[start : start + VIDEOS_AT_ONCE]]
            parts.append(self._films(films, ids[start : start + VIDEOS_AT_ONCE], damage))
            heard += [film.audio is not None for film in films]
            sizes.append(len(films))
            if progress is not None:
                progress(len(films))
        present = {"image": np.ones(len(heard), dtype=bool), "audio": np.asarray(heard, dtype=bool)}
        return _left(Embeddings(tuple(ids), joined(parts, sizes), present), damage)

    def _vectors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.network.embed(inputs)

    def _films(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> Arrays:
        frames, model = len(films[0].frames), self.network.model
        seen = self._seen(films, ids, damage)
        unit = getattr(model, "renormalise_frames", True)
        averaged = {k: frame_mean(v, frames, unit) for k, v in model.embed(seen).items()} if seen else {}
        heard = self._heard(films, ids, damage)
        if not heard:
            return to_numpy(averaged)
        has_sound = torch.tensor([film.audio is not None for film in films], device=self.device)
        pairs = {k: v[has_sound.repeat_interleave(frames)] for k, v in seen.items()}
        pairs |= {k: v.repeat_interleave(frames, dim=0) for k, v in heard.items()}
        for name, value in model.embed(pairs).items():
            if name not in averaged:
                averaged[name] = value.new_full((len(films), value.shape[-1]), torch.nan)
                averaged[name][has_sound] = frame_mean(value, frames, unit)
        return to_numpy(averaged)

    def _seen(
        self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None
    ) -> dict[str, Tensor]:
        """Encoder outputs [V * F, D] of all frames; none where pictures are missing."""
        if damage is not None and damage.missing == "image":
            return {}
        compact = self.network.preprocessor.images([frame for film in films for frame in film.frames])
        if damage is not None:
            compact = damage.pixels(compact, ids, len(films[0].frames))
        return self.network.features({"image": compact})

    def _heard(
        self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None
    ) -> dict[str, Tensor]:
        """Encoder outputs of the sound of those films that have some; none where sound is missing."""
        clips = [(i, film.audio) for i, film in zip(ids, films, strict=True) if film.audio is not None]
        if not clips or (damage is not None and damage.missing == "audio"):
            return {}
        waves = [wave for _, wave in clips]
        if damage is not None:
            waves = damage.waves(waves, [i for i, _ in clips])
        return self.network.features({"audio": self.network.preprocessor.audio(waves)})

    def _damage(self, corruption: Corruption | None, others: Others | None) -> Damage | None:
        return None if corruption is None else Damage(corruption, self.network.preprocessor, others)


def _left(embeddings: Embeddings, damage: Damage | None) -> Embeddings:
    """What damage leaves: absent wherever the modality is missing or could not be made worse."""
    if damage is None:
        return embeddings
    modality = damage.corruption.modality
    out = np.asarray([bool(damage.missing) or i in damage.left_out for i in embeddings.ids], dtype=bool)
    present = {**embeddings.present, modality: embeddings.present[modality] & ~out}
    for name, value in embeddings.arrays.items():
        if modality in [part.split(TOWER)[0] for part in scores.parts(name)]:
            value[out] = np.nan
    return Embeddings(embeddings.ids, embeddings.arrays, present)


def frame_mean(z: Tensor, frames: int, unit: bool) -> Tensor:
    """[V * F, D] -> [V, D]: the mean over F frames, to unit length again unless the method leaves it."""
    mean = z.reshape(-1, frames, z.shape[-1]).mean(dim=1)
    return normalise(mean) if unit else mean


def to_numpy(named: Mapping[str, Tensor]) -> Arrays:
    """float32 on the CPU, whatever the device and type."""
    return {name: value.float().cpu().numpy() for name, value in named.items()}


def joined(parts: Sequence[Arrays], sizes: Sequence[int] | None = None) -> Arrays:
    """Parts one below the other; where a part lacks a name (no sound at all), its rows are NaN.

    `sizes` says how many items a part has where it may lack all names.
    """
    widths = {name: value.shape[1] for part in parts for name, value in part.items()}
    if sizes is None:
        sizes = [len(next(iter(part.values()))) if part else 0 for part in parts]
    return {
        name: np.concatenate(
            [
                part.get(name, np.full((size, width), np.nan, dtype=np.float32))
                for part, size in zip(parts, sizes, strict=True)
            ]
        )
        for name, width in widths.items()
    }
