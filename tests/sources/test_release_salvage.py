"""Builds of a release with holes in it: the rows that can be had, bit-exact, and every other one listed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers.releases import PARTS, Whole, listed, make, proven, quick, shelf, spoil, whole

from birdmml.errors import SourceError

quick = quick
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole(tmp_path_factory.mktemp("full") / "r", seed=1, species=6, rows=8)


def held_against_the_truth(of: Whole, out: Path, gone: tuple[str, ...], certain: bool = True) -> dict[str, int]:
    """Compare a build with the truth; how many clips were complete, recovered, lost, and lost behind a hole."""
    fates, found = of.fates(gone), proven(of, out)
    there = {r["clip"] for r in found}
    assert {r["clip"] for r in found if r["audio_recovered"]} == {c for c in there if fates[c] == "behind"}
    assert not any(r["image_recovered"] for r in found)
    assert not {c for c in there if fates[c] == "lost"}
    if certain:
        assert {c for c, fate in fates.items() if fate == "complete"} <= there
    # Exactly the rows whose clip is there are built; all the others are listed, by line and species.
    rows = of.truth.rows
    assert {r["planned"].number for r in found} == {r.number for r in rows if r.audio_member in there}
    absent = listed(out, "absent")
    assert {(a["path"], a["species"]) for a in absent} == {
        (f"bird-mml.csv, line {r.line}", r.species) for r in rows if r.audio_member not in there
    }
    assert {a["reason"] for a in absent} <= {"audio_lost"}
    assert listed(out, "rejects") == []
    return {
        "complete": sum(fates[c] == "complete" for c in there),
        "recovered": sum(fates[c] == "behind" for c in there),
        "lost": sum(fate == "lost" for fate in fates.values()),
        "behind but lost": sum(fate == "behind" and c not in there for c, fate in fates.items()),
    }


HOLES = [("aa",), ("ap",), ("ac", "ad"), ("ad", "ah", "al")]
MORE = [("ah",), ("ab", "am"), ("aa", "ap"), ("aa", "ab", "ac"), ("ao", "ap"), tuple("aa ac ae ag ai ak am ao".split())]


@pytest.mark.parametrize("gone", HOLES, ids="-".join)
def test_what_is_not_in_the_hole_is_built(full: Whole, tmp_path: Path, gone: tuple[str, ...]) -> None:
    root = shelf(full.truth.root, tmp_path / "r", gone, record=False)
    make(root, tmp_path / "out")
    counts = held_against_the_truth(full, tmp_path / "out", gone)
    if gone != ("ap",):  # Without the last part nothing says that there was one.
        assert counts["behind but lost"] <= 3 * len(gone)


@pytest.mark.drill
@pytest.mark.parametrize("level", [1, 6, 9])
@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize("gone", [*HOLES, *MORE], ids="-".join)
def test_many_broken_archives(tmp_path: Path, gone: tuple[str, ...], seed: int, level: int) -> None:
    full = whole(tmp_path / "full", seed=seed, species=6, rows=8, gzip_level=level)
    make(shelf(full.truth.root, tmp_path / "r", gone, record=False), tmp_path / "out")
    print("|", " ".join(gone), "|", level, "|", seed, "|", held_against_the_truth(full, tmp_path / "out", gone))


@pytest.mark.parametrize("gone", [("ac",), ("ah", "ai")], ids="-".join)
def test_a_part_with_another_md5_is_a_hole(full: Whole, tmp_path: Path, gone: tuple[str, ...]) -> None:
    root = shelf(full.truth.root, tmp_path / "r")
    for letters in gone:
        data = bytearray((root / (PARTS + letters)).read_bytes())
        data[len(data) // 2] ^= 1
        spoil(root / (PARTS + letters), bytes(data))
    built = make(root, tmp_path / "out")
    held_against_the_truth(full, tmp_path / "out", gone)
    for letters in gone:
        assert f"{PARTS}{letters} (corrupt)" in built.unfinished
    facts = built.manifest["source"]["facts"]
    assert facts["not_there"]["audio"] == [f"{PARTS}{letters} (corrupt)" for letters in gone]
    assert facts["without_md5"] == 0


@pytest.mark.parametrize("at", ["ac", "ah"])
def test_bits_that_break_without_a_record_cost_what_lies_around_them(full: Whole, tmp_path: Path, at: str) -> None:
    root = shelf(full.truth.root, tmp_path / "r", record=False)
    data = bytearray((root / (PARTS + at)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = random.Random(at).randbytes(4000)
    spoil(root / (PARTS + at), bytes(data))
    built = make(root, tmp_path / "out")
    found = proven(full, tmp_path / "out")
    absent = {a["path"] for a in listed(tmp_path / "out", "absent")}
    had = {f"bird-mml.csv, line {r['planned'].line}" for r in found}
    assert had | absent == {f"bird-mml.csv, line {r.line}" for r in full.truth.rows}
    assert not had & absent
    assert len(absent) <= 12
    assert built.manifest["source"]["facts"]["broken_inside"]["audio"] == [PARTS + at]


def test_wrong_bytes_that_no_one_can_place_stop_the_build_and_the_next_one_starts_over(
    full: Whole, tmp_path: Path
) -> None:
    """One flipped bit of a literal: everything decodes, and only the checksum of the whole knows."""
    root = shelf(full.truth.root, tmp_path / "r", record=False)
    right = (root / (PARTS + "ac")).read_bytes()
    for at in range(2000, len(right), 997):
        data = bytearray(right)
        data[at] ^= 1
        spoil(root / (PARTS + "ac"), bytes(data))
        try:
            make(root, tmp_path / "out")
        except SourceError as e:
            assert "its checksum differs" in str(e)
            break
        proven(full, tmp_path / "out")
    else:
        pytest.fail("no flipped bit went through the decoder")
    spoil(root / (PARTS + "ac"), right)
    make(root, tmp_path / "out")
    make(full.truth.root, tmp_path / "fresh")
    assert len(proven(full, tmp_path / "out")) == len(proven(full, tmp_path / "fresh"))


def test_the_photos_may_have_a_hole_as_well(tmp_path: Path) -> None:
    knobs = {"species": 4, "rows": 8, "photo_px": 480, "photo_archive": "split", "photo_parts": 6}
    full = whole(tmp_path / "r", seed=3, **knobs)
    hole = "photos.tar.gz.part-ac"
    (full.truth.root / "files" / hole).unlink()
    make(full.truth.root / "files", tmp_path / "out")
    found = proven(full, tmp_path / "out")
    there = {r["planned"].number for r in found}
    lost = {r.number for r in full.truth.rows if hole in full.truth.members[r.photo_member].parts}
    assert lost
    assert not lost & there
    assert {a["reason"] for a in listed(tmp_path / "out", "absent")} == {"photo_lost"}
    assert {a["path"] for a in listed(tmp_path / "out", "absent")} == {
        f"bird-mml.csv, line {r.line}" for r in full.truth.rows if r.number not in there
    }
    assert any(r["image_recovered"] for r in found)
