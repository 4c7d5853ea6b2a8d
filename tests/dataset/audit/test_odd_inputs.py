"""Folders that are not as birdmml builds them: read as far as they can be, and what cannot be is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.report_data import flac, jpeg, small, write_dataset

from birdmml.dataset.audit import AuditSettings, audit
from birdmml.dataset.audit.findings import _contradicting
from birdmml.dataset.audit.page import sample
from birdmml.dataset.audit.read import split_of
from birdmml.errors import DatasetError, UsageError


def _rows(n: int, **columns: object) -> list[dict[str, object]]:
    return [
        {"image": {"bytes": jpeg(k), "path": None}, "audio": {"bytes": flac(500.0 + k, 0.5, 0.5), "path": None}}
        | {name: value(k) if callable(value) else value for name, value in columns.items()}
        for k in range(n)
    ]


def _write(path: Path, rows: list[dict[str, object]], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def _slugs(root: Path, **settings: object) -> dict[str, object]:
    return {f.slug: f for f in audit(root, AuditSettings(**settings)).findings}


def _skipped(root: Path) -> set[str]:
    return {s.check for s in audit(root).skipped}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00001.parquet", "train"),
        ("validation.parquet", "validation"),
        ("val-0.parquet", "validation"),
        ("dev/0000.parquet", "validation"),
        ("default/test/0000.parquet", "test"),
        ("train/test.parquet", "test"),
        ("contest-1.parquet", "unsplit"),
        ("0000.parquet", "unsplit"),
    ],
)
def test_the_split_is_read_from_the_name(name, split):
    assert split_of(name) == split


def test_a_folder_of_hugging_face_is_read_with_its_label_names(tmp_path):
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": ["Corvus corax", "Turdus merula"]},
    }
    table = pa.table(
        {"image": pa.array([{"bytes": jpeg(k), "path": "x"} for k in range(6)]), "label": pa.array([0, 1, 0, 1, 0, -1])}
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "train.parquet")
    found = audit(tmp_path)
    assert [(s.name, s.count.rows) for s in found.species] == [("Corvus corax", 3), ("Turdus merula", 2)]
    assert {f.slug for f in found.findings} == {"label_missing"}
    assert {"audio", "text", "manifest", "leakage across splits"} <= {s.check for s in found.skipped}
    assert [p.verdict for p in found.probes] == ["cannot tell"]


def test_dictionary_columns_and_bare_binary_are_read(tmp_path):
    table = pa.table(
        {
            "photo": pa.array([jpeg(k) for k in range(4)], pa.large_binary()),
            "species": pa.array(["a", "b", "a", "b"]).dictionary_encode(),
            "recording_id": pa.array([1.0, 2.0, float("nan"), None]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    found = audit(tmp_path)
    assert (found.count.rows, found.count.species, found.count.photos) == (4, 2, 4)
    assert found.count.recordings == 2
    assert found.columns["image"] == "photo"
    assert found.media[0].states == {"ok": 4}


def test_no_species_one_species_and_one_row_are_said_not_judged(tmp_path):
    _write(tmp_path / "none" / "a.parquet", _rows(5))
    assert "probes and species" in _skipped(tmp_path / "none")
    assert audit(tmp_path / "none").probes == ()
    _write(tmp_path / "one" / "a.parquet", _rows(70, species="Corvus corax"))
    _write(tmp_path / "row" / "a.parquet", _rows(1, species="Corvus corax", caption="A raven."))
    for folder in ("one", "row"):
        found = audit(tmp_path / folder)
        assert {p.verdict for p in found.probes} == {"cannot tell"}
        assert not found.red
    assert "0 of at least 2 species have two groups" in audit(tmp_path / "row").probes[0].why


def test_no_rows_at_all_and_an_empty_split_are_said(tmp_path):
    table = pa.Table.from_pylist(_rows(3, species="a"))
    pq.write_table(table.slice(0, 0), tmp_path / "test.parquet")
    found = audit(tmp_path)
    assert found.count.rows == 0
    assert [f.slug for f in found.findings] == ["empty_split"]
    pq.write_table(table, tmp_path / "train.parquet")
    found = audit(tmp_path)
    assert (found.splits["train"].rows, found.splits["test"].rows) == (3, 0)
    assert found.findings[0].where == ("test.parquet",)


def test_no_column_that_is_known_is_no_crash(tmp_path):
    pq.write_table(pa.table({"x": [[1], [2]], "bytes": [b"a", b"b"]}), tmp_path / "a.parquet")
    found = audit(tmp_path)
    assert (found.count.rows, found.count.species, found.columns) == (2, 0, {})


def test_two_columns_of_one_name_are_not_guessed_between(tmp_path):
    table = pa.table([["a", "b"], ["c", "d"], ["e", "f"]], names=["id", "species", "species"])
    pq.write_table(table, tmp_path / "a.parquet")
    found = audit(tmp_path)
    assert found.columns == {"id": "id"}


def test_nothing_to_read_names_the_file_and_the_next_step(tmp_path):
    with pytest.raises(DatasetError, match="no Parquet file: name the folder"):
        audit(tmp_path)
    (tmp_path / "a.parquet").write_text("no parquet", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"can be read; a\.parquet: .*name the folder"):
        audit(tmp_path)
    with pytest.raises(UsageError, match="sample of 0 rows"):
        audit(tmp_path, AuditSettings(sample=0))


def test_damaged_shards_are_red_and_the_rest_is_audited(tmp_path):
    rows = _rows(12, species=lambda k: "ab"[k % 2])
    good = _write(tmp_path / "train-0.parquet", rows, compression="none")
    whole = good.read_bytes()
    (tmp_path / "train-1.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "train-2.parquet").write_text("hello", encoding="utf-8")
    found = audit(tmp_path)
    (finding,) = [f for f in found.findings if f.slug == "shard_unreadable"]
    assert finding.severity == "red"
    assert [w.split(":")[0] for w in finding.where] == ["train-1.parquet", "train-2.parquet"]
    assert found.count.rows == 12


def test_damaged_pages_cost_their_rows_only(tmp_path):
    rows = _rows(12, species=lambda k: "ab"[k % 2], id=lambda k: f"row-{k}")
    path = _write(tmp_path / "a.parquet", rows, row_group_size=4, compression="zstd", use_dictionary=False)
    metadata = pq.ParquetFile(path).metadata
    columns = {metadata.row_group(1).column(c).path_in_schema: c for c in range(metadata.num_columns)}

    def broken(column: str, group: int) -> Path:
        data = bytearray(path.read_bytes())
        chunk = metadata.row_group(group).column(columns[column])
        start, size = chunk.data_page_offset, chunk.total_compressed_size
        data[start : start + size] = b"\xff" * size
        folder = tmp_path / f"broken-{column}-{group}"
        folder.mkdir()
        (folder / "a.parquet").write_bytes(data)
        return folder

    found = audit(broken("id", 1))
    assert found.count.rows == 8
    assert found.findings[0].slug == "row_group_damaged"
    assert "a.parquet row group 1 (4 rows)" in found.findings[0].where[0]
    found = audit(broken("image.bytes", 2))
    assert found.count.rows == 12
    assert found.findings[0].slug == "image_unreadable"
    assert found.findings[0].where == tuple(f"row-{k}" for k in range(8, 12))


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_never_end_in_a_traceback(tmp_path, seed):
    rows = _rows(6, species=lambda k: "ab"[k % 2], caption=lambda k: f"text {k}")
    path = _write(tmp_path / "a.parquet", rows, row_group_size=3)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(4, len(data) - 8, 8).tolist():
        data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(data)
    _write(tmp_path / "b.parquet", rows)
    assert audit(tmp_path).count.rows >= 6


def test_bytes_that_are_not_there_are_missing_not_black(tmp_path):
    rows = _rows(4, species=lambda k: "ab"[k % 2])
    rows[1]["image"] = {"bytes": None, "path": "elsewhere.jpg"}
    rows[2]["image"] = None
    _write(tmp_path / "a.parquet", rows)
    found = _slugs(tmp_path)
    assert found["image_missing"].count == 2
    assert found["image_missing"].where == ("a.parquet row 1", "a.parquet row 2")
    assert set(found) == {"image_missing"}


def test_shards_with_other_columns_are_named(tmp_path):
    for name in "ab":
        _write(tmp_path / f"{name}.parquet", _rows(2, species=name))
    pq.write_table(pa.table({"species": ["c", "c"]}), tmp_path / "c.parquet")
    found = _slugs(tmp_path)
    assert found["schema_differs"].where == ("c.parquet",)
    assert found["image_missing"].count == found["audio_missing"].count == 2


def _dataset(root: Path) -> Path:
    write_dataset(root, small())
    return root


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        '{"birdmml_version": 1, "splits": 3, "schema_version": 1}',
        '{"birdmml_version": 1, "splits": {"a": {"shards": [{"path": "../x"}]}}, "schema_version": 1}',
        '{"birdmml_version": 1, "splits": {}, "schema_version": 99}',
        '{"birdmml_version": 1, "splits": {}, "schema_version": 1, "x": NaN}',
        '{"a":' * 3000 + "1" + "}" * 3000,
    ],
)
def test_a_manifest_that_makes_no_sense_is_a_red_line(tmp_path, text):
    (_dataset(tmp_path) / "manifest.json").write_text(text, encoding="utf-8")
    found = audit(tmp_path)
    assert found.manifest == "unreadable"
    assert "manifest_unreadable" in {f.slug for f in found.red}
    assert str(tmp_path) not in json.dumps(found.to_json())
    assert found.count.rows == 24


def test_each_difference_from_the_manifest_is_named(small_demo, tmp_path):
    root = tmp_path / "d"
    shutil.copytree(small_demo, root)
    shards = sorted((root / "data").glob("*.parquet"))
    told = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    table = pq.read_table(shards[0])
    pq.write_table(table.slice(1), shards[0])
    shutil.copy(shards[1], root / "data" / "train-extra.parquet")
    told["splits"]["test"]["shards"].append({"path": "data/gone.parquet", "rows": 1, "bytes": 1, "sha256": "0"})
    (root / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    found = _slugs(root)
    assert found["shard_changed"].where == (f"data/{shards[0].name}",)
    assert found["shard_missing"].where == ("data/gone.parquet",)
    assert found["shard_unlisted"].where == ("data/train-extra.parquet",)
    assert found["shard_rows"].where[0].startswith(f"data/{shards[0].name}: {table.num_rows - 1} rows")
    assert {"manifest_digest", "duplicate_id"} <= set(found)


def test_a_shard_that_the_manifest_names_elsewhere_is_never_opened(tmp_path):
    secret = tmp_path / "outside.parquet"
    _write(secret, _rows(2, species="a"))
    root = _dataset(tmp_path / "d")
    shard = {"path": "../outside.parquet", "rows": 2, "bytes": 1, "sha256": "0"}
    told = {"birdmml_version": "1", "schema_version": 1, "splits": {"train": {"shards": [shard]}}}
    (root / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    found = _slugs(root)
    assert found["shard_missing"].where == ("../outside.parquet",)
    assert "shard_changed" not in found


def test_a_contradiction_is_where_neither_column_names_the_other():
    a, b = np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 6, 7, 7, 7])
    assert not _contradicting(a, b).any()
    assert not _contradicting(b, a).any()
    b = np.array([5, 5, 7, 7, 7, 7])
    assert _contradicting(a, b).tolist() == [False, False, True, False, False, False]
    assert not _contradicting(a, np.array([5, 5, -1, 7, 7, 7])).any()


def test_the_sample_takes_the_same_of_each_species_as_far_as_it_goes():
    labels = np.repeat([0, 1, 2, -1], [100, 10, 40, 50])
    chosen = sample(labels, 60, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [25, 10, 25]
    assert np.array_equal(chosen, sample(labels, 60, seed=0))
    assert not np.array_equal(chosen, sample(labels, 60, seed=1))
    assert len(sample(labels, 10_000, seed=0)) == 150
