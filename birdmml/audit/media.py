"""Photos and clips as they really are: decoded, hashed and measured, a few rows at a time, in worker processes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from birdmml import files
from birdmml.audit.features import AUDIO_DIM, IMAGE_DIM, Vector, audio_features, image_features
from birdmml.audit.groups import Codes
from birdmml.audit.rows import Rows
from birdmml.audit.shards import Shard, open_file
from birdmml.build.pool import Pool
from birdmml.errors import MediaError
from birdmml.media import audio, image
from birdmml.shards import BROKEN

OK, NO_BYTES, NO_COLUMN, UNREAD = "ok", "no_bytes", "no_column", "row_group_damaged"
# Quieter than this peak (-72 dB relative to full scale) nobody hears a bird.
QUIET_PEAK = 2.0**-12
FLAT_LEVELS = 1
BLACK_LEVEL = 8
_BATCH_ROWS = 16

# What is measured of each row beside its state and sha256.
_IMAGE_FIELDS = {
    "phash": np.uint64,
    "width": np.int32,
    "height": np.int32,
    "flat": np.bool_,
    "black": np.bool_,
}
_AUDIO_FIELDS = {
    "rate_hz": np.int32, "frames": np.int64, "channels": np.int32, "peak": np.float32,
    "clipped": np.float32, "constant": np.bool_, "padding": np.float32,
}  # fmt: skip
_FIELDS: Mapping[str, Mapping[str, Any]] = {"image": _IMAGE_FIELDS, "audio": _AUDIO_FIELDS}
DIMENSIONS = {"image": IMAGE_DIM, "audio": AUDIO_DIM}


@dataclass
class Measured:
    """One kind of media, row by row [N].

    `state` is "ok" or why the medium is not; `sha256` holds hex digests of the real bytes (empty without bytes).
    `values` has image: phash uint64, width, height (px), flat, black; audio: rate_hz, frames, channels, peak and
    clipped (shares of full scale and of samples), constant, padding (share of zeros at the end).
    `features` are those of the rows that were asked for, by row.
    """

    state: NDArray[np.object_]
    sha256: NDArray[np.bytes_]
    values: dict[str, NDArray[Any]]
    features: dict[int, Vector] = field(default_factory=dict)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which rows hold a medium that decodes [N]."""
        return np.asarray(self.state == OK, dtype=np.bool_)

    def codes(self) -> Codes:
        """Equal numbers for equal bytes [N]; -1 for no bytes."""
        known, codes = np.unique(self.sha256, return_inverse=True)
        codes = codes.reshape(-1).astype(np.int64)
        return codes - 1 if len(known) and known[0] == b"" else codes


@dataclass(frozen=True)
class _Task:
    path: str
    group: int
    columns: tuple[tuple[str, str], ...]
    rows: int
    wanted: frozenset[int]


@dataclass(frozen=True)
class _One:
    """One medium: why it is not ok, its hash, its values, its features if they were asked for."""

    state: str
    sha256: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    features: Vector | None = None


def measure(
    rows: Rows, wanted: Sequence[int], pool: Pool, progress: Callable[[int, int], None]
) -> dict[str, Measured]:
    """Measure the media of all rows; features of the rows `wanted` only. Memory does not grow with the media."""
    kinds = [k for k in DIMENSIONS if rows.has(k)]
    out = {kind: _empty(kind, len(rows)) for kind in kinds}
    tasks, starts = _tasks(rows, set(map(int, wanted)))
    seen = 0

    def done(index: int, result: Mapping[str, Measured]) -> None:
        nonlocal seen
        for kind, found in result.items():
            _place(out[kind], found, starts[index])
        seen += tasks[index].rows
        progress(seen, len(rows))

    pool.run(_measure_group, tasks, done)
    return out


def _empty(kind: str, rows: int) -> Measured:
    values = {name: np.zeros(rows, dtype=t) for name, t in _FIELDS[kind].items()}
    return Measured(np.full(rows, NO_COLUMN, dtype=object), np.zeros(rows, dtype="S64"), values)


def _tasks(rows: Rows, wanted: set[int]) -> tuple[list[_Task], list[int]]:
    """One task a readable row group, and the number of its first row."""
    tasks, starts = [], []
    edges: list[int] = (np.flatnonzero(np.diff(rows.shard) | np.diff(rows.group)) + 1).tolist()
    for start, stop in zip([0, *edges], [*edges, len(rows)], strict=True):
        if start == stop:
            continue
        shard: Shard = rows.shards[int(rows.shard[start])]
        columns = tuple((k, shard.columns[k]) for k in DIMENSIONS if k in shard.columns)
        mine = frozenset(r - start for r in range(start, stop) if r in wanted)
        tasks.append(_Task(str(shard.path), int(rows.group[start]), columns, stop - start, mine))
        starts.append(start)
    return tasks, starts


def _place(into: Measured, found: Measured, start: int) -> None:
    """Copy one row group's figures to where its rows are."""
    here = slice(start, start + len(found.state))
    into.state[here], into.sha256[here] = found.state, found.sha256
    for name, values in found.values.items():
        into.values[name][here] = values
    into.features.update({start + row: v for row, v in found.features.items()})


def _packed(kind: str, found: Sequence[_One]) -> Measured:
    """As arrays: a few bytes a row, for results wait in memory until all are there."""
    out = _empty(kind, len(found))
    for row, one in enumerate(found):
        out.state[row], out.sha256[row] = one.state, one.sha256.encode()
        for name, value in one.values.items():
            out.values[name][row] = value
        if one.features is not None:
            out.features[row] = one.features
    return out


def _measure_group(task: _Task) -> dict[str, Measured]:
    # Processes share the cores; threads inside each would only fight over them.
    with threadpool_limits(1):
        return {kind: _packed(kind, _measure_column(task, kind, column)) for kind, column in task.columns}


def _measure_column(task: _Task, kind: str, column: str) -> list[_One]:
    found: list[_One] = []
    # The same bytes in many rows of a group are decoded once.
    known: dict[str, _One] = {}
    try:
        for row, data in enumerate(_cells(task, column)):
            found.append(_one(kind, data, row in task.wanted, known))
    except BROKEN:
        found += [_One(UNREAD)] * (task.rows - len(found))
    return found


def _cells(task: _Task, column: str) -> Iterator[bytes | None]:
    with open_file(task.path) as file:
        field_type = file.schema_arrow.field(column).type
        leaf = f"{column}.bytes" if pa.types.is_struct(field_type) else column
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[task.group], columns=[leaf]):
            for cell in batch.column(0):
                value = cell.as_py()
                yield value["bytes"] if isinstance(value, dict) else value


def _one(kind: str, data: bytes | None, wanted: bool, known: dict[str, _One]) -> _One:
    if not data:
        return _One(NO_BYTES)
    sha = files.sha256_bytes(data)
    before = known.get(sha)
    if before is None or (wanted and before.features is None and before.state == OK):
        try:
            values, features = (_image if kind == "image" else _audio)(data, wanted)
            known[sha] = _One(OK, sha, values, features)
        except MediaError as e:
            known[sha] = _One(e.reason, sha)
    one = known[sha]
    return one if wanted else _One(one.state, one.sha256, one.values)


def _image(data: bytes, wanted: bool) -> tuple[dict[str, Any], Vector | None]:
    pixels = image.decode_image(data)
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    values = {
        "phash": int(image.phash(pixels), 16),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "flat": int((high - low).max()) <= FLAT_LEVELS,
        "black": int(high.max()) <= BLACK_LEVEL,
    }
    return values, image_features(pixels) if wanted else None


def _audio(data: bytes, wanted: bool) -> tuple[dict[str, Any], Vector | None]:
    try:
        info = soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError) as e:
        raise MediaError("not_audio", "libsndfile cannot open it") from e
    if info.frames > audio.MAX_SECONDS * max(info.samplerate, 1):
        raise MediaError("audio_too_long", f"{info.frames:,} samples by its header")
    samples = audio.decode_clip(data, info.samplerate)
    if len(samples) < info.frames:
        raise MediaError("audio_truncated", f"{info.frames:,} samples promised, {len(samples):,} are there")
    loud = np.flatnonzero(samples)
    peak = np.abs(samples)
    values = {
        "rate_hz": info.samplerate,
        "frames": len(samples),
        "channels": info.channels,
        "peak": float(peak.max()),
        "clipped": float(np.mean(peak >= audio.FULL_SCALE)),
        "constant": bool(samples.max() - samples.min() < 1 / 32768),
        "padding": 1.0 - (int(loud[-1]) + 1) / len(samples) if len(loud) else 1.0,
    }
    return values, audio_features(samples, info.samplerate) if wanted else None
