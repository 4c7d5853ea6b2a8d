"""Photos and clips as they really are: decoded, hashed and measured, a few rows at a time, in worker processes."""

from __future__ import annotations

import functools
import io
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from birdmml.core import files
from birdmml.core.pool import Pool
from birdmml.dataset.audit.groups import Codes
from birdmml.dataset.audit.read import AuditRows, AuditShard, open_file
from birdmml.dataset.shards import BROKEN
from birdmml.errors import MediaError
from birdmml.media import audio, image
from birdmml.media.audio import Sound

# Features for the probes are simple: enough to tell that a modality says something, too little to be a model.
Vector = NDArray[np.float32]

SIDE = 64
THUMBNAIL = 8
COLOURS = 5
CELLS, ORIENTATIONS = 4, 8
IMAGE_DIM = 3 * THUMBNAIL**2 + COLOURS**3 + CELLS**2 * ORIENTATIONS

WINDOW, HOP = 1024, 512
BANDS = 40
LOW_HZ, HIGH_HZ = 150.0, 10_000.0
WIDE_BANDS = 8
# Edges of the modulation bands: how fast the loudness of a song goes up and down.
MODULATION_HZ = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PERCENTILES = (10, 50, 90, 99)
AUDIO_DIM = BANDS * (4 + len(_PERCENTILES)) + WIDE_BANDS * (len(MODULATION_HZ) - 1)
MAX_SECONDS = 30.0
_FLOOR = 1e-10

TEXT_DIM = 512


def image_features(pixels: NDArray[np.uint8]) -> Vector:
    """Thumbnail, colour histogram and gradient orientations of uint8 [H, W, 3], float32 [IMAGE_DIM]."""
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64)
    step = SIDE // THUMBNAIL
    thumbnail = small.reshape(THUMBNAIL, step, THUMBNAIL, step, 3).mean(axis=(1, 3)) / 255.0
    level = np.minimum((small * COLOURS / 256.0).astype(np.int64), COLOURS - 1)
    colour = (level[..., 0] * COLOURS + level[..., 1]) * COLOURS + level[..., 2]
    histogram = np.sqrt(np.bincount(colour.ravel(), minlength=COLOURS**3) / SIDE**2)
    parts = (thumbnail.ravel(), histogram, _orientations(small.mean(axis=2)))
    return np.concatenate(parts).astype(np.float32)


def _orientations(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient energy by direction (0 to 180 degrees) in CELLS x CELLS parts, each part of length 1 or 0."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    turn = np.mod(np.arctan2(down, right), np.pi) * (ORIENTATIONS / np.pi)
    direction = np.minimum(turn.astype(np.int64), ORIENTATIONS - 1)
    cell = np.arange(SIDE) // (SIDE // CELLS)
    index = (cell[:, None] * CELLS + cell[None, :]) * ORIENTATIONS + direction
    energy = np.bincount(index.ravel(), strength.ravel(), CELLS**2 * ORIENTATIONS).reshape(-1, ORIENTATIONS)
    return np.asarray(energy / np.maximum(np.linalg.norm(energy, axis=1, keepdims=True), 1.0)).ravel()


def audio_features(samples: Sound, rate_hz: int) -> Vector:
    """Statistics over time of log-mel bands, and how they move, of float32 [T]; float32 [AUDIO_DIM].

    Only the first MAX_SECONDS are heard. Bands reach from LOW_HZ to HIGH_HZ or half the rate.
    """
    heard = samples[: round(MAX_SECONDS * rate_hz)]
    padded = np.pad(heard, (0, max(0, WINDOW - len(heard))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * np.hanning(WINDOW), axis=1)
    power = np.asarray(spectrum.real**2 + spectrum.imag**2) / WINDOW
    mel = power @ _filters(rate_hz).T
    level = np.log10(mel + _FLOOR)
    change = np.abs(np.diff(level, axis=0)).mean(axis=0) if len(level) > 1 else np.zeros(BANDS)
    peak = np.bincount(mel.argmax(axis=1), mel.sum(axis=1), BANDS)
    statistics = (
        level.mean(axis=0),
        level.std(axis=0),
        change,
        np.sqrt(peak / max(float(peak.sum()), _FLOOR)),
        *np.percentile(level, _PERCENTILES, axis=0),
        _modulation(mel, rate_hz / HOP),
    )
    return np.concatenate([np.ravel(s) for s in statistics]).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _filters(rate_hz: int) -> NDArray[np.float64]:
    """Triangular mel filters [BANDS, WINDOW // 2 + 1] (HTK's mel: 2595 log10(1 + f / 700))."""
    top = max(min(HIGH_HZ, rate_hz / 2), 2 * LOW_HZ)
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOW_HZ, top))
    mels = np.linspace(low, high, BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequency = np.fft.rfftfreq(WINDOW, 1 / rate_hz)
    rise = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    return np.asarray(np.clip(np.minimum(rise, fall), 0.0, None))


def _modulation(mel: NDArray[np.float64], frames_hz: float) -> NDArray[np.float64]:
    """Share of the movement of each of WIDE_BANDS loudness curves in each modulation band."""
    curves = np.sqrt(mel.reshape(len(mel), WIDE_BANDS, -1).sum(axis=2))
    energy = np.abs(np.fft.rfft(curves - curves.mean(axis=0), axis=0)) ** 2
    frequency = np.fft.rfftfreq(len(curves), 1 / frames_hz)
    bands = [
        energy[(frequency >= low) & (frequency < high)].sum(axis=0)
        for low, high in zip(MODULATION_HZ[:-1], MODULATION_HZ[1:], strict=True)
    ]
    return np.asarray(np.sqrt(np.array(bands) / np.maximum(energy.sum(axis=0), _FLOOR)).T)


def text_features(text: str) -> Vector:
    """Words hashed (CRC-32, signed) into float32 [TEXT_DIM] of length 1; zeros for a text without words."""
    counts = np.zeros(TEXT_DIM)
    for word in re.findall(r"\w+", text.casefold()):
        code = zlib.crc32(word.encode())
        # Signed, so that words which fall into one place cancel out instead of adding up.
        counts[code % TEXT_DIM] += 1.0 if code & 0x8000_0000 else -1.0
    length = float(np.linalg.norm(counts))
    return (counts / length if length else counts).astype(np.float32)


OK, NO_BYTES, NO_COLUMN, UNREAD = "ok", "no_bytes", "no_column", "row_group_damaged"
# Quieter than this peak (-72 dB relative to full scale) nobody hears a bird.
QUIET_PEAK = 2.0**-12
FLAT_LEVELS = 1
BLACK_LEVEL = 8
_BATCH_ROWS = 16

# What is measured of each row beside its state and sha256.
_IMAGE_FIELDS = {"phash": np.uint64, "width": np.int32, "height": np.int32, "flat": np.bool_, "black": np.bool_}
_AUDIO_FIELDS = {
    "rate_hz": np.int32, "frames": np.int64, "channels": np.int32, "peak": np.float32,
    "clipped": np.float32, "constant": np.bool_, "padding": np.float32,
}  # fmt: skip
_FIELDS: Mapping[str, Mapping[str, Any]] = {"image": _IMAGE_FIELDS, "audio": _AUDIO_FIELDS}
DIMENSIONS = {"image": IMAGE_DIM, "audio": AUDIO_DIM}

# One medium: "ok" or why it is not, its values, its features if they were asked for.
_Decoded = tuple[str, Mapping[str, Any], Vector | None]


@dataclass
class MediaFeatures:
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
        hashes, codes = np.unique(self.sha256, return_inverse=True)
        codes = codes.reshape(-1).astype(np.int64)
        return codes - 1 if len(hashes) and hashes[0] == b"" else codes


@dataclass(frozen=True)
class _MeasureTask:
    path: str
    group: int
    columns: Mapping[str, str]
    rows: int
    wanted: frozenset[int]


def measure(
    rows: AuditRows, wanted: Sequence[int], pool: Pool, progress: Callable[[int, int], None]
) -> dict[str, MediaFeatures]:
    """Measure the media of all rows; features of the rows `wanted` only. Memory does not grow with the media."""
    out = {kind: _empty(kind, len(rows)) for kind in DIMENSIONS if rows.has(kind)}
    tasks, starts = _tasks(rows, set(map(int, wanted)))
    seen = 0

    def done(index: int, result: Mapping[str, MediaFeatures]) -> None:
        nonlocal seen
        start = starts[index]
        here = slice(start, start + tasks[index].rows)
        for kind, part in result.items():
            full = out[kind]
            full.state[here], full.sha256[here] = part.state, part.sha256
            for name, values in part.values.items():
                full.values[name][here] = values
            full.features.update({start + row: v for row, v in part.features.items()})
        seen += tasks[index].rows
        progress(seen, len(rows))

    pool.run(_measure_group, tasks, done)
    return out


def _empty(kind: str, rows: int) -> MediaFeatures:
    values = {name: np.zeros(rows, dtype=t) for name, t in _FIELDS[kind].items()}
    return MediaFeatures(np.full(rows, NO_COLUMN, dtype=object), np.zeros(rows, dtype="S64"), values)


def _tasks(rows: AuditRows, wanted: set[int]) -> tuple[list[_MeasureTask], list[int]]:
    """One task a readable row group, and the number of its first row."""
    tasks, starts = [], []
    edges: list[int] = (np.flatnonzero(np.diff(rows.shard) | np.diff(rows.group)) + 1).tolist()
    for start, stop in zip([0, *edges], [*edges, len(rows)], strict=True):
        if start == stop:
            continue
        shard: AuditShard = rows.shards[int(rows.shard[start])]
        columns = {k: shard.columns[k] for k in DIMENSIONS if k in shard.columns}
        mine = frozenset(r - start for r in range(start, stop) if r in wanted)
        tasks.append(_MeasureTask(str(shard.path), int(rows.group[start]), columns, stop - start, mine))
        starts.append(start)
    return tasks, starts


def _measure_group(task: _MeasureTask) -> dict[str, MediaFeatures]:
    # Processes share the cores; threads inside each would only fight over them.
    with threadpool_limits(1):
        return {kind: _measure_column(task, kind, column) for kind, column in task.columns.items()}


def _measure_column(task: _MeasureTask, kind: str, column: str) -> MediaFeatures:
    """As arrays: a few bytes a row, for results wait in memory until all are there."""
    out = _empty(kind, task.rows)
    # The same bytes in many rows of a group are decoded once.
    decoded: dict[str, _Decoded] = {}
    try:
        for row, data in enumerate(_cells(task, column)):
            if not data:
                out.state[row] = NO_BYTES
                continue
            sha = files.sha256_bytes(data)
            before = decoded.get(sha)
            if before is None or (row in task.wanted and before[2] is None and before[0] == OK):
                try:
                    decoded[sha] = OK, *(_image if kind == "image" else _audio)(data, row in task.wanted)
                except MediaError as e:
                    decoded[sha] = e.reason, {}, None
            out.sha256[row] = sha.encode()
            out.state[row], values, features = decoded[sha]
            for name, value in values.items():
                out.values[name][row] = value
            if row in task.wanted and features is not None:
                out.features[row] = features
    except BROKEN:
        out.state[out.state == NO_COLUMN] = UNREAD
    return out


def _cells(task: _MeasureTask, column: str) -> Iterator[bytes | None]:
    with open_file(task.path) as file:
        field_type = file.schema_arrow.field(column).type
        # Only the bytes of a struct: its path may be long, and says nothing here.
        leaf = f"{column}.bytes" if pa.types.is_struct(field_type) else column
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[task.group], columns=[leaf]):
            for cell in batch.column(0):
                value = cell.as_py()
                yield value["bytes"] if isinstance(value, dict) else value


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
