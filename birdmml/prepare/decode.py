"""Decode one chunk of media into a data file and a receipt. Runs in worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdmml import files
from birdmml.build import staging
from birdmml.errors import MediaError
from birdmml.media import audio, image, video
from birdmml.prepare.shelf import MAX_FILE_BYTES
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
    with files.atomic_write(staging.data_path(folder, chunk.number), sync_name=False) as out:
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
    staging.write_lines(folder, chunk.number, [d.__dict__ for d in done])
    return done


def receipts(folder: Path) -> Iterator[DecodedFile]:
    """The files of all chunks that are whole."""
    for _, done in staging.read_lines(folder, lambda line: DecodedFile(**line)):
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
    film = video.decode_film(
        source, lambda picture: image.encode_jpeg(shrink(picture, px), QUALITY), FRAMES, SWEEP_S
    )
    spans = {name: [_put(out, data) for data in getattr(film, name)] for name in ("frames", "sweep")}
    # No track is no sound: a missing modality, never silence.
    spans["audio"] = [] if film.audio is None else [_put(out, audio.encode_flac(film.audio))]
    values = {
        "sweep_s": list(film.sweep_s),
        "fps": _seconds(film.fps),
        "duration_s": _seconds(film.duration_s),
    }
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
    return staging.read_span(Path(chunk.spool), *item.where)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e


def _put(out: BinaryIO, data: bytes) -> Span:
    offset = out.tell()
    out.write(data)
    return offset, len(data)
