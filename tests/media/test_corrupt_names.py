"""Corruptions have names that read back, levels within a range, and digests that tell them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core import settings
from birdmml.errors import UnknownName, UsageError
from birdmml.media.corruption import KINDS, Corruption, parse

NAMES = [
    ("audio:gaussian:10", "audio-gaussian-10dB"),
    ("audio:pink:-2.5", "audio-pink--2.5dB"),
    ("Image:Blur:4px", "image-blur-4px"),
    ("image:jpeg:30", "image-jpeg-30"),
    ("image:occlusion:0.25", "image-occlusion-0.25"),
    ("audio:missing", "audio-missing"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_names_are_short_and_read_back(text: str, name: str) -> None:
    assert parse(text).name == name
    assert parse(name, seed=9) == parse(text, seed=9)


@given(st.sampled_from([(m, k) for m in KINDS for k in KINDS[m]]), st.data(), st.integers())
def test_every_corruption_survives_its_name_and_its_settings(
    which: tuple[str, str], data: st.DataObject, seed: int
) -> None:
    kind = KINDS[which[0]][which[1]]
    level = data.draw(st.floats(kind.low, kind.high))
    made = Corruption(*which, float(round(level)) if kind.stepped else level, seed)
    assert parse(made.name, seed) == made
    assert parse(made.text, seed=1) == made
    assert settings.from_dict(Corruption, settings.to_dict(made)) == made
    assert len(made.domain) > 20


def test_equal_levels_have_equal_digests_and_seeds_do_not() -> None:
    digests = [settings.digest(parse(f"audio:gaussian:{text}")) for text in ("0", "0.0", "-0", "0dB")]
    assert len(set(digests)) == 1
    assert settings.digest(parse("audio:gaussian:0", seed=1)) != digests[0]


def test_names_and_levels_that_are_none_are_refused_with_the_next_step() -> None:
    with pytest.raises(UnknownName) as caught:
        parse("audio:gausian:10")
    assert caught.value.nearest[0] == "gaussian"
    with pytest.raises(UnknownName, match="modality to corrupt 'vdeo'"):
        parse("vdeo:blur:1")
    for text in ("audio:gaussian", "audio:gaussian:loud", "image-blur-"):
        with pytest.raises(UsageError, match="write (audio:gaussian|image:blur):LEVEL"):
            parse(text)
    for text in ("audio:gaussian:nan", "audio:wind:inf", "image:jpeg:30.5", "image:jpeg:95", "image:occlusion:2"):
        with pytest.raises(UsageError, match="must be a"):
            parse(text)
    for text in ("audio:gaussian:10:", "audio:gaussian:10:x", "audio:missing:0:1.5"):
        with pytest.raises(UsageError, match="no seed"):
            parse(text)
    with pytest.raises(UsageError, match="from 0 to 0"):
        parse("image:missing:3")
