"""Triplets to Parquet shards: planned from sizes, written whole, the same bytes on any number of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml import files
from birdmml.build import staging
from birdmml.build.caption import caption_of
from birdmml.build.catalog import Catalog
from birdmml.build.names import name_free, name_matches
from birdmml.build.schema import arrow_schema
from birdmml.schema import RATE_HZ, SPLITS, Caption, Credit, Split, Triplet
from birdmml.species_list import SHIPPED, SpeciesList
from birdmml.taxonomy import Species, Taxonomy

SHARD_BYTES = 256 << 20
GROUP_BYTES = 48 << 20
GROUP_ROWS = 128


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: rows number `first` to `last` of the catalog, both included."""

    path: str
    catalog: str
    staging: str
    first: int
    last: int
    seed: int = 0
    rate_hz: int = RATE_HZ
    species: SpeciesList = SHIPPED

    def below(self, root: Path) -> ShardTask:
        """The same task with its shard below another folder than the dataset's."""
        return replace(self, path=str(root / "data" / Path(self.path).name))


@dataclass(frozen=True)
class Shard:
    """One shard as written. `path` is relative to the dataset's folder; `tally` counts its rows, see `_count`."""

    path: str
    rows: int
    bytes: int
    sha256: str
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)


def plan(
    catalog: Catalog, path: Path, root: Path, staging_folder: Path, seed: int, rate_hz: int,
    species: SpeciesList = SHIPPED, shard_bytes: int = SHARD_BYTES,
) -> list[ShardTask]:  # fmt: skip
    """Cut the rows of each split, in order, into shards of about `shard_bytes` of media."""
    tasks: list[ShardTask] = []
    for split, rows in groupby(catalog.lengths(), key=lambda row: row[1]):
        parts = list(_runs(rows, shard_bytes))
        for number, (first, last) in enumerate(parts):
            name = shard_name(SPLITS[split], number, len(parts))
            shard = root / "data" / name
            tasks.append(
                ShardTask(str(shard), str(path), str(staging_folder), first, last, seed, rate_hz, species)
            )
    return tasks


def _runs(rows: Iterable[tuple[int, int, int]], max_bytes: int) -> Iterator[tuple[int, int]]:
    """(first, last) row numbers of consecutive runs; a row larger than the limit stands alone."""
    first, last, size = -1, -1, 0
    for number, _, length in rows:
        if first >= 0 and size + length > max_bytes:
            yield first, last
            first, size = -1, 0
        first, last, size = (number if first < 0 else first), number, size + length
    if first >= 0:
        yield first, last


def shard_name(split: Split, number: int, total: int) -> str:
    """Hugging Face's file name for a shard."""
    return f"{split}-{number:05d}-of-{total:05d}.parquet"


def write_shard(task: ShardTask) -> Shard:
    """Write one shard from staging. Raises OSError if the disk does not take it; then nothing is left behind."""
    path, folder = Path(task.path), Path(task.staging)
    known = task.species.taxonomy
    schema = arrow_schema(task.rate_hz, known.scientific_names)
    tally: Counter[tuple[str, str]] = Counter()
    with Catalog(Path(task.catalog), readonly=True) as catalog, files.atomic_write(path) as f:
        hashed = files.HashingWriter(f)
        with shard_writer(hashed, schema) as writer:
            for group in _batches(_triplets(catalog, task, known), GROUP_BYTES, GROUP_ROWS):
                values = [_row(triplet, folder, known) for triplet in group]
                for triplet in group:
                    tally.update(_count(triplet, known))
                writer.write_table(pa.Table.from_pylist(values, schema=schema), row_group_size=len(values))
    return Shard(f"data/{path.name}", task.last - task.first + 1, hashed.size, hashed.hexdigest(), tally)


def shard_writer(f: Any, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of shards as `datasets`, DuckDB and the Hub's viewer like them; the caller cuts the row groups."""
    # Media are compressed already; the other columns are small and repeat.
    packed = {name: "zstd" for name in _leaves(schema) if not name.endswith(".bytes")}
    return pq.ParquetWriter(
        f,
        schema,
        compression={**packed, "image.bytes": "none", "audio.bytes": "none"},
        use_dictionary=[n for n in packed if n.split(".")[0] not in ("image", "audio", "id")],
        write_page_index=True,
        use_content_defined_chunking=True,
    )


def _triplets(catalog: Catalog, task: ShardTask, known: Taxonomy) -> Iterator[Triplet]:
    for row_id, split, image, image_recovered, audio, audio_recovered in catalog.rows(task.first, task.last):
        caption = caption_of(image, audio, task.seed, known.resolve(image.species))
        yield Triplet(
            row_id, SPLITS[split], image.species, image, audio, caption, image_recovered, audio_recovered
        )


def _count(triplet: Triplet, known: Taxonomy) -> Iterator[tuple[str, str]]:
    """What the manifest counts by rows, as (what, value)."""
    yield "species", triplet.species
    yield "origin", triplet.caption.origin
    yield "image", triplet.image.credit.license
    yield "audio", triplet.audio.credit.license
    yield "caption", triplet.caption.credit.license
    recovered = triplet.image_recovered or triplet.audio_recovered
    yield ("recovered" if recovered else "complete"), triplet.species
    species = known.resolve(triplet.species)
    yield from count_names(triplet.caption.text, name_free(triplet.caption.text, species), species)


def count_names(caption: str, without: str, species: Species) -> Iterator[tuple[str, str]]:
    """The names of a species in a row's caption and in its name-free one, as the manifest counts them."""
    for column, text in (("caption", caption), ("caption_name_free", without)):
        found = name_matches(text, species)
        yield from ((f"{column} names", kind) for kind, is_there in asdict(found).items() if is_there)
        if found.common or found.scientific or found.part:
            yield f"{column} names", "any"


def _batches(rows: Iterable[Triplet], max_bytes: int, max_rows: int) -> Iterator[list[Triplet]]:
    """Consecutive runs of rows within both limits; a row larger than the limit stands alone."""
    batch: list[Triplet] = []
    size = 0
    for row in rows:
        length = row.image.length + row.audio.length
        if batch and (size + length > max_bytes or len(batch) >= max_rows):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def _leaves(schema: pa.Schema) -> list[str]:
    return [
        f"{field.name}.{child}" if child else field.name
        for field in schema
        for child in (("bytes", "path") if pa.types.is_struct(field.type) else ("",))
    ]


def _row(triplet: Triplet, folder: Path, known: Taxonomy) -> dict[str, Any]:
    """All columns of one row, in the names of birdmml.columns."""
    species = known.resolve(triplet.species)
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
        "image_recovered": triplet.image_recovered,
        "audio_recovered": triplet.audio_recovered,
        "metadata": image.metadata,
        **_caption(triplet.caption, species),
        **_credit("image", image.credit),
        **_credit("audio", audio.credit),
    }


def _caption(caption: Caption, species: Species) -> dict[str, str]:
    return {
        "caption": caption.text,
        "caption_name_free": name_free(caption.text, species),
        "caption_origin": caption.origin,
        **_credit("caption", caption.credit),
    }


def _credit(part: str, credit: Credit) -> dict[str, str]:
    return {f"{part}_{key}": value for key, value in asdict(credit).items()}
