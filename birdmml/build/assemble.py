"""Media of one species and one side become triplets."""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml import taxonomy
from birdmml.build.caption import caption_of
from birdmml.build.seeds import generator
from birdmml.schema import SPLITS, Medium, Split, Triplet


@dataclass(frozen=True)
class Pairing:
    """The photo and clip of row i, for any i, without drawing the rows before it.

    Each pass over the photos is a seeded permutation, so every photo is used once a pass; clips go round
    by permutations of their own, so no clip is used twice before each was used once.
    """

    photos: int
    clips: int
    seed: int
    name: str
    passes: int = 0

    def __len__(self) -> int:
        """`passes` times the photos; with 0 passes as many rows as it takes to use every photo and clip."""
        return self.passes * self.photos if self.passes else max(self.photos, self.clips)

    def __getitem__(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        photo_pass, photo = divmod(row, self.photos)
        clip_pass, clip = divmod(row, self.clips)
        return (
            int(_permutation(self.seed, f"{self.name}/photo/{photo_pass}", self.photos)[photo]),
            int(_permutation(self.seed, f"{self.name}/clip/{clip_pass}", self.clips)[clip]),
        )


@functools.lru_cache(maxsize=64)
def _permutation(seed: int, name: str, n: int) -> NDArray[np.int64]:
    return generator(seed, name).permutation(n)


@dataclass(frozen=True)
class Unpaired:
    """Media of a species that no triplet uses, and why."""

    species: str
    photos: int
    clips: int
    detail: str


def assemble(
    media: Sequence[Medium], splits: Sequence[Split], seed: int, passes: int = 0
) -> tuple[list[Triplet], list[Unpaired]]:
    """Pair photos and clips within species and split; rows come in their final, seeded order."""
    cells: dict[tuple[str, Split], tuple[list[Medium], list[Medium]]] = defaultdict(lambda: ([], []))
    for medium, split in zip(media, splits, strict=True):
        cells[medium.species, split][medium.kind == "audio"].append(medium)
    rows: list[Triplet] = []
    left: list[Unpaired] = []
    whole = {(m.species, m.kind) for m in media}
    for species, split in sorted(cells, key=lambda k: (taxonomy.resolve(k[0]).label, SPLITS.index(k[1]))):
        photos, clips = cells[species, split]
        pairs = list(_pairs(photos, clips, seed, f"{species}/{split}", passes))
        rows += [_triplet(species, split, photo, clip, seed) for photo, clip in pairs]
        left += _left_over(species, split, photos, clips, pairs, whole)
    rows.sort(key=lambda r: (SPLITS.index(r.split), hashlib.sha256(f"{seed}:{r.id}".encode()).digest(), r.id))
    return rows, left


def _pairs(
    photos: Sequence[Medium], clips: Sequence[Medium], seed: int, name: str, passes: int
) -> Iterator[tuple[Medium, Medium]]:
    """Pairs that the source has bound, then the rest by rule; a pair that further passes repeat is left out."""
    bound = {c.pair: c for c in clips if c.pair is not None}
    for photo in photos:
        if photo.pair is not None and photo.pair in bound:
            yield photo, bound[photo.pair]
    free_photos = [p for p in photos if p.pair is None]
    free_clips = [c for c in clips if c.pair is None]
    if free_photos and free_clips:
        pairing = Pairing(len(free_photos), len(free_clips), seed, name, passes)
        for photo_at, clip_at in dict.fromkeys(pairing[i] for i in range(len(pairing))):
            yield free_photos[photo_at], free_clips[clip_at]


def _left_over(
    species: str,
    split: Split,
    photos: Sequence[Medium],
    clips: Sequence[Medium],
    pairs: Sequence[tuple[Medium, Medium]],
    whole: set[tuple[str, str]],
) -> list[Unpaired]:
    used = {m.id for pair in pairs for m in pair}
    spare_photos = sum(p.id not in used for p in photos)
    spare_clips = sum(c.id not in used for c in clips)
    if not spare_photos and not spare_clips:
        return []
    missing = "recording" if not clips else "photo" if not photos else ""
    kind = "audio" if missing == "recording" else "image"
    if not missing:
        detail = f"more media than pairs in {split}"
    elif (species, kind) in whole:
        detail = f"no {missing} of this species in {split}"
    else:
        detail = f"no usable {missing} of this species"
    return [Unpaired(species, spare_photos, spare_clips, detail)]


def _triplet(species: str, split: Split, photo: Medium, clip: Medium, seed: int) -> Triplet:
    key = hashlib.sha256(f"{photo.id}\x1f{clip.id}".encode()).hexdigest()[:12]
    row_id = f"{taxonomy.resolve(species).ebird_code}-{key}"
    return Triplet(row_id, split, species, photo, clip, caption_of(photo, clip, seed))
