from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Ran

from birdmml.core import files
from birdmml.dataset.validate import validate
from birdmml.media.audio import encode_flac

Cli = Callable[..., Ran]


@pytest.fixture
def copy(small_demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_demo, tmp_path / "copy"))


def rewrite(root: Path, change: Callable[[list[dict[str, object]]], None], split: str = "test") -> None:
    """Change the rows of a shard and put its new hash into the manifest, as a forger would."""
    path = next((root / "data").glob(f"{split}-*.parquet"))
    schema = pq.read_schema(path)
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    manifest = json.loads((root / "manifest.json").read_bytes())
    (shard,) = manifest["splits"][split]["shards"]
    shard.update(sha256=files.sha256_file(path), bytes=path.stat().st_size)
    manifest["digest"] = files.digest({k: v for k, v in manifest.items() if k != "digest"})
    (root / "manifest.json").write_text(json.dumps(manifest))


def checks(root: Path) -> set[str]:
    return {p.check for p in validate(root).problems}


def test_a_fresh_build_is_sound(small_demo: Path, cli: Cli) -> None:
    ran = cli("validate", small_demo)
    assert ran.code == 0
    assert "60 rows in 3 shards re-read: sound" in ran.out
    assert json.loads(cli("validate", small_demo, "--json").out)["sound"] is True


def test_one_flipped_bit_is_found(copy: Path, cli: Cli) -> None:
    path = next((copy / "data").glob("train-*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ran = cli("validate", copy)
    assert ran.code == 1
    assert f"sha256: data/{path.name}" in ran.err


def test_a_truncated_a_missing_and_an_added_shard_are_found(copy: Path) -> None:
    train, val, test = (next((copy / "data").glob(f"{s}-*")) for s in ("train", "validation", "test"))
    train.write_bytes(train.read_bytes()[:-100])
    shutil.copy(test, copy / "data" / "train-00009-of-00009.parquet")
    val.unlink()
    assert {"sha256", "not_parquet", "missing_shard", "unlisted_shard"} <= checks(copy)


def test_a_changed_manifest_is_found(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["demo"] = False
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert checks(copy) == {"digest"}


def test_a_changed_video_is_found(copy: Path) -> None:
    next((copy / "evalsets").rglob("*.mp4")).write_bytes(b"other")
    assert checks(copy) == {"sha256"}


def test_zeros_for_sound_are_found(copy: Path) -> None:
    import numpy as np

    silence = encode_flac(np.zeros(2 * 22_050, np.float32))

    def change(rows: list[dict[str, object]]) -> None:
        rows[0]["audio"]["bytes"] = silence
        rows[0]["audio_sha256"] = files.sha256_bytes(silence)

    rewrite(copy, change)
    assert checks(copy) == {"audio_constant"}


def test_a_swapped_photo_an_empty_cell_and_a_wrong_label_are_found(copy: Path) -> None:
    def change(rows: list[dict[str, object]]) -> None:
        rows[0]["image"]["bytes"] = rows[1]["image"]["bytes"]
        rows[2]["audio"]["bytes"] = None
        rows[3]["label"] = (rows[3]["label"] + 1) % 6
        rows[4]["label"] = 4000
        rows[5]["id"] = rows[4]["id"]

    rewrite(copy, change)
    found = validate(copy).problems
    assert {p.check for p in found} == {"sha256", "not_audio", "label", "duplicate_id"}
    assert sum(p.check == "label" for p in found) == 2


@pytest.mark.parametrize("column", ["observation_id", "recording_id", "image_sha256"])
def test_a_leak_across_splits_is_found(copy: Path, column: str) -> None:
    other = pq.read_table(next((copy / "data").glob("train-*")), columns=[column]).to_pylist()[0][column]

    def change(rows: list[dict[str, object]]) -> None:
        rows[0][column] = other

    rewrite(copy, change)
    assert "split_leak" in checks(copy)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"birdmml_version": "0"}'])
def test_no_manifest_is_no_dataset(copy: Path, cli: Cli, content: str | None) -> None:
    if content is None:
        (copy / "manifest.json").unlink()
    else:
        (copy / "manifest.json").write_text(content)
    for command in ("validate", "info"):
        ran = cli(command, copy)
        assert ran.code == 1
        assert ran.err.startswith(f"birdmml: {copy}")
        assert "birdmml build" in ran.err or "build the dataset" in ran.err or "name a folder" in ran.err
        assert "Traceback" not in ran.err
