"""`birdmml info` and `birdmml validate` on prepared sets: every set's fake, and defects planted one by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import evalset
from helpers import Ran
from helpers.evalsets import prepared

from birdmml.core import discover, files
from birdmml.evalsets import prepare
from birdmml.evalsets.check import check
from birdmml.evalsets.read import digest
from birdmml.media.image import encode_jpeg

Cli = Callable[..., Ran]
Edit = Callable[[list[dict[str, Any]]], object]
NAMES = [n for n in discover.names("evaluation set") if hasattr(discover.load("evaluation set", n), "KIND")]


@pytest.fixture(scope="module", params=NAMES)
def every(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each set in turn, prepared from its fake; read only."""
    return made(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("vb100", tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("mosi", tmp_path_factory.mktemp("numbers"))


def made(name: str, folder: Path) -> Path:
    module = discover.load("evaluation set", name)
    if module.KIND == "arrays":
        prepare.prepare_arrays(module, evalset(name, folder / "fake", 0), folder / "out", {})
    else:
        prepared(name, evalset(name, folder / "fake"), folder / "out")
    return folder / "out"


def shards(root: Path) -> list[Path]:
    return sorted((root / "data").rglob("*.parquet"))


def altered(root: Path, to: Path, edit: Edit) -> Path:
    """A copy whose first shard has other rows, and a manifest that vouches for them."""
    out = Path(shutil.copytree(root, to / "out"))
    told = json.loads((out / "manifest.json").read_text())
    (collection,) = told["collections"].values()
    about = next(s for part in collection["splits"].values() for s in part["shards"])
    path = out / about["path"]
    schema = pq.read_schema(path)
    rows = pq.read_table(path).to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    about.update(bytes=path.stat().st_size, sha256=files.sha256_file(path))
    told["digest"] = digest(told["classes"], told["settings"], told["collections"])
    files.write_json(out / "manifest.json", told)
    return out


def test_every_set_is_described_and_sound(every: Path, cli: Cli) -> None:
    told = json.loads((every / "manifest.json").read_text())
    ran = cli("info", every)
    assert (ran.code, ran.err) == (0, "")
    assert "MADE FROM A FAKE" in ran.out
    card = discover.load("evaluation set", told["name"]).CARD
    for words in (card.summary, card.license, told["digest"], *told["differences"][:10]):
        assert words in ran.out
    for splits in (c["splits"] for c in told["collections"].values()):
        assert ", ".join(f"{name} {part['rows']:,}" for name, part in splits.items()) in ran.out
    assert json.loads(cli("info", every, "--json").out) == told
    ran = cli("validate", every, "--workers", "1")
    rows = sum(p["rows"] for c in told["collections"].values() for p in c["splits"].values())
    assert (ran.code, ran.err) == (0, "")
    assert f"{rows} rows in {len(shards(every))} shards re-read: sound" in ran.out


def test_tampered_bytes_and_a_missing_shard_are_a_line_each(every: Path, cli: Cli, tmp_path: Path) -> None:
    out = Path(shutil.copytree(every, tmp_path / "out"))
    first, second, *_ = shards(out)
    data = bytearray(first.read_bytes())
    data[4] ^= 1  # Of the first page's header or values.
    first.write_bytes(data)
    second.unlink()
    ran = cli("validate", out, "--workers", "1")
    assert ran.code == 1
    lines = ran.err.splitlines()
    assert sum("SHA-256 differs" in line and first.name in line for line in lines) == 1
    assert sum("not there" in line and second.name in line for line in lines) == 1
    assert "prepare it again" in ran.out
    told = json.loads(cli("validate", out, "--workers", "1", "--json").out)
    assert not told["sound"]
    assert len(told["problems"]) == len(lines)


@pytest.mark.parametrize(
    ("edit", "check_name", "words"),
    [
        (lambda r: r[0]["frames"][2].update(bytes=b"\xff\xd8 no picture"), "not_an_image", "frames 2: "),
        (lambda r: r[0]["frames"][2].update(bytes=None), "", "frames 2: "),
        (lambda r: r[0]["sweep"].clear(), "counts", "0 single frames at"),
        (lambda r: r[0]["frames"].pop(), "counts", "7 frames, 8 were prepared"),
        (lambda r: r[0].update(label=99), "label", "label 99 has no class"),
        (lambda r: r[0].update(label=-1), "label", "label -1 has no class"),
        (lambda r: r[0].update(label=(r[0]["label"] + 1) % 2), "label", ", not "),
        (lambda r: r[0].update(id=r[1]["id"]), "duplicate_id", "two rows have this id"),
        (lambda r: r[0].update(id=""), "empty", "it has no id"),
    ],
)
def test_rows_that_a_manifest_vouches_for_are_read_all_the_same(
    edit: Edit, check_name: str, words: str, films: Path, tmp_path: Path
) -> None:
    (problem,) = check(altered(films, tmp_path, edit)).problems
    assert check_name in ("", problem.check)
    assert words in problem.detail
    assert "row" in problem.where


def test_a_sound_track_that_does_not_decode_is_told_and_a_silent_film_is_not(films: Path, tmp_path: Path) -> None:
    def silent(rows: list[dict[str, Any]]) -> None:
        rows[0]["audio"] = None
        rows[1]["audio"] = {"bytes": b"fLaC", "path": "x.flac"}

    (problem,) = check(altered(films, tmp_path, silent)).problems
    assert problem.detail.startswith("audio: ")


def test_numbers_that_are_none_are_told(numbers: Path, tmp_path: Path) -> None:
    def spoil(rows: list[dict[str, Any]]) -> None:
        rows[0]["vision"][5] = float("nan")
        rows[1]["vision_length"] = 10_000

    found = check(altered(numbers, tmp_path, spoil)).problems
    assert [p.check for p in found] == ["not_finite", "length"]
    assert found[1].detail.startswith("vision has 10000 of")


def test_other_columns_and_kinds_are_one_line(films: Path, tmp_path: Path) -> None:
    out = altered(films, tmp_path, lambda rows: None)
    told = json.loads((out / "manifest.json").read_text())
    path = shards(out)[0]
    pq.write_table(pq.read_table(path).drop_columns(["sweep", "fps"]), path)
    assert "it lacks fps, sweep" in " ".join(p.detail for p in check(out).problems)
    told["collections"]["videos"]["kind"] = "smells"
    files.write_json(out / "manifest.json", told)
    assert any("smells is no kind of collection" in p.detail for p in check(out).problems)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": None}, {"classes": [1, 2]}, {"settings": []}, {"collections": None}, {"schema_version": 9},
        {"differences": None},
    ],
)  # fmt: skip
def test_a_garbled_manifest_is_one_line(change: dict[str, Any], films: Path, cli: Cli, tmp_path: Path) -> None:
    out = Path(shutil.copytree(films, tmp_path / "out"))
    told = json.loads((out / "manifest.json").read_text())
    files.write_json(out / "manifest.json", told | change)
    for command in ("info", "validate"):
        if command == "validate" and "differences" in change:
            continue  # What was different once is not read again.
        ran = cli(command, out)
        assert ran.code != 0
        assert len(ran.err.strip().splitlines()) == 1
        assert "prepare" in ran.err


def test_frames_of_a_film_have_one_size(films: Path, tmp_path: Path) -> None:
    other = encode_jpeg(np.full((40, 60, 3), 90, np.uint8))
    out = altered(films, tmp_path, lambda rows: rows[0]["frames"][0].update(bytes=other))
    assert [p.detail for p in check(out).problems] == ["frames: pictures of 2 sizes"]
