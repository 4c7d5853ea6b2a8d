"""Whether two methods differ on the same items: paired bootstrap, Holm's correction, and groups. numpy only.

Every method's outcomes are averages over items (accuracy, recall, average precision). Items are drawn with
replacement, the same draw for every method and seed, so what makes an item hard cancels. Seeds are averaged
first: the interval speaks of these trained models on other items, not of other seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import ResultError
from birdmml.results.metrics import BLOCK_ELEMENTS, BOOTSTRAP_SAMPLES, Ints

Doubles = NDArray[np.float64]

ALPHA = 0.05
# Means closer than this are equal: the same outcomes summed in another order.
LEVEL = 1e-12
# Groups are maximal cliques, of which M methods can have 3^(M/3).
MOST_METHODS = 40


@dataclass(frozen=True)
class Outcomes:
    """What one method scored: `values` [S, N] of S seeds on the N items `ids`, each id once."""

    name: str
    ids: tuple[str, ...]
    values: Doubles


@dataclass(frozen=True)
class Comparison:
    """`value`: mean of `first` minus mean of `second`. `low`, `high`: bootstrap 95 % interval, `p`: two-sided.

    `adjusted`: p within its family, p itself where the family is this comparison alone. `units`: how many items, or
    clusters of outcomes, were drawn.
    """

    first: str
    second: str
    value: float
    low: float
    high: float
    p: float
    adjusted: float
    units: int


def compare(
    first: Outcomes,
    second: Outcomes,
    clusters: Ints | None = None,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Two methods on the same items, matched by id, in whatever order.

    `clusters` [N] says which outcomes belong together, in the order of `first.ids`: several draws of one item are
    drawn as one. Raises ResultError where the ids differ or an outcome is not finite.
    """
    return _compared([first, second], clusters, samples, seed, level)[0]


def compare_all(
    methods: Sequence[Outcomes],
    clusters: Ints | None = None,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Comparison, ...]:
    """Every pair of methods as one family: `compare` with the same draws, and p adjusted by Holm.

    Raises ResultError as `compare` does, and where `samples` are too few for any of so many pairs to differ.
    """
    if len(methods) < 2:
        raise ResultError(f"a comparison needs two methods at least, got {len(methods)}")
    needed = fewest_samples(len(methods) * (len(methods) - 1) // 2)
    if samples < needed:
        raise ResultError(
            f"{len(methods)} methods cannot differ at {ALPHA} with {samples} samples: take {needed} or more"
        )
    return adjust(_compared(methods, clusters, samples, seed, level))


def fewest_samples(comparisons: int, alpha: float = ALPHA) -> int:
    """Bootstrap samples from which the smallest p, 2 / (samples + 1), survives Holm's factor `comparisons`."""
    return ceil(2 * comparisons / alpha - LEVEL) - 1


def adjust(family: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same comparisons with `adjusted` by Holm over all of them; a family may span tasks."""
    values = holm([c.p for c in family])
    return tuple(replace(c, adjusted=float(p)) for c, p in zip(family, values, strict=True))


def holm(p: Sequence[float]) -> Doubles:
    """Adjusted p-values [m] in the given order (Holm, 1979): the i-th smallest times m - i + 1, never falling."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    out = np.empty_like(values)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return out


def differs(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> dict[str, tuple[str, ...]]:
    """method -> the methods that it differs from at `alpha`, adjusted; methods in order of appearance."""
    differences: dict[str, list[str]] = {n: [] for c in comparisons for n in (c.first, c.second)}
    for c in comparisons:
        if c.adjusted <= alpha:
            differences[c.first].append(c.second)
            differences[c.second].append(c.first)
    return {name: tuple(others) for name, others in differences.items()}


def groups(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> tuple[tuple[str, ...], ...]:
    """Maximal sets of methods in which no two differ at `alpha`, adjusted; a pair never compared may differ.

    Sets overlap, for "not shown to differ" is not transitive. Raises ResultError for more than 40 methods.
    """
    apart = differs(comparisons, alpha)
    names = list(apart)
    if len(names) > MOST_METHODS:
        raise ResultError(f"{len(names)} methods are too many to group: {MOST_METHODS} at most")
    compared = {frozenset((c.first, c.second)) for c in comparisons}
    alike = {
        i: {j for j, b in enumerate(names) if j != i and frozenset((a, b)) in compared and b not in apart[a]}
        for i, a in enumerate(names)
    }
    cliques = _cliques(alike, [], set(alike), set())
    return tuple(tuple(names[i] for i in clique) for clique in sorted(sorted(c) for c in cliques))


def _compared(
    methods: Sequence[Outcomes], clusters: Ints | None, samples: int, seed: int, level: float
) -> list[Comparison]:
    """Every pair, not adjusted, in the order of `itertools.combinations`."""
    values = aligned(methods)
    sums, sizes = _units(values, clusters)
    drawn = _resample(sums, sizes, samples, seed)
    edge = (1.0 - level) / 2.0
    comparisons = []
    for i, j in combinations(range(len(methods)), 2):
        gaps, units = drawn[i] - drawn[j], sums[i] - sums[j]  # Of the same draw: what makes an item hard cancels.
        low, high = np.quantile(gaps, [edge, 1.0 - edge])
        # Twice the smaller share of resampled differences on either side of zero, zeros on both. One is added above
        # and below (Davison and Hinkley, 1997, section 4.2), so p is never 0: 2 / (B + 1) at least. Nor is it less
        # than 2^(1 - u) with u unequal units, the least that swapping the methods' names unit by unit can give: three
        # items that agree prove nothing, though every resample agrees with them.
        side, unequal = min(int((gaps <= LEVEL).sum()), int((gaps >= -LEVEL).sum())), int((np.abs(units) > LEVEL).sum())
        p = min(1.0, max(2.0 * (side + 1) / (len(gaps) + 1), 2.0 ** (1 - unequal)))
        value = float(units.sum() / sizes.sum())
        names = methods[i].name, methods[j].name
        comparisons.append(Comparison(*names, value, float(low), float(high), p, p, len(sizes)))
    return comparisons


def _resample(sums: Doubles, sizes: Doubles, samples: int, seed: int) -> Doubles:
    """Means [M, B] of `samples` draws of units with replacement; blocks bound the memory and change nothing."""
    if samples < 1:
        raise ResultError(f"a bootstrap of {samples} samples says nothing: take {BOOTSTRAP_SAMPLES}")
    generator = np.random.default_rng(seed)
    n = len(sizes)
    step = max(1, BLOCK_ELEMENTS // 4 // n)
    draws = []
    for start in range(0, samples, step):
        drawn = generator.integers(0, n, size=(min(step, samples - start), n))
        weight = sizes[drawn].sum(axis=1)
        draws.append(np.stack([row[drawn].sum(axis=1) / weight for row in sums]))
    return np.concatenate(draws, axis=1)


def _units(values: Doubles, clusters: Ints | None) -> tuple[Doubles, Doubles]:
    """Sums [M, K] and sizes [K] of what is drawn together; without clusters the outcomes [M, N] and ones."""
    if clusters is None:
        return values, np.ones(values.shape[1])
    if clusters.shape != values.shape[1:]:
        raise ResultError(f"clusters need one entry for each of {values.shape[1]} items, got {clusters.shape}")
    names, place, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    sums = [np.bincount(place, weights=row, minlength=len(names)) for row in values]
    return np.stack(sums).astype(np.float64), sizes.astype(np.float64)


def aligned(methods: Sequence[Outcomes]) -> Doubles:
    """Every method's outcomes [M, N], averaged over its seeds, in the order of the first one's ids.

    Raises ResultError unless they can be compared: names of their own, the same items, finite outcomes.
    """
    names = [m.name for m in methods]
    if len(set(names)) != len(names):
        raise ResultError(f"methods need names of their own, got {', '.join(names)}")
    for m in methods:
        if m.values.ndim != 2 or m.values.size == 0 or m.values.shape[1] != len(m.ids):
            raise ResultError(f"{m.name} needs outcomes [seeds, {len(m.ids)} items], got {m.values.shape}")
        if len(set(m.ids)) != len(m.ids):
            twice = Counter(m.ids).most_common(1)[0][0]
            raise ResultError(f"{m.name} lists {len(m.ids) - len(set(m.ids))} items more than once, as {twice!r}")
        if bad := int((~np.isfinite(m.values)).sum()):
            raise ResultError(f"{bad} of {m.values.size} outcomes of {m.name} are not finite: score it again")
    first = methods[0]
    rows = []
    for m in methods:
        place = {item: i for i, item in enumerate(m.ids)}
        if place.keys() != set(first.ids):
            reasons = []
            for one, other in ((first, m), (m, first)):
                ids = set(other.ids)
                if alone := [item for item in one.ids if item not in ids]:
                    shown = ", ".join(repr(item) for item in alone[:3])
                    reasons.append(f"{len(alone)} of {len(one.ids)} in {one.name} alone ({shown})")
            raise ResultError(
                f"{first.name} and {m.name} were not scored on the same items: {'; '.join(reasons)}; score both on one"
                " set"
            )
        rows.append(m.values.mean(axis=0)[[place[item] for item in first.ids]])
    return np.stack(rows)


def _cliques(alike: dict[int, set[int]], taken: list[int], open_: set[int], done: set[int]) -> list[list[int]]:
    """Maximal cliques that hold `taken` (Bron and Kerbosch, 1973, with a pivot)."""
    if not open_:
        return [] if done else [taken]
    pivot = max(open_ | done, key=lambda i: len(alike[i] & open_))
    cliques = []
    for i in sorted(open_ - alike[pivot]):
        cliques += _cliques(alike, [*taken, i], open_ & alike[i], done & alike[i])
        open_, done = open_ - {i}, done | {i}
    return cliques
