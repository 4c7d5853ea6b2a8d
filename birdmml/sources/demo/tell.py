"""Captions from the same traits that are drawn and sung: names, plumage, song, place and light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from birdmml.sources.demo.draw import Pose
from birdmml.sources.demo.scene import PLACES, Scene
from birdmml.sources.demo.sing import Ambience
from birdmml.sources.demo.world import Plumage, Song

_NOTES = {
    "rising": "rising notes",
    "falling": "falling notes",
    "trill": "dry trills",
    "whistle": "clear whistles",
    "buzz": "rasping buzzes",
    "warble": "liquid warbles",
    "arch": "arching notes",
    "two-note": "two-note calls",
}
_PITCHES = {"low": "low", "middle": "medium-pitched", "high": "high"}
_RHYTHMS = {
    "slow": "one slowly after the other",
    "quick": "in quick succession",
    "speeding": "faster and faster",
    "paired": "in pairs",
}
_COURSES = {"level": "all on one pitch", "climbing": "climbing in pitch", "dropping": "dropping in pitch"}


@dataclass(frozen=True)
class Sight:
    """All that a caption can speak of."""

    name: str
    look: Plumage
    song: Song
    scene: Scene
    pose: Pose
    ambience: Ambience


def plumage(look: Plumage) -> str:
    """A look in words, to follow "a bird": "red, with a plain cream breast and a black cap"."""
    breast = f"a {'plain' if look.pattern == 'barred' else look.pattern} {look.belly} breast"
    parts = ["barred wings", breast] if look.pattern == "barred" else [breast]
    if look.head == "capped":
        parts.append(f"a {_ink(look)} cap")
    elif look.head == "masked":
        parts.append(f"a {_ink(look)} mask")
    elif look.head == "crested":
        parts.append("a tall crest")
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{look.colour}, with {listed}"


def voice(song: Song) -> str:
    """A song in words, to follow "it sings": "low rising notes in pairs, all on one pitch"."""
    return f"{_PITCHES[song.pitch]} {_NOTES[song.syllable]} {_RHYTHMS[song.rhythm]}, {_COURSES[song.course]}"


def place(scene: Scene) -> str:
    """A scene in words: "on a mossy branch in soft light"."""
    return f"{PLACES[scene.place].words} {scene.light}"


def caption(sight: Sight, rng: np.random.Generator) -> str:
    """One sentence or two. Nearly half give name and traits, a third only the name, the rest either and the place."""
    draw = float(rng.random())
    for share, tellers in _KINDS:
        if draw < share:
            return _neat(tellers[int(rng.integers(len(tellers)))](sight))
        draw -= share
    raise AssertionError("the shares of _KINDS add up to 1")


def _ink(look: Plumage) -> str:
    return "white" if look.colour == "black" else "black"


def _a(noun: str) -> str:
    """The noun with its article; European and Eurasian begin with a consonant's sound."""
    vowel = noun[0].lower() in "aeiou" and not noun.lower().startswith("eu")
    return f"{'an' if vowel else 'a'} {noun}"


def _posture(pose: Pose) -> str:
    if pose.gape > 0:
        return "with its beak open"
    return "sitting upright" if pose.lean > 0.3 else "leaning forward"


def _heard(ambience: Ambience) -> str:
    """What else is on the recording, as the end of a sentence."""
    if ambience.insect_hz:
        return ", with an insect humming"
    return ", with wind in the background" if ambience.wind_db else ""


def _neat(text: str) -> str:
    return text[0].upper() + text[1:]


def _everything(s: Sight) -> str:
    return f"{_a(s.name)} {place(s.scene)}: {plumage(s.look)}. It sings {voice(s.song)}{_heard(s.ambience)}."


def _song_first(s: Sight) -> str:
    heard = f"the {s.name} sings {voice(s.song)}{_heard(s.ambience)}"
    return f"{heard}. It is {plumage(s.look)}, {PLACES[s.scene.place].words}."


def _seen(s: Sight) -> str:
    return f"{_a(s.name)} {_posture(s.pose)} {place(s.scene)}, {plumage(s.look)}."


def _sung(s: Sight) -> str:
    return f"{_a(s.name)} {PLACES[s.scene.place].words}, singing {voice(s.song)}{_heard(s.ambience)}."


def _nameless(s: Sight) -> str:
    return f"a bird {place(s.scene)}, {plumage(s.look)}, singing {voice(s.song)}."


def _nameless_seen(s: Sight) -> str:
    return f"a small bird {_posture(s.pose)} {place(s.scene)}, {plumage(s.look)}."


def _named_place(s: Sight) -> str:
    return f"{_a(s.name)} {_posture(s.pose)} {place(s.scene)}."


_KINDS: tuple[tuple[float, tuple[Callable[[Sight], str], ...]], ...] = (
    (0.45, (_everything, _song_first, _seen, _sung)),
    (
        0.35,
        (
            lambda s: s.name,
            lambda s: f"{_a(s.name)}.",
            lambda s: f"a photo of {_a(s.name)}.",
            lambda s: f"this is {_a(s.name)}.",
        ),
    ),
    (0.1, (_named_place,)),
    (1.0, (_nameless, _nameless_seen)),
)
