"""Triplets to Parquet shards: planned from sizes, written whole, the same bytes on any number of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from birdmml.core.pool import give_memory_back
from birdmml.core.species import Species, Taxonomy
from birdmml.core.species_list import SHIPPED, SpeciesList
from birdmml.dataset import decode
from birdmml.dataset.captions import caption_of
from birdmml.dataset.catalog import Catalog
from birdmml.dataset.format import arrow_schema
from birdmml.dataset.names import name_free, name_matches
from birdmml.dataset.shards import SHARD_BYTES, WrittenShard, cut, shard_name, write_shard
from birdmml.schema import RATE_HZ, SPLITS, Credit, Triplet

# A reader holds one row group at a time, and so does a writer: a few dozen MB, whatever the shard's size.
GROUP_BYTES = 48 << 20
GROUP_ROWS = 128
# Values repeat in all other columns.
_UNIQUE = ("image", "audio", "id")


@dataclass(frozen=True)
class DatasetShardTask:
    """One shard to write: rows number `first` to `last` of the catalog, both included."""

    path: str
    catalog: str
    staging: str
    first: int
    last: int
    seed: int = 0
    rate_hz: int = RATE_HZ
    species: SpeciesList = SHIPPED

    def below(self, root: Path) -> DatasetShardTask:
        """The same task with its shard below another folder than the dataset's."""
        return replace(self, path=str(root / "data" / Path(self.path).name))


def plan(
    catalog: Catalog, path: Path, root: Path, staging_folder: Path, seed: int, rate_hz: int,
    species: SpeciesList = SHIPPED, shard_bytes: int = SHARD_BYTES,
) -> list[DatasetShardTask]:  # fmt: skip
    """Cut the rows of each split, in order, into shards of about `shard_bytes` of media."""
    tasks: list[DatasetShardTask] = []
    for split, rows in groupby(catalog.lengths(), key=itemgetter(1)):
        ends = [(run[0][0], run[-1][0]) for run in cut(rows, itemgetter(2), shard_bytes)]
        for number, (first, last) in enumerate(ends):
            shard = root / "data" / shard_name(SPLITS[split], number, len(ends))
            tasks.append(
                DatasetShardTask(str(shard), str(path), str(staging_folder), first, last, seed, rate_hz, species)
            )
    return tasks


def build_shard(task: DatasetShardTask) -> WrittenShard:
    """Write one shard from staging. Raises OSError if the disk does not take it; then nothing is left behind."""
    path, folder, taxonomy = Path(task.path), Path(task.staging), task.species.taxonomy
    give_memory_back()  # What decoding has left.
    schema = arrow_schema(task.rate_hz, taxonomy.scientific_names)
    tally: Counter[tuple[str, str]] = Counter()

    def groups(catalog: Catalog) -> Iterator[pa.Table]:
        rows = _triplets(catalog, task, taxonomy)
        for triplets in cut(rows, lambda t: t.image.length + t.audio.length, GROUP_BYTES, GROUP_ROWS):
            for triplet in triplets:
                tally.update(_count(triplet, taxonomy))
            yield pa.Table.from_pylist([_row(t, folder, taxonomy) for t in triplets], schema=schema)

    with Catalog(Path(task.catalog), readonly=True) as catalog:
        written = write_shard(path.parents[1], f"data/{path.name}", schema, groups(catalog), repeating(schema))
    return replace(written, tally=tally)


def repeating(schema: pa.Schema) -> list[str]:
    """The columns of a dataset that are worth a dictionary."""
    return [name for name in schema.names if name not in _UNIQUE]


def _triplets(catalog: Catalog, task: DatasetShardTask, taxonomy: Taxonomy) -> Iterator[Triplet]:
    for row_id, split, image, image_recovered, audio, audio_recovered in catalog.rows(task.first, task.last):
        caption = caption_of(image, audio, task.seed, taxonomy.resolve(image.species))
        yield Triplet(row_id, SPLITS[split], image.species, image, audio, caption, image_recovered, audio_recovered)


def _count(triplet: Triplet, taxonomy: Taxonomy) -> Iterator[tuple[str, str]]:
    """What the manifest counts by rows, as (what, value)."""
    yield "species", triplet.species
    yield "origin", triplet.caption.origin
    yield "image", triplet.image.credit.license
    yield "audio", triplet.audio.credit.license
    yield "caption", triplet.caption.credit.license
    recovered = triplet.image_recovered or triplet.audio_recovered
    yield ("recovered" if recovered else "complete"), triplet.species
    species = taxonomy.resolve(triplet.species)
    yield from count_names(triplet.caption.text, name_free(triplet.caption.text, species), species)


def count_names(caption: str, without: str, species: Species) -> Iterator[tuple[str, str]]:
    """The names of a species in a row's caption and in its name-free one, as the manifest counts them."""
    for column, text in (("caption", caption), ("caption_name_free", without)):
        matches = name_matches(text, species)
        yield from ((f"{column} names", kind) for kind, is_there in asdict(matches).items() if is_there)
        if matches.common or matches.scientific or matches.part:
            yield f"{column} names", "any"


def _row(triplet: Triplet, folder: Path, taxonomy: Taxonomy) -> dict[str, Any]:
    """All columns of one row, in the names of birdmml.dataset.format."""
    species = taxonomy.resolve(triplet.species)
    image, audio, caption = triplet.image, triplet.audio, triplet.caption
    return {
        "id": triplet.id,
        "image": {"bytes": decode.read_medium(folder, image), "path": image.path},
        "audio": {"bytes": decode.read_medium(folder, audio), "path": audio.path},
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
        "caption": caption.text,
        "caption_name_free": name_free(caption.text, species),
        "caption_origin": caption.origin,
        **_credit("caption", caption.credit),
        **_credit("image", image.credit),
        **_credit("audio", audio.credit),
    }


def _credit(part: str, credit: Credit) -> dict[str, str]:
    return {f"{part}_{key}": value for key, value in asdict(credit).items()}
