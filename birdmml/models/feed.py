"""Rows as compact tensors: decoded once and kept where they fit the memory budget, else decoded per batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from birdmml.errors import UsageError
from birdmml.models.preprocess import Damage, Preprocessor
from birdmml.models.presets import Training
from birdmml.models.read import BlockSource, Row, RowSource, captions, stream
from birdmml.models.text import tokenise

DECODE_ROWS = 128
Rows = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Blocks:
    """What is read from disk at once: rows and bytes of media of each block, in row order."""

    rows: Rows
    sizes: Rows

    @classmethod
    def of(cls, spans: Sequence[tuple[int, int]]) -> Blocks:
        """From (rows, bytes) a block."""
        rows, sizes = zip(*spans, strict=True) if spans else ((), ())
        return cls(np.asarray(rows, dtype=np.int64), np.asarray(sizes, dtype=np.int64))

    @property
    def starts(self) -> Rows:
        """The first row of each block."""
        return np.concatenate([[0], np.cumsum(self.rows)[:-1]]).astype(np.int64)


def epoch_order(rows: int, seed: int, epoch: int) -> Rows:
    """A permutation of the rows that depends on nothing but its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int64)


def block_order(blocks: Blocks, buffer_bytes: int, seed: int, epoch: int, times: Rows | None = None) -> Rows:
    """Every row once (or `times` [N] times): blocks in random order, through a buffer that is drawn from at random.

    A row is drawn only from blocks begun before it, and what lies in the buffer never exceeds `buffer_bytes` by
    more than a block: a reader that keeps begun blocks needs no more memory. Where all fits, and no `times` are
    given, the order is `epoch_order`: a full shuffle.
    """
    total = int(blocks.rows.sum())
    if int(blocks.sizes.sum()) <= buffer_bytes:
        order = epoch_order(total, seed, epoch)
        if times is None:
            return order
        order = np.repeat(order, times[order])
        return np.asarray(np.random.default_rng([seed, epoch, 2]).permutation(order), dtype=np.int64)
    rng = np.random.default_rng([seed, epoch])
    out: list[int] = []
    pool: list[tuple[int, float]] = []
    held = 0.0
    for block in rng.permutation(len(blocks.rows)).tolist():
        rows = np.arange(blocks.starts[block], blocks.starts[block] + blocks.rows[block])
        rows = rows if times is None else np.repeat(rows, times[rows])
        each = float(blocks.sizes[block]) / max(1, int(blocks.rows[block]))
        draws = iter(rng.random(len(pool)).tolist())
        while pool and held + each * len(rows) > buffer_bytes:
            held -= _draw(pool, next(draws), out)
        pool += [(int(row), each) for row in rows]
        held += each * len(rows)
    for draw in rng.random(len(pool)).tolist():
        _draw(pool, draw, out)
    return np.asarray(out, dtype=np.int64)


def species_times(labels: NDArray[np.int64], seed: int, epoch: int) -> Rows:
    """How often each row comes in an epoch that draws every species equally often; their sum is about N.

    Within a species rows come equally often, up to one; who comes once more is drawn anew each epoch.
    """
    rng = np.random.default_rng([seed, epoch, 1])
    times = np.zeros(len(labels), dtype=np.int64)
    species = np.unique(labels)
    share = max(1, len(labels) // max(1, len(species)))
    for label in species:
        rows = rng.permutation(np.flatnonzero(labels == label))
        times[rows] = share // len(rows)
        times[rows[: share % len(rows)]] += 1
    return times


def _draw(pool: list[tuple[int, float]], draw: float, out: list[int]) -> float:
    """Move a random member of the pool to `out`; its bytes."""
    at = int(draw * len(pool))
    pool[at], pool[-1] = pool[-1], pool[at]
    row, size = pool.pop()
    out.append(row)
    return size


class Feed:
    """Batches of compact image, audio and text tensors of some rows.

    Nothing is changed by keeping: a kept row and a row decoded anew hold the same values. With `damage` they are made
    worse, and a missing modality is not there.
    """

    def __init__(
        self,
        rows: RowSource,
        preprocessor: Preprocessor,
        tokenizer: Tokenizer,
        settings: Training | None = None,
        damage: Damage | None = None,
    ) -> None:
        self.rows, self.preprocessor = rows, preprocessor
        self.settings = settings or Training(cache_gib=0.0)
        self.text = tokenise(tokenizer, captions(rows), preprocessor.settings.max_tokens)
        self.keep = len(rows) * preprocessor.bytes_per_row() <= self.settings.cache_gib * 2**30
        self._kept: dict[str, Tensor] | None = None
        self.damage = damage
        self._ids = list(map(str, rows.column("id"))) if damage is not None else []
        try:
            self._seconds = list(map(float, rows.column("audio_valid_seconds"))) if damage is not None else None
        except KeyError:  # Rows that know of no padding have none.
            self._seconds = None

    def __len__(self) -> int:
        return len(self.rows)

    def fill(self, progress: Progress | None = None) -> None:
        """Decode everything now, if it is to be kept; `progress(done, total)` is called after each part."""
        if not self.keep or self._kept is not None:
            return
        kept: dict[str, Tensor] = {}
        edges = range(0, len(self), DECODE_ROWS)
        parts = [np.arange(start, min(start + DECODE_ROWS, len(self))) for start in edges]
        for part, media in zip(parts, self._decoded(parts), strict=True):
            for name, value in self._compact(media, part).items():
                column = kept.setdefault(name, torch.empty((len(self), *value.shape[1:]), dtype=value.dtype))
                column[part[0] : part[-1] + 1] = value
            if progress is not None:
                progress(int(part[-1]) + 1, len(self))
        self._kept = kept

    def order(self, seed: int, epoch: int) -> Rows:
        """The rows of one epoch: each once, or every species equally often; mixed within the buffer."""
        times = None
        if self.settings.sampling == "species":
            times = species_times(np.asarray(self.rows.column("label"), dtype=np.int64), seed, epoch)
        blocks = self.rows.blocks() if isinstance(self.rows, BlockSource) else [(len(self), 0)]
        return block_order(Blocks.of(blocks), self.settings.buffer_mib * 2**20, seed, epoch, times)

    def stream(self, parts: Sequence[Rows]) -> Iterator[dict[str, Tensor]]:
        """`batch` of each part, decoded ahead."""
        self.fill()
        if self._kept is not None:
            yield from map(self.batch, parts)
            return
        for part, media in zip(parts, self._decoded(parts), strict=True):
            yield {"text": trimmed(self.text[torch.from_numpy(part)])} | self._compact(media, part)

    def batch(self, indices: Rows) -> dict[str, Tensor]:
        """Compact tensors of those rows: image uint8, audio in dB, text ids without needless padding."""
        self.fill()
        indices = np.asarray(indices, dtype=np.int64)
        chosen = torch.from_numpy(indices)
        if self._kept is None:
            (media,) = self._decoded([indices])
            return {"text": trimmed(self.text[chosen])} | self._compact(media, indices)
        return {"text": trimmed(self.text[chosen])} | {k: v[chosen] for k, v in self._kept.items()}

    def _decoded(self, parts: Sequence[Rows]) -> Iterator[list[Row]]:
        # JPEGs come at a half, a quarter or an eighth, as long as nothing is to be scaled up: the same picture
        # to about 44 dB after the antialiased rest, for a third of the work.
        side = self.preprocessor.settings.image_size
        here = self.preprocessor.window.device.type == "cpu" and self.damage is None
        return stream(self.rows, parts, self.settings.workers, side, self._ready if here else dict)

    def _ready(self, row: Row) -> Row:
        """On a CPU, resize and log-mel where the row was decoded: a batch gains nothing there, and threads share it."""
        front: dict[str, Callable[[Any], Tensor]] = {
            "image": self.preprocessor.images,
            "audio": self.preprocessor.audio,
        }
        return row | {k: run([row[k]]) for k, run in front.items() if k in row and not is_ready(row[k])}

    def _compact(self, media: Sequence[Row], part: Rows) -> dict[str, Tensor]:
        """Media become compact tensors; what is ready is stacked as it is, features of texts replace the tokens."""
        out: dict[str, Tensor] = {}
        for name in media[0] if media else ("image", "audio"):
            items = [row[name] for row in media]
            if self.damage is not None and name == self.damage.missing:
                continue
            if items and isinstance(items[0], Tensor):
                out[name] = torch.cat(items)
            elif items and is_ready(items[0]):
                if self.damage is not None and self.damage.corruption.modality == name:
                    raise UsageError(
                        f"{self.damage.corruption.name} is done to media, and the {name} here is precomputed features: "
                        "choose another evaluation set"
                    )
                out[name] = torch.from_numpy(np.stack(items))
            elif name == "image":
                pixels = self.preprocessor.images(items)
                out[name] = pixels if self.damage is None else self.damage.pixels(pixels, [self._ids[i] for i in part])
            else:
                # Sound is made worse before the log-mel, pictures after the resize: the SNR is that of what is encoded.
                if self.damage is not None:
                    seconds = None if self._seconds is None else [self._seconds[i] for i in part]
                    items = self.damage.waves(items, [self._ids[i] for i in part], seconds)
                out[name] = self.preprocessor.audio(items)
        return out


def is_ready(item: NDArray[np.generic]) -> bool:
    """Whether a row's value needs no front end: features [T, D], or float32 [channels, H, W]."""
    return item.ndim == 2 or (item.ndim == 3 and item.dtype == np.float32)


def trimmed(ids: Tensor) -> Tensor:
    """Token ids [B, L] cut to the longest text of the batch; the padding tells the encoder nothing."""
    longest = int((ids != 0).sum(1).max()) if len(ids) else 0
    return ids[:, : max(1, longest)]


def batches(order: NDArray[np.int64], size: int, least: int = 2) -> Iterator[NDArray[np.int64]]:
    """`order` in batches of `size`, each row once. Fewer than `least` at the end join the batch before.

    A row alone has no negatives; several processes need a row each.
    """
    edges = [*range(0, len(order), size), len(order)]
    if len(edges) > 2 and edges[-1] - edges[-2] < least:  # Joined, not dropped: every row counts.
        del edges[-2]
    for start, stop in pairwise(edges):
        yield order[start:stop]


def steps_per_epoch(rows: int, size: int, least: int = 2) -> int:
    """How many batches `batches` makes."""
    return sum(1 for _ in batches(np.arange(rows), size, least))


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch on the device; through pinned memory to a CUDA device, so that the copy does not block."""
    return {
        name: value.pin_memory().to(device, non_blocking=True)
        if device.type == "cuda" and value.device.type == "cpu"
        else value.to(device)
        for name, value in batch.items()
    }
