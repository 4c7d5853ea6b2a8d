"""Decode, check and encode one chunk of a source's records, in a worker; and the files where checked media wait."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, TypeVar

from birdmml.core import discover, files
from birdmml.dataset import place
from birdmml.dataset.recipe import Limits
from birdmml.errors import MediaError
from birdmml.media import audio, image
from birdmml.schema import Caption, Credit, Medium, Photo, Recording, Reject

CHUNK_RECORDS = 32  # Of each worker, so many at most are lost to a kill.

T = TypeVar("T")
K = TypeVar("K", bound=Photo | Recording | Medium)


@dataclass(frozen=True)
class DecodedRecord:
    """What became of one record. `tails` are ends of a recording too short for a clip of their own."""

    key: str
    media: tuple[Medium, ...] = ()
    rejects: tuple[Reject, ...] = ()
    tails: int = 0
    tail_seconds: float = 0.0


def data_path(folder: Path, chunk: int) -> Path:
    """The file that holds the chunk's encoded media, end to end; the chunks of parts lie in the parts' folders."""
    part, number = place.located(chunk)
    if part is not None:
        folder = folder.with_name(place.FOLDER) / part.name / "staging"
    return folder / f"chunk-{number:06d}.bin"


def write_lines(folder: Path, chunk: int, lines: Iterable[Mapping[str, Any]]) -> None:
    """Declare a chunk of any kind done: its receipt, a value a record.

    It is renamed into place after the data file is synced, so a chunk with a receipt is whole, and a build that was
    killed goes on from the receipts it finds. A receipt says what became of each record under the record's own key,
    so records may come in other chunks the next time, or more of them.
    """
    with files.atomic_write(folder / f"chunk-{chunk:06d}.json") as f:
        f.write(json.dumps(list(lines)).encode())


def receipts(folder: Path) -> Iterator[tuple[int, list[DecodedRecord]]]:
    """All chunks that are whole, by number; a torn receipt, or one without its data, is passed over."""
    return read_lines(folder, _done)


def read_lines(folder: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[tuple[int, list[T]]]:
    """`receipts` of chunks of any kind; `parse` raises KeyError, TypeError or ValueError for a line that is none."""
    for path in sorted(folder.glob("chunk-??????.json")):
        chunk = int(path.name[6:12])
        try:
            done = [parse(line) for line in json.loads(path.read_bytes())]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if data_path(folder, chunk).exists():
            yield chunk, done


def next_chunk(folder: Path) -> int:
    """A number that no file of an earlier chunk has."""
    used = [int(p.name[6:12]) for p in folder.glob("chunk-??????.*")]
    return max(used, default=-1) + 1


def read_medium(folder: Path, medium: Medium) -> bytes:
    """The encoded bytes of one medium."""
    return read_span(data_path(folder, medium.chunk), medium.offset, medium.length)


def read_span(path: Path, offset: int, length: int) -> bytes:
    """Some bytes of a data file or a spool."""
    with path.open("rb") as f:
        f.seek(offset)
        return f.read(length)


def plain(value: Photo | Recording | Medium | Reject) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, without its deep copies: this runs for every record and every medium."""
    if isinstance(value, Reject):
        return dict(value.__dict__)
    caption = value.caption
    words = {**caption.__dict__, "credit": caption.credit.__dict__} if caption else None
    return {**value.__dict__, "credit": value.credit.__dict__, "caption": words}


def restored(kind: type[K], value: dict[str, Any]) -> K:
    """The record or medium of which `plain` made `value`."""
    caption = value.pop("caption")
    if caption:
        caption = Caption(caption["text"], caption["origin"], Credit(**caption["credit"]))
    return kind(**value | {"credit": Credit(**value["credit"]), "caption": caption or None})


def _done(value: dict[str, Any]) -> DecodedRecord:
    return DecodedRecord(
        value["key"],
        tuple(restored(Medium, m) for m in value["media"]),
        tuple(Reject(**r) for r in value["rejects"]),
        value["tails"],
        value["tail_seconds"],
    )


@dataclass(frozen=True)
class ChunkItem:
    """One record of a chunk, its key, and where its bytes lie in the chunk's spool file if the source gave them.

    A reject that the source itself has spoken goes into the receipt as it is.
    """

    record: Photo | Recording | Reject
    key: str
    spooled: tuple[int, int] | None = None


@dataclass(frozen=True)
class ChunkTask:
    """One chunk of work: small enough to send to a worker, whole enough to be repeated."""

    chunk: int
    folder: str
    source: str
    source_settings: Any
    limits: Limits
    items: tuple[ChunkItem, ...]
    spool: str = ""


def ingest(task: ChunkTask) -> list[DecodedRecord]:
    """Do one chunk: every record ends as media in the data file or as a reject with its reason.

    Raises OSError if the staging file cannot be written; a record that is bad never raises.
    """
    source = discover.load("source", task.source)
    folder = Path(task.folder)
    done: list[DecodedRecord] = []
    # Only the receipt makes a chunk count, and its rename takes the data file's name to disk, too.
    with files.atomic_write(data_path(folder, task.chunk), sync_name=False) as out:
        for item in task.items:
            start = out.tell()
            if isinstance(item.record, Reject):
                done.append(DecodedRecord(item.key, (), (item.record,)))
                continue
            try:
                done.append(_ingest_one(source, item, item.record, task, out))
            except MediaError as e:
                # Whatever this record wrote before it failed goes with it: all of a file or none.
                out.seek(start)
                out.truncate()
                reject = Reject(item.record.locator, e.reason, e.detail, species=item.record.species)
                done.append(DecodedRecord(item.key, (), (reject,)))
    lines = (
        {**d.__dict__, "media": [plain(m) for m in d.media], "rejects": [plain(r) for r in d.rejects]} for d in done
    )
    write_lines(folder, task.chunk, lines)
    return done


def _ingest_one(
    source: ModuleType, item: ChunkItem, record: Photo | Recording, task: ChunkTask, out: BinaryIO
) -> DecodedRecord:
    if item.spooled is None:
        data: bytes | Path = source.open_media(task.source_settings, record.locator)
    else:
        data = read_span(Path(task.spool), *item.spooled)
    _check_size(data, task.limits)
    if record.sha256:  # Bytes that are not the promised ones are rejected, however well they decode.
        try:
            digest = files.sha256_bytes(data) if isinstance(data, bytes) else files.sha256_file(data)
        except OSError as e:
            raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e
        if digest != record.sha256.casefold():
            raise MediaError("sha256_differs", f"its SHA-256 is {digest[:16]}..., {record.sha256[:16]}... was promised")
    if isinstance(record, Photo):
        ready = image.ready_image(_bytes(data), task.limits.max_image_side, task.limits.max_pixels)
        photo = _medium(
            record, record.id, ready.data, task, out,
            partner=record.partner, row=record.row, split=record.split, metadata=record.metadata,
            width=ready.width, height=ready.height, phash=ready.phash, reencoded=ready.reencoded,
        )  # fmt: skip
        return DecodedRecord(item.key, (photo,))
    media = list(_clips(record, data, task, out))
    tails = [x for x in media if isinstance(x, float)]
    return DecodedRecord(
        item.key,
        tuple(x for x in media if isinstance(x, Medium)),
        tuple(x for x in media if isinstance(x, Reject)),
        len(tails),
        round(sum(tails), 3),
    )


def _clips(record: Recording, data: bytes | Path, task: ChunkTask, out: BinaryIO) -> Iterator[Medium | Reject | float]:
    """The clips of one recording; a clip without sound is a reject, a tail too short for a clip its seconds."""
    limits = task.limits
    clips = audio.cut(data, limits.clip_s, limits.rate_hz, record.start_s, limits.max_seconds)
    for number, clip in enumerate(clips):
        if number and clip.valid_seconds < limits.min_tail_s:
            yield clip.valid_seconds
            continue
        try:
            level = audio.check_sound(clip, limits.rate_hz)
        except MediaError as e:
            where = f"{record.locator}#{clip.start_s:g}s"
            yield Reject(where, e.reason, e.detail, species=record.species)
            continue
        flac = audio.encode_flac(clip.samples, limits.rate_hz)
        # Rounded: the last bits of a float may differ between processors, and rows must not.
        dbfs, clipped = round(level.rms_dbfs, 2), round(level.clipped_share, 6)
        yield _medium(
            record, f"{record.id}-{number:03d}", flac, task, out,
            start_s=clip.start_s, valid_seconds=clip.valid_seconds, rms_dbfs=dbfs, clipped_share=clipped,
        )  # fmt: skip


def _medium(
    record: Photo | Recording, identity: str, data: bytes, task: ChunkTask, out: BinaryIO, **more: Any
) -> Medium:
    """Write the encoded bytes of a photo or clip; `more` is what only one of the two has."""
    offset = out.tell()
    out.write(data)
    is_photo = isinstance(record, Photo)
    return Medium(
        kind="image" if is_photo else "audio",
        id=identity,
        species=record.species,
        group=record.observation if isinstance(record, Photo) else record.recording,
        source_path=record.locator,
        path=file_name(identity, ".jpg" if is_photo else ".flac"),
        sha256=files.sha256_bytes(data),
        chunk=task.chunk,
        offset=offset,
        length=len(data),
        credit=record.credit,
        caption=record.caption,
        record=record.id,
        pair=record.pair,
        **more,
    )


def file_name(identity: str, suffix: str) -> str:
    """A name that is safe on every file system, from an id that may hold anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", identity).strip("._")[:120] + suffix


def _bytes(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return data.read_bytes()
    except OSError as e:
        raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e


def _check_size(data: bytes | Path, limits: Limits) -> None:
    if isinstance(data, bytes):
        return
    with contextlib.suppress(OSError):  # Unreadable files are reported by the reader, with its own words.
        if (size := data.stat().st_size) > limits.max_file_bytes:
            raise MediaError("file_too_large", f"{size:,} bytes is over the limit of {limits.max_file_bytes:,}")
