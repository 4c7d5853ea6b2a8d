"""A prepared evaluation set, read again in full and compared with its manifest: shards, rows, every medium."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from birdmml import arrays, prepared
from birdmml.build.pool import Pool
from birdmml.build.validate import Findings, Problem
from birdmml.errors import BirdmmlError, MediaError
from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image
from birdmml.prepare.shards import schema
from birdmml.prepared import Prepared

KINDS = ("videos", "images", "audio", arrays.KIND)
_AT_ONCE = 16  # Rows of media held in memory.
_DECODE: Mapping[str, Callable[[bytes], Any]] = {
    "frames": decode_image,
    "sweep": decode_image,
    "image": decode_image,
    "audio": decode_clip,
}


@dataclass(frozen=True)
class _Task:
    """One row group. `frames` is how many a video has of its averaged ones."""

    path: str
    name: str
    group: int
    kind: str
    classes: tuple[str, ...]
    frames: int


@dataclass(frozen=True)
class _Group:
    ids: list[str]
    problems: list[Problem]


def check(root: Path, workers: int = 1, progress: Callable[[str, int, int], None] | None = None) -> Findings:
    """Check digest, hashes, counts, columns, ids and labels, and decode every medium of a set of any kind.

    Raises EvalsetError if `root` holds no set to look at.
    """
    found = Prepared.open(root)
    problems = [Problem("manifest", *_halves(line)) for line in prepared.validate(root)]
    tasks: list[_Task] = []
    of: list[str] = []
    shards = 0
    for collection in found.collections():
        for path in found.paths(collection, prepared.ALL):
            shards += 1
            wrong, groups = _open(found, collection, path)
            problems += wrong
            tasks += groups
            of += [collection] * len(groups)
    counter = itertools.count(1)
    tell = progress or (lambda stage, done, total: None)
    with Pool(workers) as pool:
        groups_read = pool.run(
            _check_group, tasks, lambda i, group: tell("validate", next(counter), len(tasks))
        )
    for group in groups_read:
        problems += group.problems
    problems += _repeated(of, groups_read)
    return Findings(sum(len(g.ids) for g in groups_read), shards, tuple(problems))


def _halves(line: str) -> tuple[str, str]:
    where, _, detail = line.partition(": ")
    return where, detail


def _open(found: Prepared, collection: str, path: Path) -> tuple[list[Problem], list[_Task]]:
    """The row groups of one shard, if it can be read; one that is not there is told by its manifest."""
    name, kind = path.relative_to(found.root).as_posix(), found.kind(collection)
    if not path.is_file():
        return [], []
    try:
        file = pq.ParquetFile(path)
        _check_columns(file.schema_arrow, kind, name)
    except (OSError, pa.ArrowException, BirdmmlError) as e:
        return [Problem("not_readable", name, _line(e))], []
    frames = found.manifest["settings"].get("frames", 0)
    groups = range(file.metadata.num_row_groups)
    return [], [_Task(str(path), name, g, kind, found.class_names, frames) for g in groups]


def _check_columns(columns: pa.Schema, kind: str, name: str) -> None:
    """Raise EvalsetError or ArrowException where columns are not those of the kind."""
    if kind not in KINDS:
        raise pa.ArrowInvalid(f"{kind} is no kind of collection: it must be one of {', '.join(KINDS)}")
    is_numbers = kind == arrays.KIND
    expected = arrays.schema(arrays.fields_of(columns, name)) if is_numbers else schema(kind, ())
    if not columns.equals(expected, check_metadata=False):
        lacking = sorted(set(expected.names) - set(columns.names))
        what = f"it lacks {', '.join(lacking)}" if lacking else "their types or order differ"
        raise pa.ArrowInvalid(f"columns are not those of a collection of {kind}: {what}")


def _check_group(task: _Task) -> _Group:
    ids: list[str] = []
    problems: list[Problem] = []
    try:
        batches = pq.ParquetFile(task.path).iter_batches(_AT_ONCE, row_groups=[task.group])
        for batch in batches:
            rows = batch.select(["id", "label", "class_name"]).to_pylist()
            found = _numbers(task, batch) if task.kind == arrays.KIND else _media(task, batch)
            problems += [Problem(check, f"{task.name} row {rows[i]['id']}", why) for i, check, why in found]
            for row in rows:
                ids.append(str(row["id"]))
                problems += _named(task, row)
    except (OSError, ValueError, TypeError, pa.ArrowException) as e:
        problems.append(Problem("damaged", f"{task.name} row group {task.group}", _line(e)))
    return _Group(ids, problems)


def _named(task: _Task, row: Mapping[str, Any]) -> Iterator[Problem]:
    """A row without an id, or whose label is not its class."""
    label, where = row["label"], f"{task.name} row {row['id']}"
    if not row["id"]:
        yield Problem("empty", where, "it has no id")
    if not isinstance(label, int) or not 0 <= label < len(task.classes):
        yield Problem("label", where, f"label {label} has no class")
    elif task.classes[label] != row["class_name"]:
        yield Problem("label", where, f"label {label} is {task.classes[label]}, not {row['class_name']}")


def _numbers(task: _Task, batch: pa.RecordBatch) -> Iterator[tuple[int, str, str]]:
    """(row of the batch, slug, words) of values that are not finite, and of lengths that no sample can have."""
    fields = arrays.fields_of(batch.schema, task.name)
    found = arrays.rows_of(batch, fields)
    for f in fields:
        values = found.arrays[f.name].reshape(len(found.ids), -1)
        for i in np.flatnonzero(~np.isfinite(values).all(axis=1)):
            yield int(i), "not_finite", f"{f.name} holds a value that is not finite"
        lengths = found.lengths.get(f.name, np.zeros(0))
        for i in np.flatnonzero((lengths < 0) | (lengths > f.shape[0])):
            yield int(i), "length", f"{f.name} has {lengths[i]} of {f.shape[0]} steps"


def _media(task: _Task, batch: pa.RecordBatch) -> Iterator[tuple[int, str, str]]:
    """(row of the batch, slug, words) of every medium that is not there or does not decode."""
    for i, row in enumerate(batch.to_pylist()):
        if task.kind == "videos":
            yield from ((i, "counts", words) for words in _counts(task, row))
        for column in (c for c in batch.schema.names if c in _DECODE):
            if row[column] is None and (task.kind, column) == ("videos", "audio"):
                continue  # A film without a sound track.
            yield from ((i, *found) for found in _decoded(column, row[column]))


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


def _counts(task: _Task, row: Mapping[str, Any]) -> Iterator[str]:
    frames, sweep, times = (len(row[c] or ()) for c in ("frames", "sweep", "sweep_s"))
    if frames != task.frames:
        yield f"{frames} frames, {task.frames} were prepared"
    if sweep != times:
        yield f"{sweep} single frames at {times} times"


def _repeated(of: list[str], groups: list[_Group]) -> Iterator[Problem]:
    """Ids that stand twice in a collection."""
    seen: set[tuple[str, str]] = set()
    for collection, group in zip(of, groups, strict=True):
        for row in group.ids:
            if (collection, row) in seen:
                yield Problem("duplicate_id", f"{collection} row {row}", "two rows have this id")
            seen.add((collection, row))


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
