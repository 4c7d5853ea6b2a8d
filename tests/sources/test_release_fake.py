"""The miniature of the release: its true layout, the planted defects and nothing else, the same bytes each time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tarfile
import wave
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.release import Truth, write, write_record
from fakes.release_plan import EVERY_DEFECT
from helpers import hamming, tree

from birdmml.core.species import resolve
from birdmml.errors import MediaError
from birdmml.fetch.salvage import salvage
from birdmml.media.audio import check_sound, cut
from birdmml.media.image import decode_image, phash, ready_image
from birdmml.schema import Reject
from birdmml.sources.release.table import ReleaseRow, member_key, read

QUICK = {"species": 4, "rows": 4, "seconds": 0.2, "audio_parts": 4, "missing": ()}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return write(tmp_path_factory.mktemp("release") / "r", seed=1)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    knobs: dict[str, Any] = EVERY_DEFECT | {"near_photos": 3, "equal_photos": 2, "outside_paths": 3, "broken_photos": 2}
    root = tmp_path_factory.mktemp("spoiled") / "r"
    return write(root, seed=2, missing=(), bomb_bytes=4 << 20, observation_column="observation_id", **knobs)


def table(truth: Truth) -> list[dict[str, str]]:
    with (truth.root / "files" / "bird-mml.csv").open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def packed(truth: Truth, stem: str) -> bytes:
    """An archive put together again, with the parts that were withheld."""
    parts = [p for folder in ("files", "withheld") for p in (truth.root / folder).glob(f"{stem}*")]
    return b"".join(p.read_bytes() for p in sorted(parts, key=lambda p: p.name))


def regular(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is not None:
                yield member.name, file.read()


def media(truth: Truth) -> dict[str, bytes]:
    found = dict(regular(packed(truth, "photos"))) | dict(regular(packed(truth, "audio")))
    return {name: found[name] for name in truth.members}


def test_the_layout_is_the_releases(truth: Truth) -> None:
    names = {p.name for p in (truth.root / "files").iterdir()}
    letters = set("abcdefghijklmnop") - {"h"}
    assert names == {"bird-mml.csv", "photos.tar.gz"} | {f"audio.tar.gz.part-a{c}" for c in letters}
    assert truth.missing == ("audio.tar.gz.part-ah",)
    for name in truth.members:
        assert re.fullmatch(
            r"bird-mml/photos/\d+\.0/\d+\.(jpe?g|JPE?G)|bird-mml/audio/[A-Z]\w+/[\w-]+_\d+_clip\d+\.wav", name
        )
    folders = [n.split("/")[2] for n, _ in regular(packed(truth, "audio"))]
    assert folders == sorted(folders)
    assert {resolve(f).scientific_name for f in folders} == set(truth.species)
    assert len(set(folders)) == 12


def test_clips_and_photos_are_what_the_release_has(truth: Truth) -> None:
    found = media(truth)
    for name, data in found.items():
        if name.endswith(".wav"):
            with wave.open(io.BytesIO(data)) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (22_050, 1, 2)
                assert file.getnframes() == 22_050
        else:
            assert decode_image(data).shape == (48, 64, 3)
    assert len({hashlib.sha256(d).digest() for d in found.values()}) == len(found)
    # Noise does not pack: the parts hold about what the clips weigh.
    raw = sum(len(d) for n, d in found.items() if n.endswith(".wav"))
    assert len(packed(truth, "audio")) > 0.8 * raw


def test_truth_knows_every_member_by_its_bytes(truth: Truth, spoiled: Truth) -> None:
    for each in (truth, spoiled):
        found = media(each)
        assert {n: hashlib.sha256(d).hexdigest() for n, d in found.items()} == {
            n: m.sha256 for n, m in each.members.items()
        }
        assert {n: len(d) for n, d in found.items()} == {n: m.size for n, m in each.members.items()}


def test_same_seed_same_bytes(tmp_path: Path, spoiled: Truth) -> None:
    knobs: dict[str, Any] = QUICK | EVERY_DEFECT | {"rows": 12, "bomb_bytes": 1 << 20}
    first, again = (write(tmp_path / name, seed=5, **knobs) for name in ("a", "b"))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert (first.rows, first.members, first.refused) == (again.rows, again.members, again.refused)
    write(tmp_path / "c", seed=6, **knobs)
    assert not set(tree(tmp_path / "a").values()) & set(tree(tmp_path / "c").values())


@pytest.mark.parametrize("dialect", ["new", "old"])
def test_the_record_lists_what_is_there_in_both_dialects(tmp_path: Path, dialect: str) -> None:
    made = write(tmp_path / "r", seed=3, dialect=dialect, base="http://[::1]:7", **(QUICK | {"missing": ("ab",)}))
    name, size = ("key", "size") if dialect == "new" else ("filename", "filesize")
    for expected in ((), ("audio.tar.gz.part-ab",)):
        record = json.loads((made.root / "record.json").read_text())
        listed = {f[name]: f for f in record["files"]}
        assert set(listed) == {p.name for p in (made.root / "files").iterdir()}
        assert all(n in listed for n in expected)
        for key, entry in listed.items():
            data = (made.root / "files" / key).read_bytes()
            md5 = hashlib.md5(data).hexdigest()
            assert entry[size] == len(data)
            assert entry["checksum"] == (f"md5:{md5}" if dialect == "new" else md5)
            link = entry["links"]["self" if dialect == "new" else "download"]
            assert link == f"http://[::1]:7/api/records/18920487/files/{key}/content"
        # The part appears later.
        for part in (made.root / "withheld").iterdir():
            part.rename(made.root / "files" / part.name)
        write_record(made.root, "http://[::1]:7", dialect)


@pytest.mark.parametrize("which", ["truth", "spoiled"])
def test_the_reader_gives_the_planned_rows(which: str, request: pytest.FixtureRequest) -> None:
    made: Truth = request.getfixturevalue(which)
    found = list(read(made.root / "files" / "bird-mml.csv"))
    assert len(found) == len(made.rows)
    for got, planned in zip(found, made.rows, strict=True):
        if isinstance(got, Reject):
            assert (got.path, got.reason) == (f"bird-mml.csv, line {planned.line}", planned.reject)
            continue
        fields = ("number", "line", "species", "photo", "audio", "caption", "recording", "photo_id", "taxon_id")
        for field in (*fields, "xc_id", "clip"):
            assert getattr(got, field) == getattr(planned, field), field
        assert planned.reject == ""
        column = made.knobs.observation_column
        assert got.observation == (planned.observation if column else f"photo-{planned.photo_id}")
        assert got.extra == {"blip_caption": planned.blip_caption, "source_index": str(7 * planned.number)}
        assert got.warnings == (("taxon_folder_disagrees",) if planned.defect == "disagreements" else ())
        assert bool(planned.attribution) == (got.image_credit.license != "unknown")
        assert bool(planned.attribution) == (got.audio_credit.license != "unknown")
        for key, member in ((got.photo_key, planned.photo_member), (got.audio_key, planned.audio_member)):
            assert not member or member_key(member) == key
    rejected = Counter(r.reason for r in found if isinstance(r, Reject))
    planned_too = Counter(
        {"unknown_species": 1, "no_caption": 1, "path_outside": 3, "listed_twice": 1} if which == "spoiled" else {}
    )
    assert rejected == planned_too


def test_paths_are_spelled_in_all_the_ways(truth: Truth) -> None:
    photos = [row["photo_file"] for row in table(truth)]
    shapes = Counter(re.sub(r"\d+", "0", p.rsplit(".", 1)[0]) for p in photos)
    assert {"bird-mml/photos/0.0/0", "photos/0.0/0", "./bird-mml/photos/0.0/0"} <= set(shapes)
    assert {r"bird-mml\photos\0.0\0", "bird-mml/photos/0/0"} <= set(shapes)
    assert shapes["bird-mml/photos/0.0/0"] > len(photos) / 2
    assert {p.rsplit(".", 1)[1] for p in photos} == {"jpg", "JPG", "jpeg", "JPEG"}
    written = {m.removeprefix("bird-mml/") for m in truth.members}
    assert any(r.photo not in written for r in truth.rows)
    assert {member_key(r.photo) for r in truth.rows} == {member_key(m) for m in truth.fates("photos")["complete"]}


def test_recordings_lie_on_both_sides_of_a_split_by_rows(truth: Truth) -> None:
    half = len(truth.rows) // 24
    sides: dict[str, set[bool]] = defaultdict(set)
    for row in truth.rows:
        sides[row.recording].add(row.number % (2 * half) < half)
    assert sum(len(s) == 2 for s in sides.values()) > len(sides) / 2


def test_about_43_percent_of_the_species_reuse_clips(truth: Truth) -> None:
    clips = defaultdict(list)
    for row in truth.rows:
        clips[row.species].append(row.audio_member)
    assert {s for s, names in clips.items() if len(set(names)) < len(names)} == set(truth.reusing)
    assert len(truth.reusing) == round(0.43 * 12)


def test_captions_tell_names_as_often_as_the_releases(tmp_path: Path) -> None:
    made = write(tmp_path / "r", seed=4, species=10, rows=40, seconds=0.02, missing=())
    common = scientific = 0
    for row in table(made):
        species = resolve(row["scientific_name"])
        common += species.common_name.lower() in row["combined_caption"].lower()
        scientific += row["scientific_name"] in row["combined_caption"]
    assert (common, scientific) == (round(0.331 * 400), 8)
    assert any("\n" in row["combined_caption"] for row in table(made))
    assert any('"' in row["combined_caption"] for row in table(made))


def unusable(name: str, data: bytes) -> str:
    """Why a build would refuse the medium, "" when it would not."""
    try:
        if name.endswith(".wav"):
            for clip in cut(data, 1.0):
                check_sound(clip)
        else:
            ready_image(data, 512)
    except MediaError as e:
        return e.reason
    return ""


def test_exactly_the_planted_media_are_unusable(spoiled: Truth) -> None:
    found = {name: why for name, data in media(spoiled).items() if (why := unusable(name, data))}
    rows = spoiled.rows
    planned = {rows[n].photo_member for d in ("broken_photos", "black_photos") for n in spoiled.defects[d]}
    planned |= {rows[n].audio_member for d in ("silent_audio", "truncated_audio", "bombs") for n in spoiled.defects[d]}
    assert set(found) == planned
    assert found[rows[spoiled.defects["black_photos"][0]].photo_member] == "image_constant"
    assert found[rows[spoiled.defects["silent_audio"][0]].audio_member] == "audio_constant"
    assert found[rows[spoiled.defects["truncated_audio"][0]].audio_member] == "audio_truncated"
    assert {found[rows[n].photo_member] for n in spoiled.defects["broken_photos"]} <= {"image_damaged", "not_an_image"}


def test_exactly_the_planted_photos_look_alike(spoiled: Truth) -> None:
    found = media(spoiled)
    photos = {n: d for n, d in found.items() if "/photos/" in n and not unusable(n, d)}
    hashes = {name: phash(decode_image(data)) for name, data in photos.items()}
    near = {frozenset(pair): hamming(*(hashes[n] for n in pair)) for pair in combinations(sorted(hashes), 2)}
    copies = {
        frozenset((spoiled.rows[n].photo_member, spoiled.rows[spoiled.rows[n].copy_of or 0].photo_member)): d
        for d in ("near_photos", "equal_photos")
        for n in spoiled.defects[d]
    }
    assert len(copies) == 5
    for pair, kind in copies.items():
        a, b = (found[n] for n in pair)
        assert (a == b) == (kind == "equal_photos")
        assert near[pair] <= 6
    assert min(distance for pair, distance in near.items() if pair not in copies) >= 12


def test_each_row_defect_is_there_and_alone(spoiled: Truth) -> None:
    assert {d: len(rows) for d, rows in spoiled.defects.items()} == {
        **{d: 1 for d in EVERY_DEFECT if not d.endswith("_members")},
        "near_photos": 3, "equal_photos": 2, "outside_paths": 3, "broken_photos": 2,
    }  # fmt: skip
    gone = {r.number for r in spoiled.rows if not r.photo_member or not r.audio_member}
    planned = ("absent_photos", "absent_audio", "linked_audio", "outside_paths")
    assert gone == {n for d in planned for n in spoiled.defects[d]}
    keys = Counter(member_key(name) for name in spoiled.members)
    twins = {k for k, n in keys.items() if n > 1}
    assert twins == {member_key(spoiled.rows[n].photo) for n in spoiled.defects["twin_photos"]}
    twice = spoiled.rows[spoiled.defects["listed_twice"][0]]
    first = spoiled.rows[twice.copy_of or 0]
    assert (twice.photo_member, twice.audio_member, twice.caption) == (
        first.photo_member,
        first.audio_member,
        first.caption,
    )
    assert first.defect == ""
    # One photo, one clip and the twin are named by no row.
    assert sorted(n.split("/")[1] for n in spoiled.unlisted) == ["audio", "photos", "photos"]


def test_hostile_members_are_what_truth_says(spoiled: Truth) -> None:
    kinds = {tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink", tarfile.CHRTYPE: "device"}
    found = {}
    for stem in ("photos", "audio"):
        with tarfile.open(fileobj=io.BytesIO(packed(spoiled, stem))) as archive:
            for m in archive:
                if m.type in kinds:
                    found[m.name] = kinds[m.type]
                elif m.name.startswith("/") or ".." in m.name:
                    found[m.name] = "absolute" if m.name.startswith("/") else "climbing"
                elif m.size >= 4 << 20:
                    found[m.name] = "bomb"
    assert found == spoiled.refused
    assert Counter(found.values()).keys() >= {"absolute", "climbing", "device", "bomb"}
    assert len(packed(spoiled, "audio")) < 4 << 20


def test_fates_are_what_zlib_and_salvage_find(truth: Truth, tmp_path: Path) -> None:
    fates = truth.fates()
    assert all(fates.values())
    before = b"".join((truth.root / "files" / f"audio.tar.gz.part-a{c}").read_bytes() for c in "abcdefg")
    flat, whole = zlib.decompressobj(31).decompress(before), set()
    for name, data in regular(packed(truth, "audio")):
        if data in flat:
            whole.add(name)
    assert whole == fates["complete"]
    report = salvage(sorted((truth.root / "files").glob("audio*")), tmp_path / "out")
    states = {n: m["state"] for n, m in report.members.items()}
    assert {n for n, state in states.items() if state == "complete"} == fates["complete"]
    recovered = {n for n, state in states.items() if state == "recovered"}
    assert recovered <= fates["behind"]
    assert len(fates["behind"] - recovered) <= 2
    assert all(truth.members[n].sha256 == m["sha256"] for n, m in report.members.items())


@pytest.mark.parametrize("kind", ["tar", "zip", "split"])
def test_other_photo_archives_hold_the_same(tmp_path: Path, kind: str) -> None:
    hostile = {"climbing_members": 1, "device_members": 1, "absolute_members": 1}
    plain = write(tmp_path / "plain", seed=7, **QUICK, **hostile)
    made = write(tmp_path / kind, seed=7, photo_archive=kind, **QUICK, **hostile)
    assert {n: m.sha256 for n, m in made.members.items()} == {n: m.sha256 for n, m in plain.members.items()}
    if kind == "zip":
        with zipfile.ZipFile(made.root / "files" / "photos.zip") as archive:
            found = {i.filename: archive.read(i) for i in archive.infolist()}
        assert "bird-mml/photos/device_0" not in made.refused
    else:
        assert sorted(p.name for p in (made.root / "files").glob("photos*")) == (
            ["photos.tar"] if kind == "tar" else [f"photos.tar.gz.part-a{c}" for c in "abcd"]
        )
        found = dict(regular(packed(made, "photos")))
    photos = made.fates("photos")["complete"]
    assert {n: hashlib.sha256(found[n]).hexdigest() for n in photos} == {n: made.members[n].sha256 for n in photos}
    assert set(found) - photos == {n for n in made.refused if "/photos/" in n and "device" not in n}


def test_missing_photo_parts_and_knobs_that_do_not_go_together(tmp_path: Path) -> None:
    made = write(tmp_path / "r", seed=8, photo_archive="split", missing_photo_parts=("ac",), **QUICK)
    assert made.missing == ("photos.tar.gz.part-ac",)
    assert made.fates("photos")["lost"]
    assert not made.fates("audio")["lost"]
    for knobs in ({"missing": ("zz",)}, {"bombs": 99}, {"species": 1}):
        with pytest.raises(ValueError, match="no part zz|too few rows to plant bombs|species must be"):
            write(tmp_path / str(len(list(tmp_path.iterdir()))), seed=1, **(QUICK | knobs))


def test_species_can_be_told_by_eye_and_by_ear(truth: Truth) -> None:
    """Nearest species mean, each item held out of its own: far above the chance of 1 in 12."""
    found, by_species = media(truth), {r.photo_member: r.species for r in truth.rows}
    by_species |= {r.audio_member: r.species for r in truth.rows}
    for suffix in ("g", "v"):
        names = sorted(n for n in by_species if n[-1].lower() == suffix)
        features = np.array([feature(n, found[n]) for n in names])
        labels = np.array([by_species[n] for n in names])
        right = 0
        for i in range(len(names)):
            others = np.arange(len(names)) != i
            means = {s: features[others & (labels == s)].mean(axis=0) for s in set(labels)}
            right += min(means, key=lambda s: float(np.abs(means[s] - features[i]).sum())) == labels[i]
        assert right / len(names) > 0.4, suffix


def feature(name: str, data: bytes) -> np.ndarray:
    """Mean colour of a photo; the strongest pitch of a clip on a log scale."""
    if not name.endswith(".wav"):
        return decode_image(data).mean(axis=(0, 1))
    samples = np.frombuffer(data[44:], "<i2").astype(float)
    return np.log([1.0 + np.abs(np.fft.rfft(samples))[1:].argmax()])


def test_the_reader_finds_every_row_in_its_own_types(truth: Truth) -> None:
    assert all(isinstance(r, ReleaseRow) for r in read(truth.root / "files" / "bird-mml.csv"))
