"""A prepared evaluation set, read again in full and compared with its manifest: shards, rows, every medium."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from birdmml.core.pool import Pool, counter, silent
from birdmml.dataset.shards import BROKEN, first_line
from birdmml.dataset.validate import DatasetProblem, Findings
from birdmml.errors import BirdmmlError, MediaError
from birdmml.evalsets import arrays, read
from birdmml.evalsets.decode import KINDS, schema
from birdmml.evalsets.read import Prepared
from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image

_AT_ONCE = 16  # Rows of media held in memory.
_DECODE: Mapping[str, Callable[[bytes], Any]] = {
    "frames": decode_image,
    "sweep": decode_image,
    "image": decode_image,
    "audio": decode_clip,
}


@dataclass(frozen=True)
class _GroupToCheck:
    """One row group. `frames` is how many a video has of its averaged ones."""

    path: str
    name: str
    group: int
    kind: str
    classes: tuple[str, ...]
    frames: int


def check(root: Path, workers: int = 1, progress: Callable[[str, int, int], None] | None = None) -> Findings:
    """Check digest, hashes, counts, columns, ids and labels, and decode every medium of a set of any kind.

    Raises EvalsetError if `root` holds no set to look at.
    """
    prepared_set = Prepared.open(root)
    problems = [DatasetProblem("manifest", *line.partition(": ")[::2]) for line in read.validate(root)]
    tasks: list[_GroupToCheck] = []
    of: list[str] = []
    shards = 0
    for collection in prepared_set.collections():
        for path in prepared_set.paths(collection, read.ALL):
            shards += 1
            faults, groups = _open(prepared_set, collection, path)
            problems += faults
            tasks += groups
            of += [collection] * len(groups)
    with Pool(workers) as pool:
        groups_read = pool.run(_check_group, tasks, counter(progress or silent, "validate", len(tasks)))
    problems += [problem for _, group_problems in groups_read for problem in group_problems]
    seen: set[tuple[str, str]] = set()
    for collection, (ids, _) in zip(of, groups_read, strict=True):
        for row in ids:
            if (collection, row) in seen:
                problems.append(DatasetProblem("duplicate_id", f"{collection} row {row}", "two rows have this id"))
            seen.add((collection, row))
    return Findings(sum(len(ids) for ids, _ in groups_read), shards, tuple(problems))


def _open(prepared_set: Prepared, collection: str, path: Path) -> tuple[list[DatasetProblem], list[_GroupToCheck]]:
    """The row groups of one shard, if it can be read; one that is not there is told by its manifest."""
    name, kind = path.relative_to(prepared_set.root).as_posix(), prepared_set.kind(collection)
    if not path.is_file():
        return [], []
    try:
        file = pq.ParquetFile(path)
        _check_columns(file.schema_arrow, kind, name)
    except (*BROKEN, BirdmmlError) as e:
        return [DatasetProblem("not_readable", name, first_line(e))], []
    frames = prepared_set.manifest["settings"].get("frames", 0)
    groups = range(file.metadata.num_row_groups)
    return [], [_GroupToCheck(str(path), name, g, kind, prepared_set.class_names, frames) for g in groups]


def _check_columns(columns: pa.Schema, kind: str, name: str) -> None:
    """Raise EvalsetError or ArrowException where columns are not those of the kind."""
    if kind not in (kinds := (*KINDS, arrays.KIND)):
        raise pa.ArrowInvalid(f"{kind} is no kind of collection: it must be one of {', '.join(kinds)}")
    is_numbers = kind == arrays.KIND
    expected = arrays.schema(arrays.fields_of(columns, name)) if is_numbers else schema(kind, ())
    if not columns.equals(expected, check_metadata=False):
        lacking = sorted(set(expected.names) - set(columns.names))
        what = f"it lacks {', '.join(lacking)}" if lacking else "their types or order differ"
        raise pa.ArrowInvalid(f"columns are not those of a collection of {kind}: {what}")


def _check_group(task: _GroupToCheck) -> tuple[list[str], list[DatasetProblem]]:
    """(ids of a row group, what is wrong with its rows)."""
    ids: list[str] = []
    problems: list[DatasetProblem] = []
    try:
        batches = pq.ParquetFile(task.path).iter_batches(_AT_ONCE, row_groups=[task.group])
        for batch in batches:
            rows = batch.select(["id", "label", "class_name"]).to_pylist()
            faults = _numbers(task, batch) if task.kind == arrays.KIND else _media(task, batch)
            problems += [DatasetProblem(check, f"{task.name} row {rows[i]['id']}", why) for i, check, why in faults]
            for row in rows:
                ids.append(str(row["id"]))
                label, where = row["label"], f"{task.name} row {row['id']}"
                if not row["id"]:
                    problems.append(DatasetProblem("empty", where, "it has no id"))
                if not isinstance(label, int) or not 0 <= label < len(task.classes):
                    problems.append(DatasetProblem("label", where, f"label {label} has no class"))
                elif task.classes[label] != row["class_name"]:
                    words = f"label {label} is {task.classes[label]}, not {row['class_name']}"
                    problems.append(DatasetProblem("label", where, words))
    except (*BROKEN, TypeError) as e:
        problems.append(DatasetProblem("damaged", f"{task.name} row group {task.group}", first_line(e)))
    return ids, problems


def _numbers(task: _GroupToCheck, batch: pa.RecordBatch) -> Iterator[tuple[int, str, str]]:
    """(row of the batch, slug, words) of values that are not finite, and of lengths that no sample can have."""
    fields = arrays.fields_of(batch.schema, task.name)
    samples = arrays.rows_of(batch, fields)
    for f in fields:
        values = samples.arrays[f.name].reshape(len(samples.ids), -1)
        for i in np.flatnonzero(~np.isfinite(values).all(axis=1)):
            yield int(i), "not_finite", f"{f.name} holds a value that is not finite"
        lengths = samples.lengths.get(f.name, np.zeros(0))
        for i in np.flatnonzero((lengths < 0) | (lengths > f.shape[0])):
            yield int(i), "length", f"{f.name} has {lengths[i]} of {f.shape[0]} steps"


def _media(task: _GroupToCheck, batch: pa.RecordBatch) -> Iterator[tuple[int, str, str]]:
    """(row of the batch, slug, words) of every medium that is not there or does not decode."""
    for i, row in enumerate(batch.to_pylist()):
        if task.kind == "videos":
            frames, sweep, times = (len(row[c] or ()) for c in ("frames", "sweep", "sweep_s"))
            if frames != task.frames:
                yield i, "counts", f"{frames} frames, {task.frames} were prepared"
            if sweep != times:
                yield i, "counts", f"{sweep} single frames at {times} times"
        for column in (c for c in batch.schema.names if c in _DECODE):
            if row[column] is None and (task.kind, column) == ("videos", "audio"):
                continue  # A film without a sound track.
            yield from ((i, *fault) for fault in _decoded(column, row[column]))


def _decoded(column: str, value: Any) -> Iterator[tuple[str, str]]:
    """(slug, words) of a row's medium or media in one column; the frames of a film have one size."""
    cells = value if isinstance(value, list) else [value]
    sizes = set()
    for k, cell in enumerate(cells):
        try:
            sizes.add(_DECODE[column]((cell or {}).get("bytes") or b"").shape)
        except MediaError as e:
            place = f"{column} {k}" if len(cells) > 1 else column
            yield e.reason, f"{place}: {e.detail}"
    if len(sizes) > 1:
        yield "size", f"{column}: pictures of {len(sizes)} sizes"
