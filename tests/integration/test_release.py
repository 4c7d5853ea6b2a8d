"""`birdmml build --source release`: its options, its surroundings, and archives that mean harm."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran, photo, tree
from helpers.releases import Whole, listed, make, proven, rows, shelf, spoil, whole

from birdmml.dataset.place import BuildPlace
from birdmml.errors import BirdmmlError

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole(tmp_path_factory.mktemp("full") / "r", seed=17, species=4, rows=6, audio_parts=6)


@pytest.fixture(scope="module")
def calm(full: Whole, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("calm") / "out"
    make(shelf(full.truth.root, out.with_name("r")), out, max_rejects=0.01)
    return tree(out)


def command(root: Path, out: Path, *more: object) -> list[str]:
    args = ["build", "--source", "release", "--from", root, "--out", out, "--clip-seconds", "1", *more]
    return [sys.executable, "-m", "birdmml", *map(str, args)]


def test_dry_run_limit_and_json(full: Whole, tmp_path: Path, cli: Cli) -> None:
    root = shelf(full.truth.root, tmp_path / "r", {"ac"})
    args = ("build", "--source", "release", "--from", root, "--out", tmp_path / "out", "--clip-seconds", 1)
    ran = cli(*args, "--dry-run")
    assert ran.code == 0
    assert "missing: audio.tar.gz.part-ac" in ran.out
    assert "free" in ran.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r"]
    ran = cli(*args, "--limit", 3, "--json")
    assert ran.code == 0
    manifest = json.loads(ran.out)
    found = proven(full, tmp_path / "out")
    assert manifest["counts"]["rows"] == len(found)
    numbers = Counter({r["planned"].number: r["planned"].species for r in found}.values())
    assert max(numbers.values()) <= 3
    first = {r.number for r in full.truth.rows if r.number % 6 < 3}
    assert {r["planned"].number for r in found} <= first
    lines = {f"bird-mml.csv, line {full.truth.rows[n].line}" for n in first}
    assert {a["path"] for a in listed(tmp_path / "out", "absent")} <= lines
    ran = cli(*args)
    assert ran.code == 1
    assert "--limit is another one than in the unfinished build" in ran.err


def test_another_caption_column(full: Whole, tmp_path: Path, cli: Cli) -> None:
    args = ("build", "--source", "release", "--from", full.truth.root, "--out", tmp_path / "out")
    assert cli(*args, "--clip-seconds", 1, "--caption", "blip_caption").code == 0
    for row in rows(tmp_path / "out"):
        planned = full.truth.rows[row["number"] // 7]
        assert row["caption"] == planned.blip_caption
        kept = json.loads(row["metadata"])["combined_caption"]
        assert " ".join(kept.split()) == " ".join(planned.caption.split())
    ran = cli(*args, "--caption", "blip_captoin")
    assert ran.code == 2
    assert "nearest are blip_caption" in ran.err


def test_wrong_usage_is_told_and_leaves_nothing(full: Whole, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    here = ("--from", full.truth.root)
    for args, code, words in (
        (("--from", tmp_path / "no"), 1, "is no folder"),
        (("--from", tmp_path / "empty"), 1, "holds no file"),
        ((*here, "--resume"), 2, "no unfinished work"),
        ((*here, "--species", 4), 2, "--species is not an option of the release source"),
        ((*here, "--synergy", 0.5), 2, "--synergy"),
        ((*here, "--encoding", "utf-99"), 2, "is no encoding"),
    ):
        ran = cli("build", "--source", "release", "--out", out, *args)
        assert (ran.code, "Traceback" in ran.err) == (code, False)
        assert words in ran.err
        assert not out.exists()
        assert not out.with_name("out.partial").exists()
    ran = cli("build", "--source", "folder", "--record", "1", "--out", out)
    assert ran.code == 2
    assert "--record is not an option of the folder source" in ran.err


def test_a_second_build_on_the_same_folder_is_refused(full: Whole, tmp_path: Path, cli: Cli) -> None:
    with BuildPlace(tmp_path / "out"):
        ran = cli("build", "--source", "release", "--from", full.truth.root, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "another build is writing" in ran.err


def test_clock_locale_umask_hashes_and_the_order_of_files_change_nothing(
    full: Whole, calm: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    names = [*sorted((full.truth.root / "files").iterdir(), reverse=True), full.truth.root / "record.json"]
    for path in names:
        (root / path.name).write_bytes(path.read_bytes())
        os.utime(root / path.name, (1e9, 1e9))
    odd = {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "77", "PYTHONUTF8": "0"}
    late = "import sys, time; t = time.time; time.time = lambda: t() + 4e8; from birdmml.cli import main; main()"
    args = command(root, tmp_path / "out", "--workers", 2)[3:]
    done = subprocess.run(
        [sys.executable, "-c", late, *args], env=os.environ | odd, umask=0o077, cwd=root, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == calm


def test_an_unpacked_release_gives_the_rows_of_the_packed_one(
    full: Whole, calm: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "r"
    for name, data in full.media.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "bird-mml.csv").write_bytes((full.truth.root / "files/bird-mml.csv").read_bytes())
    some = sorted(n for n in full.media if n.endswith(".wav"))
    (root / some[0]).unlink()
    (root / some[0]).symlink_to("/etc/passwd")
    make(root, tmp_path / "out")
    found = proven(full, tmp_path / "out")
    assert {r["clip"] for r in found} == {*some[1:]}
    absent = listed(tmp_path / "out", "absent")
    assert {a["reason"] for a in absent} == {"audio_refused", "member_refused"}
    # With the archives beside the folder nothing is there twice.
    shelf(full.truth.root, tmp_path / "both")
    (tmp_path / "both" / "bird-mml").symlink_to(root / "bird-mml")
    make(tmp_path / "both", tmp_path / "twice")
    parquet = {k: v for k, v in calm.items() if k.startswith("data/")}
    assert {k: v for k, v in tree(tmp_path / "twice").items() if k.startswith("data/")} == parquet


def test_no_room_on_the_disk_and_room_again(full: Whole, calm: dict[str, str], tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: both end a write."""
    root, out = shelf(full.truth.root, tmp_path / "r"), tmp_path / "out"
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (3_000, 30_000, 60_000, 150_000, 300_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, usual[1]))
        try:
            with pytest.raises(BirdmmlError, match="free some space|cannot be written") as full_disk:
                make(root, out, max_rejects=0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        assert "\n" not in str(full_disk.value)
        assert not out.exists()
    make(root, out, max_rejects=0.01)
    assert tree(out) == calm


def test_a_small_tmpfs_that_grows(full: Whole, calm: dict[str, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        with pytest.raises(BirdmmlError, match="free some space|cannot be written"):
            make(full.truth.root, disk / "out", max_rejects=0.01)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        make(full.truth.root, disk / "out", max_rejects=0.01, resume=True)
        assert tree(disk / "out") == calm
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_zip_that_means_harm(full: Whole, tmp_path: Path) -> None:
    root = shelf(full.truth.root, tmp_path / "deep" / "r", record=False)
    (root / "photos.tar.gz").unlink()
    bird = photo(tmp_path / "x.jpg").read_bytes()
    with zipfile.ZipFile(root / "photos.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("../../../evil.jpg", "/srv/evil-absolute.jpg", "photos/../../evil.jpg", "C:/evil.jpg"):
            packed.writestr(name, bird)
        link = zipfile.ZipInfo("photos/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("photos/bomb.jpg", bytes(100 << 20))
        for name, data in full.media.items():
            if "/photos/" in name:
                packed.writestr(name, data)
    before = tree(tmp_path)
    make(root, tmp_path / "out")
    refused = {a["path"] for a in listed(tmp_path / "out", "absent") if a["reason"] == "member_refused"}
    assert refused == {
        "../../../evil.jpg", "/srv/evil-absolute.jpg", "photos/../../evil.jpg", "C:/evil.jpg", "photos/link.jpg",
        "photos/bomb.jpg",
    }  # fmt: skip
    assert {k: v for k, v in tree(tmp_path).items() if not k.startswith("out/")} == before
    assert len({r["planned"].number for r in proven(full, tmp_path / "out")}) == len(full.truth.rows)


def test_a_bomb_does_not_fill_the_memory(full: Whole, tmp_path: Path) -> None:
    root = shelf(full.truth.root, tmp_path / "r", record=False)
    spoil(root / "photos.tar.gz", bombed((root / "photos.tar.gz").read_bytes(), 200 << 20))
    tracemalloc.start()
    make(root, tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    refused = [a for a in listed(tmp_path / "out", "absent") if a["reason"] == "member_refused"]
    assert [a["path"] for a in refused] == ["bird-mml/photos/bomb.jpg"]
    assert peak < 64 << 20


@pytest.mark.drill
def test_a_bomb_does_not_show_in_the_process(full: Whole, tmp_path: Path) -> None:
    """400 MiB of zeros in a member: the peak of the resident memory beside that of a build without it."""
    peaks = []
    for name in ("plain", "bomb"):
        root = shelf(full.truth.root, tmp_path / name, record=False)
        if name == "bomb":
            spoil(root / "photos.tar.gz", bombed((root / "photos.tar.gz").read_bytes(), 400 << 20))
        measured = "import resource as r; from birdmml.cli import main\ntry:\n main()\nfinally:\n"
        measured += " print(r.getrusage(r.RUSAGE_SELF).ru_maxrss)"
        args = command(root, tmp_path / f"out-{name}", "--workers", 1)[3:]
        done = subprocess.run([sys.executable, "-c", measured, *args], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) >> 10)
    print("MiB:", peaks)
    assert peaks[1] < peaks[0] + 64


class Zeros(io.RawIOBase):
    """Zeros without end."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def bombed(packed: bytes, size: int) -> bytes:
    """The archive with a member of zeros in front."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(packed)) as old,
        tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as new,
    ):
        info = tarfile.TarInfo("bird-mml/photos/bomb.jpg")
        info.size = size
        new.addfile(info, Zeros())
        for member in old:
            new.addfile(member, old.extractfile(member))
    return out.getvalue()


def test_every_row_of_the_table_is_in_the_dataset_or_on_a_list(full: Whole, tmp_path: Path) -> None:
    root = shelf(full.truth.root, tmp_path / "r", {"ab", "ae"})
    make(root, tmp_path / "out")
    with (root / "bird-mml.csv").open(encoding="utf-8", newline="") as f:
        count = sum(1 for _ in csv.DictReader(f))
    found = {r["planned"].number for r in proven(full, tmp_path / "out")}
    absent = {a["path"] for a in listed(tmp_path / "out", "absent")}
    assert len(found) + len(absent) == count
