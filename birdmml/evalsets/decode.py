"""Decode one chunk of media into a data file and a receipt. Runs in worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from birdmml.core import files
from birdmml.dataset.decode import data_path, file_name, read_lines, read_span, write_lines
from birdmml.dataset.shards import SHARD_BYTES, WrittenShard, cut, shard_name, write_shard
from birdmml.errors import MediaError
from birdmml.evalsets.shelf import MAX_FILE_BYTES
from birdmml.media import audio, image, video
from birdmml.schema import RATE_HZ

FRAMES = 8
SWEEP_S = tuple(k / 2 for k in range(1, 20))  # 0.5, 1.0, ... 9.5 s
QUALITY = 95  # Stored with full colour resolution (4:4:4), so that a frame loses next to nothing.

Span = tuple[int, int]


@dataclass(frozen=True)
class MediaFile:
    """One file of the set, its key, its kind, and where its bytes are: a file, or a span of the chunk's spool."""

    file: str
    key: str
    kind: str
    where: str | Span


@dataclass(frozen=True)
class DecodeTask:
    """Work for one call. `folder` takes the data file and the receipt."""

    number: int
    folder: str
    items: tuple[MediaFile, ...]
    frame_px: int
    spool: str = ""


@dataclass(frozen=True)
class DecodedFile:
    """What became of one file: spans of media in the chunk's data file, or the reason why there are none.

    `spans` has a list for each of the columns frames, sweep, audio and image; `values` are plain columns.
    """

    file: str
    key: str
    chunk: int
    spans: Mapping[str, list[Span]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""

    @property
    def bytes(self) -> int:
        """Of all its media."""
        return sum(length for spans in self.spans.values() for _, length in spans)


def decode(chunk: DecodeTask) -> list[DecodedFile]:
    """Do one chunk. Raises OSError if its data file cannot be written; a bad medium never raises."""
    folder, done = Path(chunk.folder), list[DecodedFile]()
    with files.atomic_write(data_path(folder, chunk.number), sync_name=False) as out:
        for item in chunk.items:
            start = out.tell()
            try:
                spans, values = _one(item, chunk, out)
                done.append(DecodedFile(item.file, item.key, chunk.number, spans, values))
            except MediaError as e:
                # Whatever it wrote before it failed goes with it: all of a file or none.
                out.seek(start)
                out.truncate()
                done.append(DecodedFile(item.file, item.key, chunk.number, reason=e.reason, detail=e.detail))
    write_lines(folder, chunk.number, [d.__dict__ for d in done])
    return done


def receipts(folder: Path) -> Iterator[DecodedFile]:
    """The files of all chunks that are whole."""
    for _, done in read_lines(folder, lambda line: DecodedFile(**line)):
        yield from done


def shrink(picture: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] with its short side at most `px` (Lanczos); 0, or a small picture, leaves it as it is."""
    height, width = picture.shape[:2]
    short = min(height, width)
    if not px or short <= px:
        return picture
    size = (max(1, round(width * px / short)), max(1, round(height * px / short)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _one(item: MediaFile, chunk: DecodeTask, out: BinaryIO) -> tuple[dict[str, list[Span]], dict[str, Any]]:
    source = _source(item, chunk)
    if item.kind == "videos":
        return _video(source, chunk.frame_px, out)
    if item.kind == "audio":
        sound = audio.decode_sound(source)
        values = {"duration_s": _seconds(len(sound) / RATE_HZ)}
        return {"audio": [_put(out, audio.encode_flac(sound))]}, values
    data = source if isinstance(source, bytes) else _read(source)
    image.decode_image(data)
    return {"image": [_put(out, data)]}, {}


def _video(source: Path | bytes, px: int, out: BinaryIO) -> tuple[dict[str, list[Span]], dict[str, Any]]:
    film = video.decode_film(source, lambda picture: image.encode_jpeg(shrink(picture, px), QUALITY), FRAMES, SWEEP_S)
    spans = {name: [_put(out, data) for data in getattr(film, name)] for name in ("frames", "sweep")}
    # No track is no sound: a missing modality, never silence.
    spans["audio"] = [] if film.audio is None else [_put(out, audio.encode_flac(film.audio))]
    values = {"sweep_s": list(film.sweep_s), "fps": _seconds(film.fps), "duration_s": _seconds(film.duration_s)}
    return spans, values


def _seconds(value: float) -> float:
    return round(value, 4)


def _source(item: MediaFile, chunk: DecodeTask) -> Path | bytes:
    if isinstance(item.where, str):
        path = Path(item.where)
        try:
            size = path.stat().st_size
        except OSError as e:
            raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e
        if size > MAX_FILE_BYTES:
            raise MediaError("file_too_large", f"{size:,} bytes are over the limit of {MAX_FILE_BYTES:,}")
        return path
    return read_span(Path(chunk.spool), *item.where)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e


def _put(out: BinaryIO, data: bytes) -> Span:
    offset = out.tell()
    out.write(data)
    return offset, len(data)


# ---- Rows of an evaluation set to Parquet shards: planned from sizes, the same bytes on any number of workers.


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
            yield read_span(data_path(folder, self.decoded.chunk), offset, length)


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
    values: dict[str, Any] = {"id": row.id, "label": row.label, "class_name": row.class_name, **row.decoded.values}
    for column in row.decoded.spans:
        many = pa.types.is_list(_TYPES[column])
        cells = [
            {"bytes": data, "path": file_name(f"{row.id}-{i}" if many else row.id, _SUFFIX[column])}
            for i, data in enumerate(row.media(folder, column))
        ]
        values[column] = cells if many else cells[0] if cells else None
    return values
