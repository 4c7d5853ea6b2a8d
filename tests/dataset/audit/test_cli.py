import json
import shutil
from pathlib import Path

import pytest
from helpers import tree


def _stat(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_mode) for p in [root, *root.rglob("*")]}


def test_an_intact_dataset_exits_0_and_says_where_the_page_is(cli, small_demo, tmp_path):
    ran = cli("audit", small_demo, "--out", tmp_path / "page", "--workers", 1)
    assert ran.code == 0
    assert f"look at it  {tmp_path / 'page' / 'index.html'}" in ran.out
    assert "60 rows of 6 species" in ran.out
    assert "SERIOUS" not in ran.out
    assert {p.name for p in (tmp_path / "page").iterdir()} == {"index.html", "audit.json"}


def test_a_red_line_exits_1_and_json_is_what_is_written(cli, demo, spoilt, tmp_path):
    root = spoilt(demo, "audio_zeros")
    ran = cli("audit", root, "--out", tmp_path, "--json", "--workers", 1, "--sample", 240, "--seed", 3)
    assert ran.code == 1
    told = json.loads(ran.out)
    assert told == json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert (told["sample"], told["seed"], told["format"]) == (240, 3, 1)
    (audio,) = [p for p in told["probes"] if p["modality"] == "audio"]
    assert (audio["rows"], audio["verdict"]) == (240, "at chance")


def test_the_dataset_is_only_read(cli, small_demo, tmp_path):
    root = tmp_path / "d"
    shutil.copytree(small_demo, root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before, contents = _stat(root), tree(root)
    assert cli("audit", root, "--out", tmp_path / "page", "--workers", 1).code == 0
    assert (_stat(root), tree(root)) == (before, contents)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert cli("audit", root, "--workers", 1).code == 0
    added = set(tree(root)) - set(contents)
    assert added == {"report/audit/index.html", "report/audit/audit.json"}
    assert {k: v for k, v in tree(root).items() if k not in added} == contents


def test_a_place_that_cannot_be_written_is_found_before_the_work(cli, small_demo, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    ran = cli("audit", small_demo, "--out", tmp_path / "file" / "page")
    assert ran.code == 2
    assert "choose another folder with --out" in ran.err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "nowhere", "is not a folder"),
        (lambda root: root, "holds no Parquet file"),
        (lambda root: (root / "a.parquet").write_text("hello", encoding="utf-8") and root, "can be read"),
    ],
)
def test_what_cannot_be_read_exits_1_and_is_named(cli, tmp_path, make, words):
    ran = cli("audit", make(tmp_path), "--out", tmp_path / "page")
    assert ran.code == 1
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("options", [("--sample", 0), ("--seed", -1), ("--near-duplicates", 65), ("--nope",)])
def test_wrong_usage_exits_2(cli, small_demo, options):
    assert cli("audit", small_demo, *options).code == 2


def test_an_evaluation_set_that_is_none_is_named(cli, small_demo, tmp_path):
    (tmp_path / "empty").mkdir()
    ran = cli("audit", small_demo, "--out", tmp_path / "page", "--evalset", tmp_path / "empty", "--workers", 1)
    assert ran.code == 1
    assert "empty" in ran.err
