"""Read a built dataset again and compare it with what it says of itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.core import files
from birdmml.core.pool import Pool
from birdmml.core.species import Taxonomy
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


@dataclass(frozen=True)
class _RowGroup:
    light: dict[str, list[Any]]
    problems: list[DatasetProblem]


def validate(root: Path, workers: int = 1, progress: Callable[[str, int, int], None] | None = None) -> Findings:
    """Check hashes, schema, counts, every image and clip, and that no group or file spans two splits.

    Raises DatasetError if `root` has no manifest to compare with, or not its table of species.
    """
    told = format.read(root)
    # Without its table no label says anything: this raises.
    names = dataset_taxonomy(root, told).scientific_names
    problems = list(_digest_problems(told)) + list(_file_problems(root, told))
    tasks: list[_GroupTask] = []
    where: list[str] = []
    for split, shard in _shards(told):
        found, groups = _open(root, shard, told, names)
        problems += found
        tasks += groups
        where += [split] * len(groups)
    with Pool(workers) as pool:
        seen = 0

        def done(index: int, result: _RowGroup) -> None:
            nonlocal seen
            seen += 1
            if progress is not None:
                progress("validate", seen, len(tasks))

        groups_read = pool.run(_check_group, tasks, done)
    for group in groups_read:
        problems += group.problems
    released = told["settings"].get("split") == "released"
    problems += _across(where, [g.light for g in groups_read], may_leak=released)
    return Findings(sum(len(g.light["id"]) for g in groups_read), len(list(_shards(told))), tuple(problems))


def _shards(told: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for split, value in told["splits"].items():
        for shard in value["shards"]:
            yield split, shard


def _digest_problems(told: Mapping[str, Any]) -> Iterator[DatasetProblem]:
    rest = {k: v for k, v in told.items() if k != "digest"}
    if files.digest(rest) != told.get("digest"):
        yield DatasetProblem("digest", format.MANIFEST, "the manifest was changed after the build: its digest differs")
    total = sum(v["rows"] for v in told["splits"].values())
    if total != told["counts"]["rows"]:
        yield DatasetProblem("counts", format.MANIFEST, f"{told['counts']['rows']} rows in all, {total} in the splits")


def _file_problems(root: Path, told: Mapping[str, Any]) -> Iterator[DatasetProblem]:
    """Files beside the shards (an evaluation set), and shards that nobody lists."""
    for name, sha in told.get("files", {}).items():
        path = root / name
        if not path.is_file():
            yield DatasetProblem("missing_file", name, "listed in the manifest, not there")
        elif files.sha256_file(path) != sha:
            yield DatasetProblem("sha256", name, "the file was changed after the build")
    listed = {shard["path"] for _, shard in _shards(told)}
    for path in sorted((root / "data").glob("*.parquet")):
        if (name := path.relative_to(root).as_posix()) not in listed:
            yield DatasetProblem("unlisted_shard", name, "not in the manifest, yet `datasets` would read it")


def _open(
    root: Path, shard: Mapping[str, Any], told: Mapping[str, Any], names: Sequence[str]
) -> tuple[list[DatasetProblem], list[_GroupTask]]:
    """Check one shard as a file; its row groups if it can be read."""
    name, path = shard["path"], root / shard["path"]
    if not path.is_file():
        return [DatasetProblem("missing_shard", name, "listed in the manifest, not there")], []
    problems = []
    if files.sha256_file(path) != shard["sha256"]:
        problems.append(DatasetProblem("sha256", name, "the shard was changed after the build"))
    rate_hz = int(told["settings"]["rate_hz"])
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as e:
        return [*problems, DatasetProblem("not_parquet", name, str(e).splitlines()[0])], []
    if not file.schema_arrow.equals(arrow_schema(rate_hz, names), check_metadata=True):
        problems.append(
            DatasetProblem("schema", name, "columns, types or features are not those of this schema version")
        )
        if not set(arrow_schema().names) <= set(file.schema_arrow.names):
            return problems, []
    if file.metadata.num_rows != shard["rows"]:
        problems.append(
            DatasetProblem("counts", name, f"{file.metadata.num_rows} rows, the manifest says {shard['rows']}")
        )
    samples = round(float(told["settings"]["clip_s"]) * rate_hz)
    species = of_dataset(root, told)
    groups = [_GroupTask(str(path), name, g, samples, rate_hz, species) for g in range(file.metadata.num_row_groups)]
    return problems, groups


def _check_group(task: _GroupTask) -> _RowGroup:
    """Decode and hash every row of one row group."""
    try:
        table = pq.ParquetFile(task.path).read_row_group(task.group)
    except (OSError, pa.ArrowException) as e:
        where = f"{task.name} row group {task.group}"
        return _RowGroup({c: [] for c in _LIGHT}, [DatasetProblem("damaged", where, str(e).splitlines()[0])])
    light = {c: table.column(c).to_pylist() for c in _LIGHT}
    known = task.species.taxonomy
    problems: list[DatasetProblem] = []
    for row in range(table.num_rows):
        values = {c: light[c][row] for c in _LIGHT}
        where = f"{task.name} row {values['id']}"
        problems += [DatasetProblem(check, where, detail) for check, detail in _row_problems(values, known)]
        problems += _medium_problems(table.column("image")[row].as_py(), values, where, _check_image)
        problems += _medium_problems(table.column("audio")[row].as_py(), {**values, "_task": task}, where, _check_audio)
    return _RowGroup(light, problems)


def _row_problems(row: Mapping[str, Any], known: Taxonomy) -> Iterator[tuple[str, str]]:
    empty = [c for c in ("id", "caption", "observation_id", "recording_id") if not row[c]]
    if empty:
        yield "empty", f"no {' and no '.join(empty)}"
    try:
        expected = known.by_label(row["label"]).scientific_name
    except (BirdmmlError, IndexError, TypeError):
        yield "label", f"label {row['label']} is outside the taxonomy"
    else:
        if expected != row["species"]:
            yield "label", f"label {row['label']} is {expected}, the row says {row['species']}"


def _medium_problems(
    cell: Any,
    row: Mapping[str, Any],
    where: str,
    check: Callable[[bytes, Mapping[str, Any]], Iterator[tuple[str, str]]],
) -> list[DatasetProblem]:
    data = (cell or {}).get("bytes") or b""
    try:
        return [DatasetProblem(slug, where, detail) for slug, detail in check(data, row)]
    except MediaError as e:
        return [DatasetProblem(e.reason, where, e.detail)]


def _check_image(data: bytes, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    pixels = image.decode_image(data)
    if files.sha256_bytes(data) != row["image_sha256"]:
        yield "sha256", "the image's bytes are not those of image_sha256"
    if pixels.shape[:2] != (row["image_height"], row["image_width"]):
        yield "size", f"the image is {pixels.shape[1]} x {pixels.shape[0]} px, the row says otherwise"
    if pixels.min() == pixels.max():
        yield "image_constant", "every pixel has the same colour"


def _check_audio(data: bytes, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    task: _GroupTask = row["_task"]
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
    for group in groups:
        for row in group["id"]:
            if row in seen:
                yield DatasetProblem("duplicate_id", str(row), "two rows have this id")
            seen.add(row)
    for column in () if may_leak else ("observation_id", "recording_id", "image_sha256", "audio_sha256"):
        sides: dict[str, set[str]] = defaultdict(set)
        for split, group in zip(splits, groups, strict=True):
            for value in group[column]:
                sides[value].add(split)
        for value, where in sides.items():
            if len(where) > 1:
                yield DatasetProblem("split_leak", f"{column} {value}", f"lies in {' and '.join(sorted(where))}")
