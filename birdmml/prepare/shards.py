"""Rows of an evaluation set to Parquet shards: planned from sizes, the same bytes on any number of workers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from birdmml.build import staging
from birdmml.build.ingest import file_name
from birdmml.prepare.decode import DecodedFile
from birdmml.schema import RATE_HZ
from birdmml.shards import SHARD_BYTES, WrittenShard, cut, shard_name, write_shard

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
class EvalsetRow:
    """One row to be: its words, and what its file was decoded to."""

    id: str
    label: int
    class_name: str
    decoded: DecodedFile

    @property
    def size(self) -> int:
        """Bytes of all its media."""
        return self.decoded.bytes

    def media(self, folder: Path, column: str) -> Iterator[bytes]:
        """What lies in `folder`, where the row's file was decoded to, for one column."""
        for offset, length in self.decoded.spans.get(column, ()):
            yield staging.read_span(staging.data_path(folder, self.decoded.chunk), offset, length)


@dataclass(frozen=True)
class EvalsetShardTask:
    """One shard to write. `path` is relative to `root`, media lie in `staging`."""

    root: str
    path: str
    staging: str
    kind: str
    classes: tuple[str, ...]
    rows: tuple[EvalsetRow, ...]


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
    root: Path, folder: Path, collection: str, kind: str, classes: tuple[str, ...], split: str,
    rows: Sequence[EvalsetRow], shard_bytes: int = SHARD_BYTES,
) -> list[EvalsetShardTask]:  # fmt: skip
    """Cut the rows of one split, in order, into shards of about `shard_bytes` of media; no rows, no shard."""
    runs = list(cut(rows, attrgetter("size"), shard_bytes))
    names = [f"data/{collection}/{shard_name(split, i, len(runs))}" for i in range(len(runs))]
    return [
        EvalsetShardTask(str(root), name, str(folder), kind, classes, tuple(run))
        for name, run in zip(names, runs, strict=True)
    ]


def prepare_shard(task: EvalsetShardTask) -> WrittenShard:
    """Write one shard from staging. Raises OSError if the disk does not take it; then nothing is left behind."""
    form = schema(task.kind, task.classes)
    groups = (
        pa.Table.from_pylist([_values(row, Path(task.staging)) for row in run], schema=form)
        for run in cut(task.rows, attrgetter("size"), GROUP_BYTES, GROUP_ROWS)
    )
    return write_shard(Path(task.root), task.path, form, groups, ["class_name"])


def _values(row: EvalsetRow, folder: Path) -> dict[str, Any]:
    """All columns of one row; a medium that the file does not have is null."""
    values: dict[str, Any] = {
        "id": row.id,
        "label": row.label,
        "class_name": row.class_name,
        **row.decoded.values,
    }
    for column in row.decoded.spans:
        many = pa.types.is_list(_TYPES[column])
        cells = [
            {"bytes": data, "path": file_name(f"{row.id}-{i}" if many else row.id, _SUFFIX[column])}
            for i, data in enumerate(row.media(folder, column))
        ]
        values[column] = cells if many else cells[0] if cells else None
    return values
