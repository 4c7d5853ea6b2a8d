"""Captions from the same traits that are drawn and sung: names, plumage, song, place and light."""

from __future__ import annotations

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
    ink = "white" if look.colour == "black" else "black"  # As it is drawn: black on black would not be seen.
    heads = {"capped": [f"a {ink} cap"], "masked": [f"a {ink} mask"], "crested": ["a tall crest"]}
    parts += heads.get(look.head, [])
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{look.colour}, with {listed}"


def voice(song: Song) -> str:
    """A song in words, to follow "it sings": "low rising notes in pairs, all on one pitch"."""
    return f"{_PITCHES[song.pitch]} {_NOTES[song.syllable]} {_RHYTHMS[song.rhythm]}, {_COURSES[song.course]}"


def caption(sight: Sight, rng: np.random.Generator) -> str:
    """One sentence or two. Nearly half give name and traits, a third only the name, the rest either and the place."""
    draw = float(rng.random())
    for share, texts in _KINDS:
        if draw < share:
            text = texts[int(rng.integers(len(texts)))].format(**_pieces(sight))
            return text[0].upper() + text[1:]
        draw -= share
    raise AssertionError("the shares of _KINDS add up to 1")


def _pieces(s: Sight) -> dict[str, str]:
    """What stands in the texts of _KINDS."""
    posture = "sitting upright" if s.pose.lean > 0.3 else "leaning forward"
    wind = ", with wind in the background" if s.ambience.wind_db else ""
    # European and Eurasian begin with a consonant's sound.
    vowel = s.name[0].lower() in "aeiou" and not s.name.lower().startswith("eu")
    place = PLACES[s.scene.place].words
    return {
        "name": s.name,
        "a_name": f"{'an' if vowel else 'a'} {s.name}",
        "look": plumage(s.look),
        "song": voice(s.song),
        "noise": ", with an insect humming" if s.ambience.insect_hz else wind,
        "posture": "with its beak open" if s.pose.gape > 0 else posture,
        "place": place,
        "scene": f"{place} {s.scene.light}",
    }


# Each kind's share of the captions, the last one's being the rest, and its texts.
_KINDS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (
        0.45,
        (
            "{a_name} {scene}: {look}. It sings {song}{noise}.",
            "the {name} sings {song}{noise}. It is {look}, {place}.",
            "{a_name} {posture} {scene}, {look}.",
            "{a_name} {place}, singing {song}{noise}.",
        ),
    ),
    (0.35, ("{name}", "{a_name}.", "a photo of {a_name}.", "this is {a_name}.")),
    (0.1, ("{a_name} {posture} {scene}.",)),
    # Nameless ones keep a text encoder from matching by the name alone.
    (1.0, ("a bird {scene}, {look}, singing {song}.", "a small bird {posture} {scene}, {look}.")),
)
