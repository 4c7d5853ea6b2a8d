"""Planted defects: each is found where it lies, and nothing else is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from fakes.release_plan import EVERY_DEFECT
from helpers.releases import Whole, listed, proven, rows, settings, whole

from birdmml.dataset.build import FinishedBuild, build
from birdmml.dataset.validate import validate

KNOBS: dict[str, Any] = EVERY_DEFECT | {
    "near_photos": 3, "equal_photos": 2, "outside_paths": 3, "broken_photos": 2, "bomb_bytes": 33 << 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = tmp_path_factory.mktemp("spoiled") / "r"
    return whole(root, seed=2, species=8, rows=10, observation_column="observation_id", **KNOBS)


@pytest.fixture(scope="module")
def grouped(full: Whole, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinishedBuild]:
    out = tmp_path_factory.mktemp("grouped") / "out"
    return out, build(settings(full.truth.root), out, max_rejects=0.5)


@pytest.fixture(scope="module")
def released(full: Whole, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinishedBuild]:
    out = tmp_path_factory.mktemp("released") / "out"
    return out, build(settings(full.truth.root, "released"), out, max_rejects=0.5)


def lines(full: Whole, *defects: str) -> set[str]:
    return {f"bird-mml.csv, line {full.truth.rows[n].line}" for d in defects for n in full.truth.defects[d]}


def where(found: Iterable[dict[str, str]]) -> dict[str, set[str]]:
    by_reason = defaultdict(set)
    for line in found:
        by_reason[line["reason"]].add(line["path"])
    return dict(by_reason)


def test_every_defect_is_listed_under_its_reason_and_nothing_else(
    full: Whole, grouped: tuple[Path, FinishedBuild]
) -> None:
    truth, (out, built) = full.truth, grouped
    rows_of = truth.rows

    def media(part: str, *defects: str) -> set[str]:
        numbers = [n for d in defects for n in truth.defects[d]]
        return {getattr(rows_of[n], f"{part}_member").removeprefix("bird-mml/") for n in numbers}

    rejects = where(listed(out, "rejects"))
    damaged = rejects.pop("image_damaged", set()) | rejects.pop("not_an_image", set())
    assert damaged == media("photo", "broken_photos")
    clips = {f"{p}#0s" for p in media("audio", "silent_audio")}
    assert rejects.pop("audio_constant") in (clips, media("audio", "silent_audio"))
    assert rejects == {
        "image_constant": media("photo", "black_photos"),
        "audio_truncated": media("audio", "truncated_audio"),
        "unknown_species": lines(full, "unknown_species"),
        "no_caption": lines(full, "empty_captions"),
        "path_outside": lines(full, "outside_paths"),
        "listed_twice": lines(full, "listed_twice"),
    }
    twins = {
        n.removeprefix("bird-mml/")
        for n in truth.members
        for d in truth.defects["twin_photos"]
        if n.rsplit(".", 1)[0].endswith(rows_of[d].photo_id)
    }
    assert len(twins) == 2
    # A member that only a refused row names is named by none.
    used = {m for r in rows_of if not r.reject for m in (r.photo_member, r.audio_member)}
    unnamed = {n.removeprefix("bird-mml/") for n in truth.members if n not in used and n not in truth.refused}
    assert where(listed(out, "absent")) == {
        "photo_absent": lines(full, "absent_photos"),
        "photo_ambiguous": lines(full, "twin_photos"),
        "audio_absent": lines(full, "absent_audio"),
        "audio_refused": lines(full, "linked_audio", "bombs"),
        "member_refused": set(truth.refused),
        "member_ambiguous": twins,
        "not_in_table": unnamed - twins,
    }
    facts = built.manifest["source"]["facts"]
    assert facts["disagreements"] == {"taxon_folder_disagrees": 1}
    assert facts["table"]["rows"] == sum(not r.reject for r in rows_of)
    assert built.unfinished == ""
    assert not out.with_name("out.partial").exists()
    assert validate(out).problems == ()


def test_the_rows_are_those_that_nothing_is_wrong_with(full: Whole, grouped: tuple[Path, FinishedBuild]) -> None:
    bad = SPOILT_PHOTO | SPOILT_CLIP | {"unknown_species", "empty_captions", "outside_paths", "listed_twice"}
    found = proven(full, grouped[0])
    assert {r["number"] // 7 for r in found} == {r.number for r in full.truth.rows if r.defect not in bad}
    assert not any(r["image_recovered"] or r["audio_recovered"] for r in found)
    # What is left over are the sound halves of spoilt rows.
    good = {r.audio_member for r in full.truth.rows if r.defect not in bad}
    photos = sum(r.defect in SPOILT_CLIP for r in full.truth.rows)
    clips = {r.audio_member for r in full.truth.rows if r.defect in SPOILT_PHOTO} - good
    unpaired = grouped[1].validation["unpaired"]
    assert (sum(u["photos"] for u in unpaired), sum(u["clips"] for u in unpaired)) == (photos, len(clips))
    # Only copies are named as duplicates.
    equal = {
        frozenset(
            full.truth.rows[m].photo_member.removeprefix("bird-mml/") for m in (n, full.truth.rows[n].copy_of or 0)
        )
        for n in full.truth.defects["equal_photos"]
    }
    assert {frozenset(d["paths"]) for d in grouped[1].validation["duplicates"]} == equal


SPOILT_PHOTO = {"broken_photos", "black_photos", "absent_photos", "twin_photos"}
SPOILT_CLIP = {"silent_audio", "truncated_audio", "absent_audio", "linked_audio", "bombs"}
ORDER = {"train": 0, "validation": 1, "test": 2}
KINDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "recording": lambda r: r["recording_id"],
    "observation": lambda r: r["observation_id"],
    "image_bytes": lambda r: r["image_sha256"],
    "audio_bytes": lambda r: r["audio_sha256"],
}


def leak(found: list[dict[str, Any]], key: Callable[[dict[str, Any]], str]) -> dict[str, float]:
    """Counted row by row: groups in several splits, their rows, and the shares whose group is in train, too."""
    sides = defaultdict(set)
    for row in found:
        sides[key(row)].add(row["split"])
    groups = {k for k, s in sides.items() if len(s) > 1}

    def share(split: str) -> float:
        mine = [r for r in found if r["split"] == split]
        return sum("train" in sides[key(r)] for r in mine) / len(mine)

    held = sum(key(r) in groups for r in found)
    return {"groups": len(groups), "rows": held, "test_share": share("test"), "validation_share": share("validation")}


def look_alikes(full: Whole) -> Callable[[dict[str, Any]], str]:
    """Copies by the truth: the row whose photo a row's photo was made of."""

    def name(row: dict[str, Any]) -> str:
        planned = full.truth.rows[row["number"] // 7]
        copy = planned.defect in ("near_photos", "equal_photos")
        return str(
            full.truth.rows[planned.copy_of].photo_id if copy and planned.copy_of is not None else planned.photo_id
        )

    return name


def test_grouped_sides_share_nothing(full: Whole, grouped: tuple[Path, FinishedBuild]) -> None:
    found = rows(grouped[0])
    assert {r["split"] for r in found} == {"train", "validation", "test"}
    leaks = grouped[1].validation["leakage"]["splits"]
    assert leaks["built"] == "grouped"
    nothing = {"groups": 0, "rows": 0, "test_share": 0.0, "validation_share": 0.0}
    for name, key in {**KINDS, "near_duplicate": look_alikes(full)}.items():
        assert leak(found, key) == nothing
        assert leaks["as_built"][name] == nothing, name


def test_released_sides_share_what_a_recount_finds(full: Whole, released: tuple[Path, FinishedBuild]) -> None:
    found = rows(released[0])
    assert [r["number"] for s in ("train", "validation", "test") for r in found if r["split"] == s] == [
        r["number"] for r in sorted(found, key=lambda r: (ORDER[r["split"]], r["number"]))
    ]
    leaks = released[1].validation["leakage"]["splits"]
    assert leaks["built"] == "released"
    for name, key in {**KINDS, "near_duplicate": look_alikes(full)}.items():
        assert leaks["as_built"][name] == leak(found, key), name
    for name in ("recording", "observation", "near_duplicate"):
        assert leaks["as_built"][name]["groups"] > 0
    proven(full, released[0])
