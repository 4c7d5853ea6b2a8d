from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import evalset
from helpers import Ran

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def cub200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evalset("cub200", tmp_path_factory.mktemp("fake") / "cub200")


def test_counts_and_differences_are_printed(cli: Cli, cub200: Path, tmp_path: Path) -> None:
    ran = cli("prepare", "CUB200", "--from", cub200, "--out", tmp_path / "out", "--workers", "1")
    assert ran.code == 0
    assert "MADE FROM A FAKE" in ran.out
    assert "train 6, test 6" in ran.out
    assert "images/train: 6 found, 5,994 published (-5,988)" in ran.out
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    ran = cli("prepare", "cub200", "--from", cub200, "--out", tmp_path / "out", "--workers", "1", "--json")
    assert json.loads(ran.out) == told
    assert ran.err == ""


def test_a_set_goes_to_evalsets_by_its_name(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evalset("vb100", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert cli("prepare", "VE100", "--from", "mine", "--workers", "1").code == 0
    assert json.loads((tmp_path / "evalsets" / "vb100" / "manifest.json").read_text())["name"] == "vb100"


def test_a_set_of_arrays_takes_its_own_settings(cli: Cli, tmp_path: Path) -> None:
    source = evalset("mosi", tmp_path / "mine")
    ran = cli("prepare", "mosi", "--from", source, "--out", tmp_path / "out", "--set", "limit=1")
    assert ran.code == 0, ran.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {split["rows"] for split in manifest["collections"]["samples"]["splits"].values()} == {1}


def test_a_dry_run_writes_nothing(cli: Cli, cub200: Path, tmp_path: Path) -> None:
    ran = cli("prepare", "cub200", "--from", cub200, "--out", tmp_path / "out", "--dry-run")
    assert ran.code == 0
    assert "nothing is written" in ran.out
    assert "images/test: 6 found, 5,794 published" in ran.out
    ran = cli("prepare", "cub200", "--from", cub200, "--out", tmp_path / "out", "--dry-run", "--json")
    assert json.loads(ran.out)["found"] == {"classes": 3, "images": {"train": 6, "test": 6}}
    assert list(tmp_path.iterdir()) == []


def test_too_many_rejects_exit_1_with_the_set_written(cli: Cli, tmp_path: Path) -> None:
    root = evalset("cub200", tmp_path / "mine")
    photo = sorted(root.rglob("*.jpg"))[0]
    photo.write_bytes(b"broken")
    command = ["prepare", "cub200", "--from", root, "--workers", "1"]
    ran = cli(*command, "--out", tmp_path / "a")
    assert ran.code == 1
    assert "rejected    1 rows: not_an_image" in ran.out
    assert "NOT WHOLE" in ran.out
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["found"]["images"]["train"] == 6
    assert photo.name in (tmp_path / "a" / "report" / "rejects.csv").read_text()
    assert cli(*command, "--out", tmp_path / "b", "--max-rejects", "10%").code == 0
    photo.unlink()
    assert cli(*command, "--dry-run").code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ssw60",), 2, "download ssw60.tar.gz (31.1 GB, md5 af0a54ea1a897d130d91be8ffe0de81c; for research only)"),
        (("ssw60", "--from", "nowhere"), 2, "run `birdmml prepare ssw60 --from ssw60.tar.gz`"),
        (("ve100", "--from", "nowhere"), 2, "run `birdmml prepare vb100 --from"),
        (("cub200", "--from", "nowhere"), 2, "CUB_200_2011.tgz"),
        (("ssw6", "--from", "."), 2, "nearest are ssw60"),
        (("demo", "--from", "."), 2, "demo needs no preparation"),
        (("cub200", "--from", "."), 1, "classes.txt is missing"),
        (("cub200", "--from", ".", "--set", "a=b"), 2, "only sets of arrays"),
        (("cub200", "--from", ".", "--max-rejects", "lots"), 2, "is not a share"),
        (("cub200", "--from", ".", "--resume"), 2, "no unfinished work"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(
    arguments: tuple[str, ...], code: int, words: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("prepare", *arguments)
    assert ran.code == code
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
