"""Decode, check and encode one chunk of a source's records. Runs in worker processes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from birdmml import discover, files
from birdmml.build import staging
from birdmml.build.recipe import Limits
from birdmml.errors import MediaError
from birdmml.media import audio, image
from birdmml.schema import Medium, Photo, Recording, Reject

CHUNK_RECORDS = 32


@dataclass(frozen=True)
class Item:
    """One record of a chunk, its key, and where its bytes lie in the chunk's spool file if the source gave them.

    A reject that the source itself has spoken goes into the receipt as it is.
    """

    record: Photo | Recording | Reject
    key: str
    spooled: tuple[int, int] | None = None


@dataclass(frozen=True)
class Task:
    """One chunk of work: small enough to send to a worker, whole enough to be repeated."""

    chunk: int
    folder: str
    source: str
    source_settings: Any
    limits: Limits
    items: tuple[Item, ...]
    spool: str = ""


def ingest(task: Task) -> list[staging.Done]:
    """Do one chunk: every record ends as media in the data file or as a reject with its reason.

    Raises OSError if the staging file cannot be written; a record that is bad never raises.
    """
    source = discover.load("source", task.source)
    folder = Path(task.folder)
    done: list[staging.Done] = []
    with files.atomic_write(staging.data_path(folder, task.chunk), sync_name=False) as out:
        for item in task.items:
            start = out.tell()
            if isinstance(item.record, Reject):
                done.append(staging.Done(item.key, (), (item.record,)))
                continue
            try:
                done.append(_ingest_one(source, item, item.record, task, out))
            except MediaError as e:
                # Whatever this record wrote before it failed goes with it: all of a file or none.
                out.seek(start)
                out.truncate()
                reject = Reject(item.record.locator, e.reason, e.detail, species=item.record.species)
                done.append(staging.Done(item.key, (), (reject,)))
    staging.write_receipt(folder, task.chunk, done)
    return done


def _ingest_one(
    source: ModuleType, item: Item, record: Photo | Recording, task: Task, out: BinaryIO
) -> staging.Done:
    data = _open(source, item, record.locator, task)
    _check_size(data, task.limits)
    if record.sha256:
        _check_hash(data, record.sha256)
    if isinstance(record, Photo):
        return staging.Done(item.key, (_photo(record, data, task, out),))
    media = list(_clips(record, data, task, out))
    tails = [x for x in media if isinstance(x, float)]
    return staging.Done(
        item.key,
        tuple(x for x in media if isinstance(x, Medium)),
        tuple(x for x in media if isinstance(x, Reject)),
        len(tails),
        round(sum(tails), 3),
    )


def _open(source: ModuleType, item: Item, locator: str, task: Task) -> bytes | Path:
    if item.spooled is None:
        data: bytes | Path = source.open_media(task.source_settings, locator)
        return data
    return staging.read_span(Path(task.spool), *item.spooled)


def _photo(record: Photo, data: bytes | Path, task: Task, out: BinaryIO) -> Medium:
    ready = image.ready_image(_bytes(data), task.limits.max_image_side, task.limits.max_pixels)
    return Medium(
        kind="image",
        id=record.id,
        species=record.species,
        group=record.observation,
        source_path=record.locator,
        path=file_name(record.id, ".jpg"),
        **_put(out, ready.data, task.chunk),
        credit=record.credit,
        caption=record.caption,
        record=record.id,
        pair=record.pair,
        partner=record.partner,
        row=record.row,
        split=record.split,
        metadata=record.metadata,
        width=ready.width,
        height=ready.height,
        phash=ready.phash,
        reencoded=ready.reencoded,
    )


def _clips(
    record: Recording, data: bytes | Path, task: Task, out: BinaryIO
) -> Iterator[Medium | Reject | float]:
    """The clips of one recording; a clip without sound is a reject, a tail too short for a clip its seconds."""
    limits = task.limits
    for number, clip in enumerate(
        audio.cut(data, limits.clip_s, limits.rate_hz, record.start_s, limits.max_seconds)
    ):
        if number and clip.valid_seconds < limits.min_tail_s:
            yield clip.valid_seconds
            continue
        try:
            level = audio.check_sound(clip, limits.rate_hz)
        except MediaError as e:
            where = f"{record.locator}#{clip.start_s:g}s"
            yield Reject(where, e.reason, e.detail, species=record.species)
            continue
        clip_id = f"{record.id}-{number:03d}"
        yield Medium(
            kind="audio",
            id=clip_id,
            species=record.species,
            group=record.recording,
            source_path=record.locator,
            path=file_name(clip_id, ".flac"),
            **_put(out, audio.encode_flac(clip.samples, limits.rate_hz), task.chunk),
            credit=record.credit,
            caption=record.caption,
            record=record.id,
            pair=record.pair,
            start_s=clip.start_s,
            valid_seconds=clip.valid_seconds,
            rms_dbfs=round(level.rms_dbfs, 2),
            clipped_share=round(level.clipped_share, 6),
        )


def file_name(identity: str, suffix: str) -> str:
    """A name that is safe on every file system, from an id that may hold anything."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", identity).strip("._")[:120] + suffix


def _put(out: BinaryIO, data: bytes, chunk: int) -> dict[str, Any]:
    offset = out.tell()
    out.write(data)
    return {"chunk": chunk, "offset": offset, "length": len(data), "sha256": files.sha256_bytes(data)}


def _bytes(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return data.read_bytes()
    except OSError as e:
        raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e


def _check_hash(data: bytes | Path, wanted: str) -> None:
    """Bytes that are not the promised ones are rejected, however well they decode."""
    try:
        digest = files.sha256_bytes(data) if isinstance(data, bytes) else files.sha256_file(data)
    except OSError as e:
        raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e
    if digest != wanted.casefold():
        raise MediaError("sha256_differs", f"its SHA-256 is {digest[:16]}..., {wanted[:16]}... was promised")


def _check_size(data: bytes | Path, limits: Limits) -> None:
    if isinstance(data, bytes):
        return
    with contextlib.suppress(OSError):  # Unreadable files are reported by the reader, with its own words.
        if (size := data.stat().st_size) > limits.max_file_bytes:
            raise MediaError(
                "file_too_large", f"{size:,} bytes is over the limit of {limits.max_file_bytes:,}"
            )
