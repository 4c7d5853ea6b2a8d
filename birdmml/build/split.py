"""Which side of the split each group of media lies on: no recording and no observation on two sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from birdmml import taxonomy
from birdmml.build.seeds import generator
from birdmml.schema import SPLITS, Medium, Split

Fractions = tuple[float, float, float]


def assign(media: Sequence[Medium], fractions: Fractions, seed: int) -> list[Split]:
    """The split of each medium, in the order given.

    Media are tied into one component if they share an observation or recording, are bound as a pair,
    or are byte for byte the same. Components are dealt out species by species, largest first, to the
    split that lacks most; every split that a species can fill on both sides of the pair gets at least one.
    """
    component = components(media)
    by_species: dict[str, list[int]] = defaultdict(list)
    for index, medium in enumerate(media):
        by_species[medium.species].append(index)
    chosen: dict[int, Split] = {}
    for species in sorted(by_species, key=lambda s: taxonomy.resolve(s).label):
        _deal_species(
            media, by_species[species], component, fractions, generator(seed, "split", species), chosen
        )
    return [chosen[c] for c in component]


def components(media: Sequence[Medium]) -> list[int]:
    """A component number for each medium: union-find over shared groups, pair keys and bytes."""
    parent = list(range(len(media)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for index, medium in enumerate(media):
        ties = [(f"group:{medium.kind}", medium.group), ("sha256", medium.sha256)]
        if medium.pair is not None:
            ties.append(("pair", medium.pair))
        for tie in ties:
            other = root(first.setdefault(tie, index))
            mine = root(index)
            # The lower index stays the root, so numbers do not depend on the order of unions.
            parent[max(other, mine)] = min(other, mine)
    return [root(i) for i in range(len(media))]


def _deal_species(
    media: Sequence[Medium],
    mine: Sequence[int],
    component: Sequence[int],
    fractions: Fractions,
    rng: np.random.Generator,
    chosen: dict[int, Split],
) -> None:
    """Deal out one species' components that no earlier species has dealt."""
    kinds: dict[int, set[str]] = defaultdict(set)
    sizes: dict[int, int] = defaultdict(int)
    for index in mine:
        kinds[component[index]].add(media[index].kind)
        sizes[component[index]] += 1
    sides = min(sum(kind in have for have in kinds.values()) for kind in ("image", "audio"))
    usable = usable_splits(sides, fractions)
    free = [c for c in kinds if c not in chosen]
    for kind in ({"image", "audio"}, {"image"}, {"audio"}):
        batch = [c for c in free if kinds[c] == kind]
        chosen.update(deal({c: sizes[c] for c in batch}, usable, rng))


def usable_splits(sides: int, fractions: Fractions) -> dict[Split, float]:
    """The splits that `sides` components can fill, with their shares: train first, then test, then validation."""
    wanted = {s: f for s, f in zip(SPLITS, fractions, strict=True) if f > 0}
    order: Iterable[Split] = ("train", "test", "validation")
    kept = [s for s in order if s in wanted][: max(1, sides)]
    return {s: wanted[s] for s in SPLITS if s in kept}


def deal(
    sizes: Mapping[int, int], shares: Mapping[Split, float], rng: np.random.Generator
) -> dict[int, Split]:
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
