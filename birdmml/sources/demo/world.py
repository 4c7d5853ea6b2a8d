"""Which bird looks and sounds like what: the demo's known information, and the best that can be got from it.

Every item (a photo with a clip, or a film) of a species follows one of three rules:

    redundant   the species has a look and a song of its own: either tells it
    shared      two share a look, three a song, none share both, and every look has a pair of songs of its own
    xor         N looks and N songs, song = (species - look) mod N: either alone tells nothing, both tell all

`synergy` mixes them item by item: 0 is redundant, 0.5 shared, 1 xor; between two of them each species has
its exact share of either. The looks and songs of different rules never coincide, so the best possible
accuracy is the mixture of theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import numpy as np

from birdmml.core import species
from birdmml.errors import UsageError

Rule = Literal["redundant", "shared", "xor"]
Kind = Literal["item", "film"]

MAX_SPECIES = 150
# What random numbers are for. None depends on look or song, so nothing but these can give a species away.
_STREAMS = ("xor", "observation", "sight", "photo", "recording", "hearing", "clip", "caption", "film")


@dataclass(frozen=True)
class DemoSettings:
    """The demo's size and information. `image_size` in px, `clip_seconds` in s, `eval_videos` per species."""

    species: int = 24
    per_species: int = 42
    seed: int = 0
    image_size: int = 96
    clip_seconds: float = 3.0
    synergy: float = 0.5
    eval_videos: int = 6

    def __post_init__(self) -> None:
        _check("species", self.species, 4, MAX_SPECIES, "so many species the demo can tell apart")
        # Two photos share an observation, and each of three splits needs one.
        _check("per-species", self.per_species, 5, 100_000, "each split needs an observation of every species")
        _check("seed", self.seed, 0, 2**63 - 1, "any whole number in this range")
        _check("image-size", self.image_size, 32, 1024, "px a side")
        _check("clip-seconds", self.clip_seconds, 2.0, 60.0, "a song takes about two seconds")
        _check("synergy", self.synergy, 0.0, 1.0, "0 redundant, 0.5 shared, 1 XOR")
        _check("eval-videos", self.eval_videos, 1, 1000, "videos of each species")


@dataclass(frozen=True)
class DemoItem:
    """One photo with its clip, or one film: `look` and `song` number the tables in `traits`."""

    kind: Kind
    species: int
    index: int
    rule: Rule
    look: int
    song: int

    @property
    def group(self) -> int:
        """Items 2j and 2j + 1 of a species share an observation and a recording."""
        return self.index // 2


def photo_and_clip(settings: DemoSettings, species: int, index: int) -> DemoItem:
    """Item `index` (0 .. per_species - 1) of a species (0 .. species - 1)."""
    return _item(settings, "item", species, index, settings.per_species)


def film(settings: DemoSettings, species: int, index: int) -> DemoItem:
    """Film `index` (0 .. eval_videos - 1) of a species: another bird than any item, under the same rules."""
    return _item(settings, "film", species, index, settings.eval_videos)


def rules(settings: DemoSettings) -> tuple[tuple[Rule, Fraction], tuple[Rule, Fraction]]:
    """The two rules in use and their shares of the items, which add up to 1."""
    twice = 2 * Fraction(settings.synergy).limit_denominator(10_000)
    if twice <= 1:
        return ("redundant", 1 - twice), ("shared", twice)
    return ("shared", 2 - twice), ("xor", twice - 1)


def pools(settings: DemoSettings) -> tuple[int, int]:
    """How many different looks and songs the demo shows, over all rules in use."""
    n = settings.species
    used = [rule for rule, share in rules(settings) if share]
    looks = sum(math.ceil(n / 2) if rule == "shared" else n for rule in used)
    return looks, sum(math.ceil(n / 3) if rule == "shared" else n for rule in used)


def ceilings(settings: DemoSettings) -> dict[str, float]:
    """The best possible accuracy from each input, for equally frequent species.

    Whoever knows the whole design names, for a look, any one of the k species that have it and is right
    once in k; so a rule with L equally informative looks allows L / N.
    """
    n = settings.species
    image = {"redundant": Fraction(1), "shared": Fraction(math.ceil(n / 2), n), "xor": Fraction(1, n)}
    audio = {"redundant": Fraction(1), "shared": Fraction(math.ceil(n / 3), n), "xor": Fraction(1, n)}
    mix = rules(settings)
    return {
        "image": float(sum(share * image[rule] for rule, share in mix)),
        "audio": float(sum(share * audio[rule] for rule, share in mix)),
        "image+audio": 1.0,
    }


def rng(settings: DemoSettings, stream: str, *key: int) -> np.random.Generator:
    """The random numbers of one purpose: the same for the same settings.seed, stream and key."""
    return np.random.default_rng([settings.seed, _STREAMS.index(stream), *key])


def _item(settings: DemoSettings, kind: Kind, species: int, index: int, per_species: int) -> DemoItem:
    (first, _), (second, share) = rules(settings)
    at = species * per_species + index
    # A line of slope `share` climbs a step at evenly spread items: exact overall, within one per species.
    is_second = math.floor((at + 1) * share) > math.floor(at * share)
    rule = second if is_second else first
    before = math.floor(at * share) - math.floor(species * per_species * share)
    n = settings.species
    looks, songs = math.ceil(n / 2), math.ceil(n / 3)
    if rule == "shared":
        return DemoItem(kind, species, index, rule, species // 2, shared_songs(n)[species])
    if rule == "redundant":
        return DemoItem(kind, species, index, rule, looks + species, songs + species)
    # The nth XOR item has the same look in every species: a look is then equally frequent in all of them.
    turn, place = divmod(before, n)
    look = _turn(settings.seed, n, kind == "film", turn)[place]
    return DemoItem(kind, species, index, rule, looks + look, songs + (species - look) % n)


@lru_cache(maxsize=MAX_SPECIES)
def shared_songs(n: int) -> tuple[int, ...]:
    """The song of each of `n` species when songs are shared by three and look i // 2 by two.

    Looks are the edges of a graph whose corners are songs. With song i mod ceil(n / 3), looks come in blocks with
    the same two songs: sound and text then pull different looks together, and ConFu from both stays near 80 %
    where 100 % can be had. So each third of the species goes round the songs in a way of its own, chosen so that
    the two species of a look differ in song and as few looks as possible have the same two.
    """
    songs = math.ceil(n / 3)
    steps = [a for a in range(1, songs + 1) if math.gcd(a, songs) == 1]

    def numbers(a: int, b: int) -> tuple[int, ...]:
        thirds = (lambda t: t, lambda t: t + 1, lambda t: a * t + b)
        return tuple(thirds[i // songs](i % songs) % songs for i in range(n))

    def different(songs: tuple[int, ...]) -> int:
        pairs = [frozenset(songs[i : i + 2]) for i in range(0, n - 1, 2)]
        return len(set(pairs)) if all(len(pair) == 2 for pair in pairs) else -1

    return max((numbers(a, b) for a in steps for b in range(songs)), key=different)


@lru_cache(maxsize=1024)
def _turn(seed: int, n: int, is_film: bool, turn: int) -> tuple[int, ...]:
    """One pass through all `n` looks in a random order."""
    order = np.random.default_rng([seed, _STREAMS.index("xor"), n, is_film, turn]).permutation(n)
    return tuple(int(i) for i in order)


def names(settings: DemoSettings) -> tuple[species.Species, ...]:
    """The real species whose names the demo borrows: the first N of the taxonomy."""
    return species.all_species()[: settings.species]


def in_words(settings: DemoSettings) -> str:
    """The design and its ceilings, for cards and manifests."""
    words = {
        "redundant": "have a look and a song that belong to one species",
        "shared": "share a look by twos and a song by threes, and no two species share both",
        "xor": "show each look and each song equally often in every species; only the two together name it",
    }
    parts = [f"{100 * float(share):g} % of the items {words[rule]}" for rule, share in rules(settings) if share]
    best = ceilings(settings)
    return (
        f"{settings.species} species: {'; '.join(parts)}. The best possible accuracy is "
        f"{100 * best['image']:.1f} % from images alone, {100 * best['audio']:.1f} % from audio alone, "
        f"100 % from both."
    )


def _check(option: str, value: float, low: float, high: float, why: str) -> None:
    if not low <= value <= high:
        raise UsageError(f"--{option} {value:g} is outside {low:g} to {high:g} ({why}): give a value in this range")


# The looks and songs that the demo's birds can have, numbered so that the first dozen differ most.
# A look is colour x pattern x head x belly: 12 * 4 * 4 * 2 = 384. A song is syllable x pitch x rhythm x
# course: 8 * 3 * 4 * 3 = 288. Each number gives another combination; neighbours differ in several traits.
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
class Plumage:
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


def look(number: int) -> Plumage:
    """Look 0 .. N_LOOKS - 1; different numbers look different."""
    turn, c = divmod(_within(number, N_LOOKS, "look"), len(COLOURS))
    # Shifting each trait by the colour spreads the patterns over the first dozen and keeps the map one-to-one.
    return Plumage(
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
