"""What the report shows, read from a dataset's shards with bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.errors import DatasetError
from birdmml.schema import SPLITS

_WORDS = (
    "id caption caption_origin image_id audio_id image_license image_author image_url audio_license audio_author "
    "audio_url caption_license caption_author caption_url"
)
_NUMBERS = (
    "label image_width image_height audio_start_s audio_valid_seconds audio_rms_dbfs audio_clipped_share"
)
COLUMNS = [*_WORDS.split(), *_NUMBERS.split()]

# Rows read at a time: their texts, not their media, are in memory.
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Example:
    """One row chosen for the gallery, and where its media lie."""

    shard: str
    index: int
    split: str
    values: Mapping[str, Any] = field(compare=False)


@dataclass
class Survey:
    """All rows as numbers, and the examples of each label, in the order of their shards.

    `numbers` holds one float64 [N] for seconds of sound, level, photo side and words of the caption.
    """

    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    rows_by_label: dict[int, Counter[str]] = field(default_factory=dict)
    examples: dict[int, list[Example]] = field(default_factory=dict)
    clipped_rows: int = 0


def survey(root: Path, manifest: Mapping[str, Any], per_species: int) -> Survey:
    """Read the columns that are not media, once. Raises DatasetError if a shard cannot be read."""
    found = Survey()
    chunks: dict[str, list[NDArray[np.float64]]] = {"seconds": [], "level": [], "side": [], "words": []}
    pools: dict[int, _Pool] = {}
    for split in SPLITS:
        for shard in manifest["splits"].get(split, {}).get("shards", ()):
            start = 0
            for batch in _batches(root / shard["path"]):
                _measure(batch, chunks)
                found.clipped_rows += int(np.count_nonzero(batch["audio_clipped_share"].to_numpy() > 0))
                for offset, values in enumerate(batch.to_pylist()):
                    label = values["label"]
                    found.rows_by_label.setdefault(label, Counter())[split] += 1
                    pool = pools.setdefault(label, _Pool(per_species))
                    pool.offer(Example(shard["path"], start + offset, split, values))
                start += batch.num_rows
    found.numbers = {k: np.concatenate(v) if v else np.empty(0) for k, v in chunks.items()}
    found.examples = {label: pools[label].chosen() for label in sorted(pools)}
    return found


def media(root: Path, examples: list[Example]) -> Iterator[tuple[Example, bytes, bytes]]:
    """Each example with its photo's and its clip's bytes; at most one row group is in memory."""
    wanted: dict[str, list[Example]] = {}
    for example in examples:
        wanted.setdefault(example.shard, []).append(example)
    for shard, mine in wanted.items():
        with _open(root / shard) as file:
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                here = [e for e in mine if first <= e.index < first + rows]
                if here:
                    table = file.read_row_group(group, columns=["image.bytes", "audio.bytes"])
                    for e in here:
                        image, audio = (
                            table[c][e.index - first].as_py()["bytes"] for c in ("image", "audio")
                        )
                        yield e, image, audio
                first += rows


class _Pool:
    """The first rows of a species that show a photo and a clip of their own; failing that, one of the two."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fresh: list[Example] = []
        self.spare: list[Example] = []
        self.seen: set[str] = set()
        self.seen_fresh: set[str] = set()

    def offer(self, example: Example) -> None:
        if len(self.fresh) == self.size:
            return
        ids = {f"image {example.values['image_id']}", f"audio {example.values['audio_id']}"}
        if not ids & self.seen_fresh:
            self.fresh.append(example)
            self.seen_fresh |= ids
        elif len(self.spare) < self.size and not ids <= self.seen:
            self.spare.append(example)
        self.seen |= ids

    def chosen(self) -> list[Example]:
        return (self.fresh + self.spare)[: self.size]


def _measure(batch: pa.RecordBatch, chunks: dict[str, list[NDArray[np.float64]]]) -> None:
    sides = np.maximum(batch["image_width"].to_numpy(), batch["image_height"].to_numpy())
    words = [len((text or "").split()) for text in batch["caption"].to_pylist()]
    chunks["seconds"].append(batch["audio_valid_seconds"].to_numpy().astype(np.float64))
    chunks["level"].append(batch["audio_rms_dbfs"].to_numpy().astype(np.float64))
    chunks["side"].append(sides.astype(np.float64))
    chunks["words"].append(np.array(words, dtype=np.float64))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with _open(path) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=COLUMNS)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as e:
        raise DatasetError(f"{path} cannot be read ({e}): build the dataset again") from e
