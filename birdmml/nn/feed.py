"""Rows as compact tensors: decoded once and kept where they fit the memory budget, else decoded per batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from birdmml.nn.preprocess import Preprocessor
from birdmml.nn.text import tokenise

DECODE_ROWS = 128
Progress = Callable[[int, int], None]


class RowSource(Protocol):
    """What training and embedding need of a dataset: its light columns, and decoded media by row number."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> list[Any]:
        """One light column, in row order."""

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        """For each row "image" uint8 [H, W, 3] and "audio" float32 [T]."""


class Feed:
    """Batches of compact image, audio and text tensors of some rows, on the CPU.

    Nothing is changed by keeping: a kept row and a row decoded anew hold the same values.
    """

    def __init__(
        self, rows: RowSource, preprocessor: Preprocessor, tokenizer: Tokenizer, cache_gib: float = 0.0
    ) -> None:
        self.rows, self.preprocessor = rows, preprocessor
        self.text = tokenise(tokenizer, rows.column("caption"), preprocessor.settings.max_tokens)
        self.keep = len(rows) * preprocessor.bytes_per_row() <= cache_gib * 2**30
        self._kept: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def fill(self, progress: Progress | None = None) -> None:
        """Decode everything now, if it is to be kept; `progress(done, total)` is called after each part."""
        if not self.keep or self._kept is not None:
            return
        kept: dict[str, Tensor] = {}
        for start in range(0, len(self), DECODE_ROWS):
            part = np.arange(start, min(start + DECODE_ROWS, len(self)))
            for name, value in self._decode(part).items():
                whole = kept.setdefault(name, value.new_empty((len(self), *value.shape[1:])))
                whole[start : start + len(part)] = value
            if progress is not None:
                progress(int(part[-1]) + 1, len(self))
        self._kept = kept

    def batch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Compact tensors of those rows: image uint8, audio in dB, text ids without needless padding."""
        self.fill()
        chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        media = self._decode(indices) if self._kept is None else {k: v[chosen] for k, v in self._kept.items()}
        return media | {"text": trimmed(self.text[chosen])}

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The rows of one epoch, each once, well mixed."""
        return epoch_order(len(self), seed, epoch)

    def stream(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[dict[str, Tensor]]:
        """`batch` of each part."""
        for part in parts:
            yield self.batch(part)

    def _decode(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        rows = self.rows.media(indices.tolist(), ("image", "audio"))
        return {
            "image": self.preprocessor.images([row["image"] for row in rows]).cpu(),
            "audio": self.preprocessor.audio([row["audio"] for row in rows]).cpu(),
        }


def trimmed(ids: Tensor) -> Tensor:
    """Token ids [B, L] cut to the longest text of the batch; the padding tells the encoder nothing."""
    longest = int((ids != 0).sum(1).max()) if len(ids) else 0
    return ids[:, : max(1, longest)]


def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of the rows that depends on nothing but its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int64)


def batches(order: NDArray[np.int64], size: int, least: int = 2) -> Iterator[NDArray[np.int64]]:
    """`order` in batches of `size`, each row once. Fewer than `least` at the end join the batch before.

    A row alone has no negatives; several processes need a row each.
    """
    edges = [*range(0, len(order), size), len(order)]
    if len(edges) > 2 and edges[-1] - edges[-2] < least:
        del edges[-2]
    for start, stop in pairwise(edges):
        yield order[start:stop]


def steps_per_epoch(rows: int, size: int, least: int = 2) -> int:
    """How many batches `batches` makes."""
    return sum(1 for _ in batches(np.arange(rows), size, least))


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch on the device; through pinned memory to a CUDA device, so that the copy does not block."""
    if device.type != "cuda":
        return {name: value.to(device) for name, value in batch.items()}
    return {name: value.pin_memory().to(device, non_blocking=True) for name, value in batch.items()}
