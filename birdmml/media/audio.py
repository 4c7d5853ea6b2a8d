"""Sound: files to mono float32 clips, clips to FLAC, and what can be measured on the way."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from birdmml.errors import MediaError
from birdmml.schema import RATE_HZ

Sound = NDArray[np.float32]

MAX_SECONDS = 3600.0
MIN_SECONDS = 0.1
MAX_CHANNELS = 8
FULL_SCALE = 0.999
# A header may round the length; more than this share of missing sound is a cut file.
_TRUNCATED = 0.98
_MP3_MARGIN = 3 * 1152


@dataclass(frozen=True)
class Clip:
    """One clip of a recording: `samples` float32 [T] padded to the clip's length, real for `valid_seconds`."""

    start_s: float
    valid_seconds: float
    samples: Sound


@dataclass(frozen=True)
class Level:
    """How loud a clip is: RMS in dB relative to full scale, and the share of samples at full scale."""

    rms_dbfs: float
    clipped_share: float


def decode_clip(data: bytes, rate_hz: int = RATE_HZ) -> Sound:
    """Decode the bytes of one stored clip to mono float32 [T] at `rate_hz`; raises MediaError."""
    with _open(data) as file:
        return resample(_read(file, file.frames), file.samplerate, rate_hz)


def decode_sound(source: Path | bytes, rate_hz: int = RATE_HZ, max_seconds: float = MAX_SECONDS) -> Sound:
    """Decode a whole recording to mono float32 [T] at `rate_hz`.

    Raises MediaError if the file is no sound, holds NaN, is longer than `max_seconds` or cut short.
    """
    head, size = _head(source)
    _check_riff(head, size)
    with _open(source) as file:
        promised = _promised_frames(file, head)
        _check_length((promised or file.frames) / file.samplerate, None, max_seconds)
        samples = _read(file, file.frames)
        _check_complete(len(samples), promised, file.samplerate)
        return resample(samples, file.samplerate, rate_hz)


def encode_flac(samples: Sound, rate_hz: int = RATE_HZ) -> bytes:
    """Encode float32 [T] in [-1, 1] as 16-bit mono FLAC; same samples, same bytes."""
    out = io.BytesIO()
    pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    soundfile.write(out, pcm, rate_hz, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def cut(
    source: Path | bytes,
    clip_s: float,
    rate_hz: int = RATE_HZ,
    start_s: float | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Iterator[Clip]:
    """Cut a recording into consecutive clips of `clip_s` seconds, mono, at `rate_hz`.

    Reads one clip at a time, so memory does not grow with the recording. The last clip is padded with
    zeros and says so in `valid_seconds`. With `start_s` there is one clip, from there. Raises MediaError
    if the file is no sound, holds NaN, or is longer than `max_seconds`; that it is cut short shows only
    at its end, so clips count once the iterator has finished.
    """
    head, size = _head(source)
    _check_riff(head, size)
    with _open(source) as file:
        promised = _promised_frames(file, head)
        _check_length((promised or file.frames) / file.samplerate, start_s, max_seconds)
        step = max(1, round(clip_s * file.samplerate))
        position = 0 if start_s is None else round(start_s * file.samplerate)
        try:
            file.seek(position)
        except (soundfile.LibsndfileError, OSError) as e:
            raise MediaError("audio_damaged", f"cannot move to {position / file.samplerate:.1f} s ({_plain(e)})") from e
        while len(samples := _read(file, step)):
            yield _clip(samples, position / file.samplerate, file.samplerate, clip_s, rate_hz)
            position += len(samples)
            if start_s is not None:
                return
            # A header that hides the true length must not get past the limit.
            _check_length(position / file.samplerate, start_s, max_seconds)
        _check_complete(position, promised, file.samplerate)


def check_sound(clip: Clip, rate_hz: int = RATE_HZ) -> Level:
    """Measure the valid part of a clip; raises MediaError if it is constant (silence included) or not finite."""
    valid = clip.samples[: max(1, math.ceil(clip.valid_seconds * rate_hz))]
    if not np.isfinite(valid).all():
        raise MediaError("audio_not_finite", f"NaN or infinite samples in the clip at {clip.start_s:.1f} s")
    # One 16-bit step: anything flatter is stored as a constant.
    if float(valid.max()) - float(valid.min()) < 1 / 32768:
        raise MediaError("audio_constant", f"the clip at {clip.start_s:.1f} s has no sound (all samples equal)")
    power = float(np.mean(np.square(valid, dtype=np.float64)))
    return Level(10.0 * math.log10(power), float(np.mean(np.abs(valid) >= FULL_SCALE)))


def _clip(samples: Sound, at_s: float, rate: int, clip_s: float, rate_hz: int) -> Clip:
    """Resample one segment and pad it to the exact clip length."""
    valid_s = len(samples) / rate
    mono = resample(samples, rate, rate_hz)
    length = round(clip_s * rate_hz)
    padded = np.zeros(length, dtype=np.float32)
    padded[: min(length, len(mono))] = mono[:length]
    return Clip(round(at_s, 3), round(min(valid_s, clip_s), 3), padded)


def _open(source: Path | bytes) -> soundfile.SoundFile:
    try:
        file = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError) as e:
        raise MediaError("not_audio", f"libsndfile cannot open it ({_plain(e)})") from e
    if file.frames <= 0:
        file.close()
        raise MediaError("audio_empty", "the file holds no samples")
    if not (0 < file.channels <= MAX_CHANNELS) or not (1000 <= file.samplerate <= 768_000):
        detail = f"{file.channels} channels at {file.samplerate} Hz are outside what a recording has"
        file.close()
        raise MediaError("audio_format", detail)
    return file


def _read(file: soundfile.SoundFile, frames: int) -> Sound:
    """Read up to `frames` frames as mono float32 [T]; raises MediaError on damage and on NaN."""
    try:
        block = file.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, MemoryError) as e:
        raise MediaError("audio_damaged", f"the sound cannot be decoded ({_plain(e)})") from e
    if not np.isfinite(block).all():
        raise MediaError("audio_not_finite", "NaN or infinite samples")
    if block.shape[1] == 1:
        return np.ascontiguousarray(block[:, 0])
    return np.asarray(block.mean(axis=1), dtype=np.float32)


def resample(samples: Sound, rate: int, rate_hz: int) -> Sound:
    """Float32 [T] at `rate` Hz -> [T'] at `rate_hz`."""
    if rate == rate_hz or not len(samples):
        return samples
    if samples.min() == samples.max():
        # A filter would ring at the ends and make a constant look like sound.
        return np.full(round(len(samples) * rate_hz / rate), samples[0], dtype=np.float32)
    return np.asarray(soxr.resample(samples, rate, rate_hz, quality="HQ"), dtype=np.float32)


def _check_length(total_s: float, start_s: float | None, max_seconds: float) -> None:
    if total_s > max_seconds and start_s is None:
        raise MediaError(
            "audio_too_long",
            f"{total_s / 3600:.1f} h is over the limit of {max_seconds:,.0f} s (--max-seconds): "
            "cut it, give start_s in a manifest, or raise the limit",
        )
    if total_s < MIN_SECONDS:
        raise MediaError("audio_too_short", f"{total_s:.3f} s of sound; at least {MIN_SECONDS} s are needed")
    if start_s is not None and not 0 <= start_s <= total_s - MIN_SECONDS:
        raise MediaError("audio_too_short", f"start_s = {start_s:g} is outside the {total_s:.1f} s of the recording")


def _check_complete(position: int, promised: int | None, rate: int) -> None:
    if position == 0:
        raise MediaError("audio_empty", "the file holds no samples that decode")
    if promised and position < promised * _TRUNCATED:
        raise MediaError(
            "audio_truncated", f"the header promises {promised / rate:.1f} s, sound ends at {position / rate:.1f} s"
        )


def _head(source: Path | bytes) -> tuple[bytes, int]:
    """The first 64 KiB (behind an ID3 tag, if there is one) and the size of the whole."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as f:
            size = f.seek(0, io.SEEK_END)
            f.seek(0)
            head = f.read(10)
            if head[:3] == b"ID3" and len(head) == 10:
                # ID3v2 sizes are four 7-bit bytes.
                f.seek(10 + sum(b << (7 * (3 - i)) for i, b in enumerate(head[6:10])))
                return f.read(65536), size
            return head + f.read(65526), size
    except OSError as e:
        raise MediaError("unreadable", f"the file cannot be read ({e.strerror or e})") from e


def _check_riff(head: bytes, size: int) -> None:
    """Compare what a WAV header promises with what is there: libsndfile shortens cut files in silence."""
    if not size:
        raise MediaError("empty_file", "the file has no bytes")
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(head):
        name, length = head[at : at + 4], struct.unpack("<I", head[at + 4 : at + 8])[0]
        if name == b"data":
            # Streaming writers leave 0 or 2**32 - 1 here: the length is not known, so nothing is missing.
            if length not in (0, 0xFFFFFFFF) and size - (at + 8) < length * _TRUNCATED:
                there = size - at - 8
                raise MediaError(
                    "audio_truncated", f"the header promises {length:,} bytes of sound, {there:,} are there"
                )
            return
        at += 8 + length + (length & 1)


def _promised_frames(file: soundfile.SoundFile, head: bytes) -> int | None:
    """How many frames the file says it has; None where its format only lets the reader guess.

    libsndfile guesses an MP3's length from its size (cover art counted in); only a Xing/Info header knows.
    """
    if file.format != "MP3":
        return int(file.frames)
    at = max(head.find(b"Xing", 0, 4096), head.find(b"Info", 0, 4096))
    if at < 0 or len(head) < at + 12 or not head[at + 7] & 1:
        return None
    per_frame = 1152 if file.samplerate >= 32_000 else 576
    # The header counts what the encoder put before and behind the sound; the reader cuts it away.
    return max(int(struct.unpack(">I", head[at + 8 : at + 12])[0]) * per_frame - _MP3_MARGIN, 1)


def _plain(error: BaseException) -> str:
    """An error's words without the file name, which the caller reports itself."""
    text = getattr(error, "error_string", "") or getattr(error, "strerror", "") or str(error)
    return str(text).strip().rstrip(".")
