"""Which side of the split each group of media lies on: no recording, observation or look-alike on two sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from birdmml.core.species import Taxonomy, shipped
from birdmml.dataset.catalog import MediaColumns
from birdmml.dataset.recipe import Fractions, Rules, generator
from birdmml.schema import SPLITS, Split

Sides = NDArray[np.int8]
MODES = ("grouped", "released")
IMAGE, AUDIO = 0, 1


def assign(
    media: MediaColumns,
    rules: Rules,
    seed: int,
    near: NDArray[np.int64],
    held_out: NDArray[np.bool_] | None = None,
    species: Taxonomy | None = None,
) -> Sides:
    """The split of each medium, int8 [M] (index into SPLITS).

    grouped: media are tied into one component if they share an observation or recording (or author, if asked), are
    bound as a pair, are byte for byte the same, or are near-duplicates (`near`, component numbers [M], -1 for none).
    Components are dealt out species by species, largest first, to the split that lacks most; photos that the source
    shows with a recording go where most of their recordings went. Components with a photo that is `held_out`
    [M] (it is in an evaluation set) go to test. Every split that a species can fill on both sides of
    a pair gets at least one.

    released: row by row, in the source's own split if it has one; then recordings, observations and look-alikes
    do lie on two sides, as in any row-wise split.

    `species` names the labels (None: the shipped 150).
    """
    if rules.mode == "released":
        return row_wise(media, rules.fractions, seed)
    component = components(media, near, rules.by_author)
    dealer = _Dealer(media, component, rules.fractions)
    if held_out is not None and held_out.any():
        dealer.chosen.update(dict.fromkeys(np.unique(component[held_out]).tolist(), SPLITS.index("test")))
    taxonomy = species or shipped()
    for label, start, end in media.species_runs():
        name = taxonomy.by_label(label).scientific_name
        dealer.deal_species(np.arange(start, end), generator(seed, "split", name))
    return np.array([dealer.chosen.get(c, 0) for c in component.tolist()], dtype=np.int8)


def row_wise(media: MediaColumns, fractions: Fractions, seed: int) -> Sides:
    """Each row by itself: a photo goes to its row's split, a clip to that of the first row that shows it."""
    sides = np.zeros(len(media), dtype=np.int8)
    photos = np.flatnonzero(media.kind == IMAGE)
    draw = generator(seed, "row-wise").random(len(photos))
    order = np.argsort(media.row[photos], kind="stable")
    drawn = np.empty(len(photos), dtype=np.int8)
    drawn[order] = np.searchsorted(np.cumsum(fractions)[:2], draw, side="right")
    wish = media.wish[photos]
    sides[photos] = np.where(wish >= 0, wish, drawn)
    shown = photos[order][media.partner[photos[order]] >= 0][::-1]  # Last written wins: the first row.
    sides[media.partner[shown]] = sides[shown]
    return sides


def components(media: MediaColumns, near: NDArray[np.int64], by_author: bool = False) -> NDArray[np.int64]:
    """A component number [M] for each medium: the lowest index of those it is tied to."""
    ties = [media.group, media.sha, media.pair, (near + 1).astype(np.uint64)]
    if by_author:
        ties.append(media.author)
    # Neighbours alone, not all pairs: a chain ties as well, and a recording of 10,000 clips has 50 million pairs.
    edges = [_edges(keys) for keys in ties]
    a, b = (np.concatenate([e[i] for e in edges]) for i in (0, 1))
    graph = coo_array((np.ones(len(a), dtype=np.bool_), (a, b)), shape=(len(media), len(media)))
    _, label = connected_components(graph, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def _edges(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbours in the order of equal keys; key 0 ties nothing."""
    order = np.argsort(keys, kind="stable")
    same = (keys[order][1:] == keys[order][:-1]) & (keys[order][1:] != 0)
    return order[:-1][same], order[1:][same]


class _Dealer:
    """Deals components, one species after the other; `chosen` maps component to split."""

    def __init__(self, media: MediaColumns, component: NDArray[np.int64], fractions: Fractions) -> None:
        self.media, self.component, self.fractions = media, component, fractions
        self.chosen: dict[int, int] = {}

    def deal_species(self, mine: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Deal out the components of one species' media [K] that no earlier species has dealt."""
        mine = mine[self._usable(mine)]
        if not len(mine):
            return
        kinds, sizes = self._survey(mine)
        sides = min(sum(kind in have for have in kinds.values()) for kind in (IMAGE, AUDIO))
        usable = usable_splits(sides, self.fractions)
        paired = mine[self.media.partner[mine] >= 0]
        # What has both kinds is hardest to place and comes first; photos come last, as they follow recordings.
        for kind in ({IMAGE, AUDIO}, {AUDIO}, {IMAGE}):
            if kind == {IMAGE}:
                self._follow(paired)
            batch = {c: sizes[c] for c in kinds if c not in self.chosen and kinds[c] == kind}
            self.chosen.update({c: SPLITS.index(s) for c, s in deal(batch, usable, rng).items()})

    def _usable(self, mine: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which media [K] a row may show: not those whose row lacks its other half, if the source shows pairs."""
        photo, partner = self.media.kind[mine] == IMAGE, self.media.partner[mine]
        if not (photo & (partner != -2)).any():
            return np.ones(len(mine), dtype=np.bool_)
        shown = np.isin(mine, partner[partner >= 0])
        bound = self.media.pair[mine] != 0
        return np.asarray((photo & (partner != -1)) | (~photo & shown) | bound, dtype=np.bool_)

    def _survey(self, mine: NDArray[np.int64]) -> tuple[dict[int, set[int]], dict[int, int]]:
        """Kinds and weight of each component; a clip weighs as many rows as it is shown in, at least one."""
        kinds: dict[int, set[int]] = defaultdict(set)
        sizes: dict[int, int] = defaultdict(int)
        partners = self.media.partner[mine]
        uses = np.bincount(partners[partners >= 0], minlength=int(mine[-1]) + 1)
        audio = self.media.kind[mine] == AUDIO
        weights = np.where(audio, np.maximum(uses[mine], 1), 1)
        for c, kind, weight in zip(self.component[mine].tolist(), audio.tolist(), weights.tolist(), strict=True):
            kinds[c].add(int(kind))
            sizes[c] += weight
        return kinds, sizes

    def _follow(self, paired: NDArray[np.int64]) -> None:
        """Photos go where most of the recordings went that the source shows them with; no side with them stays bare."""
        votes: dict[int, list[int]] = defaultdict(lambda: [0] * len(SPLITS))
        partners = self.component[self.media.partner[paired]]
        for photo, clip in zip(self.component[paired].tolist(), partners.tolist(), strict=True):
            if photo not in self.chosen and clip in self.chosen:
                votes[photo][self.chosen[clip]] += 1
        lacking = [sum(counts[s] for counts in votes.values()) for s in range(len(SPLITS))]
        bare = {s for s, n in enumerate(lacking) if n}
        for photo, counts in votes.items():
            # Where as many went to two sides, the one that still lacks most: else all ties would go to train.
            self.chosen[photo] = max(range(len(SPLITS)), key=lambda s: (counts[s], lacking[s]))
            lacking[self.chosen[photo]] -= sum(counts)
        bare -= {self.chosen[photo] for photo in self.component[paired].tolist()}
        for side in sorted(bare):  # Each gets the photo that fits best, of a side that has several.
            held = Counter(self.chosen[photo] for photo in votes)
            free = [photo for photo in votes if held[self.chosen[photo]] > 1]
            if free:
                self.chosen[max(free, key=lambda photo: votes[photo][side] - max(votes[photo]))] = side


def usable_splits(sides: int, fractions: Fractions) -> dict[Split, float]:
    """The splits that `sides` components can fill, with their shares: train first, then test, then validation."""
    shares = {s: f for s, f in zip(SPLITS, fractions, strict=True) if f > 0}
    order: Iterable[Split] = ("train", "test", "validation")
    kept = [s for s in order if s in shares][: max(1, sides)]
    return {s: shares[s] for s in SPLITS if s in kept}


def deal(sizes: Mapping[int, int], shares: Mapping[Split, float], rng: np.random.Generator) -> dict[int, Split]:
    """Deal components (number -> media) to splits in proportion to `shares`."""
    order = sorted(sizes)
    rng.shuffle(order)
    order.sort(key=lambda c: -sizes[c])  # Stable: equal sizes stay shuffled.
    total, weight = sum(sizes.values()), sum(shares.values())
    lacking = {s: total * share / weight for s, share in shares.items()}
    empty = set(shares)
    dealt: dict[int, Split] = {}
    for number, c in enumerate(order):
        must_fill = len(order) - number <= len(empty)
        split = max((s for s in shares if s in empty or not must_fill), key=lambda s: lacking[s])
        dealt[c] = split
        lacking[split] -= sizes[c]
        empty.discard(split)
    return dealt
