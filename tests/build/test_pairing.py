from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.build.assemble import Pairing, assemble
from birdmml.schema import Caption, Credit, Medium

sizes = st.integers(1, 40)


def medium(kind: str, number: int, pair: str | None = None, caption: str = "") -> Medium:
    text = Caption(caption, "provided") if caption else None
    return Medium(
        kind, f"{kind}{number}", "Setophaga petechia", f"g{kind}{number}", "", "", f"{kind}{number}", 0, 0, 1,
        Credit(), text, pair,
    )  # fmt: skip


@given(sizes, sizes, st.integers(0, 3), st.integers(0, 4))
def test_photos_are_used_once_a_pass_and_clips_evenly(
    photos: int, clips: int, seed: int, passes: int
) -> None:
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


def test_pairs_that_the_source_has_bound_stay_together() -> None:
    photos = [medium("image", i, pair=f"p{i}") for i in range(5)]
    clips = [medium("audio", i, pair=f"p{4 - i}") for i in range(5)]
    rows, left = assemble(photos + clips, ["train"] * 10, seed=0)
    assert {(r.image.id, r.audio.id) for r in rows} == {(f"image{i}", f"audio{4 - i}") for i in range(5)}
    assert left == []


def test_what_finds_no_partner_is_listed() -> None:
    media = [medium("image", 0), medium("audio", 0), medium("image", 1)]
    rows, left = assemble(media, ["train", "train", "test"], seed=0)
    assert len(rows) == 1
    assert [(u.photos, u.clips, u.detail) for u in left] == [(1, 0, "no recording of this species in test")]


def test_clips_that_too_few_passes_leave_over_are_listed() -> None:
    media = [medium("image", 0)] + [medium("audio", i) for i in range(4)]
    rows, left = assemble(media, ["train"] * 5, seed=0, passes=1)
    assert len(rows) == 1
    assert [(u.photos, u.clips) for u in left] == [(0, 3)]


def test_passes_that_repeat_a_pair_do_not_repeat_the_row() -> None:
    rows, _ = assemble([medium("image", 0), medium("audio", 0)], ["train"] * 2, seed=0, passes=3)
    assert len(rows) == 1


def test_a_given_caption_wins_and_a_missing_one_is_a_marked_template() -> None:
    given_rows, _ = assemble(
        [medium("image", 0, caption="a small bird"), medium("audio", 0)], ["train"] * 2, 0
    )
    made_rows, _ = assemble([medium("image", 0), medium("audio", 0)], ["train"] * 2, 0)
    assert (given_rows[0].caption.text, given_rows[0].caption.origin) == ("a small bird", "provided")
    assert made_rows[0].caption.origin == "template"
    assert "Yellow Warbler" in made_rows[0].caption.text
