import itertools
from dataclasses import replace

import numpy as np
import pytest
from helpers.plain_features import bands
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from birdmml.sources.demo import sing, world

RATE = 22_050
VOICE = sing.Voice(tempo=1.0, pitch=1.0, start_s=0.2, peak=0.5, overtone=0.2, echo_s=0.05)
QUIET = sing.Ambience(hiss_dbfs=-56.0, tilt=0.3, wind_db=0.0, insect_hz=0.0, insect_pulse_hz=20.0)


def clip(number: int, voice=VOICE, ambience=QUIET, seconds=3.0, seed=0):
    return sing.sing(world.song(number), voice, ambience, seconds, np.random.default_rng(seed))


def peak_hz(sound) -> float:
    """The strongest frequency of a clip."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float(np.fft.rfftfreq(len(sound), 1 / RATE)[power.argmax()])


@given(number=st.integers(0, world.N_SONGS - 1), seed=st.integers(0, 2**32), seconds=st.sampled_from([2.0, 3.0, 5.0]))
@hypothesis_settings(deadline=None, max_examples=80)
def test_clips_are_never_silent_and_never_clipped(number: int, seed: int, seconds: float) -> None:
    rng = np.random.default_rng(seed)
    voice, ambience = sing.some_voice(rng), sing.some_ambience(rng)
    sound = sing.sing(world.song(number), voice, ambience, seconds, rng)
    assert sound.dtype == np.float32
    assert sound.shape == (round(seconds * RATE),)
    assert np.isfinite(sound).all()
    assert 0.1 < np.abs(sound).max() <= 0.951
    assert sound.std() > 0.01
    # Some of the song is in every clip: its loud parts stand above the hiss.
    level = np.sqrt(np.mean(sound[: len(sound) // 50 * 50].reshape(50, -1) ** 2, axis=1))
    assert level.max() > 2 * level.min()


def test_same_seed_same_sound_other_seed_other() -> None:
    assert np.array_equal(clip(5), clip(5))
    assert not np.array_equal(clip(5), clip(5, seed=1))


def test_a_level_whistle_has_the_pitch_of_its_register() -> None:
    for pitch, hz in sing.PITCH_HZ.items():
        song = world.Song("whistle", pitch, "slow", "level")
        sound = sing.sing(song, VOICE, QUIET, 3.0, np.random.default_rng(0))
        assert peak_hz(sound) == pytest.approx(hz, rel=0.005)
        higher = sing.sing(song, replace(VOICE, pitch=1.03), QUIET, 3.0, np.random.default_rng(0))
        assert peak_hz(higher) == pytest.approx(1.03 * hz, rel=0.005)


def test_notes_follow_the_rhythm() -> None:
    def gaps(rhythm: str) -> list[float]:
        notes = sing.score(world.Song("whistle", "low", rhythm, "level"), VOICE, 3.0)
        return list(np.diff([n.start_s for n in notes]))

    assert gaps("slow")[:4] == pytest.approx([0.42] * 4)
    assert gaps("quick")[:9] == pytest.approx([0.19] * 9)
    speeding = gaps("speeding")[:8]
    assert all(a > b for a, b in itertools.pairwise(speeding))
    assert gaps("paired")[:5] == pytest.approx([0.18, 0.44, 0.18, 0.44, 0.18])


@pytest.mark.parametrize("number", range(0, world.N_SONGS, 7))
@pytest.mark.parametrize("seconds", [2.0, 3.0, 10.0])
def test_notes_lie_within_the_clip_and_do_not_overlap(number: int, seconds: float) -> None:
    notes = sing.score(world.song(number), replace(VOICE, start_s=0.6, tempo=0.94), seconds)
    assert len(notes) >= 3
    assert notes[-1].start_s + notes[-1].seconds <= seconds
    assert all(a.start_s + a.seconds <= b.start_s + 1e-9 for a, b in itertools.pairwise(notes))


def test_long_clips_repeat_the_phrase() -> None:
    notes = sing.score(world.Song("arch", "low", "slow", "level"), VOICE, 10.0)
    assert len(notes) > 10


@pytest.mark.parametrize(("course", "sign"), [("climbing", 1), ("dropping", -1), ("level", 0)])
def test_the_course_moves_the_pitch(course: str, sign: int) -> None:
    notes = sing.score(world.Song("whistle", "low", "slow", course), VOICE, 2.3)
    assert np.sign(round(notes[-1].hz - notes[0].hz)) == sign


def test_hiss_wind_and_insects_are_as_loud_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hiss = sing._surroundings(replace(QUIET, hiss_dbfs=-40.0), 3 * RATE, RATE, rng)
    assert 20 * np.log10(hiss.std()) == pytest.approx(-40.0, abs=0.1)
    insect = clip(0, ambience=replace(QUIET, insect_hz=8000.0)) - clip(0)
    assert peak_hz(insect) == pytest.approx(8000.0, abs=1.0)

    def low_share(ambience: sing.Ambience) -> float:
        sound = sing._surroundings(ambience, 3 * RATE, RATE, np.random.default_rng(1))
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float(power[: 300 * 3].sum() / power.sum())

    assert low_share(replace(QUIET, wind_db=20.0)) > 3 * low_share(QUIET)


def test_the_song_lies_where_the_mel_front_end_listens() -> None:
    # 500 to 10,000 Hz; the hiss outside is far weaker.
    for number in range(0, world.N_SONGS, 5):
        sound = clip(number)
        power = np.abs(np.fft.rfft(sound)) ** 2
        hz = np.fft.rfftfreq(len(sound), 1 / RATE)
        assert power[(hz > 1000) & (hz < 10_000)].sum() > 0.98 * power.sum()


def test_all_songs_that_any_demo_needs_sound_different() -> None:
    # 200 = 50 shared songs and 150 of one rule more. Each is sung again by another bird, higher and faster:
    # its spectrogram must still be nearest to the same song's.
    other = replace(VOICE, pitch=1.02, tempo=1.03, overtone=0.1)
    first = np.array([bands(clip(i)).ravel() for i in range(200)])
    second = np.array([bands(clip(i, voice=other, seed=1)).ravel() for i in range(200)])
    away = np.array([((first - again) ** 2).sum(1) for again in second])
    assert (away.argmin(1) == np.arange(200)).mean() > 0.9
