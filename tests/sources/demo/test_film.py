from pathlib import Path

import numpy as np
import pytest

from birdmml.media.video import decode_video, encode_video
from birdmml.schema import RATE_HZ
from birdmml.sources.demo import draw, sing, world


def shot(seed: int = 0, side: int = 96, seconds: float = 3.0, look: int = 0) -> tuple[draw.Pixels, sing.Sound]:
    return sing.shoot(world.look(look), world.song(0), side, seconds, np.random.default_rng(seed))


@pytest.mark.parametrize(("side", "even"), [(96, 96), (33, 32)])
def test_a_film_has_eight_frames_a_second_and_sound_of_its_length(side: int, even: int) -> None:
    frames, audio = shot(side=side, seconds=2.5)
    assert frames.shape == (20, even, even, 3)
    assert frames.dtype == np.uint8
    assert audio.shape == (round(2.5 * RATE_HZ),)
    assert 0.1 < np.abs(audio).max() < 1.0


def test_same_seed_same_film_other_seed_other() -> None:
    a, b, c = shot(), shot(), shot(seed=1)
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(a[1], b[1])
    assert not np.array_equal(a[0], c[0])


def test_the_bird_moves_more_than_the_grain() -> None:
    for seed in range(5):
        frames = shot(seed=seed)[0].astype(float)
        steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        assert steps.max() > 3.0
        assert np.abs(frames[0] - frames[-1]).mean() > 3.0


def test_the_beak_is_open_exactly_while_a_note_sounds() -> None:
    rng = np.random.default_rng(3)
    voice, motion = sing.some_voice(rng), sing._some_motion(rng, 3.0)
    pose = draw.some_pose(rng)
    notes = sing.score(world.song(0), voice, 3.0)
    opened = 0
    for t in np.linspace(0, 3, 200):
        sounding = sum(n.start_s <= t <= n.start_s + n.seconds for n in notes)
        assert (sing._pose_at(pose, motion, notes, float(t)).gape > 0) == bool(sounding)
        opened += bool(sounding)
    assert 20 < opened < 180


def test_a_hop_leaves_the_ground_and_comes_back() -> None:
    rng = np.random.default_rng(3)
    motion, pose = sing._some_motion(rng, 3.0), draw.some_pose(rng)
    heights = [sing._pose_at(pose, motion, (), t).hop for t in np.linspace(0, 3, 301).tolist()]
    assert heights[0] == 0.0
    assert max(heights) == pytest.approx(motion.hop_height, rel=0.05)
    assert heights[-1] == 0.0


def test_a_film_survives_the_round_trip_through_mp4(tmp_path: Path) -> None:
    (frames, audio), path = shot(look=6), tmp_path / "a.mp4"
    encode_video(path, frames, audio, sing.FPS)
    back = decode_video(path)
    assert back.frames.shape == (8, 96, 96, 3)
    # The middles of eight segments of three frames each.
    difference = back.frames.astype(float) - frames[1::3].astype(float)
    assert np.abs(difference).mean() < 6
    assert back.audio is not None
    assert abs(len(back.audio) - len(audio)) < 0.1 * RATE_HZ
    sounding = np.abs(np.fft.rfft(back.audio)) ** 2
    written = np.abs(np.fft.rfft(audio, len(back.audio))) ** 2
    assert np.corrcoef(np.log(sounding + 1), np.log(written + 1))[0, 1] > 0.9
