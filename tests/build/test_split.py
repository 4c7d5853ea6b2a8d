from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.build import split
from birdmml.schema import Credit, Medium

SPECIES = ("Setophaga petechia", "Turdus migratorius", "Cyanocitta cristata")


def medium(number: int, kind: str, group: str, species: str = SPECIES[0], pair: str | None = None) -> Medium:
    return Medium(
        kind, f"{kind}{number}", species, group, "", "", f"sha-{kind}-{number}", 0, 0, 1, Credit(), pair=pair
    )


media_lists = st.lists(
    st.tuples(
        st.sampled_from(("image", "audio")), st.integers(0, 12), st.sampled_from(SPECIES), st.integers(0, 40)
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(media_lists, st.integers(0, 5))
def test_no_group_no_pair_and_no_file_lies_on_two_sides(
    drawn: list[tuple[str, int, str, int]], seed: int
) -> None:
    media = [
        medium(i % 50, kind, f"g{group}", species, pair=f"p{pair}" if pair < 15 else None)
        for i, (kind, group, species, pair) in enumerate(drawn)
    ]
    sides = split.assign(media, (0.8, 0.1, 0.1), seed)
    assert len(sides) == len(media)
    for key in (lambda m: (m.kind, m.group), lambda m: m.pair or m.id, lambda m: m.sha256):
        seen = defaultdict(set)
        for m, side in zip(media, sides, strict=True):
            seen[key(m)].add(side)
        assert all(len(where) == 1 for where in seen.values())


@settings(max_examples=100, deadline=None)
@given(media_lists)
def test_components_equal_a_naive_search(drawn: list[tuple[str, int, str, int]]) -> None:
    media = [
        medium(i, k, f"g{g}", s, pair=f"p{p}" if p < 10 else None) for i, (k, g, s, p) in enumerate(drawn)
    ]
    tied = np.eye(len(media), dtype=bool)
    for i, a in enumerate(media):
        for j, b in enumerate(media):
            tied[i, j] |= (a.kind, a.group) == (b.kind, b.group) or (a.pair is not None and a.pair == b.pair)
    for _ in media:
        tied = (tied.astype(int) @ tied.astype(int)) > 0
    found = split.components(media)
    for i in range(len(media)):
        for j in range(len(media)):
            assert (found[i] == found[j]) == tied[i, j]


@given(st.integers(3, 200), st.integers(0, 3))
def test_shares_are_kept_to_one_group(groups: int, seed: int) -> None:
    media = [m for i in range(groups) for m in (medium(i, "image", f"o{i}"), medium(i, "audio", f"r{i}"))]
    sides = split.assign(media, (0.8, 0.1, 0.1), seed)
    for kind in ("image", "audio"):
        counts = Counter(s for m, s in zip(media, sides, strict=True) if m.kind == kind)
        assert min(counts["train"], counts["validation"], counts["test"]) >= 1
        assert abs(counts["test"] - groups / 10) <= 1
        assert abs(counts["validation"] - groups / 10) <= 1


@pytest.mark.parametrize(
    ("photos", "recordings", "expected"),
    [
        (1, 10, {"train"}),
        (2, 10, {"train", "test"}),
        (3, 10, {"train", "validation", "test"}),
        (5, 0, {"train"}),
    ],
)
def test_a_split_is_used_only_where_both_sides_of_a_pair_can_be(
    photos: int, recordings: int, expected: set[str]
) -> None:
    media = [medium(i, "image", f"o{i}") for i in range(photos)]
    media += [medium(i, "audio", f"r{i}") for i in range(recordings)]
    sides = split.assign(media, (0.8, 0.1, 0.1), 0)
    for kind in ("image", "audio")[: 2 if recordings else 1]:
        assert {s for m, s in zip(media, sides, strict=True) if m.kind == kind} == expected


def test_the_order_of_the_media_does_not_matter_to_their_side() -> None:
    media = [m for i in range(30) for m in (medium(i, "image", f"o{i}"), medium(i, "audio", f"r{i}"))]
    sides = dict(zip([m.id for m in media], split.assign(media, (0.8, 0.1, 0.1), 7), strict=True))
    assert split.assign(media, (0.8, 0.1, 0.1), 7) == [sides[m.id] for m in media]
    assert Counter(split.assign(media, (0.8, 0.1, 0.1), 8)) == Counter(sides.values())
    assert split.assign(media, (0.8, 0.1, 0.1), 8) != list(sides.values())


def test_a_share_of_zero_gets_nothing() -> None:
    media = [m for i in range(10) for m in (medium(i, "image", f"o{i}"), medium(i, "audio", f"r{i}"))]
    assert set(split.assign(media, (0.5, 0.0, 0.5), 0)) == {"train", "test"}
