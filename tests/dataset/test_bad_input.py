"""Every bad input of the first issue: one clear line, the right exit code, and what was there left alone."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import Ran, bird_folder, photo, sound, tree
from PIL import Image

Cli = Callable[..., Ran]
KEEP = ("--clip-seconds", "1", "--workers", "1")


@pytest.fixture
def refused(cli: Cli, birds: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Build over an existing dataset, which must survive; gives the one message that was printed."""
    out = tmp_path / "out"
    assert cli("build", "--source", "folder", "--from", birds, "--out", out, *KEEP).code == 0
    before = tree(out)

    def run(root: Path, *options: object, code: int = 1) -> str:
        ran = cli("build", "--source", "folder", "--from", root, "--out", out, *KEEP, *options)
        assert ran.code == code, ran.err
        assert "Traceback" not in ran.err
        assert ran.err.startswith("birdmml: ")
        return ran.err

    yield run
    assert tree(out) == before


def listed(cli: Cli, root: Path, out: Path, *options: object) -> dict[str, tuple[str, str]]:
    """Build with rejects allowed; path -> (reason, detail) from report/validation.json."""
    ran = cli("build", "--source", "folder", "--from", root, "--out", out, "--max-rejects", "0.9", *KEEP, *options)
    assert ran.code == 0, ran.err
    told = json.loads((out / "report" / "validation.json").read_bytes())
    assert f"{len(told['rejects'])} rejected" in ran.out
    return {r["path"]: (r["reason"], r["detail"]) for r in told["rejects"]}


def test_an_empty_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "has neither images/<species>/ and audio/<species>/ folders nor a manifest" in refused(tmp_path / "nothing")
    (tmp_path / "hollow" / "images").mkdir(parents=True)
    assert "has no photo and no recording to offer" in refused(tmp_path / "hollow")


def test_a_folder_that_does_not_exist(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "gone")


def test_no_folder_named(cli: Cli, tmp_path: Path) -> None:
    ran = cli("build", "--source", "folder", "--out", tmp_path / "out")
    assert (ran.code, "add --from DIR" in ran.err) == (2, True)


def test_a_species_that_nobody_knows(cli: Cli, birds: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    photo(birds / "images" / "Setophaga petechiaa" / "x.jpg")
    assert "unknown species 'Setophaga petechiaa': nearest are Setophaga petechia" in refused(birds)
    reason, _ = listed(cli, birds, tmp_path / "o2")["images/Setophaga petechiaa/x.jpg"]
    assert reason == "unknown_species"


def test_files_that_are_not_what_they_say(cli: Cli, birds: Path, tmp_path: Path) -> None:
    images, audio = birds / "images" / "Turdus migratorius", birds / "audio" / "Turdus migratorius"
    whole = photo(images / "cut.jpg", size=(300, 300)).read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "text.jpg").write_text("no photo")
    (images / "empty.jpg").write_bytes(b"")
    (images / "notes.txt").write_text("seen at dawn")
    Image.new("1", (20_000, 20_000)).save(images / "huge.png")
    (audio / "empty.wav").write_bytes(b"")
    soundfile.write(audio / "no_samples.wav", np.zeros(0), 8000)
    soundfile.write(audio / "nan.wav", np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    soundfile.write(audio / "zeros.wav", np.zeros(8000), 8000)
    soundfile.write(audio / "constant.wav", np.full(8000, 0.3), 8000)
    night(audio / "night.wav")
    seen = listed(cli, birds, tmp_path / "out")
    expected = {
        "cut.jpg": "image_damaged", "text.jpg": "not_an_image", "empty.jpg": "empty_file",
        "notes.txt": "unknown_type", "huge.png": "image_too_large", "empty.wav": "empty_file",
        "no_samples.wav": "audio_empty", "nan.wav": "audio_not_finite", "zeros.wav#0s": "audio_constant",
        "constant.wav#0s": "audio_constant", "night.wav": "audio_too_long",
    }  # fmt: skip
    assert {k.split("/")[-1]: reason for k, (reason, _) in seen.items()} == expected
    assert "8.0 h is over the limit" in seen["audio/Turdus migratorius/night.wav"][1]
    assert "20,000 x 20,000 px" in seen["images/Turdus migratorius/huge.png"][1]


def night(path: Path) -> None:
    """Eight hours of WAV that take no disk: a header, and a hole."""
    frames, rate = 8 * 3600 * 8000, 8000
    with path.open("wb") as f:
        f.write(b"RIFF" + struct.pack("<I", 36 + 2 * frames) + b"WAVEfmt ")
        f.write(struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data" + struct.pack("<I", 2 * frames))
        f.truncate(44 + 2 * frames)


@pytest.mark.parametrize("name", ["cut.jpg", "text.jpg"])
def test_one_bad_file_in_a_small_folder_is_over_the_limit(refused: Callable[..., str], birds: Path, name: str) -> None:
    (birds / "images" / "Turdus migratorius" / name).write_bytes(b"\xff\xd8\xff\xe0 no more")
    message = refused(birds)
    assert "1 of 31 media were rejected (3.2 %), over --max-rejects 0.01" in message
    assert f"images/Turdus migratorius/{name}" in message
    assert "validation.json" in message


def manifest(root: Path, text: str | bytes, name: str = "manifest.csv") -> Path:
    path = root / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


GOOD = "species,path\n" + "".join(
    f"Turdus migratorius,{kind}/Turdus migratorius/{stem}{i}.{suffix}\n"
    for kind, stem, suffix in (("images", "p", "jpg"), ("audio", "r", "wav"))
    for i in range(5)
)


def with_column(name: str, images: str = "") -> str:
    """GOOD with one more column: `images` for every photo, empty for every recording."""
    return GOOD.replace("path\n", f"path,{name}\n").replace(".jpg\n", f".jpg,{images}\n").replace(".wav\n", ".wav,\n")


def test_paths_that_leave_the_folder(cli: Cli, refused: Callable[..., str], birds: Path, tmp_path: Path) -> None:
    photo(tmp_path / "secret.jpg")
    (birds / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    bad = ("../secret.jpg", str(tmp_path / "secret.jpg"), "images/../../secret.jpg", r"C:\secret.jpg", "link.jpg")
    manifest(birds, GOOD + "".join(f"Turdus migratorius,{p}\n" for p in bad))
    assert "path_outside" in refused(birds)
    seen = listed(cli, birds, tmp_path / "o2")
    assert len(seen) == len(bad)
    assert {reason for reason, _ in seen.values()} == {"path_outside"}
    rejected = {p.replace("\\", "/") for p in bad}
    assert set(seen) == rejected


def test_a_missing_column(refused: Callable[..., str], birds: Path) -> None:
    manifest(birds, "path,licence\nimages/x.jpg,CC0\n")
    assert "no column species; found path, license: a manifest needs species, path" in refused(birds)


def test_a_manifest_without_rows(refused: Callable[..., str], birds: Path) -> None:
    manifest(birds, "species,path\n")
    assert "lists nothing" in refused(birds)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_is_no_part_of_the_first_column(cli: Cli, birds: Path, tmp_path: Path, mark: bytes) -> None:
    manifest(birds, mark + GOOD.encode())
    assert listed(cli, birds, tmp_path / "out") == {}


def test_utf_16_with_its_mark_is_read(cli: Cli, birds: Path, tmp_path: Path) -> None:
    manifest(birds, GOOD.encode("utf-16"))
    assert listed(cli, birds, tmp_path / "out") == {}


def test_latin_1_is_named_not_guessed(cli: Cli, refused: Callable[..., str], birds: Path, tmp_path: Path) -> None:
    text = (
        GOOD.replace("species,path", "species,path,author")
        .replace(".jpg\n", ".jpg,José\n")
        .replace(".wav\n", ".wav,\n")
    )
    manifest(birds, text.encode("latin-1"))
    assert "line 2: byte 0xe9 is not utf-8" in refused(birds)
    assert listed(cli, birds, tmp_path / "o2", "--encoding", "latin-1") == {}
    assert "José" in (tmp_path / "o2/data/train-00000-of-00001.parquet").read_bytes().decode("utf-8", "ignore")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('species,path\nTurdus migratorius,"images/x.jpg\n', "not a CSV table"),
        ("species,path\nTurdus migratorius,a.jpg,extra\n", "line 2: 3 values under 2 columns"),
        ("species,path,path\nx,y,z\n", "a column stands twice"),
        ("", "lists nothing"),
    ],
)
def test_tables_that_are_none(refused: Callable[..., str], birds: Path, text: str, words: str) -> None:
    manifest(birds, text)
    assert words in refused(birds)


@pytest.mark.parametrize(("text", "words"), [("{]\n", "line 1: not JSON"), ("[1]\n", "line 1: not an object")])
def test_json_lines_that_are_none(refused: Callable[..., str], birds: Path, text: str, words: str) -> None:
    manifest(birds, text, "manifest.jsonl")
    assert words in refused(birds)


def test_rows_that_cannot_be_taken_are_listed(cli: Cli, birds: Path, tmp_path: Path) -> None:
    rows = (
        GOOD.replace("species,path", "species,path,start_s").replace(".jpg\n", ".jpg,\n").replace(".wav\n", ".wav,\n")
    )
    rows += "Turdus migratorius,images/gone.jpg,\n"
    rows += "Turdus migratorius,audio/Turdus migratorius/r0.wav,soon\n"
    rows += "Turdus migratorius,audio/Turdus migratorius/r1.wav,77\n"
    rows += "Turdus migratorius,audio/Turdus migratorius/r2.wav,\n"
    rows += "Turdus migratorius,,\n"
    manifest(birds, rows)
    seen = listed(cli, birds, tmp_path / "out")
    assert sorted(reason for reason, _ in seen.values()) == [
        "audio_too_short", "bad_start_s", "listed_twice", "missing_file", "no_path",
    ]  # fmt: skip


def test_no_species_has_both(refused: Callable[..., str], tmp_path: Path) -> None:
    root = tmp_path / "halves"
    photo(root / "images" / "Turdus migratorius" / "a.jpg")
    sound(root / "audio" / "Cyanocitta cristata" / "a.wav")
    assert "no species has both a usable photo and a usable recording" in refused(root)


@pytest.mark.parametrize("content", ["file", "folder"])
def test_an_out_that_is_not_ours_is_left_alone(cli: Cli, birds: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "precious"
    if content == "file":
        out.write_text("thesis")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("thesis")
    ran = cli("build", "--source", "folder", "--from", birds, "--out", out, *KEEP)
    assert ran.code == 1
    assert ("is a file" if content == "file" else "exists and is not a birdmml dataset") in ran.err
    assert (out if content == "file" else out / "thesis.txt").read_text() == "thesis"
    assert not (tmp_path / "precious.partial").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB, where the tests may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_dataset_and_a_resumable_build(cli: Cli, small_disk: Path, tmp_path: Path) -> None:
    command = ("build", "--source", "folder", "--out", small_disk / "out", *KEEP, "--workers", "1")
    few = bird_folder(tmp_path / "few", photos=1, recordings=1)
    assert cli(*command, "--from", few).code == 0
    before = tree(small_disk / "out")
    many = bird_folder(tmp_path / "many", photos=10, recordings=10)
    ran = cli(*command, "--from", many)
    assert ran.code == 1
    assert "disk is full" in ran.err or "left: free some space" in ran.err
    assert tree(small_disk / "out") == before
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert cli(*command, "--from", many).code == 0
    assert cli("validate", small_disk / "out").code == 0


def test_a_read_only_out(cli: Cli, birds: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ran = cli("build", "--source", "folder", "--from", birds, "--out", small_disk / "out", *KEEP)
    assert ran.code == 1
    assert "cannot write to" in ran.err
    assert "choose another --out" in ran.err


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle(cli: Cli, tmp_path: Path, kind: signal.Signals) -> None:
    birds = bird_folder(tmp_path / "birds", photos=60, recordings=60)
    out = tmp_path / "out"
    assert cli("build", "--source", "folder", "--from", birds, "--out", out, *KEEP).code == 0
    before = tree(out)
    photo(birds / "images" / "Turdus migratorius" / "new.jpg")
    command = [sys.executable, "-m", "birdmml", "build", "--source", "folder", "--from", str(birds), *KEEP]
    running = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out.partial").glob("staging/*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(kind)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert tree(out) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--synergy", "0.3"), "--synergy is not an option of the folder source"),
        (("--clip-seconds", "0"), "out of range"),
        (("--split", "90/20"), "not three shares"),
        (("--split", "0/50/50"), "not three shares"),
        (("--max-rejects", "200%"), "is not a share"),
        (("--workers", "0"), "--workers"),
        (("--encoding", "klingon"), "is no encoding"),
    ],
)
def test_wrong_usage_exits_2(cli: Cli, birds: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    manifest(birds, GOOD)
    ran = cli("build", "--source", "folder", "--from", birds, "--out", tmp_path / "out", *options)
    assert (ran.code, words in ran.err) == (2, True), ran.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_source_names_the_nearest(cli: Cli, tmp_path: Path) -> None:
    ran = cli("build", "--source", "foldr", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "unknown source 'foldr': nearest are folder" in ran.err


def test_a_dry_run_counts_what_the_build_would_take_and_writes_nothing(cli: Cli, birds: Path, tmp_path: Path) -> None:
    (birds / "images" / "Turdus migratorius" / "notes.txt").write_text("seen at dawn")
    ran = cli("build", "--source", "folder", "--from", birds, "--out", tmp_path / "out", "--limit", "2", "--dry-run")
    assert ran.code == 0
    assert "6 photos and 6 recordings; 3 species have both; 1 entries are refused already" in ran.out
    assert "notes.txt: unknown_type" in ran.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["birds"]
