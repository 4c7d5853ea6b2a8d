"""Near-duplicate photos: all perceptual hashes within a Hamming radius, exactly, without comparing all pairs.

Cut 64 bits into `radius + spare` bands: hashes at most `radius` bits apart agree on at least `spare` of them.
So only hashes that agree on one such choice of bands are compared (multi-index hashing: Norouzi, Punjani and
Fleet, "Fast exact search in Hamming space with multi-index hashing", 2014).

Why 6 bits (`birdmml.media.image.phash`; its hashes have 32 ones, so distances are even). 27 real photos of birds,
each changed and hashed again:

    change                                        median  largest   share within 4     6     8 bits
    JPEG quality 30 to 95, half size, +-15 % light    0        2               1.00  1.00  1.00
    2 % cropped off, evenly or off one side           2        8               0.93  0.96  1.00
    4 % cropped off, evenly                           4        8               0.78  0.93  1.00
    4 % cropped off one side                        4-6       10               0.41  0.81  0.93
    10 % cropped off                                 10       14               0.04  0.19  0.44
    mirrored: not found at any radius                32       34               0.00  0.00  0.00

Where several variants share a row, the shares are the worst one's. The 351 pairs of different photos lay 20
bits apart or more (mean 31.3, standard deviation 4.2). Among 150,000 unrelated photos one expects by chance
0.15 pairs within 6 bits if the bits were independent, about 50 under a normal law of that spread (8 bits: 8
and 700). The demo's 1,008 small drawings are alike by design: 9 pairs within 2 bits, 36 within 4, 143 within
6, 533 within 8 (then one chain holds 73 photos), 1,580 within 10.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from birdmml.errors import BuildError, UsageError

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

RADIUS = 6
MAX_PAIRS = 20_000_000

_BITS = 64
_MAX_TABLES = 500
# Edges held before they are merged into components.
_EDGES = 500_000


def near_between(a: Hashes, b: Hashes, radius: int = RADIUS, max_pairs: int = MAX_PAIRS) -> Ints:
    """All pairs (i, j) with `a[i]` and `b[j]` at most `radius` bits apart, sorted, [P, 2]; `a` [N], `b` [M].

    Raises BuildError where more than `max_pairs` exist.
    """
    a, b = np.asarray(a, dtype=np.uint64), np.asarray(b, dtype=np.uint64)
    masks = _masks(radius, b)
    pieces, total = [], 0
    for number, mask in enumerate(masks):
        order = np.argsort(b & mask, kind="stable")
        keys = (b & mask)[order]
        start, stop = (np.searchsorted(keys, a & mask, side) for side in ("left", "right"))
        for i, j in _sweep(start, stop):
            pairs = _hits(a, b, i, order[j], radius, masks[:number])
            pieces.append(pairs)
            total += len(pairs)
            if total > max_pairs:
                raise BuildError(
                    f"over {max_pairs:,} pairs of near-duplicate photos: group them (near_groups) or lower the radius"
                )
    rows = np.concatenate(pieces) if pieces else np.empty((0, 2), dtype=np.int64)
    return np.asarray(rows[np.lexsort((rows[:, 1], rows[:, 0]))])


def near_groups(hashes: Hashes, radius: int = RADIUS) -> Ints:
    """For each of `hashes` [N] the lowest index that steps of at most `radius` bits lead to, [N].

    Equal hashes count once, and a bucket whose hashes are all connected is left: neither many copies nor one
    dense cloud costs N^2. Memory is a few times N.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    distinct, first, back = np.unique(hashes, return_index=True, return_inverse=True)
    label = np.arange(len(distinct))
    for mask in _masks(radius, distinct):
        label = _connect(distinct, mask, radius, label)
    lowest = np.full(len(distinct), len(hashes))
    np.minimum.at(lowest, label, first)
    return np.asarray(lowest[label][back], dtype=np.int64)


def _connect(distinct: Hashes, mask: np.uint64, radius: int, label: Ints) -> Ints:
    """`label` [N] with those joined that share a key under `mask` and lie within the radius."""
    keys = distinct & mask
    order = np.argsort(keys, kind="stable")
    stop = np.searchsorted(keys[order], keys[order], side="right")  # Where each place's run of equal keys ends.
    live = _mixed(stop, label[order])
    edges, waiting = [np.empty((0, 2), dtype=np.int64)], 0
    for i, j in _sweep(np.arange(1, len(order) + 1), stop, live):
        ends = label[_hits(distinct, distinct, order[i], order[j], radius, masks=())]
        edges.append(ends[ends[:, 0] != ends[:, 1]])
        waiting += len(edges[-1])
        if waiting > _EDGES:
            label = _joined(label, np.concatenate(edges))
            live[:] = _mixed(stop, label[order])
            edges, waiting = edges[:1], 0
    return _joined(label, np.concatenate(edges))


def _masks(radius: int, hashes: Hashes) -> list[np.uint64]:
    """Bit masks, at least one of which hides every difference of two hashes within the radius.

    Bits that hardly vary in `hashes` [N] are dealt out evenly over the bands, so that no mask is blind; how many
    bands must agree is chosen for the least work.
    """
    if radius < 0:
        raise UsageError(f"the radius of near-duplicate photos is {radius} bits: choose 0 to {_BITS}")
    # How evenly each bit, lowest first, is set: 0 (always the same) to 1.
    ones = [np.count_nonzero(hashes & np.uint64(1 << bit)) for bit in range(_BITS)]
    share = np.clip(np.array(ones) / max(1, len(hashes)), 1e-12, 1 - 1e-12)
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    bands, spare = _cut(radius, len(hashes), float(entropy.sum()))
    if spare == 0:
        return [np.uint64(0)]
    order = np.argsort(-entropy, kind="stable")
    band = [sum(1 << int(bit) for bit in order[k::bands]) for k in range(bands)]
    return [np.uint64(sum(some)) for some in itertools.combinations(band, spare)]


def _cut(radius: int, n: int, bits: float) -> tuple[int, int]:
    """Into how many bands to cut, and how many must agree, for `n` hashes that vary in `bits` bits; (1, 0): none."""
    best, chosen = math.inf, (1, 0)
    for spare in range(1, 5):
        bands = radius + spare
        tables = math.comb(bands, spare)
        if bands > _BITS or tables > _MAX_TABLES:
            continue
        compared = n * n / 2 / 2 ** (bits * spare / bands)
        # A table costs a sort, which is worth about thirty comparisons a hash.
        if (work := tables * (30 * n + compared)) < best:
            best, chosen = work, (bands, spare)
    return chosen


def _sweep(start: Ints, stop: Ints, live: NDArray[np.bool_] | None = None) -> Iterator[tuple[Ints, Ints]]:
    """Every (i, j) with start[i] <= j < stop[i], at most N at a time; the caller may clear `live` [N] on the way."""
    i, step = np.flatnonzero(start < stop), 0
    while True:
        i = i[(start[i] + step < stop[i]) & (live is None or live[i])]
        if not len(i):
            return
        yield i, start[i] + step
        step += 1


def _hits(a: Hashes, b: Hashes, i: Ints, j: Ints, radius: int, masks: list[np.uint64] | tuple[()]) -> Ints:
    """The pairs [P, 2] of i, j [C] within the radius, less those that an earlier mask has found."""
    apart = a[i] ^ b[j]
    near = np.flatnonzero(np.bitwise_count(apart) <= radius)
    for mask in masks:
        near = near[(apart[near] & mask) != 0]
    return np.stack([i[near], j[near]], axis=1)


def _mixed(stop: Ints, label: Ints) -> NDArray[np.bool_]:
    """Whether each place's bucket holds more than one component, [N]."""
    if not len(stop):
        return np.zeros(0, dtype=np.bool_)
    begin = np.flatnonzero(np.diff(stop, prepend=-1))
    mixed = np.minimum.reduceat(label, begin) != np.maximum.reduceat(label, begin)
    return np.asarray(np.repeat(mixed, np.diff(begin, append=len(stop))))


def _joined(label: Ints, edges: Ints) -> Ints:
    """`label` [N] after joining the components that `edges` [E, 2] name."""
    n = len(label)
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[label], dtype=np.int64)
