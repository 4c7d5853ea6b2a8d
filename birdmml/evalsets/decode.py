"""Media of an evaluation set, in worker processes: a chunk to a data file and a receipt, rows to Parquet shards."""

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
from birdmml.evalsets._annotations import Collection
from birdmml.evalsets.shelf import MAX_FILE_BYTES
from birdmml.media import audio, image, video
from birdmml.schema import RATE_HZ

FRAMES = 8
SWEEP_S = tuple(k / 2 for k in range(1, 20))  # 0.5, 1.0, ... 9.5 s
QUALITY = 95  # Stored with full colour resolution (4:4:4), so that a frame loses next to nothing.

GROUP_BYTES = 32 << 20
GROUP_ROWS = 64
KINDS: dict[str, tuple[str, ...]] = {
    "videos": ("frames", "sweep", "sweep_s", "audio", "duration_s", "fps"),
    "images": ("image",),
    "audio": ("audio", "duration_s"),
}
_TEXT, _PICTURE = {"dtype": "string", "_type": "Value"}, {"_type": "Image"}
_NUMBER = {"dtype": "float64", "_type": "Value"}
_MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Column -> its type, what Hugging Face's `datasets` takes it for, and what the names of its media end with.
_COLUMNS: dict[str, tuple[pa.DataType, dict[str, Any], str]] = {
    "frames": (pa.list_(_MEDIUM), {"feature": _PICTURE, "_type": "List"}, ".jpg"),
    "sweep": (pa.list_(_MEDIUM), {"feature": _PICTURE, "_type": "List"}, ".jpg"),
    "sweep_s": (pa.list_(pa.float32()), {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"}, ""),
    "audio": (_MEDIUM, {"sampling_rate": RATE_HZ, "decode": False, "_type": "Audio"}, ".flac"),
    "image": (_MEDIUM, _PICTURE, ".jpg"),
    "duration_s": (pa.float64(), _NUMBER, ""),
    "fps": (pa.float64(), _NUMBER, ""),
}

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
    # After the data: a receipt says that its chunk is whole.
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
    if item.kind == "images" and isinstance(source, bytes):
        image.decode_image(source)
        return {"image": [_put(out, source)]}, {}
    if item.kind == "videos":
        return _video(source, chunk.frame_px, out)
    sound = audio.decode_sound(source)
    return {"audio": [_put(out, audio.encode_flac(sound))]}, {"duration_s": round(len(sound) / RATE_HZ, 4)}


def _video(source: Path | bytes, px: int, out: BinaryIO) -> tuple[dict[str, list[Span]], dict[str, Any]]:
    film = video.decode_film(source, lambda picture: image.encode_jpeg(shrink(picture, px), QUALITY), FRAMES, SWEEP_S)
    spans = {name: [_put(out, data) for data in getattr(film, name)] for name in ("frames", "sweep")}
    # No track is no sound: a missing modality, never silence.
    spans["audio"] = [] if film.audio is None else [_put(out, audio.encode_flac(film.audio))]
    values = {"sweep_s": list(film.sweep_s), "fps": round(film.fps, 4), "duration_s": round(film.duration_s, 4)}
    return spans, values


def _source(item: MediaFile, chunk: DecodeTask) -> Path | bytes:
    if isinstance(item.where, str):
        path = Path(item.where)
        try:
            size = path.stat().st_size
            # FFmpeg and libsndfile read from the disk; a photo is stored as it is, so its bytes are needed anyway.
            data = path.read_bytes() if item.kind == "images" and size <= MAX_FILE_BYTES else b""
        except OSError as e:
            raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e
        if size > MAX_FILE_BYTES:
            raise MediaError("file_too_large", f"{size:,} bytes are over the limit of {MAX_FILE_BYTES:,}")
        return data if item.kind == "images" else path
    return read_span(Path(chunk.spool), *item.where)


def _put(out: BinaryIO, data: bytes) -> Span:
    offset = out.tell()
    out.write(data)
    return offset, len(data)


@dataclass(frozen=True)
class EvalsetRow:
    """One row to be: its words, and what its file was decoded to."""

    id: str
    label: int
    class_name: str
    decoded: DecodedFile

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
    columns: list[tuple[str, pa.DataType, dict[str, Any]]] = [
        ("id", pa.string(), _TEXT),
        ("label", pa.int64(), {"names": list(classes), "_type": "ClassLabel"}),
        ("class_name", pa.string(), _TEXT),
        *((name, *_COLUMNS[name][:2]) for name in KINDS[kind]),
    ]
    info = {"info": {"features": {name: feature for name, _, feature in columns}}}
    return pa.schema([(name, kind) for name, kind, _ in columns], metadata={"huggingface": json.dumps(info)})


def plan(
    root: Path, folder: Path, collection: Collection, classes: tuple[str, ...], split: str,
    rows: Sequence[EvalsetRow], shard_bytes: int = SHARD_BYTES,
) -> list[EvalsetShardTask]:  # fmt: skip
    """Cut the rows of one split, in order, into shards of about `shard_bytes` of media; no rows, no shard."""
    runs = list(cut(rows, attrgetter("decoded.bytes"), shard_bytes))
    paths = [f"data/{collection.name}/{shard_name(split, i, len(runs))}" for i in range(len(runs))]
    return [
        EvalsetShardTask(str(root), path, str(folder), collection.kind, classes, tuple(run))
        for path, run in zip(paths, runs, strict=True)
    ]


def prepare_shard(task: EvalsetShardTask) -> WrittenShard:
    """Write one shard from staging. Raises OSError if the disk does not take it; then nothing is left behind."""
    form = schema(task.kind, task.classes)
    groups = (
        pa.Table.from_pylist([_values(row, Path(task.staging)) for row in run], schema=form)
        for run in cut(task.rows, attrgetter("decoded.bytes"), GROUP_BYTES, GROUP_ROWS)
    )
    return write_shard(Path(task.root), task.path, form, groups, ["class_name"])


def _values(row: EvalsetRow, folder: Path) -> dict[str, Any]:
    """All columns of one row; a medium that the file does not have is null."""
    values: dict[str, Any] = {"id": row.id, "label": row.label, "class_name": row.class_name, **row.decoded.values}
    for column in row.decoded.spans:
        kind, _, suffix = _COLUMNS[column]
        many = pa.types.is_list(kind)
        cells = [
            {"bytes": data, "path": file_name(f"{row.id}-{i}" if many else row.id, suffix)}
            for i, data in enumerate(row.media(folder, column))
        ]
        values[column] = cells if many else cells[0] if cells else None
    return values
