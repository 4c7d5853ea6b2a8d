"""What a miniature of the release is to hold: its rows, media and planted defects, before a byte is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from birdmml.core import species
from birdmml.core.species import Species

PREFIX = "bird-mml/"
SUFFIXES = (".jpg", ".JPG", ".jpeg", ".JPEG")

# The defects that are planted in rows, in the order in which rows are drawn for them.
ROW_DEFECTS = (
    "near_photos",
    "equal_photos",
    "broken_photos",
    "black_photos",
    "absent_photos",
    "twin_photos",
    "silent_audio",
    "truncated_audio",
    "absent_audio",
    "linked_audio",
    "bombs",
    "unknown_species",
    "empty_captions",
    "outside_paths",
    "disagreements",
    "listed_twice",
)
AUDIO_DEFECTS = ("silent_audio", "truncated_audio", "absent_audio", "linked_audio", "bombs")
COPIES = ("near_photos", "equal_photos")
REJECTS = {
    "unknown_species": "unknown_species",
    "empty_captions": "no_caption",
    "outside_paths": "path_outside",
    "listed_twice": "listed_twice",
}


@dataclass(frozen=True)
class Knobs:
    """What to write. Counts of defects are of rows, but for the last four, which are of archive members.

    `rows` is per species; clips last `seconds`; photos are `photo_px` wide. `audio_parts` pieces of equal size, or
    pieces of `part_bytes`; `missing` and `missing_photo_parts` name those that were never uploaded (`ah`).
    `photo_archive` split has `photo_parts` pieces. `base` is the server in the record's links. `observation_column`
    names a column for the photos' observations, which the release is not known to have.

    Files below deflate's window of 32 KiB (clips under 0.75 s; photos under about 400 px) have headers that copy from
    one another, so that nothing behind a hole is certain: too short for a test of what can be recovered.
    """

    species: int = 12
    rows: int = 8
    seconds: float = 1.0
    rate_hz: int = 22_050
    photo_px: int = 64
    clips_per_recording: int = 3
    photos_per_observation: int = 2
    observation_column: str = ""
    encoding: str = "utf-8"
    dialect: Literal["new", "old"] = "new"
    base: str = "http://127.0.0.1:8000"
    photo_archive: Literal["tar.gz", "zip", "tar", "split"] = "tar.gz"
    photo_parts: int = 4
    missing_photo_parts: tuple[str, ...] = ()
    audio_parts: int = 16
    part_bytes: int = 0
    missing: tuple[str, ...] = ("ah",)
    gzip_level: int = 6
    bomb_bytes: int = 64 << 20
    near_photos: int = 0
    equal_photos: int = 0
    broken_photos: int = 0
    black_photos: int = 0
    absent_photos: int = 0
    twin_photos: int = 0
    silent_audio: int = 0
    truncated_audio: int = 0
    absent_audio: int = 0
    linked_audio: int = 0
    bombs: int = 0
    unknown_species: int = 0
    empty_captions: int = 0
    outside_paths: int = 0
    disagreements: int = 0
    listed_twice: int = 0
    unlisted_members: int = 0
    absolute_members: int = 0
    climbing_members: int = 0
    device_members: int = 0


EVERY_DEFECT: dict[str, int] = {
    f.name: 1 for f in fields(Knobs) if f.name in ROW_DEFECTS or f.name.endswith("_members")
}


@dataclass(frozen=True)
class Bird:
    """A species as the release names it, which may be an older name and a retired taxon."""

    species: Species
    name: str
    taxon: int

    @property
    def folder(self) -> str:
        """Of its sounds."""
        return self.name.replace(" ", "_")

    @property
    def file_name(self) -> str:
        """The start of its sounds' names."""
        return self.species.common_name.replace(" ", "_").replace("'", "")


@dataclass
class Shot:
    """A photo: `how` is plain, unlisted or its defect; a copy is made `of` another one."""

    bird: int
    id: int
    taxon: int
    suffix: str
    how: str = "plain"
    of: Shot | None = None

    @property
    def path(self) -> str:
        """Below `bird-mml/`."""
        return f"photos/{self.taxon}.0/{self.id}{self.suffix}"


@dataclass
class Sound:
    """A clip: `how` is plain, unlisted or its defect."""

    bird: int
    path: str
    xc: int
    clip: int
    how: str = "plain"


@dataclass
class Line:
    """A row to be; `named` says which name its caption tells."""

    shot: Shot
    sound: Sound
    observation: int
    defect: str = ""
    copy_of: Line | None = None
    named: Literal["", "common", "scientific"] = ""
    free: bool = True  # Whether its photo is its own, so that a defect may be planted.


@dataclass
class Plan:
    """Everything to be written, species by species in name order."""

    birds: list[Bird]
    reusing: set[int]
    lines: list[Line]
    shots: list[list[Shot]]
    sounds: list[list[Sound]]
    _photo_ids: Iterator[int] = field(repr=False)
    _xc_ids: Iterator[int] = field(repr=False)

    def shot(self, bird: int, rng: np.random.Generator, how: str = "plain") -> Shot:
        """One more photo."""
        suffix = SUFFIXES[int(rng.integers(len(SUFFIXES)))]
        made = Shot(bird, next(self._photo_ids), self.birds[bird].taxon, suffix, how)
        self.shots[bird].append(made)
        return made

    def recording(self, bird: int, clips: int, how: str = "plain") -> list[Sound]:
        """One more recording, cut into clips."""
        xc, owner = next(self._xc_ids), self.birds[bird]
        stem = f"audio/{owner.folder}/{owner.file_name}_{xc}"
        made = [Sound(bird, f"{stem}_clip{k}.wav", xc, k, how) for k in range(1, clips + 1)]
        self.sounds[bird] += made
        return made


def plan(seed: int, knobs: Knobs) -> Plan:
    """The miniature of this seed; raises ValueError when there are too few rows for the defects."""
    rng = np.random.default_rng([seed, 0])
    birds = _birds(rng, knobs.species)
    enough = 2 * knobs.species * knobs.rows + sum(getattr(knobs, d) for d in EVERY_DEFECT)
    made = Plan(
        birds=birds,
        reusing=set(rng.permutation(len(birds))[: round(0.43 * len(birds))].tolist()),
        lines=[],
        shots=[[] for _ in birds],
        sounds=[[] for _ in birds],
        _photo_ids=_ids(rng, 100_000, enough),
        _xc_ids=_ids(rng, 20_000, enough),
    )
    for bird in range(len(birds)):
        made.lines += _lines(made, bird, knobs, rng)
    _plant(made, knobs, rng)
    for number in range(knobs.unlisted_members):
        made.shot(number % len(birds), rng, "unlisted")
        made.recording(number % len(birds), 1, "unlisted")
    _name_captions(made.lines, rng)
    return made


def _birds(rng: np.random.Generator, n: int) -> list[Bird]:
    known = species.all_species()
    if not 2 <= n <= len(known):
        raise ValueError(f"species must be 2 to {len(known)}, not {n}")
    chosen = (known[i] for i in rng.permutation(len(known))[:n])
    return sorted((_as_released(s) for s in chosen), key=lambda b: b.folder)


def _as_released(species: Species) -> Bird:
    """The release was made before some taxa were split: there it has the former id and the older name."""
    if species.former_inat_ids:
        older = species.synonyms[0] if species.synonyms else species.scientific_name
        return Bird(species, older, species.former_inat_ids[0])
    return Bird(species, species.scientific_name, species.inat_taxon_id or 0)  # Each of the 150 has an id.


def _ids(rng: np.random.Generator, lowest: int, n: int) -> Iterator[int]:
    """Distinct numbers without order, as photos and recordings have."""
    return iter((lowest + 7 * rng.permutation(n)).tolist())


def _lines(made: Plan, bird: int, knobs: Knobs, rng: np.random.Generator) -> list[Line]:
    """A species' rows: clips of one recording and photos of one observation lie far apart."""
    n = knobs.rows
    clips = max(1, math.ceil(0.6 * n)) if bird in made.reusing else n
    recordings = math.ceil(clips / knobs.clips_per_recording)
    cut = [made.recording(bird, len(range(r, clips, recordings))) for r in range(recordings)]
    sounds = [cut[k % recordings][k // recordings] for k in range(clips)]
    events = math.ceil(n / knobs.photos_per_observation)
    first = 5_000_000 + 1000 * bird * n
    lines = [Line(made.shot(bird, rng), sounds[i % clips], first + 3 * (i % events)) for i in range(n)]
    if bird % 3 == 1 and bird not in made.reusing and n > 3:
        # One photo with two clips, which is legal.
        made.shots[bird].remove(lines[-1].shot)
        lines[-1].shot, lines[-1].observation = lines[-2].shot, lines[-2].observation
        lines[-1].free = lines[-2].free = False
    return lines


def _plant(made: Plan, knobs: Knobs, rng: np.random.Generator) -> None:
    """Each defect in rows of its own."""
    base = [line for line in made.lines if line.free]
    pool = [base[i] for i in rng.permutation(len(base))]
    for defect in ROW_DEFECTS:
        for nth in range(getattr(knobs, defect)):
            line = _draw(pool, defect)
            if defect == "listed_twice":
                made.lines.append(Line(line.shot, line.sound, line.observation, defect, copy_of=line))
            else:
                line.defect = defect
                _spoil(made, line, pool, nth)


def _draw(pool: list[Line], defect: str, bird: int | None = None) -> Line:
    for at, line in enumerate(pool):
        if bird in (None, line.shot.bird):
            return pool.pop(at)
    raise ValueError(f"too few rows to plant {defect}: ask for more rows a species or fewer defects")


def _spoil(made: Plan, line: Line, pool: list[Line], nth: int) -> None:
    defect, bird = line.defect, line.shot.bird
    if defect in COPIES:
        line.copy_of = _draw(pool, defect, bird)
        line.shot.how, line.shot.of = defect, line.copy_of.shot
    elif defect == "twin_photos":
        # Another file that answers to the same row.
        made.shots[bird].append(replace(line.shot, suffix=line.shot.suffix.swapcase()))
    elif defect.endswith("_photos"):
        line.shot.how = defect
    elif defect in AUDIO_DEFECTS:
        _leave(made, line)
        line.sound = made.recording(bird, 1, defect)[0]
    elif defect == "outside_paths":
        line.shot.how = "absent_photos"
    elif defect == "disagreements":
        line.shot.taxon = made.birds[(bird + 1 + nth) % len(made.birds)].taxon
        if line.shot.taxon == made.birds[bird].taxon:
            line.shot.taxon = made.birds[bird - 1].taxon


def _leave(made: Plan, line: Line) -> None:
    """A clip that no other row names goes with the row."""
    if not any(other.sound is line.sound for other in made.lines if other is not line):
        made.sounds[line.shot.bird].remove(line.sound)


def _name_captions(lines: Sequence[Line], rng: np.random.Generator) -> None:
    """33.1 % of the captions tell the common name, 2.0 % the scientific one; a row listed twice keeps its text."""
    own = [line for line in lines if line.defect != "listed_twice"]
    order = rng.permutation(len(own))
    common, scientific = round(0.331 * len(own)), max(1, round(0.02 * len(own)))
    for at in order[:common]:
        own[at].named = "common"
    for at in order[common : common + scientific]:
        own[at].named = "scientific"
