from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import MediaError
from birdmml.media import audio

RATE = 22_050


def wav(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def tone(seconds: float, rate: int = RATE, hz: float = 1000.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def reason(data: bytes | Path, **options: float) -> str:
    with pytest.raises(MediaError) as caught:
        for clip in audio.cut(data, 1.0, **options):
            audio.check_sound(clip)
    return caught.value.reason


def test_flac_round_trip_is_exact_to_sixteen_bits() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    back = audio.decode_clip(audio.encode_flac(samples))
    assert back.dtype == np.float32
    assert np.abs(back * 32768 - np.rint(samples * 32767)).max() == 0


def test_encoding_is_deterministic_and_never_wraps() -> None:
    loud = np.array([1.5, -1.5, 1.0, -1.0] * 100, dtype=np.float32)
    assert audio.encode_flac(loud) == audio.encode_flac(loud)
    assert (np.sign(audio.decode_clip(audio.encode_flac(loud))) == np.sign(loud)).all()


def test_a_recording_is_cut_into_consecutive_padded_clips() -> None:
    samples = np.arange(1, round(2.5 * RATE) + 1, dtype=np.float32) / 1e6
    clips = list(audio.cut(wav(samples, subtype="FLOAT"), 1.0))
    assert [(c.start_s, c.valid_seconds) for c in clips] == [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5)]
    assert np.array_equal(np.concatenate([c.samples for c in clips])[: len(samples)], samples)
    assert not clips[-1].samples[round(0.5 * RATE) :].any()


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 44_100, 48_000])
def test_resampling_keeps_a_tone_and_its_length(rate: int) -> None:
    (clip,) = audio.cut(wav(tone(1.0, rate), rate), 1.0)
    assert len(clip.samples) == RATE
    spectrum = np.abs(np.fft.rfft(clip.samples))
    assert abs(int(spectrum.argmax()) - 1000) <= 1  # 1 Hz bins.
    assert audio.check_sound(clip).rms_dbfs == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)


def test_stereo_is_averaged() -> None:
    both = np.stack([tone(1.0), -tone(1.0) / 2], axis=1)
    (clip,) = audio.cut(wav(both, subtype="FLOAT"), 1.0)
    assert np.allclose(clip.samples, tone(1.0) / 4, atol=1e-6)


def test_start_s_names_one_clip() -> None:
    samples = np.concatenate([tone(2.0, hz=500), tone(2.0, hz=3000)])
    (clip,) = audio.cut(wav(samples), 1.0, start_s=2.5)
    assert clip.start_s == 2.5
    assert int(np.abs(np.fft.rfft(clip.samples)).argmax()) == 3000


def test_levels_against_closed_forms() -> None:
    square = np.tile(np.array([1.0, -1.0], np.float32), RATE // 2)
    level = audio.check_sound(audio.Clip(0.0, 1.0, square))
    assert level.rms_dbfs == pytest.approx(0.0, abs=1e-6)
    assert level.clipped_share == 1.0
    half = audio.check_sound(audio.Clip(0.0, 1.0, square / 2))
    assert half.rms_dbfs == pytest.approx(-6.0206, abs=1e-3)
    assert half.clipped_share == 0.0


def test_the_level_is_that_of_the_valid_part() -> None:
    padded = np.zeros(RATE, np.float32)
    padded[: RATE // 2] = tone(0.5)
    whole = audio.check_sound(audio.Clip(0.0, 0.5, padded)).rms_dbfs
    assert whole == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)


def test_reasons_of_refusal(tmp_path: Path) -> None:
    nan = np.full(RATE, np.nan, np.float32)
    assert reason(b"") == "empty_file"
    assert reason(b"nothing to hear here " * 50) == "not_audio"
    assert reason(wav(np.zeros(0))) in ("audio_empty", "not_audio")
    assert reason(wav(nan, subtype="FLOAT")) == "audio_not_finite"
    assert reason(wav(np.zeros(RATE))) == "audio_constant"
    assert reason(wav(np.full(RATE, 0.25))) == "audio_constant"
    assert reason(wav(np.full(8000, 0.25), 8000)) == "audio_constant"  # Also where it is resampled.
    assert reason(wav(tone(0.01))) == "audio_too_short"
    assert reason(wav(tone(1.0))[: RATE // 2]) == "audio_truncated"
    flac = wav(np.random.default_rng(0).uniform(-1, 1, 3 * RATE), form="FLAC")
    assert reason(flac[: len(flac) // 2]) in ("audio_truncated", "audio_damaged")
    assert reason(tmp_path / "gone.wav") == "unreadable"


def test_an_eight_hour_recording_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "night.wav"
    frames = 8 * 3600 * RATE
    with path.open("wb") as f:
        f.write(b"RIFF" + struct.pack("<I", 36 + 2 * frames) + b"WAVEfmt ")
        f.write(struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + b"data" + struct.pack("<I", 2 * frames))
        f.truncate(44 + 2 * frames)  # Sparse: 1.3 GB that take no disk.
    assert reason(path) == "audio_too_long"
    assert reason(path, start_s=3600.0) == "audio_constant"  # One clip of it may be asked for.


def test_an_mp3_is_not_called_short_for_its_cover_art() -> None:
    mp3 = wav(tone(3.0, 44_100), 44_100, form="MP3")
    tag = b"ID3\x04\x00\x00" + bytes([0, 3, 0, 0]) + b"\x00" * (3 << 14)
    clips = list(audio.cut(tag + mp3, 1.0))
    assert sum(c.valid_seconds for c in clips) == pytest.approx(3.0, abs=0.1)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5000), st.sampled_from(["WAV", "FLAC", "OGG"]))
def test_damage_anywhere_raises_media_error_or_gives_finite_clips(junk: bytes, at: int, form: str) -> None:
    data = bytearray(wav(tone(0.3, 8000), 8000, form=form))
    data[at % len(data) : at % len(data) + len(junk)] = junk
    try:
        clips = list(audio.cut(bytes(data), 0.2))
    except MediaError:
        return
    assert all(np.isfinite(c.samples).all() and len(c.samples) == round(0.2 * RATE) for c in clips)


def test_a_whole_recording_is_what_soundfile_reads(tmp_path: Path) -> None:
    samples = tone(1.3)
    path = tmp_path / "a.wav"
    path.write_bytes(wav(samples))
    wanted, _ = soundfile.read(path, dtype="float32")
    assert (audio.decode_sound(path) == wanted).all()
    assert (audio.decode_sound(path.read_bytes()) == wanted).all()
    both = np.stack([samples, -samples / 2], axis=1)
    assert np.allclose(audio.decode_sound(wav(both)), samples / 4, atol=1e-4)
    assert len(audio.decode_sound(wav(tone(1.0, 8000), 8000))) == RATE


def test_a_whole_recording_that_is_cut_or_too_long_is_refused() -> None:
    data = wav(tone(2.0))
    for broken, why in ((data[:-20_000], "audio_truncated"), (b"no sound", "not_audio"), (b"", "empty_file")):
        with pytest.raises(MediaError, match=why):
            audio.decode_sound(broken)
    with pytest.raises(MediaError, match="audio_too_long"):
        audio.decode_sound(data, max_seconds=1.0)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_a_short_mp3_is_whole_whatever_its_encoder_put_around_it(seconds: float, rate: int) -> None:
    out = io.BytesIO()
    soundfile.write(out, tone(seconds, rate), rate, format="MP3")
    assert len(audio.decode_sound(out.getvalue(), rate)) == round(seconds * rate)
    with pytest.raises(MediaError, match="audio_truncated|audio_damaged"):
        audio.decode_sound(out.getvalue()[: len(out.getvalue()) // 2], rate)
