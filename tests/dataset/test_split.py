from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from helpers.build_media import SPECIES, One, table
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.core import species
from birdmml.dataset import recipe, split
from birdmml.dataset.recipe import Rules, generator
from birdmml.schema import SPLITS


def ordered(media: list[One]) -> list[One]:
    return sorted(media, key=lambda m: (species.resolve(m.species).label, m.kind == "audio"))


def sides_of(media: list[One], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0) -> list[str]:
    none = np.full(len(media), -1, dtype=np.int64)
    return [SPLITS[s] for s in split.assign(table(media), Rules("grouped", fractions), seed, none)]


media_lists = st.lists(
    st.tuples(st.sampled_from(("image", "audio")), st.integers(0, 12), st.sampled_from(SPECIES), st.integers(0, 40)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(media_lists, st.integers(0, 5))
def test_no_group_no_pair_and_no_file_lies_on_two_sides(drawn: list[tuple[str, int, str, int]], seed: int) -> None:
    media = ordered(
        [
            One(kind, f"g{group}", species, pair=f"p{pair}" if pair < 15 else None, sha=f"s{i % 50}")
            for i, (kind, group, species, pair) in enumerate(drawn)
        ]
    )
    sides = sides_of(media, seed=seed)
    assert len(sides) == len(media)
    for key in (lambda m: (m.kind, m.group), lambda m: m.pair or object(), lambda m: m.sha):
        seen = defaultdict(set)
        for m, side in zip(media, sides, strict=True):
            seen[key(m)].add(side)
        assert all(len(where) == 1 for where in seen.values())


@settings(max_examples=100, deadline=None)
@given(media_lists, st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=8))
def test_components_equal_a_naive_search(drawn: list[tuple[str, int, str, int]], alike: list[tuple[int, int]]) -> None:
    media = ordered([One(k, f"g{g}", s, pair=f"p{p}" if p < 10 else None) for k, g, s, p in drawn])
    near = np.full(len(media), -1, dtype=np.int64)
    for a, _ in alike:
        if a < len(media):
            near[a] = alike[0][1]
    tied = np.eye(len(media), dtype=bool)
    for i, a in enumerate(media):
        for j, b in enumerate(media):
            tied[i, j] |= (a.kind, a.group) == (b.kind, b.group) or (a.pair is not None and a.pair == b.pair)
            tied[i, j] |= near[i] >= 0 and near[i] == near[j]
    for _ in media:
        tied = (tied.astype(int) @ tied.astype(int)) > 0
    found = split.components(table(media), near)
    assert ((found[:, None] == found[None, :]) == tied).all()
    assert (found == [int(np.flatnonzero(row)[0]) for row in tied]).all()


def both(count: int) -> list[One]:
    return [One("image", f"o{i}") for i in range(count)] + [One("audio", f"r{i}") for i in range(count)]


@given(st.integers(3, 200), st.integers(0, 3))
def test_shares_are_kept_to_one_group(groups: int, seed: int) -> None:
    media = both(groups)
    sides = sides_of(media, seed=seed)
    for kind in ("image", "audio"):
        counts = Counter(s for m, s in zip(media, sides, strict=True) if m.kind == kind)
        assert min(counts["train"], counts["validation"], counts["test"]) >= 1
        assert abs(counts["test"] - groups / 10) <= 1
        assert abs(counts["validation"] - groups / 10) <= 1


@pytest.mark.parametrize(
    ("photos", "recordings", "expected"),
    [(1, 10, {"train"}), (2, 10, {"train", "test"}), (3, 10, {"train", "validation", "test"}), (5, 0, {"train"})],
)
def test_a_split_is_used_only_where_both_sides_of_a_pair_can_be(
    photos: int, recordings: int, expected: set[str]
) -> None:
    media = [One("image", f"o{i}") for i in range(photos)] + [One("audio", f"r{i}") for i in range(recordings)]
    sides = sides_of(media)
    for kind in ("image", "audio")[: 2 if recordings else 1]:
        assert {s for m, s in zip(media, sides, strict=True) if m.kind == kind} == expected


def test_the_seed_decides_the_sides() -> None:
    media = both(30)
    assert sides_of(media, seed=7) == sides_of(media, seed=7)
    assert Counter(sides_of(media, seed=8)) == Counter(sides_of(media, seed=7))
    assert sides_of(media, seed=8) != sides_of(media, seed=7)


def test_a_share_of_zero_gets_nothing() -> None:
    assert set(sides_of(both(10), (0.5, 0.0, 0.5))) == {"train", "test"}


def released(rows: int, clips: int) -> list[One]:
    """A species whose row i shows photo i with clip i mod `clips`; two clips a recording."""
    photos = [One("image", f"o{i}", partner=rows + i % clips, row=i) for i in range(rows)]
    return photos + [One("audio", f"r{i // 2}") for i in range(clips)]


@given(st.integers(20, 120), st.integers(8, 40), st.integers(0, 3))
@settings(deadline=None)
def test_photos_go_where_their_recordings_go(rows: int, clips: int, seed: int) -> None:
    clips = min(clips, rows)
    media = released(rows, clips)
    sides = sides_of(media, seed=seed)
    # Every photo stands alone here, so no pair need fall apart.
    assert all(sides[m.partner] == side for m, side in zip(media, sides, strict=True) if m.kind == "image")
    for a, b in zip(range(rows, rows + clips - 1, 2), range(rows + 1, rows + clips, 2), strict=False):
        assert sides[a] == sides[b]


def test_photos_that_an_evaluation_set_has_go_to_test_with_all_they_are_tied_to() -> None:
    media = both(40)
    media[1] = replace(media[1], group=media[0].group)
    held_out = np.zeros(len(media), dtype=bool)
    held_out[0] = True
    none = np.full(len(media), -1, dtype=np.int64)
    for seed in range(4):
        sides = split.assign(table(media), Rules(), seed, none, held_out)
        assert SPLITS[sides[0]] == SPLITS[sides[1]] == "test"


def test_a_row_wise_split_follows_the_source_where_it_has_one_and_a_draw_elsewhere() -> None:
    media = released(2000, 40)
    media[:100] = [replace(m, wish=2) for m in media[:100]]
    none = np.full(len(media), -1, dtype=np.int64)
    sides = split.assign(table(media), Rules("released"), 0, none)
    assert (sides[:100] == 2).all()
    share = np.bincount(sides[100:2000], minlength=3) / 1900
    assert np.abs(share - [0.8, 0.1, 0.1]).max() < 0.03


def clips_first(media: list[One], clips: int) -> list[One]:
    """The same media with the clips before the photos, so that a photo is shown with the very first medium."""
    photos = len(media) - clips
    return media[photos:] + [replace(m, partner=m.partner - photos) for m in media[:photos]]


def test_a_photo_of_the_first_medium_goes_where_that_goes() -> None:
    clips = 12
    media = clips_first(released(60, clips), clips)
    for seed in range(5):
        sides = sides_of(media, seed=seed)
        assert set(sides[:clips]) == set(SPLITS)
        assert sides[clips:] == [sides[m.partner] for m in media[clips:]]


def test_what_no_row_can_show_is_not_dealt() -> None:
    """One row of 30 lacks its recording; six photos lack theirs as well, but are bound to clips of their own."""
    media = released(30, 30)
    media[3] = replace(media[3], partner=-1)
    media = media[:30] + [One("audio", f"r{i}") for i in range(30)]
    bound = [One("image", f"b{i}", pair=f"p{i}", partner=-1) for i in range(6)]
    media += bound + [One("audio", f"b{i}", pair=f"p{i}") for i in range(6)]
    seen: dict[int, set[str]] = defaultdict(set)
    for seed in range(40):
        sides = sides_of(media, seed=seed)
        assert sides[60:66] == sides[66:]
        for number, side in enumerate(sides):
            seen[number].add(side)
    assert {number for number, sides in seen.items() if sides == {"train"}} == {3, 33}


def test_a_held_out_photo_stays_in_test_wherever_its_recording_goes() -> None:
    media = released(40, 20)
    held_out = np.arange(len(media)) < 5
    none = np.full(len(media), -1, dtype=np.int64)
    for seed in range(4):
        sides = split.assign(table(media), recipe.Rules(), seed, none, held_out)
        assert {SPLITS[s] for s in sides[:5]} == {"test"}
        assert {SPLITS[s] for s in sides[40:]} == set(SPLITS)


def test_photos_torn_between_two_sides_are_shared_out() -> None:
    """Ten observations, each with a photo of either recording; the recordings lie on two sides."""
    photos = [One("image", f"o{i // 2}", partner=20 + i % 2, row=i) for i in range(20)]
    sides = sides_of([*photos, One("audio", "a"), One("audio", "b")], (0.5, 0.0, 0.5))
    assert sorted(sides[20:]) == ["test", "train"]
    assert Counter(sides[:20]) == {"train": 10, "test": 10}


def test_a_side_without_photos_takes_one_from_a_side_that_keeps_some() -> None:
    """Recordings a and b lie in train and test; most votes of both observations are for train."""
    three_to_two, all_for_a = ["a", "a", "a", "b", "b"], ["a", "a"]
    for second, expected in (([], "train"), (all_for_a, "test")):
        shown = [("first", clip) for clip in three_to_two] + [("second", clip) for clip in second]
        at = {"a": len(shown) + 1, "b": len(shown) + 2}
        media = [One("image", name, partner=at[clip], row=i) for i, (name, clip) in enumerate(shown)]
        media += [One("image", "alone"), One("audio", "a"), One("audio", "b")]
        sides = sides_of(media, (0.5, 0.0, 0.5))
        assert sides[-2:] == ["train", "test"]
        assert set(sides[:5]) == {expected}
        assert set(sides[5 : len(shown)]) <= {"train"}


def test_dealing_keeps_the_shares_whatever_they_sum_to() -> None:
    """Ten of one size by 8 to 2: by hand, eight and two."""
    for scale in (0.0625, 1.0, 16.0):
        dealt = split.deal(
            dict.fromkeys(range(10), 1), {"train": 8 * scale, "test": 2 * scale}, np.random.default_rng(0)
        )
        assert Counter(dealt.values()) == {"train": 8, "test": 2}


def test_the_largest_is_dealt_first() -> None:
    """One of five and five of one into halves: by hand, the large one fills a half."""
    for seed in range(5):
        dealt = split.deal(
            {0: 5, **dict.fromkeys(range(1, 6), 1)}, {"train": 0.5, "test": 0.5}, np.random.default_rng(seed)
        )
        assert dealt == {0: "train", **dict.fromkeys(range(1, 6), "test")}


rows_drawn = st.lists(
    st.tuples(st.integers(-2, 5), st.integers(-1, 2), st.integers(0, 10**6)),
    min_size=1,
    max_size=30,
    unique_by=lambda r: r[2],
)


@settings(max_examples=200, deadline=None)
@given(rows_drawn, st.integers(0, 3), st.booleans())
def test_a_row_wise_split_equals_a_naive_loop(rows: list[tuple[int, int, int]], seed: int, turn: bool) -> None:
    """Rows in order: the source's own side or the next drawn one; a clip is where its first row is."""
    clips, fractions = 6, (0.5, 0.2, 0.3)
    first = 0 if turn else len(rows)
    photos = [
        One("image", f"o{i}", partner=p + first if p >= 0 else p, row=at, wish=wish)
        for i, (p, wish, at) in enumerate(rows)
    ]
    sounds = [One("audio", f"r{i}") for i in range(clips)]
    media = sounds + photos if turn else photos + sounds
    expected = [0] * len(media)
    draws = iter(generator(seed, "row-wise").random(len(rows)))
    for i in sorted(range(len(media)), key=lambda i: media[i].row):
        if media[i].kind == "image":
            draw = next(draws)
            expected[i] = media[i].wish if media[i].wish >= 0 else 0 if draw < 0.5 else 1 if draw < 0.7 else 2
    for i in sorted(range(len(media)), key=lambda i: media[i].row, reverse=True):
        if media[i].partner >= 0:
            expected[media[i].partner] = expected[i]
    assert split.row_wise(table(media), fractions, seed).tolist() == expected
