"""The release's table as it is in the wild: what each row says, which rows are refused and why."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import SourceError, UnknownName
from birdmml.schema import Credit, Reject
from birdmml.sources.csv_stream import column_names
from birdmml.sources.release.table import (
    ReleaseRow,
    member_key,
    member_path,
    photo_name,
    read,
    sound_name,
    text_columns,
)

FINCH = {
    "scientific_name": "Haemorhous mexicanus",
    "photo_file": "bird-mml/photos/199840.0/770647.JPG",
    "audio_file": "bird-mml/audio/Haemorhous_mexicanus/House_Finch_323531_clip1.wav",
    "combined_caption": "A House Finch on a wire, singing\nin the morning.",
}


def table(folder: Path, rows: Sequence[dict[str, str]], encoding: str = "utf-8") -> Path:
    path = folder / "bird-mml.csv"
    with path.open("w", encoding=encoding, newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def one(folder: Path, **changes: str) -> ReleaseRow | Reject:
    return next(read(table(folder, [FINCH | changes])))


def row(folder: Path, **changes: str) -> ReleaseRow:
    found = one(folder, **changes)
    assert isinstance(found, ReleaseRow)
    return found


def test_a_row_as_published(tmp_path: Path) -> None:
    assert row(tmp_path) == ReleaseRow(
        number=0,
        line=2,
        species="Haemorhous mexicanus",
        photo="photos/199840.0/770647.JPG",
        audio="audio/Haemorhous_mexicanus/House_Finch_323531_clip1.wav",
        caption="A House Finch on a wire, singing\nin the morning.",
        observation="photo-770647",
        recording="XC323531",
        photo_id="770647",
        taxon_id=199840,
        xc_id="323531",
        clip=1,
        image_credit=Credit(url="https://www.inaturalist.org/photos/770647"),
        audio_credit=Credit(url="https://xeno-canto.org/323531"),
        caption_credit=Credit(),
        extra={},
    )


def test_attribution_becomes_credits_and_the_rest_is_kept(tmp_path: Path) -> None:
    found = row(
        tmp_path,
        inat_observer_login="ann",
        inat_observer_name="Ann Öst",
        license_image="by-nc",
        audio_recorder="Bo",
        license_audio_xc="//creativecommons.org/licenses/by-nc-sa/4.0/",
        audio_url="//xeno-canto.org/323531",
        wikipedia_article_url="https://en.wikipedia.org/wiki/House_finch",
        wikipedia_history_url="https://en.wikipedia.org/w/index.php?title=House_finch&action=history",
        wikipedia_license_text="Creative Commons Attribution-ShareAlike 4.0",
        wikipedia_license_url="https://creativecommons.org/licenses/by-sa/4.0/",
        Observation_ID="8801.0",
        blip_caption="a bird",
    )
    photo = "https://www.inaturalist.org/photos/770647"
    assert found.image_credit == Credit("CC-BY-NC-4.0", "by-nc", "Ann Öst (ann)", photo)
    original = "//creativecommons.org/licenses/by-nc-sa/4.0/"
    assert found.audio_credit == Credit("CC-BY-NC-SA-4.0", original, "Bo", "https://xeno-canto.org/323531")
    assert found.caption_credit.license == "CC-BY-SA-4.0"
    assert "action=history" in found.caption_credit.author
    assert found.observation == "8801"
    assert found.extra == {"blip_caption": "a bird"}


def test_an_address_that_is_none_is_not_passed_on(tmp_path: Path) -> None:
    assert row(tmp_path, audio_url="javascript:alert(1)").audio_credit.url == "https://xeno-canto.org/323531"
    assert row(tmp_path, wikipedia_article_url="file:///etc/passwd").caption_credit == Credit()


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"photo_file": "/etc/passwd"}, "path_outside", "photo_file '/etc/passwd'"),
        ({"photo_file": "bird-mml/photos/../../x.jpg"}, "path_outside", "climbs"),
        ({"audio_file": "C:\\audio\\x.wav"}, "path_outside", "audio_file"),
        ({"audio_file": "\\\\server\\x.wav"}, "path_outside", "audio_file"),
        ({"audio_file": "./"}, "path_outside", "audio_file"),
        ({"photo_file": " "}, "no_path", "photo_file is empty"),
        ({"audio_file": ""}, "no_path", "audio_file is empty"),
        ({"combined_caption": " "}, "no_caption", "combined_caption is empty"),
        ({"combined_caption": "nan"}, "no_caption", "combined_caption is empty"),
        ({"scientific_name": "Haemorhous mexicanos"}, "unknown_species", "Haemorhous mexicanus"),
        ({"scientific_name": ""}, "unknown_species", "unknown species ''"),
    ],
)
def test_rows_that_cannot_enter(tmp_path: Path, changes: dict[str, str], reason: str, words: str) -> None:
    found = one(tmp_path, **changes)
    assert isinstance(found, Reject)
    assert (found.path, found.reason) == ("bird-mml.csv, line 2", reason)
    assert found.detail.startswith("line 2: ")
    assert words in found.detail


def test_a_pair_listed_twice_in_any_spelling_is_taken_once(tmp_path: Path) -> None:
    again = FINCH | {"photo_file": "./photos\\199840\\770647.jpg"}
    other = FINCH | {"audio_file": FINCH["audio_file"].replace("clip1", "clip2")}
    found = list(read(table(tmp_path, [FINCH, again, other, FINCH])))
    assert [type(r) for r in found] == [ReleaseRow, Reject, ReleaseRow, Reject]
    assert [(r.number, r.line) for r in found if isinstance(r, ReleaseRow)] == [(0, 2), (2, 6)]
    assert [r.path for r in found if isinstance(r, Reject)] == ["bird-mml.csv, line 4", "bird-mml.csv, line 8"]
    assert {r.reason for r in found if isinstance(r, Reject)} == {"listed_twice"}
    assert "stands in line 2" in found[1].detail if isinstance(found[1], Reject) else False


def test_names_that_disagree_are_warnings(tmp_path: Path) -> None:
    assert row(tmp_path, photo_file="photos/5212.0/1.jpg").warnings == ("taxon_folder_disagrees",)
    assert row(tmp_path, photo_file="photos/42.0/1.jpg").warnings == ("taxon_folder_unknown",)
    hawk = "audio/Buteo_jamaicensis/Red-tailed_Hawk_77777_clip3.wav"
    assert row(tmp_path, audio_file=hawk).warnings == ("audio_folder_disagrees", "audio_name_disagrees")
    assert row(tmp_path, audio_file="audio/x/House_Finch_77777_clip3.wav").warnings == ("audio_folder_unknown",)
    # The release's older name and retired taxon of a species are the species.
    old = row(
        tmp_path,
        scientific_name="Accipiter cooperii",
        photo_file="photos/5112.0/1.jpg",
        audio_file="audio/Accipiter_cooperii/Coopers_Hawk_4242_clip1.wav",
    )
    assert (old.species, old.warnings) == ("Astur cooperii", ())


def test_another_caption_column(tmp_path: Path) -> None:
    path = table(tmp_path, [FINCH | {"blip": "a small bird on a wire", "n": "3", "Empty": ""}])
    found = next(read(path, caption="BLIP"))
    assert isinstance(found, ReleaseRow)
    assert found.caption == "a small bird on a wire"
    assert found.extra["combined_caption"].startswith("A House Finch")
    named = next(read(path, caption="scientific_name"))
    assert isinstance(named, ReleaseRow)
    assert named.caption == "Haemorhous mexicanus"
    assert column_names(path)[-3:] == ("blip", "n", "empty")
    assert text_columns(path) == ("combined_caption", "blip")
    with pytest.raises(UnknownName, match=r"unknown caption column 'blipp': nearest are blip") as caught:
        read(path, caption="blipp")
    assert "has captions in: combined_caption, blip" in str(caught.value)
    none = next(read(path, caption="empty"))
    assert isinstance(none, Reject)
    assert none.reason == "no_caption"


def test_latin_1_by_name_and_marks_by_themselves(tmp_path: Path) -> None:
    rows = [FINCH | {"combined_caption": "A bird in São Tomé, seen early"}]
    with pytest.raises(SourceError, match=r"line 2: byte 0xe3 is not utf-8.*--encoding latin-1"):
        next(read(table(tmp_path, rows, "latin-1")))
    for written, given_name in (("latin-1", "latin-1"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-8")):
        found = next(read(table(tmp_path, rows, written), encoding=given_name))
        assert isinstance(found, ReleaseRow)
        assert found.caption == "A bird in São Tomé, seen early"


def test_a_broken_row_is_listed_and_the_next_is_read(tmp_path: Path) -> None:
    path = table(tmp_path, [FINCH])
    with path.open("a") as f:
        f.write('Haemorhous mexicanus,a.jpg,b.wav,"no end\n')
        f.write("Haemorhous mexicanus,a.jpg\n")
        f.write("Haemorhous mexicanus,photos/1.0/1.jpg,audio/x/y_123_clip1.wav,a text\n")
        f.write('Haemorhous mexicanus,a.jpg,b.wav,"cut of')
    found = list(read(path))
    assert [r.reason if isinstance(r, Reject) else r.number for r in found] == [0, "bad_row", "bad_row", 3, "bad_row"]
    assert [r.path for r in found if isinstance(r, Reject)] == [f"bird-mml.csv, line {n}" for n in (4, 5, 7)]


def test_tables_that_are_not_the_releases(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column photo_file; found scientific_name, audio_file"):
        read(table(tmp_path, [{k: v for k, v in FINCH.items() if k != "photo_file"}]))
    page = tmp_path / "bird-mml.csv"
    page.write_text("<!DOCTYPE html>\n<html>\n")
    with pytest.raises(SourceError, match="not the release's"):
        read(page)
    page.write_text(",".join(FINCH) + "\n")
    with pytest.raises(SourceError, match="no rows"):
        next(read(page))


VARIANTS = (
    "photos/199840.0/770647.JPG",
    "bird-mml/photos/199840.0/770647.JPG",
    "./bird-mml/photos/199840.0/770647.jpg",
    "Bird-MML\\photos\\199840\\770647.Jpg",
    "photos//199840.00/./770647.jpg",
)


def test_one_member_one_key() -> None:
    assert {member_key(v) for v in VARIANTS} == {"photos/199840/770647.jpg"}
    assert member_key("audio/Cafe\u0301.wav") == member_key("AUDIO/CAF\u00c9.wav")


@pytest.mark.parametrize(
    "other",
    [
        "photos/199840.5/770647.jpg",
        "photos/1998400/770647.jpg",
        "photos/199840/770647.jpeg",
        "photos/199840/770647.0.jpg",
        "/photos/199840/770647.jpg",
        "/bird-mml/photos/199840/770647.jpg",
        "x/../photos/199840/770647.jpg",
        "audio/199840/770647.jpg",
        "770647.jpg",
    ],
)
def test_other_members_have_other_keys(other: str) -> None:
    assert member_key(other) != member_key(VARIANTS[0])


PATHS = st.text(st.sampled_from("aZé\u0130ßK./\\0129_-: ") | st.characters(codec="utf-8"), max_size=20)
TAILS = st.lists(st.sampled_from(["photos", "199840.0", "7.00", "A b", "Ünder", "x.JPG"]), min_size=1).map("/".join)


@settings(deadline=None)
@given(PATHS)
def test_a_key_is_its_own_key(path: str) -> None:
    assert member_key(member_key(path)) == member_key(path)


@settings(deadline=None)
@given(TAILS)
def test_a_key_does_not_see_spelling(path: str) -> None:
    for other in (f"bird-mml/{path}", f"./{path}", path.replace("/", "\\"), path.replace("/", "//"), path.swapcase()):
        # ẞ and the like aside, which swapcase does not round-trip, case is the only difference.
        assert member_key(other) == member_key(path)


@settings(deadline=None)
@given(PATHS)
def test_a_members_path_stays_inside_and_keeps_its_key(path: str) -> None:
    inside = member_path(path)
    if inside is not None:
        assert not inside.startswith("/")
        assert ".." not in inside.split("/")
        assert "\\" not in inside
        assert member_path(inside) == inside
        assert member_key(inside) == member_key(path)


@pytest.mark.parametrize(
    ("path", "clip", "recording", "name"),
    [
        ("audio/H_m/House_Finch_323531_clip1.wav", 1, "XC323531", "House_Finch"),
        ("audio/H_m/House_Finch_XC323531_clip70.WAV", 70, "XC323531", "House_Finch"),
        ("audio/H_m/House_Finch_323531.wav", None, "XC323531", "House_Finch"),
        ("audio/H_m/Black-capped_Chickadee_5555_clip12.wav", 12, "XC5555", "Black-capped_Chickadee"),
        ("audio/H_m/dawn_clip2.wav", 2, "audio/h_m/dawn", "dawn"),
        ("audio/H_m/dawn.chorus.wav", None, "audio/h_m/dawn.chorus", "dawn.chorus"),
        ("audio/H_m/XC4242_clip3.wav", 3, "XC4242", ""),
        ("audio/H_m/dawn2023_clip3.wav", 3, "audio/h_m/dawn2023", "dawn2023"),
        ("clip1", None, "clip1", "clip1"),
    ],
)
def test_what_a_clips_name_says(path: str, clip: int | None, recording: str, name: str) -> None:
    found = sound_name(path)
    assert (found.clip, found.recording, found.common_name) == (clip, recording, name)


def test_what_a_photos_path_says() -> None:
    assert (photo_name("photos/199840.0/770647.JPG").photo_id, photo_name("a/7/b.jpg").photo_id) == ("770647", "")
    assert photo_name("photos/199840/1.jpg").taxon_id == 199840
    for odd in ("photos/-3.0/1.jpg", "photos/٣/1.jpg", "photos/" + "9" * 5000 + "/1.jpg", "1.jpg"):
        assert photo_name(odd).taxon_id is None
