from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from helpers.build_media import One, table
from hypothesis import given
from hypothesis import strategies as st

from birdmml.dataset.captions import caption_of
from birdmml.dataset.pair import Assembler, Pairing, Tally
from birdmml.schema import SPLITS, Caption, Credit, Medium

sizes = st.integers(1, 40)


@given(sizes, sizes, st.integers(0, 3), st.integers(0, 4))
def test_photos_are_used_once_a_pass_and_clips_evenly(photos: int, clips: int, seed: int, passes: int) -> None:
    pairing = Pairing(photos, clips, seed, "x", passes)
    rows = [pairing[i] for i in range(len(pairing))]
    assert len(rows) == (passes * photos if passes else max(photos, clips))
    for start in range(0, len(rows) - photos + 1, photos):
        assert sorted(p for p, _ in rows[start : start + photos]) == list(range(photos))
    used = Counter(c for _, c in rows)
    uses = [used[c] for c in range(clips)]
    assert max(uses) - min(uses) <= 1
    if not passes:
        assert len(set(rows)) == len(rows)


@given(sizes, sizes, st.integers(0, 3))
def test_any_row_can_be_asked_for_alone(photos: int, clips: int, seed: int) -> None:
    pairing = Pairing(photos, clips, seed, "x")
    forward = [pairing[i] for i in range(len(pairing))]
    backward = [Pairing(photos, clips, seed, "x")[i] for i in reversed(range(len(pairing)))]
    assert forward == backward[::-1]
    with pytest.raises(IndexError):
        pairing[len(pairing)]


def test_the_seed_changes_who_meets_whom() -> None:
    first, second = (Pairing(30, 30, seed, "x") for seed in (0, 1))
    assert [first[i] for i in range(30)] != [second[i] for i in range(30)]


def assembled(media: list[One], sides: list[str], **options: object) -> tuple[list[tuple[str, str, str]], Tally]:
    """(photo, clip, split) of each row, by the names of their groups."""
    codes = np.array([SPLITS.index(s) for s in sides], dtype=np.int8)
    names = [f"{m.kind}-{m.group}" for m in media]
    maker = Assembler(table(media), codes, lambda first, last: names[first:last], seed=0, **options)
    rows = list(maker)
    assert len({r.id for r in rows}) == len(rows)
    return [(media[r.image].group, media[r.audio].group, SPLITS[r.split]) for r in rows], maker.tally


def test_pairs_that_the_source_has_bound_stay_together() -> None:
    media = [One("image", f"o{i}", pair=f"p{i}") for i in range(5)]
    media += [One("audio", f"r{i}", pair=f"p{4 - i}") for i in range(5)]
    rows, tally = assembled(media, ["train"] * 10)
    assert {r[:2] for r in rows} == {(f"o{i}", f"r{4 - i}") for i in range(5)}
    assert tally.unpaired == []


def test_what_finds_no_partner_is_listed() -> None:
    media = [One("image", "o0"), One("image", "o1"), One("audio", "r0")]
    rows, tally = assembled(media, ["train", "test", "train"])
    assert rows == [("o0", "r0", "train")]
    assert [(u.photos, u.clips, u.detail) for u in tally.unpaired] == [(1, 0, "no recording of this species in test")]


def test_clips_that_too_few_passes_leave_over_are_listed() -> None:
    media = [One("image", "o0")] + [One("audio", f"r{i}") for i in range(4)]
    rows, tally = assembled(media, ["train"] * 5, passes=1)
    assert len(rows) == 1
    assert [(u.photos, u.clips) for u in tally.unpaired] == [(0, 3)]


def test_passes_that_repeat_a_pair_do_not_repeat_the_row() -> None:
    rows, _ = assembled([One("image", "o0"), One("audio", "r0")], ["train"] * 2, passes=3)
    assert len(rows) == 1


# Photo i is shown with clip shown[i] (-1: that recording is not there); sides are drawn for every medium.
released = st.integers(1, 12).flatmap(
    lambda clips: st.tuples(
        st.lists(st.integers(-1, clips - 1), min_size=1, max_size=20),
        st.just(clips),
        st.lists(st.sampled_from(SPLITS), min_size=32, max_size=32),
    )
)


@given(released)
def test_halves_that_fell_apart_find_others_of_their_split_and_none_is_lost(
    drawn: tuple[list[int], int, list[str]],
) -> None:
    shown, clips, sides = drawn
    n = len(shown)
    media = [One("image", f"o{i}", partner=n + c if c >= 0 else -1, row=i) for i, c in enumerate(shown)]
    media += [One("audio", f"r{i}") for i in range(clips)]
    side = dict(zip([m.group for m in media], sides, strict=False))
    rows, tally = assembled(media, sides[: len(media)])
    kept = {(f"o{i}", f"r{c}") for i, c in enumerate(shown) if c >= 0 and side[f"o{i}"] == side[f"r{c}"]}
    assert all(side[photo] == side[clip] == split for photo, clip, split in rows)
    assert kept <= {r[:2] for r in rows}
    for split in SPLITS:
        photos = {f"o{i}" for i, c in enumerate(shown) if c >= 0 and side[f"o{i}"] == split}
        sounds = {f"r{c}" for c in shown if c >= 0 and side[f"r{c}"] == split}
        here = [r for r in rows if r[2] == split]
        assert {r[0] for r in here} == (photos if sounds else set())
        assert {r[1] for r in here} == (sounds if photos else set())
    listed = sum(u.photos + u.clips for u in tally.unpaired)
    assert listed == n + clips - len({r[0] for r in rows}) - len({r[1] for r in rows})


@given(released)
def test_a_released_split_keeps_the_rows_as_they_are(drawn: tuple[list[int], int, list[str]]) -> None:
    shown, clips, sides = drawn
    media = [One("image", f"o{i}", partner=len(shown) + c if c >= 0 else -1, row=i) for i, c in enumerate(shown)]
    media += [One("audio", f"r{i}") for i in range(clips)]
    rows, tally = assembled(media, sides[: len(media)], mode="released")
    assert sorted(rows) == sorted((f"o{i}", f"r{c}", sides[i]) for i, c in enumerate(shown) if c >= 0)
    listed = sum(u.photos + u.clips for u in tally.unpaired)
    assert listed == shown.count(-1) + clips - len({c for c in shown if c >= 0})


def medium(kind: str, caption: str = "") -> Medium:
    text = Caption(caption, "provided") if caption else None
    return Medium(kind, kind, "Setophaga petechia", "g", "", "", "s", 0, 0, 1, Credit(), text)


def test_a_given_caption_wins_and_a_missing_one_is_a_marked_template() -> None:
    given_text = caption_of(medium("image", "a small bird"), medium("audio"), 0)
    made = caption_of(medium("image"), medium("audio"), 0)
    assert (given_text.text, given_text.origin) == ("a small bird", "provided")
    assert made.origin == "template"
    assert "Yellow Warbler" in made.text
