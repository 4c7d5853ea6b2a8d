"""Photos and clips of one species and one side of the split become rows, and how near that came to what was wanted."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.core.species import Taxonomy, shipped
from birdmml.dataset.catalog import Catalog, MediaColumns, PlannedRow
from birdmml.dataset.recipe import BuildSettings, generator
from birdmml.dataset.split import AUDIO, IMAGE, Sides
from birdmml.schema import SPLITS

Index = NDArray[np.int64]
Pairs = list[tuple[int, int]]


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
def _permutation(seed: int, name: str, n: int) -> Index:
    return generator(seed, name).permutation(n)


@dataclass(frozen=True)
class Unpaired:
    """Media of a species that no row uses, and why."""

    species: str
    photos: int
    clips: int
    detail: str


@dataclass
class Tally:
    """How the pairs came to be: as the source has them, bound anew because their halves fell apart, or by rule."""

    kept: int = 0
    repaired: int = 0
    reused: int = 0
    by_rule: int = 0
    unpaired: list[Unpaired] = field(default_factory=list)


class Assembler:
    """Pairs photos and clips within species and split; `ids` gives the ids of media first .. last - 1.

    `species` names the labels (None: the shipped 150).
    """

    def __init__(
        self,
        media: MediaColumns,
        sides: Sides,
        ids: Callable[[int, int], list[str]],
        seed: int,
        passes: int = 0,
        mode: str = "grouped",
        species: Taxonomy | None = None,
    ) -> None:
        self.media, self.sides, self.ids = media, sides, ids
        self.seed, self.passes, self.mode = seed, passes, mode
        self.species = species or shipped()
        self.tally = Tally()

    def __iter__(self) -> Iterator[PlannedRow]:
        """All rows, species by species; `tally` is complete at the end."""
        for label, start, end in self.media.species_runs():
            yield from self._species(label, start, end)

    def _species(self, label: int, start: int, end: int) -> Iterator[PlannedRow]:
        species = self.species.by_label(label)
        ids, mine = self.ids(start, end), np.arange(start, end)
        kinds = {int(k) for k in np.unique(self.media.kind[start:end])}
        for split in range(len(SPLITS)):
            here = mine[self.sides[start:end] == split]
            photos, clips = here[self.media.kind[here] == IMAGE], here[self.media.kind[here] == AUDIO]
            if self.mode == "released":
                # Every photo with the recording that its row shows, wherever else that is used.
                kept = photos[self.media.partner[photos] >= 0]
                self.tally.kept += len(kept)
                pairs = list(zip(kept.tolist(), self.media.partner[kept].tolist(), strict=True))
                # A clip may be shown in any split; those that no row shows have no side of their own.
                clips = clips[self._uses[clips] == 0]
            else:
                pairs = self._pairs(photos, clips, split, f"{species.scientific_name}/{SPLITS[split]}")
            for photo, clip in pairs:
                yield self._row(split, species.slug, photo, clip, ids[photo - start], ids[clip - start])
            self._left_over(species.scientific_name, split, photos, clips, pairs, kinds)

    def _row(self, split: int, code: str, photo: int, clip: int, photo_id: str, clip_id: str) -> PlannedRow:
        digest = hashlib.sha256("\x1f".join((photo_id, clip_id)).encode()).hexdigest()
        row_id = f"{code}-{digest[:12]}"
        if self.mode == "released":
            key = int(self.media.row[photo]).to_bytes(8, "big")
        else:
            key = hashlib.sha256(f"{self.seed}:{row_id}".encode()).digest()
        length = int(self.media.length[photo] + self.media.length[clip])
        return PlannedRow(split, key, row_id, photo, clip, length)

    def _pairs(self, photos: Index, clips: Index, split: int, name: str) -> Pairs:
        """Pairs that the source has bound, those it shows together, then the rest by rule."""
        pair = self.media.pair
        by_key = {int(pair[c]): int(c) for c in clips if pair[c]}
        pairs = [(int(p), by_key[int(pair[p])]) for p in photos if pair[p] and int(pair[p]) in by_key]
        self.tally.kept += len(pairs)
        free_photos, free_clips = photos[pair[photos] == 0], clips[pair[clips] == 0]
        shown = self.media.partner[free_photos] != -2
        if shown.any() or self._uses[free_clips].any():
            pairs += self._as_shown(free_photos[shown], free_clips, split, name)
            return pairs
        if len(free_photos) and len(free_clips):
            rule = Pairing(len(free_photos), len(free_clips), self.seed, name, self.passes)
            # A pair that further passes repeat is left out.
            drawn = dict.fromkeys(rule[i] for i in range(len(rule)))
            pairs += [(int(free_photos[p]), int(free_clips[c])) for p, c in drawn]
            self.tally.by_rule += len(drawn)
        return pairs

    @functools.cached_property
    def _uses(self) -> Index:
        """How many photos the source shows with each medium, [M]."""
        partner = self.media.partner
        return np.bincount(partner[partner >= 0], minlength=len(partner))

    def _as_shown(self, photos: Index, clips: Index, split: int, name: str) -> Pairs:
        """Pairs whose halves are both here stay; halves that fell apart find others, so that none is lost.

        Photos whose recording is not in the dataset at all are left: their rows were never whole.
        """
        partner = self.media.partner[photos]
        together = (partner >= 0) & (self.sides[np.maximum(partner, 0)] == split)
        kept = list(zip(photos[together].tolist(), partner[together].tolist(), strict=True))
        fallen = photos[(partner >= 0) & ~together]
        shown = clips[self._uses[clips] > 0]
        spare = np.setdiff1d(shown, partner[together])
        rng = generator(self.seed, "re-pair", name)
        fallen, spare = rng.permutation(fallen), rng.permutation(spare)
        every_photo, every_clip = rng.permutation(photos[partner >= 0]), rng.permutation(shown)
        n = min(len(fallen), len(spare))
        pairs = list(zip(fallen[:n].tolist(), spare[:n].tolist(), strict=True))
        if len(every_clip):
            pairs += [(int(p), int(every_clip[i % len(every_clip)])) for i, p in enumerate(fallen[n:])]
        if len(every_photo):
            again = [(int(every_photo[i % len(every_photo)]), int(c)) for i, c in enumerate(spare[n:])]
            pairs += again
            self.tally.reused += len(again)
        self.tally.kept += len(kept)
        self.tally.repaired += len(pairs)
        return kept + pairs

    def _left_over(self, species: str, split: int, photos: Index, clips: Index, pairs: Pairs, kinds: set[int]) -> None:
        used = {m for pair in pairs for m in pair}
        spare_photos = sum(p not in used for p in photos.tolist())
        spare_clips = sum(c not in used for c in clips.tolist())
        if not spare_photos and not spare_clips:
            return
        missing = "" if len(photos) and len(clips) else "recording" if len(photos) else "photo"
        lost = int((self.media.partner[photos] == -1).sum())
        if lost or (spare_clips and self._uses.any()):
            detail = f"the other half of their rows is not in the dataset ({SPLITS[split]})"
        elif not missing:
            detail = f"more media than pairs in {SPLITS[split]}"
        elif (AUDIO if missing == "recording" else IMAGE) in kinds:
            detail = f"no {missing} of this species in {SPLITS[split]}"
        else:
            detail = f"no usable {missing} of this species"
        self.tally.unpaired.append(Unpaired(species, spare_photos, spare_clips, detail))


_ROWS = """SELECT a.label, count(*), count(DISTINCT image), count(DISTINCT audio) FROM final
JOIN place p ON p.m = image JOIN media a ON a.n = p.n GROUP BY a.label"""
_MOST = """SELECT label, max(uses) FROM (SELECT b.label AS label, count(*) AS uses FROM final
JOIN place q ON q.m = audio JOIN media b ON b.n = q.n GROUP BY audio) GROUP BY label"""

_BALANCE = ("species", "wanted", "rows", "lacking", "photos", "clips", "most_uses_of_a_clip")


def measure(source: ModuleType, settings: BuildSettings, catalog: Catalog) -> list[dict[str, Any]]:
    """For each species that was asked for: rows wanted, there and lacking, photos, clips and the most uses of a clip.

    Empty for a source that is not asked for a number of rows, which is one without `wanted_rows(settings, limit)`.
    """
    if not hasattr(source, "wanted_rows"):
        return []
    wanted: Mapping[str, int] = source.wanted_rows(settings.source_settings, settings.limit)
    rows = {label: counts for label, *counts in catalog.select(_ROWS)}
    most = dict(catalog.select(_MOST))
    balance = []
    for species in settings.species_list.taxonomy.species:
        name, label = species.scientific_name, species.label
        if name in wanted:
            there, photos, clips = rows.get(label, (0, 0, 0))
            lacking, most_uses = max(wanted[name] - there, 0), most.get(label, 0)
            values = (name, wanted[name], there, lacking, photos, clips, most_uses)
            balance.append(dict(zip(_BALANCE, values, strict=True)))
    return balance


def summary(balance: list[dict[str, Any]]) -> dict[str, int]:
    """The same in a few numbers, for the manifest."""
    return {
        "species": len(balance),
        "rows_wanted": sum(b["wanted"] for b in balance),
        "rows_lacking": sum(b["lacking"] for b in balance),
        "species_short_of_rows": sum(b["lacking"] > 0 for b in balance),
        "species_with_audio_used_again": sum(b["most_uses_of_a_clip"] > 1 for b in balance),
        "rows_with_audio_used_again": sum(b["rows"] - b["clips"] for b in balance),
        "most_uses_of_a_clip": max((b["most_uses_of_a_clip"] for b in balance), default=0),
    }
