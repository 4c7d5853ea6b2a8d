"""Read a built dataset again and compare it with what it says of itself."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.core import files
from birdmml.core.pool import Pool
from birdmml.core.species_list import SpeciesList, dataset_taxonomy, of_dataset
from birdmml.dataset import format
from birdmml.dataset.format import arrow_schema
from birdmml.errors import BirdmmlError, MediaError
from birdmml.media import audio, image

_LIGHT = (
    "id", "label", "species", "caption", "observation_id", "recording_id", "image_sha256", "audio_sha256",
    "image_width", "image_height", "audio_valid_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class DatasetProblem:
    """One thing that is not as it should be: a stable slug, where, and what was found."""

    check: str
    where: str
    detail: str


@dataclass(frozen=True)
class Findings:
    """The outcome of a validation: `problems` is empty for a sound dataset."""

    rows: int
    shards: int
    problems: tuple[DatasetProblem, ...]


@dataclass(frozen=True)
class _GroupTask:
    path: str
    name: str
    group: int
    clip_samples: int
    rate_hz: int
    species: SpeciesList


# The light columns of a row group, and what is wrong with its rows.
_RowGroup = tuple[dict[str, list[Any]], list[DatasetProblem]]


def validate(root: Path, workers: int = 1, progress: Callable[[str, int, int], None] | None = None) -> Findings:
    """Check hashes, schema, counts, every image and clip, and that no group or file spans two splits.

    Raises DatasetError if `root` has no manifest to compare with, or not its table of species.
    """
    manifest = format.read(root)
    # Without its table no label says anything: this raises.
    names = dataset_taxonomy(root, manifest).scientific_names
    shards = [(split, shard) for split, value in manifest["splits"].items() for shard in value["shards"]]
    problems = list(_manifest_problems(root, manifest, {shard["path"] for _, shard in shards}))
    tasks: list[_GroupTask] = []
    where: list[str] = []
    for split, shard in shards:
        groups = _open(root, shard, manifest, names, problems)
        tasks += groups
        where += [split] * len(groups)
    ended = itertools.count(1)

    def done(index: int, result: _RowGroup) -> None:
        if progress is not None:
            progress("validate", next(ended), len(tasks))

    with Pool(workers) as pool:
        checked = pool.run(_check_group, tasks, done)
    for _, group_problems in checked:
        problems += group_problems
    released = manifest["settings"].get("split") == "released"
    problems += _across(where, [light for light, _ in checked], may_leak=released)
    return Findings(sum(len(light["id"]) for light, _ in checked), len(shards), tuple(problems))


def _manifest_problems(root: Path, manifest: Mapping[str, Any], listed: Set[str]) -> Iterator[DatasetProblem]:
    """The manifest by itself, the files beside the shards (an evaluation set), and shards that nobody lists."""
    rest = {k: v for k, v in manifest.items() if k != "digest"}
    if files.digest(rest) != manifest.get("digest"):
        yield DatasetProblem("digest", format.MANIFEST, "the manifest was changed after the build: its digest differs")
    total = sum(v["rows"] for v in manifest["splits"].values())
    rows = manifest["counts"]["rows"]
    if total != rows:
        yield DatasetProblem("counts", format.MANIFEST, f"{rows} rows in all, {total} in the splits")
    for name, sha in manifest.get("files", {}).items():
        path = root / name
        if not path.is_file():
            yield DatasetProblem("missing_file", name, "listed in the manifest, not there")
        elif files.sha256_file(path) != sha:
            yield DatasetProblem("sha256", name, "the file was changed after the build")
    for path in sorted((root / "data").glob("*.parquet")):
        if (name := path.relative_to(root).as_posix()) not in listed:
            yield DatasetProblem("unlisted_shard", name, "not in the manifest, yet `datasets` would read it")


def _open(
    root: Path,
    shard: Mapping[str, Any],
    manifest: Mapping[str, Any],
    names: Sequence[str],
    problems: list[DatasetProblem],
) -> list[_GroupTask]:
    """Check one shard as a file, adding to `problems`; its row groups if it can be read."""
    name, path = shard["path"], root / shard["path"]

    def add(check: str, detail: str) -> None:
        problems.append(DatasetProblem(check, name, detail))

    if not path.is_file():
        add("missing_shard", "listed in the manifest, not there")
        return []
    if files.sha256_file(path) != shard["sha256"]:
        add("sha256", "the shard was changed after the build")
    rate_hz = int(manifest["settings"]["rate_hz"])
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as e:
        add("not_parquet", str(e).splitlines()[0])
        return []
    if not file.schema_arrow.equals(arrow_schema(rate_hz, names), check_metadata=True):
        add("schema", "columns, types or features are not those of this schema version")
        if not set(arrow_schema().names) <= set(file.schema_arrow.names):
            return []
    if file.metadata.num_rows != shard["rows"]:
        add("counts", f"{file.metadata.num_rows} rows, the manifest says {shard['rows']}")
    samples = round(float(manifest["settings"]["clip_s"]) * rate_hz)
    species = of_dataset(root, manifest)
    return [_GroupTask(str(path), name, g, samples, rate_hz, species) for g in range(file.metadata.num_row_groups)]


def _check_group(task: _GroupTask) -> _RowGroup:
    """Decode and hash every row of one row group."""
    try:
        table = pq.ParquetFile(task.path).read_row_group(task.group)
    except (OSError, pa.ArrowException) as e:
        where = f"{task.name} row group {task.group}"
        return {c: [] for c in _LIGHT}, [DatasetProblem("damaged", where, str(e).splitlines()[0])]
    light = {c: table.column(c).to_pylist() for c in _LIGHT}
    problems: list[DatasetProblem] = []
    for number in range(table.num_rows):
        row = {c: light[c][number] for c in _LIGHT}
        where = f"{task.name} row {row['id']}"
        problems += [DatasetProblem(check, where, detail) for check, detail in _row_problems(row, task)]
        for kind, check_medium in (("image", _check_image), ("audio", _check_audio)):
            data = (table.column(kind)[number].as_py() or {}).get("bytes") or b""
            try:
                problems += [DatasetProblem(slug, where, detail) for slug, detail in check_medium(data, row, task)]
            except MediaError as e:
                problems.append(DatasetProblem(e.reason, where, e.detail))
    return light, problems


def _row_problems(row: Mapping[str, Any], task: _GroupTask) -> Iterator[tuple[str, str]]:
    empty = [c for c in ("id", "caption", "observation_id", "recording_id") if not row[c]]
    if empty:
        yield "empty", f"no {' and no '.join(empty)}"
    try:
        expected = task.species.taxonomy.by_label(row["label"]).scientific_name
    except (BirdmmlError, IndexError, TypeError):
        yield "label", f"label {row['label']} is outside the taxonomy"
    else:
        if expected != row["species"]:
            yield "label", f"label {row['label']} is {expected}, the row says {row['species']}"


def _check_image(data: bytes, row: Mapping[str, Any], task: _GroupTask) -> Iterator[tuple[str, str]]:
    pixels = image.decode_image(data)
    if files.sha256_bytes(data) != row["image_sha256"]:
        yield "sha256", "the image's bytes are not those of image_sha256"
    if pixels.shape[:2] != (row["image_height"], row["image_width"]):
        yield "size", f"the image is {pixels.shape[1]} x {pixels.shape[0]} px, the row says otherwise"
    if pixels.min() == pixels.max():
        yield "image_constant", "every pixel has the same colour"


def _check_audio(data: bytes, row: Mapping[str, Any], task: _GroupTask) -> Iterator[tuple[str, str]]:
    samples = audio.decode_clip(data, task.rate_hz)
    if files.sha256_bytes(data) != row["audio_sha256"]:
        yield "sha256", "the clip's bytes are not those of audio_sha256"
    if len(samples) != task.clip_samples:
        yield "size", f"the clip has {len(samples)} samples, {task.clip_samples} were built"
    audio.check_sound(audio.Clip(0.0, float(row["audio_valid_seconds"]), samples), task.rate_hz)


def _across(
    splits: Sequence[str], groups: Sequence[Mapping[str, list[Any]]], may_leak: bool
) -> Iterator[DatasetProblem]:
    """Row ids are unique; no observation, recording or file lies in two splits, unless the build says they may."""
    seen: set[str] = set()
    for row_id in itertools.chain.from_iterable(group["id"] for group in groups):
        if row_id in seen:
            yield DatasetProblem("duplicate_id", str(row_id), "two rows have this id")
        seen.add(row_id)
    for column in () if may_leak else ("observation_id", "recording_id", "image_sha256", "audio_sha256"):
        sides: dict[str, set[str]] = defaultdict(set)
        for split, group in zip(splits, groups, strict=True):
            for value in group[column]:
                sides[value].add(split)
        for value, where in sides.items():
            if len(where) > 1:
                yield DatasetProblem("split_leak", f"{column} {value}", f"lies in {' and '.join(sorted(where))}")
