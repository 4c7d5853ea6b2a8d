"""Rows to Parquet shards: planned from sizes, written whole, the same bytes on any number of workers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birdmml import files
from birdmml.build import staging
from birdmml.build.ingest import file_name
from birdmml.prepare.decode import Done, Span
from birdmml.schema import RATE_HZ

SHARD_BYTES = 256 << 20
GROUP_BYTES = 32 << 20
GROUP_ROWS = 64

_MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_COLUMNS: dict[str, tuple[str, ...]] = {
    "videos": ("frames", "sweep", "sweep_s", "audio", "duration_s", "fps"),
    "images": ("image",),
    "audio": ("audio", "duration_s"),
}
_TYPES = {
    "frames": pa.list_(_MEDIUM),
    "sweep": pa.list_(_MEDIUM),
    "sweep_s": pa.list_(pa.float32()),
    "audio": _MEDIUM,
    "image": _MEDIUM,
    "duration_s": pa.float64(),
    "fps": pa.float64(),
}
_SUFFIX = {"frames": ".jpg", "sweep": ".jpg", "audio": ".flac", "image": ".jpg"}


@dataclass(frozen=True)
class Row:
    """One row to be: its words, and what its file was decoded to."""

    id: str
    label: int
    class_name: str
    done: Done


@dataclass(frozen=True)
class ShardTask:
    """One shard to write. `path` is relative to `root`, media lie in `staging`."""

    root: str
    path: str
    staging: str
    kind: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Shard:
    """One shard as written."""

    path: str
    rows: int
    bytes: int
    sha256: str


def schema(kind: str, classes: Sequence[str]) -> pa.Schema:
    """Columns of a collection, with the feature metadata by which Hugging Face's `datasets` shows media."""
    fields = [pa.field("id", pa.string()), pa.field("label", pa.int64()), pa.field("class_name", pa.string())]
    fields += [pa.field(name, _TYPES[name]) for name in _COLUMNS[kind]]
    sound = {"sampling_rate": RATE_HZ, "decode": False, "_type": "Audio"}
    picture = {"_type": "Image"}
    features: dict[str, Any] = {
        "id": {"dtype": "string", "_type": "Value"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "class_name": {"dtype": "string", "_type": "Value"},
        "frames": {"feature": picture, "_type": "List"},
        "sweep": {"feature": picture, "_type": "List"},
        "sweep_s": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"},
        "audio": sound,
        "image": picture,
        "duration_s": {"dtype": "float64", "_type": "Value"},
        "fps": {"dtype": "float64", "_type": "Value"},
    }
    info = {"info": {"features": {f.name: features[f.name] for f in fields}}}
    return pa.schema(fields, metadata={"huggingface": json.dumps(info)})


def plan(
    root: Path, folder: Path, collection: str, kind: str, classes: tuple[str, ...], split: str, rows: Sequence[Row],
    shard_bytes: int = SHARD_BYTES,
) -> list[ShardTask]:  # fmt: skip
    """Cut the rows of one split, in order, into shards of about `shard_bytes` of media; no rows, no shard."""
    parts = list(_runs(rows, shard_bytes, len(rows)))
    names = [f"data/{collection}/{split}-{i:05d}-of-{len(parts):05d}.parquet" for i in range(len(parts))]
    return [
        ShardTask(str(root), name, str(folder), kind, classes, tuple(part))
        for name, part in zip(names, parts, strict=True)
    ]


def write_shard(task: ShardTask) -> Shard:
    """Write one shard from staging. Raises OSError if the disk does not take it; then nothing is left behind."""
    form = schema(task.kind, task.classes)
    with files.atomic_write(Path(task.root) / task.path) as f:
        hashed = files.HashingWriter(f)
        with _writer(hashed, form) as writer:
            for group in _runs(task.rows, GROUP_BYTES, GROUP_ROWS):
                values = [_values(row, task) for row in group]
                writer.write_table(pa.Table.from_pylist(values, schema=form), row_group_size=len(values))
    return Shard(task.path, len(task.rows), hashed.size, hashed.hexdigest())


def _writer(f: Any, form: pa.Schema) -> pq.ParquetWriter:
    # Media are compressed already; the other columns are small and repeat.
    leaves = [leaf for column in form for leaf in _leaves(column)]
    return pq.ParquetWriter(
        f,
        form,
        compression={leaf: "none" if leaf.endswith(".bytes") else "zstd" for leaf in leaves},
        use_dictionary=["class_name"],
        write_page_index=True,
        use_content_defined_chunking=True,
    )


def _leaves(column: pa.Field) -> list[str]:
    listed = pa.types.is_list(column.type)
    inner = column.type.value_type if listed else column.type
    stem = f"{column.name}.list.element" if listed else column.name
    return [f"{stem}.{child.name}" for child in inner] if pa.types.is_struct(inner) else [stem]


def _values(row: Row, task: ShardTask) -> dict[str, Any]:
    """All columns of one row; a medium that the file does not have is null."""
    values: dict[str, Any] = {
        "id": row.id,
        "label": row.label,
        "class_name": row.class_name,
        **row.done.values,
    }
    for column, spans in row.done.spans.items():
        many = pa.types.is_list(_TYPES[column])
        cells = [
            {"bytes": data, "path": file_name(f"{row.id}-{i}" if many else row.id, _SUFFIX[column])}
            for i, data in enumerate(_media(task, row.done, spans))
        ]
        values[column] = cells if many else cells[0] if cells else None
    return values


def _media(task: ShardTask, done: Done, spans: Sequence[Span]) -> Iterator[bytes]:
    with staging.data_path(Path(task.staging), done.chunk).open("rb") as f:
        for offset, length in spans:
            f.seek(offset)
            yield f.read(length)


def _runs(rows: Iterable[Row], max_bytes: int, max_rows: int) -> Iterator[list[Row]]:
    """Consecutive runs of rows within both limits; a row larger than the limit stands alone."""
    run: list[Row] = []
    size = 0
    for row in rows:
        if run and (size + row.done.bytes > max_bytes or len(run) >= max_rows):
            yield run
            run, size = [], 0
        run.append(row)
        size += row.done.bytes
    if run:
        yield run
