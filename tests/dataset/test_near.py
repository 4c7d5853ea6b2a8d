from __future__ import annotations

import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from birdmml.errors import BuildError, UsageError
from birdmml.media import near

Hashes = NDArray[np.uint64]


def naive_pairs(a: Hashes, b: Hashes, radius: int) -> list[tuple[int, int]]:
    return [
        (i, j) for i, x in enumerate(a.tolist()) for j, y in enumerate(b.tolist()) if bin(x ^ y).count("1") <= radius
    ]


def naive_groups(hashes: Hashes, radius: int) -> list[int]:
    """Breadth first from the lowest index that nobody has reached."""
    group = [-1] * len(hashes)
    for root in range(len(hashes)):
        if group[root] >= 0:
            continue
        group[root], queue = root, deque([root])
        while queue:
            i = queue.popleft()
            for j in range(len(hashes)):
                if group[j] < 0 and bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= radius:
                    group[j] = root
                    queue.append(j)
    return group


def clustered(seed: int, centres: int, each: int, flips: int) -> Hashes:
    """Hashes in clouds of up to `flips` changed bits about a few centres, shuffled, some of them equal."""
    rng = np.random.default_rng(seed)
    base = np.repeat(rng.integers(0, 2**64, centres, dtype=np.uint64), each)
    for _ in range(flips):
        base = base ^ (np.uint64(1) << rng.integers(0, 64, len(base)).astype(np.uint64))
    return np.asarray(rng.permutation(base))


clouds = st.builds(clustered, st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 12), st.integers(0, 7))
radii = st.sampled_from((0, 1, 2, 5, 6, 9, 13, 30, 63, 64))


@settings(max_examples=50, deadline=None)
@given(clouds, radii)
def test_pairs_with_itself_equal_a_naive_loop(hashes: Hashes, radius: int) -> None:
    wanted = naive_pairs(hashes, hashes, radius)
    assert [tuple(p) for p in near.near_between(hashes, hashes, radius).tolist()] == wanted


@settings(max_examples=40, deadline=None)
@given(clouds, clouds, radii, st.booleans())
def test_pairs_between_equal_a_naive_loop(a: Hashes, b: Hashes, radius: int, overlap: bool) -> None:
    b = np.concatenate([b, a[::2]]) if overlap else b
    assert [tuple(p) for p in near.near_between(a, b, radius).tolist()] == naive_pairs(a, b, radius)


@settings(max_examples=50, deadline=None)
@given(clouds, radii)
def test_groups_equal_a_naive_search(hashes: Hashes, radius: int) -> None:
    assert near.near_groups(hashes, radius).tolist() == naive_groups(hashes, radius)


@settings(max_examples=30, deadline=None)
@given(clouds)
def test_groups_stay_right_when_edges_are_merged_at_every_step(hashes: Hashes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "_EDGES", 0)
        assert near.near_groups(hashes, 6).tolist() == naive_groups(hashes, 6)


def test_a_chain_is_one_group_and_its_ends_are_no_pair() -> None:
    chain = np.array([0, 0b111, 0b111111, 2**40 - 1], dtype=np.uint64)
    assert near.near_groups(chain, 3).tolist() == [0, 0, 0, 3]
    pairs = near.near_between(chain, chain, 3).tolist()
    assert [p for p in pairs if p[0] < p[1]] == [[0, 1], [1, 2]]


def test_no_hash_and_one_hash() -> None:
    none, one = np.zeros(0, dtype=np.uint64), np.array([7], dtype=np.uint64)
    assert near.near_between(none, one).shape == near.near_between(one, none).shape == (0, 2)
    assert near.near_groups(none).tolist() == []
    assert near.near_groups(one).tolist() == [0]


def test_a_whole_release_takes_seconds() -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, 150_000, dtype=np.uint64)
    planted = rng.choice(150_000, (300, 2), replace=False)
    flips = np.uint64(0b10100000) | (np.uint64(1) << rng.integers(20, 60, 300).astype(np.uint64))
    hashes[planted[:, 1]] = hashes[planted[:, 0]] ^ flips
    began = time.process_time()
    pairs = near.near_between(hashes, hashes)
    assert time.process_time() - began < 5
    assert {(i, j) for i, j in pairs.tolist() if i < j} == {tuple(sorted(p)) for p in planted.tolist()}


@pytest.mark.parametrize("shape", ["all equal", "most equal", "one cloud", "half the bits never vary"])
def test_crowded_hashes_are_grouped_at_once(shape: str) -> None:
    rng = np.random.default_rng(2)
    hashes = rng.integers(0, 2**64, 150_000, dtype=np.uint64)
    if shape == "all equal":
        hashes[:] = hashes[0]
    elif shape == "most equal":
        hashes[20_000:120_000] = hashes[0]
    elif shape == "one cloud":
        bits = np.uint64(1) << rng.integers(0, 64, (3, 150_000)).astype(np.uint64)
        hashes = hashes[0] ^ np.bitwise_or.reduce(bits, axis=0)
    else:
        hashes = hashes[:20_000] & np.uint64(0xFFFFFFFF)
    began = time.process_time()
    groups = near.near_groups(hashes)
    assert time.process_time() - began < 5
    count = len(np.unique(groups))
    # A cloud of three flips about one centre holds together at six; no two of 50,000 random hashes are close.
    assert count == {"all equal": 1, "most equal": 50_000, "one cloud": 1}.get(shape, count)
    assert (groups <= np.arange(len(hashes))).all()
    assert (groups[groups] == groups).all()


def test_too_many_pairs_are_refused_with_the_way_out() -> None:
    with pytest.raises(BuildError, match="near_groups"):
        near.near_between(np.zeros(150_000, dtype=np.uint64), np.zeros(150_000, dtype=np.uint64))
    with pytest.raises(BuildError, match="over 99 pairs"):
        near.near_between(np.zeros(10, dtype=np.uint64), np.zeros(10, dtype=np.uint64), max_pairs=99)
    assert len(near.near_between(np.zeros(10, np.uint64), np.zeros(10, np.uint64), max_pairs=100)) == 100


def test_a_negative_radius_is_refused() -> None:
    with pytest.raises(UsageError, match="-1 bits"):
        near.near_between(np.zeros(2, dtype=np.uint64), np.zeros(2, dtype=np.uint64), -1)
