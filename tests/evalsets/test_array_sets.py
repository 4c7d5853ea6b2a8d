"""A set of arrays on disk: equal bytes, whole or absent, readable by others, and hostile manifests."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tree

from birdmml.core import discover, files
from birdmml.errors import BuildError, EvalsetError, UsageError
from birdmml.evalsets import prepare
from birdmml.evalsets.arrays import ArraySet, Field, Samples, fields_of, schema, table
from birdmml.evalsets.check import check

NAMES = [
    name
    for name in discover.names("evaluation set")
    if getattr(discover.load("evaluation set", name), "KIND", "") == "arrays"
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    module = discover.load("evaluation set", "mosi")
    prepare.prepare_arrays(module, fakes.evalset("mosi", folder / "fake", 1), folder / "out", {})
    return folder / "out"


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("name", NAMES)
def test_every_set_of_arrays_keeps_the_contract(name: str, tmp_path: Path) -> None:
    module = discover.load("evaluation set", name)
    source = fakes.evalset(name, tmp_path / "fake", seed=5)
    told: list[tuple[str, int, int]] = []
    made = prepare.prepare_arrays(module, source, tmp_path / "a", {}, lambda *what: told.append(what))
    assert told and all(0 <= done <= total for _, done, total in told)
    again = prepare.prepare_arrays(module, fakes.evalset(name, tmp_path / "again", seed=5), tmp_path / "b", {})
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert made.manifest == again.manifest == json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert set(made.manifest) >= {
        "birdmml_version", "kind", "schema_version", "name", "demo", "classes", "collections", "published", "found",
        "differences", "settings", "digest",
    }  # fmt: skip
    found = ArraySet.open(tmp_path / "a")
    assert check(tmp_path / "a").problems == ()
    assert (found.name, found.demo, found.splits) == (name, True, ("train", "validation", "test"))
    assert {f.name for f in found.fields} == set(module.CARD.modalities)
    assert module.DOWNLOAD.words().startswith("download ")
    assert module.PROMPT.format(common_name="x")
    assert module.PUBLISHED
    for split in found.splits:
        assert len(found.ids(split)) == len(found.labels(split)) == found.rows(split) > 0
    # Other seeds are other data.
    other = prepare.prepare_arrays(module, fakes.evalset(name, tmp_path / "other", seed=6), tmp_path / "c", {})
    assert other.manifest["digest"] != made.manifest["digest"]


def test_blocks_give_what_whole_splits_give(root: Path) -> None:
    found = ArraySet.open(root)
    whole = found.read("train")
    blocks = list(found.blocks("train", rows=4))
    assert [len(b.ids) for b in blocks] == [4, 4, 4, 3]
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(np.concatenate([b.arrays[name] for b in blocks]), array)
        assert array.dtype == np.float32
    assert tuple(i for b in blocks for i in b.ids) == whole.ids == found.ids("train")
    assert found.labels("train").tolist() == whole.labels.tolist()


def test_many_shards_and_groups_give_the_same_rows(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    module = discover.load("evaluation set", "mosi")
    row = sum(f.bytes for f in ArraySet.open(root).fields)
    monkeypatch.setattr(prepare, "SHARD_BYTES", 4 * row)
    monkeypatch.setattr(prepare, "GROUP_BYTES", 3 * row)
    out = root.parent / "many"
    made = prepare.prepare_arrays(module, fakes.evalset("mosi", root.parent / "fake", 1), out, {})
    shards = made.manifest["collections"]["samples"]["splits"]["train"]["shards"]
    assert [s["rows"] for s in shards] == [4, 4, 4, 3]
    assert shards[1]["path"] == "data/samples/train-00001-of-00004.parquet"
    assert pq.ParquetFile(out / shards[0]["path"]).num_row_groups == 2
    assert check(out).problems == ()
    one, many = ArraySet.open(root).read("train"), ArraySet.open(out).read("train")
    assert one.ids == many.ids
    np.testing.assert_array_equal(one.arrays["text"], many.arrays["text"])


def test_the_columns_are_plain_parquet(root: Path) -> None:
    found = pq.read_table(root / "data/samples/test-00000-of-00001.parquet")
    assert found.column_names == [
        "id", "label", "class_name", "vision", "audio", "text", "vision_length", "audio_length", "text_length"
    ]  # fmt: skip
    assert found.schema.field("vision").type == pa.list_(pa.float32(), 1000)
    assert found.schema.field("vision").metadata == {b"shape": b"[50, 20]", b"divisor": b"1"}
    assert set(found["class_name"].to_pylist()) <= {"negative", "not negative"}
    first = np.array(found["audio"][0].as_py(), np.float32).reshape(50, 5)
    np.testing.assert_array_equal(first, ArraySet.open(root).read("test").arrays["audio"][0])


@pytest.mark.parametrize("engine", ("polars", "duckdb"))
def test_other_engines_read_them(engine: str, root: Path) -> None:
    library = pytest.importorskip(engine)
    path = root / "data/samples/test-00000-of-00001.parquet"
    if engine == "polars":
        values = library.read_parquet(path)["audio"][0].to_list()
    else:
        values = library.sql(f"select audio from '{path}' limit 1").fetchall()[0][0]
    np.testing.assert_array_equal(np.float32(values), ArraySet.open(root).read("test").arrays["audio"][0].ravel())


def test_a_run_that_is_cut_short_leaves_what_was_there(root: Path, tmp_path: Path) -> None:
    module = discover.load("evaluation set", "mosi")
    source = fakes.evalset("mosi", tmp_path / "fake", 2)
    before = tree(root)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "write validation":
            raise KeyboardInterrupt

    for out in (root, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare_arrays(module, source, out, {}, stop)
    assert tree(root) == before
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob("*.partial"))
    prepare.prepare_arrays(module, source, root, {})
    assert check(root).problems == ()
    assert tree(root).keys() == before.keys()
    assert tree(root) != before


def test_what_is_not_ours_is_not_written_over(root: Path, tmp_path: Path) -> None:
    mosi, mustard = (discover.load("evaluation set", n) for n in ("mosi", "mustard"))
    before = tree(root)
    with pytest.raises(BuildError, match="nothing was changed"):
        prepare.prepare_arrays(mustard, fakes.evalset("mustard", tmp_path / "mustard", 1), root, {})
    assert tree(root) == before
    source = fakes.evalset("mosi", tmp_path / "fake", 1)
    (root / "manifest.json").write_text("{}")
    with pytest.raises(BuildError, match="nothing was changed"):
        prepare.prepare_arrays(mosi, source, root, {})
    with pytest.raises(BuildError, match="is a file"):
        prepare.prepare_arrays(mosi, source, root / "manifest.json", {})
    assert tree(root).keys() == before.keys()


def test_a_disk_that_does_not_take_it_is_one_line(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> None:
    mosi = discover.load("evaluation set", "mosi")
    before = tree(root)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepare, "_groups", full)
    with pytest.raises(BuildError, match="the disk is full"):
        prepare.prepare_arrays(mosi, fakes.evalset("mosi", tmp_path / "fake", 1), root, {})
    assert tree(root) == before


def test_validate_names_what_is_wrong(root: Path) -> None:
    shard = root / "data/samples/test-00000-of-00001.parquet"
    good = shard.read_bytes()
    found = ArraySet.open(root)
    assert check(root).problems == ()
    shard.write_bytes(good[:-1])
    assert any("SHA-256 differs" in p.detail for p in check(root).problems)
    shard.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    assert any("SHA-256 differs" in p.detail for p in check(root).problems)
    shard.unlink()
    assert [p.detail for p in check(root).problems] == ["listed in the manifest, not there"]
    with pytest.raises(EvalsetError, match="cannot be read"):
        found.ids("test")
    with pytest.raises(UsageError, match="no split 'dev'"):
        found.read("dev")


def changed(root: Path, path: tuple[str | int, ...], value: Any) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    files.write_json(root / "manifest.json", manifest)


TEST = ("collections", "samples", "splits", "test")


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("kind",), "dataset", "not that of an evaluation set"),
        (("schema_version",), 2, "schema version 2"),
        (("collections",), {}, "no arrays"),
        (("collections",), [], "garbles"),
        (("classes",), KeyError, "'classes'"),
        ((*TEST, "rows"), 9, "the rows of test"),
        ((*TEST, "shards"), [], "the rows of test"),
        ((*TEST, "shards", 0, "path"), "../../x.parquet", "outside of the set"),
        ((*TEST, "shards", 0, "path"), "/etc/passwd", "outside of the set"),
        ((*TEST, "shards", 0, "bytes"), None, "garbles"),
        (("collections", "samples", "splits"), {}, "there are none"),
    ],
)
def test_manifests_that_lie_do_not_open(path: tuple[str | int, ...], value: Any, word: str, root: Path) -> None:
    changed(root, path, value)
    with pytest.raises(EvalsetError, match=word):
        ArraySet.open(root)


def test_manifests_that_lie_about_what_is_inside_do_not_validate(root: Path) -> None:
    changed(root, ("settings", "steps"), 51)
    assert [p.detail for p in check(root).problems] == ["was changed after it was written: its digest differs"]
    changed(root, ("classes",), ["one"])
    with pytest.raises(EvalsetError, match="label without a class"):
        ArraySet.open(root).labels("train")


@pytest.mark.parametrize("text", ("", "{", "[]", "[" * 100_000))
def test_manifests_that_are_none(text: str, root: Path) -> None:
    (root / "manifest.json").write_text(text)
    with pytest.raises(EvalsetError):
        ArraySet.open(root)


def test_a_shard_with_other_rows_or_columns_is_refused(root: Path) -> None:
    test, train = (root / f"data/samples/{s}-00000-of-00001.parquet" for s in ("test", "train"))
    whole = pq.read_table(test)
    for other in (whole.slice(1), pa.concat_tables([whole, whole])):
        pq.write_table(other, test)
        with pytest.raises(EvalsetError, match="rows"):
            ArraySet.open(root).read("test")
    pq.write_table(whole.drop_columns(["audio"]), test)
    with pytest.raises(EvalsetError, match="other columns"):
        ArraySet.open(root).read("test")
    pq.write_table(whole.drop_columns(["label"]), test)
    with pytest.raises(EvalsetError, match="label"):
        ArraySet.open(root).labels("test")
    train.write_bytes(b"PAR1")
    with pytest.raises(EvalsetError, match="cannot be read"):
        ArraySet.open(root).read("train")


@pytest.mark.parametrize(
    "about",
    [{}, {"shape": "[2]", "divisor": "1"}, {"shape": "x", "divisor": "1"}, {"shape": "[4]", "divisor": "0"},
     {"shape": "4", "divisor": "1"}, {"shape": "[1e9]", "divisor": "1"}],
)  # fmt: skip
def test_a_column_without_a_fitting_shape_is_refused(about: dict[str, str]) -> None:
    found = pa.schema([pa.field("x", pa.list_(pa.float32(), 4), metadata=about)])
    with pytest.raises(EvalsetError, match="column x"):
        fields_of(found, "here")


def test_rows_that_are_not_as_promised_are_not_written() -> None:
    fields = (Field("x", (2, 2), "uint8"),)
    good = Samples(("a",), np.array([0]), {"x": np.zeros((1, 2, 2), np.uint8)})
    assert table(good, fields, ["c"]).schema == schema(fields)
    for array in (np.zeros((1, 4), np.uint8), np.zeros((1, 2, 2), np.float32), np.zeros((2, 2, 2), np.uint8)):
        with pytest.raises(EvalsetError, match="expected"):
            table(Samples(("a",), np.array([0]), {"x": array}), fields, ["c"])


def test_counts_that_differ_are_told() -> None:
    assert prepare.differences(
        {"a": {"x": 1000, "y": 2}, "total": 3, "b": {"z": 1}}, {"a": {"x": 999, "y": 2}, "total": 3, "b": 1}
    ) == ["a.x: 1,000 published, 999 found", "b.z: 1 published, none found"]


@pytest.mark.drill
@pytest.mark.parametrize("after", ("write train", "write test"))
def test_a_kill_leaves_what_was_there(after: str, root: Path, tmp_path: Path) -> None:
    module = discover.load("evaluation set", "mosi")
    source = fakes.evalset("mosi", tmp_path / "fake", 1)
    before = tree(root)
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom birdmml.evalsets import mosi\n"
        "from birdmml.evalsets.prepare import prepare_arrays as prepare\n"
        f"kill = lambda stage, *_: os.kill(os.getpid(), signal.SIGKILL) if stage == {after!r} else None\n"
        "prepare(mosi, Path(sys.argv[1]), Path(sys.argv[2]), {}, kill)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(source), str(root)]).returncode == -9
    assert tree(root) == before
    prepare.prepare_arrays(module, source, root, {})
    assert tree(root) == before
