from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from birdmml.errors import MediaError
from birdmml.media import video

RATE = 22_050


def film(path: Path, frames: int = 24, sound: bool = True) -> Path:
    """Frame i is grey of level 8 i + 20; the sound is a 1 kHz tone."""
    pictures = np.stack([np.full((32, 48, 3), 20 + 8 * i, np.uint8) for i in range(frames)])
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(frames * RATE // 8) / RATE)
    video.encode_video(path, pictures, tone.astype(np.float32) if sound else None, fps=8)
    return path


def test_eight_frames_are_the_middles_of_eight_equal_segments(tmp_path: Path) -> None:
    seen = video.decode_video(film(tmp_path / "a.mp4"))
    assert seen.frames.shape == (8, 32, 48, 3)
    levels = seen.frames.mean(axis=(1, 2, 3))
    assert np.allclose(levels, [20 + 8 * i for i in (1, 4, 7, 10, 13, 16, 19, 22)], atol=2)


def test_fewer_frames_than_segments_repeat_none_of_other_films(tmp_path: Path) -> None:
    levels = video.decode_video(film(tmp_path / "a.mp4", frames=4)).frames.mean(axis=(1, 2, 3))
    assert np.allclose(levels, [20, 20, 28, 28, 36, 36, 44, 44], atol=2)


def test_the_sound_survives(tmp_path: Path) -> None:
    sound = video.decode_video(film(tmp_path / "a.mp4")).audio
    assert sound is not None
    assert len(sound) == pytest.approx(3 * RATE, rel=0.05)
    spectrum = np.abs(np.fft.rfft(sound[RATE : 2 * RATE]))
    assert int(spectrum.argmax()) == 1000


def test_no_track_is_a_missing_modality_not_silence(tmp_path: Path) -> None:
    assert video.decode_video(film(tmp_path / "a.mp4", sound=False)).audio is None


def test_same_film_same_bytes(tmp_path: Path) -> None:
    assert film(tmp_path / "a.mp4").read_bytes() == film(tmp_path / "b.mp4").read_bytes()


def test_damaged_films_are_refused(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mp4").read_bytes()
    for name, data in {"empty": b"", "text": b"no film" * 100, "cut": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError):
            video.decode_video(tmp_path / name)


def levels_of(film: video.VideoReading[np.ndarray]) -> tuple[list[float], list[float]]:
    return [float(f.mean()) for f in film.frames], [float(f.mean()) for f in film.sweep]


def test_one_pass_gives_the_middles_and_what_is_seen_at_each_time(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")  # Three seconds, 8 frames a second.
    seen = video.decode_film(path, lambda picture: picture, sweep_s=(0.5, 1.0, 1.49, 2.99, 3.0, 9.5))
    assert (np.stack(seen.frames) == video.decode_video(path).frames).all()
    assert (seen.fps, seen.duration_s) == (8.0, 3.0)
    assert seen.sweep_s == (0.5, 1.0, 1.49, 2.99)
    # The frame that began last: floor(8 t).
    assert np.allclose(levels_of(seen)[1], [20 + 8 * i for i in (4, 8, 11, 23)], atol=2)
    assert seen.audio is not None
    again = video.decode_film(path.read_bytes(), lambda picture: picture, sweep_s=(0.5, 1.0, 1.49, 2.99))
    assert levels_of(again) == levels_of(seen)


def test_the_sweep_goes_by_time_and_not_by_number(tmp_path: Path) -> None:
    """Frames 0 to 3 lie at 0, 0.1, 1.0 and 1.1 s."""
    path = tmp_path / "uneven.mp4"
    with av.open(str(path), "w", format="mp4") as box:
        stream = box.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10)
        for i, at in enumerate((0, 1, 10, 11)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 40 * i + 20, np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
    seen = video.decode_film(path, lambda picture: picture, 2, sweep_s=(0.05, 0.5, 0.99, 1.0, 1.05))
    assert np.allclose(levels_of(seen)[1], [20, 60, 60, 100, 100], atol=3)


def test_a_film_that_stops_behind_its_index_is_truncated(tmp_path: Path) -> None:
    """With its index first, a cut file opens, and its packets end early without a word."""
    whole, moved = film(tmp_path / "a.mp4", frames=28, sound=False), tmp_path / "b.mp4"
    with av.open(str(whole)) as box:
        out = av.open(str(moved), "w", format="mp4", options={"movflags": "+faststart"})
        stream = out.add_stream_from_template(box.streams.video[0])
        for packet in box.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
        out.close()
    data = moved.read_bytes()
    assert len(video.decode_video(moved).frames) == 8
    moved.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(MediaError, match="video_truncated"):
        video.decode_video(moved)


def test_streams_that_no_decoder_knows_are_told_apart(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mp4").read_bytes()
    unseen, unheard = data.replace(b"avc1", b"zzzz"), data.replace(b"mp4a", b"zzzz").replace(b"esds", b"yyyy")
    for broken, reason in ((unseen, "video_damaged"), (unheard, "audio_damaged")):
        (tmp_path / "b.mp4").write_bytes(broken)
        with pytest.raises(MediaError, match=f"{reason}: .*no decoder here knows"):
            video.decode_video(tmp_path / "b.mp4")
