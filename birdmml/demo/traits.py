"""The looks and songs that the demo's birds can have, numbered so that the first dozen differ most.

A look is colour x pattern x head x belly: 12 * 4 * 4 * 2 = 384. A song is syllable x pitch x rhythm x
course: 8 * 3 * 4 * 3 = 288. Each number gives another combination; neighbours differ in several traits.
"""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (205, 38, 36),
    "blue": (44, 92, 205),
    "yellow": (246, 208, 44),
    "black": (40, 38, 46),
    "green": (66, 152, 54),
    "white": (240, 238, 232),
    "orange": (240, 122, 28),
    "purple": (128, 58, 172),
    "brown": (122, 78, 46),
    "pink": (244, 140, 178),
    "grey": (132, 138, 148),
    "turquoise": (38, 176, 176),
}
PATTERNS = ("plain", "spotted", "barred", "streaked")
HEADS = ("plain", "capped", "crested", "masked")
BELLIES = ("cream", "dark")

SYLLABLES = ("rising", "falling", "trill", "whistle", "buzz", "warble", "arch", "two-note")
PITCHES = ("low", "middle", "high")
RHYTHMS = ("slow", "quick", "speeding", "paired")
COURSES = ("level", "climbing", "dropping")

N_LOOKS = len(COLOURS) * len(PATTERNS) * len(HEADS) * len(BELLIES)
N_SONGS = len(SYLLABLES) * len(PITCHES) * len(RHYTHMS) * len(COURSES)


@dataclass(frozen=True)
class Look:
    """Plumage: a colour of COLOURS, one of PATTERNS, HEADS and BELLIES."""

    colour: str
    pattern: str
    head: str
    belly: str


@dataclass(frozen=True)
class Song:
    """Song: one of SYLLABLES, PITCHES, RHYTHMS and COURSES (whether the pitch climbs or drops on the way)."""

    syllable: str
    pitch: str
    rhythm: str
    course: str


def look(number: int) -> Look:
    """Look 0 .. N_LOOKS - 1; different numbers look different."""
    turn, c = divmod(_within(number, N_LOOKS, "look"), len(COLOURS))
    # Shifting each trait by the colour spreads the patterns over the first dozen and keeps the map one-to-one.
    return Look(
        colour=tuple(COLOURS)[c],
        pattern=PATTERNS[(turn + c) % 4],
        head=HEADS[(turn // 4 + turn + c // 4) % 4],
        belly=BELLIES[(turn // 16 + c // 2) % 2],
    )


def song(number: int) -> Song:
    """Song 0 .. N_SONGS - 1; different numbers sound different."""
    turn, s = divmod(_within(number, N_SONGS, "song"), len(SYLLABLES))
    return Song(
        syllable=SYLLABLES[s],
        pitch=PITCHES[(turn + s) % 3],
        rhythm=RHYTHMS[(turn // 3 + turn % 3 + s // 2) % 4],
        course=COURSES[(turn // 12 + s) % 3],
    )


def _within(number: int, size: int, what: str) -> int:
    if not 0 <= number < size:
        raise IndexError(f"{what} {number} is outside 0 .. {size - 1}")
    return number
