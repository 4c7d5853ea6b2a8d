from __future__ import annotations

from pathlib import Path

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
