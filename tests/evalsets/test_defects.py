"""Every planted defect is found under its reason, and nothing else is."""

from __future__ import annotations

import csv
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from fakes import evalset
from helpers import Ran
from helpers.evalsets import add, content, edit, packed, prepared

from birdmml.errors import BirdmmlError, BuildError, EvalsetError, UsageError
from birdmml.evalsets.read import Prepared
from birdmml.media.video import decode_video

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    for name in ("ssw60", "vb100", "cub200"):
        evalset(name, root / name)
    prepared("cub200", root / "cub200", root / "out")
    return root


@pytest.fixture
def ssw60(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "ssw60", tmp_path / "ssw60"))


@pytest.fixture
def vb100(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "vb100", tmp_path / "vb100"))


@pytest.fixture
def cub200(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "cub200", tmp_path / "cub200"))


def stopped(path: Path, share: float = 0.6) -> None:
    """A download that stopped in the middle, of a video whose index comes first."""
    moved = path.with_suffix(".new.mp4")
    with av.open(str(path)) as box, av.open(str(moved), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in box.streams}
        for packet in box.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    data = moved.read_bytes()
    moved.unlink()
    path.write_bytes(data[: int(len(data) * share)])


def plant(root: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Defects of SSW60: what must be rejected and what must be left unused, by path."""
    video = root / "video_ml"
    (video / "100000.mp4").unlink()
    stopped(video / "100001.mp4")
    data = (video / "100002.mp4").read_bytes()
    (video / "100002.mp4").write_bytes(data[: len(data) // 2])
    (video / "100004.mp4").write_bytes(b"")
    shutil.copy(video / "100005.mp4", video / "7.mp4")
    table = (root / "video_ml.csv").read_text()
    line = next(x for x in table.splitlines() if x.startswith("100006,"))
    edit(root / "video_ml.csv", (line, f"{line}\n{line}"))
    edit(root / "video_ml.csv", ("\n100007,1,test", "\n100007,60,test"))
    edit(root / "video_ml.csv", ("\n100009,2,train", "\n100009,2,validation"))
    edit(root / "video_ml.csv", ("\n100010,2,test", "\n100010,1,test,\n100010,2,test"))
    edit(root / "video_ml.csv", ("\n100011,2,test", "\n../100011,2,test"))
    photos = root / "images_inat"
    (photos / "100000.jpg").write_text("<html>404</html>")
    data = (photos / "100001.jpg").read_bytes()
    (photos / "100001.jpg").write_bytes(data[: len(data) // 2])
    (photos / "100002.jpg").rename(root / "elsewhere.jpg")
    (photos / "100002.jpg").symlink_to(root / "elsewhere.jpg")
    data = (root / "audio_ml" / "100000.wav").read_bytes()
    (root / "audio_ml" / "100000.wav").write_bytes(data[: len(data) // 2])
    (root / "audio_ml" / "100001.wav").write_bytes(b"no sound" * 50)
    rejected = {
        "video_ml/100000.mp4": "file_missing", "video_ml/100001.mp4": "video_truncated",
        "video_ml/100002.mp4": "video_damaged", "video_ml/100004.mp4": "video_damaged",
        "video_ml/100006.mp4": "duplicate_id", "video_ml/100007.mp4": "label_unknown",
        "video_ml/100009.mp4": "split_unknown", "video_ml/100010.mp4": "duplicate_id", "../100011": "bad_id",
        "images_inat/100000.jpg": "not_an_image", "images_inat/100001.jpg": "image_damaged",
        "images_inat/100002.jpg": "file_missing", "audio_ml/100000.wav": "audio_truncated",
        "audio_ml/100001.wav": "not_audio",
    }  # fmt: skip
    unused = {
        "video_ml/7.mp4": "not_annotated", "video_ml/100011.mp4": "not_annotated",
        "images_inat/100002.jpg": "refused_member",
    }  # fmt: skip
    return rejected, unused


def test_every_defect_of_ssw60_is_found_and_nothing_else(ssw60: Path, tmp_path: Path) -> None:
    rejected, unused = plant(ssw60)
    found = prepared("ssw60", ssw60, tmp_path / "out")
    report = found.report
    assert {r["path"]: r["reason"] for r in report["rejects"]} == rejected
    assert {r["path"]: r["reason"] for r in report["strays"]} == unused
    # The id with two different rows counts twice, for neither is used.
    assert report["rejected"] == len(rejected) + 1
    assert report["rejects_by_reason"] == dict(
        sorted(Counter([*rejected.values(), "duplicate_id"]).items(), key=lambda e: (-e[1], e[0]))
    )
    assert not report["accepted"]
    # 16 videos, two more rows for the two doubled ids, and what is written is all that is not rejected.
    assert report["considered"] == 64 + 2
    rows = Prepared.open(tmp_path / "out")
    written = sum(len(rows.rows(c, "all")) for c in rows.collections())
    assert written == report["considered"] - report["rejected"]
    assert "100006" in rows.rows("videos", "all").ids
    assert "100010" not in rows.rows("videos", "all").ids
    assert all(film.frames.max() > 0 for film in rows.rows("videos", "all"))
    with (tmp_path / "out" / "report" / "rejects.csv").open(newline="") as f:
        listed = list(csv.DictReader(f))
    assert Counter(r["what"] for r in listed) == {"row": report["rejected"], "file": len(unused)}


def test_videos_without_a_track_are_listed_and_not_rejected(ssw60: Path, tmp_path: Path) -> None:
    report = prepared("ssw60", ssw60, tmp_path / "out").report
    silent = [p.stem for p in sorted((ssw60 / "video_ml").iterdir()) if decode_video(p).audio is None]
    assert sorted(report["without_audio"]["videos"]["ids"]) == silent != []
    assert report["rejected"] == 0


def test_class_folders_and_labels_of_vb100_that_disagree(vb100: Path, tmp_path: Path) -> None:
    media = vb100 / "vb100_all_videos"
    shutil.copytree(media / "Imaginary_Bird", media / "Second_Bird")
    table = vb100 / "vb100_annotations_v1" / "train_video.txt"
    first, _, second, _, third, *_ = table.read_text().splitlines()
    # One has another class's label, one a label that no class has.
    edit(table, (first, f"{first.rsplit(' ', 1)[0]} {second.rsplit(' ', 1)[1]}"))
    edit(table, (third, f"{third.rsplit(' ', 1)[0]} 999"))
    report = prepared("vb100", vb100, tmp_path / "out").report
    assert report["rejects_by_reason"] == {"label_disagrees": 2}
    assert report["found"]["classes"] == 4
    assert report["strays_by_reason"] == {"unknown_class_folder": 3}
    assert sum("Imaginary_Bird" in line and "unknown" in line for line in report["differences"]) == 1


def test_other_spellings_of_cubs_folders_are_matched_and_told(cub200: Path, whole: Path, tmp_path: Path) -> None:
    images = cub200 / "CUB_200_2011" / "images"
    (images / "002.Laysan_Albatross").rename(images / "002.Laysans_Albatross")
    report = prepared("cub200", cub200, tmp_path / "out").report
    assert (report["rejected"], report["strays"]) == (0, [])
    assert "4 files lie under another spelling than images.txt has" in report["differences"]
    shards = {n: s for n, s in content(tmp_path / "out").items() if n.startswith("data/")}
    assert shards == {n: s for n, s in content(whole / "out").items() if n.startswith("data/")}


@pytest.mark.parametrize(
    ("name", "table", "old", "new", "words"),
    [
        ("ssw60", "video_ml.csv", "asset_id,", "asset,", "video_ml.csv has no column asset_id"),
        ("ssw60", "taxa.csv", "common_name", "name", "taxa.csv has no column common_name"),
        ("ssw60", "taxa.csv", "\n1,", "\n9,", "label '9' is not one of 0 to 3"),
        ("cub200", "CUB_200_2011/classes.txt", "1 001.", "1 ", "classes.txt:1"),
        ("cub200", "CUB_200_2011/train_test_split.txt", "\n2 1", "\n2", "train_test_split.txt, line 2"),
        ("vb100", "vb100_annotations_v1/test_video.txt", None, "", "test_video.txt has no lines"),
        ("vb100", "vb100_annotations_v1/test_video.txt", None, "\udcff", "is not UTF-8"),
    ],
)  # fmt: skip
def test_tables_of_another_form_are_refused_in_one_line(
    name: str, table: str, old: str | None, new: str, words: str, whole: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(whole / name, tmp_path / name))
    if old is None:
        (root / table).write_text(new, encoding="utf-8", errors="surrogateescape")
    else:
        edit(root / table, (old, new))
    with pytest.raises(EvalsetError) as caught:
        prepared(name, root, tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_column_that_is_not_used_may_be_missing_and_is_told(ssw60: Path, tmp_path: Path) -> None:
    edit(ssw60 / "video_ml.csv", ("orginal_video_start_second", "original_video_start_second"))
    report = prepared("ssw60", ssw60, tmp_path / "out", limit=1).report
    assert sum("orginal_video_start_second" in line for line in report["differences"]) == 1


def test_a_truncated_archive_gives_what_is_certain_and_names_the_rest(ssw60: Path, tmp_path: Path) -> None:
    archive = packed(ssw60, tmp_path / "ssw60.tar.gz", backwards=True)
    tables = tmp_path / "both"
    tables.mkdir()
    for table in ssw60.glob("*.csv"):
        shutil.copy(table, tables)
    data = archive.read_bytes()
    (tables / "ssw60.tar.gz").write_bytes(data[: len(data) // 2])
    found = prepared("ssw60", tables, tmp_path / "out")
    report = found.report
    assert set(report["rejects_by_reason"]) == {"file_missing"}
    assert any("ends too early" in note for note in report["notes"])
    assert any("MD5" in note for note in report["notes"])
    assert report["strays_by_reason"] in ({}, {"lost_member": 1})
    assert not report["accepted"]
    rows = sum(sum(splits.values()) for k, splits in report["found"].items() if k != "classes")
    assert rows == 64 - report["rejected"]
    assert 0 < rows < 64
    # The whole archive takes the place of the part: what was decoded would be used again, and all rows are there.
    shutil.copy(archive, tables)
    assert prepared("ssw60", tables, tmp_path / "out").report["rejected"] == 0
    # The other way round, the finished set stays.
    before = content(tmp_path / "out")
    (tables / "ssw60.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(BuildError, match="holds a finished set, which stays"):
        prepared("ssw60", tables, tmp_path / "out")
    assert content(tmp_path / "out") == before
    # Its work is kept, under the work of the whole archive it goes on.
    shutil.copy(archive, tables)
    again = prepared("ssw60", tables, tmp_path / "out", resume=True)
    assert again.resumed == rows
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("form", ("x.tar.gz", "x.zip"))
def test_an_archive_cut_before_its_tables_is_one_line(form: str, ssw60: Path, tmp_path: Path) -> None:
    archive = packed(ssw60, tmp_path / form)
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(EvalsetError) as caught:
        prepared("ssw60", archive, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "cut short" in str(caught.value)


def test_an_archive_whose_checksum_differs_is_refused(ssw60: Path, tmp_path: Path) -> None:
    archive = packed(ssw60, tmp_path / "x.tar.gz")
    data = bytearray(archive.read_bytes())
    data[-8] ^= 1
    archive.write_bytes(data)
    with pytest.raises(EvalsetError, match="checksum differs"):
        prepared("ssw60", archive, tmp_path / "out")


@pytest.mark.parametrize("data", (b"", b"<html>not found</html>", bytes(2000)))
def test_what_is_no_archive_is_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ssw60.tar.gz"
    path.write_bytes(data)
    with pytest.raises(BirdmmlError, match="download it again"):
        prepared("ssw60", path, tmp_path / "out")


def test_a_hostile_archive_writes_nothing_outside_and_loses_nothing_inside(
    cub200: Path, whole: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.jpg"
    victim.write_bytes(b"mine")
    archive = tmp_path / "CUB.tar"
    packed(cub200, archive)
    with tarfile.open(archive, "a") as t:
        add(t, "images/link.jpg", b"", tarfile.SYMTYPE, str(victim))
        add(t, "images/hard.jpg", b"", tarfile.LNKTYPE, "../victim.jpg")
        add(t, "../images/climb.jpg", b"x")
        add(t, str(tmp_path / "images" / "absolute.jpg"), b"x")
        add(t, "images/device.jpg", b"", tarfile.CHRTYPE)
        add(t, "images/001.Black_footed_Albatross/extra.jpg", b"x")
        first = sorted((cub200 / "CUB_200_2011" / "images").rglob("*.jpg"))[0]
        add(t, first.relative_to(cub200).as_posix(), b"another photo")
    report = prepared("cub200", archive, tmp_path / "out").report
    assert report["strays_by_reason"] == {"refused_member": 5, "duplicate_member": 1, "not_annotated": 1}
    assert report["rejected"] == 0
    assert content(tmp_path / "out") == content(whole / "out")
    assert victim.read_bytes() == b"mine"
    assert {p.name for p in tmp_path.iterdir()} == {"cub200", "victim.jpg", "CUB.tar", "out"}


def test_a_link_in_place_of_a_media_folder_is_told(cub200: Path, tmp_path: Path) -> None:
    images = cub200 / "CUB_200_2011" / "images"
    images.rename(tmp_path / "moved")
    images.symlink_to(tmp_path / "moved")
    with pytest.raises(EvalsetError, match="not one file .* is there .*a link: name the folder"):
        prepared("cub200", cub200, tmp_path / "out")


def test_nothing_of_the_set_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvalsetError, match="taxa.csv is missing"):
        prepared("ssw60", tmp_path / "empty", tmp_path / "out")


def test_a_folder_that_is_no_prepared_set_is_left_alone(cub200: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="nothing was changed"):
        prepared("cub200", cub200, cub200)


def test_a_full_disk_is_one_line_and_finished_work_is_kept(
    cub200: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
        with pytest.raises(BuildError, match="free some space and run the same command again"):
            prepared("cub200", cub200, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert prepared("cub200", cub200, tmp_path / "out", resume=True).resumed == 12


def test_resume_without_unfinished_work_is_refused(cub200: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no unfinished work"):
        prepared("cub200", cub200, tmp_path / "out", resume=True)
