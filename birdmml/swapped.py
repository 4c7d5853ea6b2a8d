"""Embeddings of items with another item's picture or sound: each medium is encoded once, the method fuses anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdmml.embed import BATCH, Arrays, DecodedFilm, Embedder, Embeddings, frame_mean, joined, to_numpy
from birdmml.embedded import EmbeddingCache
from birdmml.errors import EvalsetError
from birdmml.nn.damage import Damage
from birdmml.nn.encoders import widths
from birdmml.nn.heads import TOWER
from birdmml.pairing import KINDS, Swap, lenders

OUTPUTS = "outputs"


class Outputs(Embedder):
    """Gives encoder outputs h_m instead of vectors: [N, D_m], of a video's F frames one after the other [N, F * D_m].

    An encoder sees one medium alone, so the output of a swapped input is the swapped output.
    """

    def __init__(self, embedder: Embedder) -> None:
        vars(self).update(vars(embedder))

    def _vectors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.network.features({name: inputs[name] for name in KINDS})

    def _films(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> Arrays:
        seen, heard = self._seen(films, ids, damage), self._heard(films, ids, damage)
        outputs = {name: value.reshape(len(films), -1) for name, value in seen.items()}
        if heard:
            has_sound = torch.tensor([film.audio is not None for film in films], device=self.device)
            for name, value in heard.items():
                outputs[name] = value.new_full((len(films), value.shape[-1]), torch.nan)
                outputs[name][has_sound] = value
        return to_numpy(outputs)


def embed(
    encode: Callable[[Embedder], Embeddings],
    embedder: Embedder,
    cache: EmbeddingCache,
    key: Mapping[str, Any],
    labels: NDArray[np.int64] | None,
) -> Embeddings:
    """The embeddings that `key["pairing"]` asks for; the encoder outputs behind them are kept in the cache.

    An item without picture or sound lends nothing and gets nothing. Raises UsageError or EvalsetError.
    """
    swap = Swap.parse(str(key["pairing"]))
    if labels is None:
        raise EvalsetError(f"{key['evalset']} has no classes: {swap} needs items of different ones")
    outputs = cache.get({**key, "pairing": OUTPUTS}, lambda: encode(Outputs(embedder)))
    both = np.flatnonzero(outputs.present["image"] & outputs.present["audio"])
    lender = lenders(labels, both, swap.seed)
    h = {
        name: value[lender] if name.split(TOWER)[0] == swap.kind else value
        for name, value in outputs.arrays.items()
    }
    return Embeddings(outputs.ids, fuse(embedder, h), {kind: outputs.present[kind] for kind in KINDS})


@torch.inference_mode()
def fuse(embedder: Embedder, h: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """Unit vectors [N, dim] of encoder outputs, over a video's frames as `Embedder.videos` takes them."""
    model = embedder.network.model
    unit = getattr(model, "renormalise_frames", True)
    width = widths(embedder.network.encoders)
    frames = max(value.shape[1] // width[name] for name, value in h.items())
    step = max(1, BATCH // frames)
    parts: list[Arrays] = []
    for start in range(0, len(next(iter(h.values()))), step):
        # A still medium goes with every frame.
        rows = {
            name: torch.from_numpy(value[start : start + step].reshape(-1, width[name])).to(embedder.device)
            for name, value in h.items()
        }
        most = max(map(len, rows.values()))
        rows = {name: value.repeat_interleave(most // len(value), dim=0) for name, value in rows.items()}
        parts.append(to_numpy({k: frame_mean(v, frames, unit) for k, v in model.embed(rows).items()}))
    return joined(parts)
