"""Videos: eight frames and the sound, by PyAV. A video without an audio track has a missing modality."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from birdmml.errors import MediaError
from birdmml.schema import RATE_HZ

MAX_SECONDS = 600.0
MAX_PIXELS = 3840 * 2160
# An edit list may leave out a few frames that the header counts; a larger share missing is a cut file.
_TRUNCATED = 0.98

T = TypeVar("T")
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Video:
    """`frames` uint8 [F, H, W, 3]; `audio` mono float32 [T] at the asked rate, None without a track."""

    frames: NDArray[np.uint8]
    audio: NDArray[np.float32] | None


@dataclass(frozen=True)
class VideoReading(Generic[T]):
    """What one reading of a video gives: middles of equal segments, single frames at `sweep_s` (seconds), the sound.

    Each frame is what `keep` made of uint8 [H, W, 3]. `audio` is mono float32 [T], None without a track.
    """

    frames: tuple[T, ...]
    sweep: tuple[T, ...]
    sweep_s: tuple[float, ...]
    audio: NDArray[np.float32] | None
    fps: float
    duration_s: float


def decode_video(path: Path, frames: int = 8, rate_hz: int = RATE_HZ) -> Video:
    """Decode the middle frame of each of `frames` equal segments, and the whole sound track.

    Raises MediaError if the file is no video, stops early, or is longer or larger than the caps.
    """
    film = decode_film(path, lambda picture: picture, frames, (), rate_hz)
    return Video(np.stack(film.frames), film.audio)


def decode_film(
    source: Path | bytes,
    keep: Callable[[Picture], T],
    frames: int = 8,
    sweep_s: Sequence[float] = (),
    rate_hz: int = RATE_HZ,
) -> VideoReading[T]:
    """Decode the frames of `decode_video` and, in the same pass, the frame that is seen at each of `sweep_s`.

    `sweep_s` is in seconds from the first frame, ascending; a time at which the video is over gives nothing. `keep`
    is called once a frame, so that a smaller form of it can be held. Raises MediaError as `decode_video` does.
    """
    try:
        with _opened(source) as box:
            if not box.streams.video:
                raise MediaError("video_without_pictures", "the file has no video stream")
            pictures = _pictures(box, keep, frames, sweep_s)
        with _opened(source) as box:
            sound = _sound(box, rate_hz) if box.streams.audio else None
    except (av.FFmpegError, OSError, ValueError) as e:
        words = getattr(e, "strerror", None) or str(e)
        raise MediaError("video_damaged", f"the video cannot be decoded ({words})") from e
    return VideoReading(*pictures[:3], sound, *pictures[3:])


def encode_video(
    path: Path, frames: NDArray[np.uint8], audio: NDArray[np.float32] | None, fps: int, rate_hz: int = RATE_HZ
) -> None:
    """Write an mp4 (H.264 and AAC) of `frames` uint8 [F, H, W, 3] (even sides) and `audio` float32 [T].

    One thread, fixed settings and no dates: same input, same bytes.
    """
    height, width = frames.shape[1:3]
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as box:
        picture = box.add_stream("libx264", rate=fps)
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        picture.thread_count = 1
        # x264's macroblock tree differs from run to run, even on one thread.
        picture.options = {
            "preset": "veryfast", "crf": "20", "flags": "+bitexact", "x264-params": "mbtree=0",
        }  # fmt: skip
        sound = None
        if audio is not None:
            sound = box.add_stream("aac", rate=rate_hz, layout="mono")
            sound.bit_rate = 96_000
            # The default search for the best quantisers takes ten times as long and is not heard here.
            sound.options = {"flags": "+bitexact", "aac_coder": "fast"}
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            box.mux(picture.encode(frame))
        box.mux(picture.encode(None))
        if sound is not None and audio is not None:
            _write_sound(box, sound, audio, rate_hz)


def _write_sound(
    box: av.container.OutputContainer, stream: av.AudioStream, audio: NDArray[np.float32], rate_hz: int
) -> None:
    step = 1024
    for start in range(0, len(audio), step):
        block = np.ascontiguousarray(audio[None, start : start + step], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        box.mux(stream.encode(frame))
    box.mux(stream.encode(None))


def _opened(source: Path | bytes) -> av.container.InputContainer:
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    return av.open(handle, "r", metadata_errors="ignore")


def _pictures(
    box: av.container.InputContainer, keep: Callable[[Picture], T], frames: int, sweep_s: Sequence[float]
) -> tuple[tuple[T, ...], tuple[T, ...], tuple[float, ...], float, float]:
    """Two passes over the packets: count the frames by their headers, then keep only the wanted ones."""
    stream = box.streams.video[0]
    if stream.codec_context is None:
        raise MediaError("video_damaged", "its pictures are of a kind that no decoder here knows")
    stream.thread_type = "NONE"
    if (stream.width or 0) * (stream.height or 0) > MAX_PIXELS:
        raise MediaError("video_too_large", f"{stream.width} x {stream.height} px is over the limit")
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if seconds > MAX_SECONDS:
        raise MediaError("video_too_long", f"{seconds:.0f} s is over the limit of {MAX_SECONDS:.0f} s")
    total = _count(box, stream)
    # Middle of segment i of n: floor((i + 1/2) * total / n).
    wanted = [(2 * i + 1) * total // (2 * frames) for i in range(frames)]
    box.seek(0, stream=stream)
    middles: dict[int, T] = {}
    swept: list[T] = []
    before: av.VideoFrame | None = None
    for index, (at_s, frame) in enumerate(_timed(box, stream)):
        if index in wanted:
            middles[index] = keep(_rgb(frame))
        # The frame before is seen until this one comes.
        while before is not None and len(swept) < len(sweep_s) and sweep_s[len(swept)] < at_s:
            swept.append(keep(_rgb(before)))
        if index >= wanted[-1] and len(swept) == len(sweep_s):
            break
        before, last_s = frame, at_s
    else:
        end_s = last_s + 1 / _rate(stream) if before is not None else Fraction(0)
        while before is not None and len(swept) < len(sweep_s) and sweep_s[len(swept)] < end_s:
            swept.append(keep(_rgb(before)))
    if missing := [i for i in wanted if i not in middles]:
        raise MediaError("video_truncated", f"frame {missing[0]} of {total} cannot be decoded")
    fps = float(_rate(stream))
    return tuple(middles[i] for i in wanted), tuple(swept), tuple(sweep_s[: len(swept)]), fps, total / fps


def _count(box: av.container.InputContainer, stream: av.VideoStream) -> int:
    """How many frames the packets hold; raises MediaError if there are none, or clearly fewer than the header says."""
    packets = [packet.is_discard for packet in box.demux(stream) if packet.size]
    if len(packets) < (stream.frames or 0) * _TRUNCATED:
        raise MediaError("video_truncated", f"the header promises {stream.frames} frames, {len(packets)} are there")
    if (total := packets.count(False)) == 0:
        raise MediaError("video_damaged", "no frame in the video stream")
    return total


def _rate(stream: av.VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate:
        raise MediaError("video_damaged", "the video does not say how many frames it shows a second")
    return Fraction(rate)


def _timed(box: av.container.InputContainer, stream: av.VideoStream) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Frames in order of showing, with their exact time in seconds from the first."""
    first = None
    for index, frame in enumerate(box.decode(stream)):
        if frame.pts is None or frame.time_base is None:
            yield index / _rate(stream), frame
            continue
        at_s = frame.pts * Fraction(frame.time_base)
        first = at_s if first is None else first
        yield at_s - first, frame


def _rgb(frame: av.VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def _sound(box: av.container.InputContainer, rate_hz: int) -> NDArray[np.float32]:
    if box.streams.audio[0].codec_context is None:
        raise MediaError("audio_damaged", "the sound track is of a kind that no decoder here knows")
    resampler = AudioResampler(format="flt", layout="mono", rate=rate_hz)
    blocks: list[NDArray[np.float32]] = []
    for frame in chain(box.decode(box.streams.audio[0]), [None]):  # None: what the resampler still holds.
        blocks += [np.asarray(f.to_ndarray(), dtype=np.float32).reshape(-1) for f in resampler.resample(frame)]
    sound = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
    if not len(sound):
        raise MediaError("audio_empty", "the sound track holds no samples")
    return np.asarray(sound, dtype=np.float32)
