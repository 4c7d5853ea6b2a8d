"""The reader: what it refuses, and what `validate` finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import evalset
from helpers.evalsets import prepared

from birdmml.errors import EvalsetError, UnknownName
from birdmml.evalsets.read import Prepared, is_prepared, validate


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    prepared("cub200", evalset("cub200", root / "cub200"), root / "out")
    return root / "out"


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "out"))


def change(out: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    told = json.loads((out / "manifest.json").read_text())
    edit(told)
    (out / "manifest.json").write_text(json.dumps(told))


def first_shard(told: dict[str, Any]) -> dict[str, Any]:
    return told["collections"]["images"]["splits"]["train"]["shards"][0]  # type: ignore[no-any-return]


def test_a_sound_set_has_no_problems(out: Path) -> None:
    assert validate(out) == ()
    assert is_prepared(out)
    assert not is_prepared(out / "data")


def test_changed_missing_and_foreign_shards_are_told(out: Path) -> None:
    train, test = sorted((out / "data" / "images").glob("*.parquet"), reverse=True)
    shutil.copy(train, train.with_name("more.parquet"))
    data = bytearray(train.read_bytes())
    data[100] ^= 1
    train.write_bytes(data)
    test.unlink()
    told = validate(out)
    assert len(told) == 3
    assert sum("SHA-256 differs" in t for t in told) == 1
    assert sum("not there" in t for t in told) == 1
    assert sum("not in the manifest" in t for t in told) == 1
    with pytest.raises(EvalsetError, match="missing though the manifest lists it"):
        Prepared.open(out).rows("images", "test")


def test_a_changed_manifest_is_told(out: Path) -> None:
    change(out, lambda told: told["classes"].reverse())
    assert validate(out) == ("manifest.json: was changed after it was written: its digest differs",)


@pytest.mark.parametrize(
    "edit",
    [
        lambda told: first_shard(told).update(path="/etc/passwd"),
        lambda told: first_shard(told).update(path="../other.parquet"),
        lambda told: first_shard(told).pop("path"),
        lambda told: first_shard(told).update(rows="many"),
        lambda told: told.update(collections=[]),
        lambda told: told.update(collections={"images": 3}),
        lambda told: told.update(schema_version=2),
        lambda told: told.update(kind="dataset"),
        lambda told: told.pop("classes"),
    ],
)
def test_a_manifest_of_another_form_is_one_line(edit: Callable[[dict[str, Any]], object], out: Path) -> None:
    change(out, edit)
    with pytest.raises(EvalsetError) as caught:
        Prepared.open(out)
    assert "\n" not in str(caught.value)
    assert "prepare" in str(caught.value)


def test_no_manifest_says_what_to_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(EvalsetError, match="birdmml prepare NAME --from PATH"):
            Prepared.open(path)
    (tmp_path / "manifest.json").write_text("[")
    with pytest.raises(EvalsetError, match="cannot be read"):
        Prepared.open(tmp_path)


def test_unknown_collections_and_splits_name_the_nearest(out: Path) -> None:
    found = Prepared.open(out)
    with pytest.raises(UnknownName, match="nearest are images"):
        found.rows("image")
    with pytest.raises(UnknownName, match="train"):
        found.rows("images", "trian")
    assert found.splits("images") == ("train", "test")
    assert found.kind("images") == "images"


def test_rows_can_be_read_again_and_stopped_early(out: Path) -> None:
    rows = Prepared.open(out).rows("images", "all")
    first = [pixels.sum() for pixels in rows]
    assert next(iter(rows)).sum() == first[0]
    assert [pixels.sum() for pixels in rows] == first
