"""Triplets to Parquet shards: planned from sizes, written whole, the same bytes on any number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml import files, taxonomy
from birdmml.build import staging
from birdmml.build.schema import arrow_schema
from birdmml.schema import RATE_HZ, SPLITS, Caption, Credit, Split, Triplet

SHARD_BYTES = 256 << 20
GROUP_BYTES = 48 << 20
GROUP_ROWS = 128


@dataclass(frozen=True)
class ShardTask:
    """One shard to write."""

    path: str
    staging: str
    rows: tuple[Triplet, ...]
    rate_hz: int = RATE_HZ


@dataclass(frozen=True)
class Shard:
    """One shard as written. `path` is relative to the dataset's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


def plan(
    rows: Sequence[Triplet], root: Path, staging_folder: Path, rate_hz: int, shard_bytes: int = SHARD_BYTES
) -> list[ShardTask]:
    """Cut the rows of each split, in order, into shards of about `shard_bytes` of media."""
    tasks: list[ShardTask] = []
    for split in SPLITS:
        mine = [r for r in rows if r.split == split]
        parts = list(_batches(mine, shard_bytes, len(mine) or 1))
        for number, part in enumerate(parts):
            path = root / "data" / shard_name(split, number, len(parts))
            tasks.append(ShardTask(str(path), str(staging_folder), tuple(part), rate_hz))
    return tasks


def shard_name(split: Split, number: int, total: int) -> str:
    """Hugging Face's file name for a shard."""
    return f"{split}-{number:05d}-of-{total:05d}.parquet"


def write_shard(task: ShardTask) -> Shard:
    """Write one shard from staging. Raises OSError if the disk does not take it; then nothing is left behind."""
    path = Path(task.path)
    schema = arrow_schema(task.rate_hz)
    # Media are compressed already; the other columns are small and repeat.
    packed = {name: "zstd" for name in _leaves(schema) if not name.endswith(".bytes")}
    with files.atomic_write(path) as f:
        writer = pq.ParquetWriter(
            f,
            schema,
            compression={**packed, "image.bytes": "none", "audio.bytes": "none"},
            use_dictionary=[n for n in packed if n.split(".")[0] not in ("image", "audio", "id")],
            write_page_index=True,
            use_content_defined_chunking=True,
        )
        with writer:
            for group in _batches(task.rows, GROUP_BYTES, GROUP_ROWS):
                values = [_row(r, Path(task.staging)) for r in group]
                writer.write_table(pa.Table.from_pylist(values, schema=schema), row_group_size=len(values))
    return Shard(f"data/{path.name}", len(task.rows), path.stat().st_size, files.sha256_file(path))


def _batches(rows: Sequence[Triplet], max_bytes: int, max_rows: int) -> Iterator[Sequence[Triplet]]:
    """Consecutive runs of rows within both limits; a row larger than the limit stands alone."""
    start, size = 0, 0
    for index, row in enumerate(rows):
        length = row.image.length + row.audio.length
        if index > start and (size + length > max_bytes or index - start >= max_rows):
            yield rows[start:index]
            start, size = index, 0
        size += length
    if start < len(rows):
        yield rows[start:]


def _leaves(schema: pa.Schema) -> list[str]:
    return [
        f"{field.name}.{child}" if child else field.name
        for field in schema
        for child in (("bytes", "path") if pa.types.is_struct(field.type) else ("",))
    ]


def _row(triplet: Triplet, folder: Path) -> dict[str, Any]:
    """All columns of one row, in the names of birdmml.columns."""
    species = taxonomy.resolve(triplet.species)
    image, audio = triplet.image, triplet.audio
    return {
        "id": triplet.id,
        "image": {"bytes": staging.read_medium(folder, image), "path": image.path},
        "audio": {"bytes": staging.read_medium(folder, audio), "path": audio.path},
        "species": species.scientific_name,
        "common_name": species.common_name,
        "label": species.label,
        "ebird_code": species.ebird_code,
        "order": species.order,
        "family": species.family,
        "image_id": image.id,
        "observation_id": image.group,
        "image_width": image.width,
        "image_height": image.height,
        "image_phash": image.phash,
        "image_sha256": image.sha256,
        "image_reencoded": image.reencoded,
        "audio_id": audio.id,
        "recording_id": audio.group,
        "audio_start_s": audio.start_s,
        "audio_valid_seconds": audio.valid_seconds,
        "audio_rms_dbfs": audio.rms_dbfs,
        "audio_clipped_share": audio.clipped_share,
        "audio_sha256": audio.sha256,
        **_caption(triplet.caption),
        **_credit("image", image.credit),
        **_credit("audio", audio.credit),
    }


def _caption(caption: Caption) -> dict[str, str]:
    return {
        "caption": caption.text,
        "caption_origin": caption.origin,
        **_credit("caption", caption.credit),
    }


def _credit(part: str, credit: Credit) -> dict[str, str]:
    return {f"{part}_{key}": value for key, value in asdict(credit).items()}
