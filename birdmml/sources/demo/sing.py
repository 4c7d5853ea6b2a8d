"""Songs synthesised from their traits: notes with envelopes and overtones, over hiss, wind and insects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from birdmml.schema import RATE_HZ
from birdmml.sources.demo.draw import Pixels, Pose, develop, paint, some_lens, some_pose
from birdmml.sources.demo.scene import backdrop, some_scene
from birdmml.sources.demo.world import Plumage, Song

Sound = NDArray[np.float32]
Curve = NDArray[np.float64]

PITCH_HZ = {"low": 2000.0, "middle": 3300.0, "high": 5400.0}
# Seconds from one note to the next; each phrase takes about two.
GAPS_S = {
    "slow": (0.42,) * 5,
    "quick": (0.19,) * 10,
    "speeding": tuple(0.42 * 0.82**k for k in range(9)),
    "paired": (0.18, 0.44) * 3,
}
# Notes fill this part of the time to the next one, so that rhythm shows in any syllable.
_NOTE_PART = 0.7
_LONGEST_NOTE_S = 0.29
_PAUSE_S = 0.7
_LOUDEST = 0.95
# Overtones above this would fold back below the Nyquist frequency.
_OVERTONE_LIMIT_HZ = 10_500.0


@dataclass(frozen=True)
class Voice:
    """How one bird sings this once: factors on tempo and pitch, its first note (s), peak level, overtones."""

    tempo: float
    pitch: float
    start_s: float
    peak: float
    overtone: float
    echo_s: float


@dataclass(frozen=True)
class Ambience:
    """What else is heard: hiss (dBFS RMS, steeper with `tilt`), wind (dB over it), an insect's tone (Hz, 0: none)."""

    hiss_dbfs: float
    tilt: float
    wind_db: float
    insect_hz: float
    insect_pulse_hz: float


@dataclass(frozen=True)
class Note:
    """One note: start and length in s, pitch in Hz."""

    start_s: float
    seconds: float
    hz: float


def some_voice(rng: np.random.Generator) -> Voice:
    """A random singer; the spread of tempo and pitch is well below what tells two songs apart."""
    u = rng.random(6).tolist()
    return Voice(
        tempo=0.94 + 0.12 * u[0],
        pitch=0.97 + 0.06 * u[1],
        start_s=0.05 + 0.55 * u[2],
        peak=0.22 * (3.2 ** u[3]),
        overtone=0.08 + 0.3 * u[4],
        echo_s=0.03 + 0.06 * u[5],
    )


def some_ambience(rng: np.random.Generator) -> Ambience:
    """A random place to record in; one in three is windy, one in four has an insect."""
    u = rng.random(6).tolist()
    return Ambience(
        hiss_dbfs=-56.0 + 16.0 * u[0],
        tilt=0.2 + 0.5 * u[1],
        wind_db=10.0 + 12.0 * u[2] if u[2] > 0.67 else 0.0,
        insect_hz=6300.0 + 2700.0 * u[4] if u[3] > 0.75 else 0.0,
        insect_pulse_hz=18.0 + 30.0 * u[5],
    )


def score(song: Song, voice: Voice, seconds: float) -> tuple[Note, ...]:
    """The notes of a clip of `seconds` s: the phrase, repeated after a pause while there is time."""
    gaps = GAPS_S[song.rhythm]
    notes: list[Note] = []
    at = voice.start_s
    while at < seconds - 0.3:
        for k, gap in enumerate(gaps):
            length = min(_NOTE_PART * gap, _NOTE_PART * min(gaps) if song.rhythm == "paired" else _LONGEST_NOTE_S)
            if at + length / voice.tempo > seconds:
                return tuple(notes)
            part = k / (len(gaps) - 1)
            course = {"level": 1.0, "climbing": 0.84 * 1.45**part, "dropping": 1.22 * 1.45**-part}[song.course]
            notes.append(Note(at, length / voice.tempo, PITCH_HZ[song.pitch] * voice.pitch * course))
            at += gap / voice.tempo
        at += _PAUSE_S
    return tuple(notes)


def sing(
    song: Song, voice: Voice, ambience: Ambience, seconds: float, rng: np.random.Generator, rate_hz: int = RATE_HZ
) -> Sound:
    """A clip, float32 [seconds * rate_hz], peak at most 0.95."""
    total = round(seconds * rate_hz)
    out = _surroundings(ambience, total, rate_hz, rng)
    out += _song(song, voice, seconds, total, rate_hz)
    loudest = float(np.abs(out).max())
    if loudest > _LOUDEST:
        out *= _LOUDEST / loudest
    return out


def _song(song: Song, voice: Voice, seconds: float, total: int, rate_hz: int) -> Sound:
    dry = np.zeros(total, dtype=np.float32)
    for note in score(song, voice, seconds):
        wave = _wave(song.syllable, note, voice.overtone, rate_hz)
        at = round(note.start_s * rate_hz)
        wave = wave[: total - at]
        dry[at : at + len(wave)] += wave
    delay = round(voice.echo_s * rate_hz)
    wet = dry.copy()
    wet[delay:] += 0.22 * dry[:-delay]
    loudest = float(np.abs(wet).max())
    return wet * np.float32(voice.peak / loudest)


def _wave(syllable: str, note: Note, overtone: float, rate_hz: int) -> Sound:
    """One note: its pitch curve integrated to a phase, one overtone, and an envelope."""
    t = np.arange(round(note.seconds * rate_hz)) / rate_hz
    bend, loud = _shape(syllable, t, note.seconds)
    hz = note.hz * bend
    phase = np.cumsum(hz) * (2 * np.pi / rate_hz)
    attack_release = np.minimum(np.minimum(t / 0.012, (note.seconds - t) / 0.03), 1.0)
    wave = np.sin(phase)
    wave += overtone * np.clip((_OVERTONE_LIMIT_HZ - 2 * hz) / 1000.0, 0.0, 1.0) * np.sin(2 * phase)
    return np.asarray(wave * loud * attack_release, dtype=np.float32)


def _shape(syllable: str, t: Curve, seconds: float) -> tuple[Curve, Curve]:
    """Pitch factor [T] and loudness [T] of a syllable over its time `t` (s)."""
    u, even = t / seconds, np.ones_like(t)
    if syllable == "rising":
        return 0.74 * (1.32 / 0.74) ** u, even
    if syllable == "falling":
        return 1.32 * (0.74 / 1.32) ** u, even
    if syllable == "trill":
        # Seventeen chips a second, each falling: slow enough to show in a spectrogram of 50 ms windows.
        chip = (17.0 * t) % 1.0
        return 1.12 - 0.24 * chip, np.square(np.sin(np.pi * chip))
    if syllable == "whistle":
        return even, even
    if syllable == "buzz":
        return 1.0 + 0.2 * np.sin(2 * np.pi * 95.0 * t), even
    if syllable == "warble":
        return 1.0 + 0.17 * np.sin(2 * np.pi * 15.0 * t), even
    if syllable == "arch":
        return 0.76 + 0.52 * np.sin(np.pi * u), even
    # two-note: a high half and a low one, parted by a breath.
    return np.where(u < 0.5, 1.18, 0.82), np.minimum(1.0, np.abs(u - 0.5) * seconds / 0.012)


def _surroundings(ambience: Ambience, total: int, rate_hz: int, rng: np.random.Generator) -> Sound:
    """Hiss whose spectrum falls with frequency, wind below 300 Hz, and perhaps an insect."""
    hz, bins = _bins(total, rate_hz)
    spectrum = rng.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)
    spectrum *= hz**-ambience.tilt * (1.0 + (10 ** (ambience.wind_db / 20) - 1.0) * (hz < 300.0))
    noise = np.fft.irfft(spectrum, total).astype(np.float32)
    audible = float(np.sqrt(np.mean(np.square(noise))))
    noise *= np.float32(10 ** (ambience.hiss_dbfs / 20) / audible)
    if ambience.insect_hz:
        t = np.arange(total, dtype=np.float32) / np.float32(rate_hz)
        pulse = 0.5 + 0.5 * np.sin(np.float32(2 * np.pi * ambience.insect_pulse_hz) * t)
        noise += np.float32(0.012) * pulse * np.sin(np.float32(2 * np.pi * ambience.insect_hz) * t)
    return noise


@lru_cache(maxsize=8)
def _bins(total: int, rate_hz: int) -> tuple[Sound, int]:
    hz = np.fft.rfftfreq(total, 1 / rate_hz).astype(np.float32)
    return np.maximum(hz, np.float32(40.0)), len(hz)


# Little films: a bird that bobs, hops and opens its beak to the song on the sound track.
FPS = 8
# Drawn twice as large as shown; the camera's window is this much smaller than the scene, so that it can drift.
_FINE = 2
_MARGIN = 0.06


@dataclass(frozen=True)
class _Motion:
    """Rates in Hz, times in s, lengths in shares of the frame."""

    bob_hz: float
    nod: float
    hop_at_s: float
    hop_height: float
    hop_length: float
    drift: tuple[float, float]
    phase: float


def shoot(look: Plumage, song: Song, side: int, seconds: float, rng: np.random.Generator) -> tuple[Pixels, Sound]:
    """A film of `seconds` s, `side` px square rounded down to an even number (as H.264 needs).

    Frames uint8 [F, side, side, 3] at FPS, and audio float32 [T].
    """
    side -= side % 2
    scene, pose, lens = some_scene(rng), some_pose(rng), some_lens(rng)
    # Video is denoised by its codec anyway: strong grain would only cost bits.
    lens = replace(lens, noise=0.5 * lens.noise)
    voice, ambience, motion = some_voice(rng), some_ambience(rng), _some_motion(rng, seconds)
    large = round(_FINE * side * (1 + _MARGIN))
    behind = backdrop(scene, large, side)
    notes = score(song, voice, seconds)
    count = round(seconds * FPS)
    frames = np.empty((count, side, side, 3), dtype=np.uint8)
    for f in range(count):
        t = (f + 0.5) / FPS
        picture = behind.copy()
        paint(ImageDraw.Draw(picture), look, _pose_at(pose, motion, notes, t), large)
        spare = large - _FINE * side
        x, y = (round(spare / 2 * (1 + d * (2 * (t / seconds) - 1))) for d in motion.drift)
        shown = picture.crop((x, y, x + _FINE * side, y + _FINE * side)).reduce(_FINE)
        frames[f] = develop(np.asarray(shown), scene, lens, rng)
    return frames, sing(song, voice, ambience, seconds, rng)


def _some_motion(rng: np.random.Generator, seconds: float) -> _Motion:
    u = rng.random(7).tolist()
    return _Motion(
        bob_hz=0.5 + 0.9 * u[0],
        nod=0.08 + 0.12 * u[1],
        hop_at_s=(0.1 + 0.7 * u[2]) * seconds,
        hop_height=0.03 + 0.05 * u[3],
        hop_length=0.05 * (2 * u[4] - 1),
        drift=(2 * u[5] - 1, 2 * u[6] - 1),
        phase=6.28 * u[6],
    )


def _pose_at(pose: Pose, motion: _Motion, notes: tuple[Note, ...], t: float) -> Pose:
    """The pose at `t` s: swaying always, one hop, the beak open while a note sounds."""
    sway = float(np.sin(2 * np.pi * motion.bob_hz * t + motion.phase))
    singing = any(n.start_s <= t <= n.start_s + n.seconds for n in notes)
    hop = min(1.0, max(0.0, (t - motion.hop_at_s) / 0.4))
    return replace(
        pose,
        x=pose.x + motion.hop_length * hop,
        nod=pose.nod * 0.6 + motion.nod * sway - (0.12 if singing else 0.0),
        cock=pose.cock + 0.12 * sway,
        gape=0.9 if singing else 0.0,
        hop=motion.hop_height * 4 * hop * (1 - hop),
    )
