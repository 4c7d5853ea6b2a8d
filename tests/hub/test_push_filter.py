"""`birdmml push --filter-licenses`: exactly the rows that may go, as a dataset of its own, each other one listed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import duckdb
import mlcroissant
import polars
import pyarrow.parquet as pq
import pytest
from helpers import Ran, tree
from helpers.licensed import rows_of

from birdmml.core.licenses import normalise
from birdmml.hub import dataset_filtered

Cli = Callable[..., Ran]
REPO = ("--repo", "someone/birds", "--filter-licenses")
PARTS = ("image", "audio", "caption")


def allowed(row: dict[str, Any]) -> bool:
    """What the default policy means, in other words."""
    licences = [row[f"{part}_license"] for part in PARTS]
    return all(normalise(x) == x and x != "unknown" and "ND" not in x.split("-") for x in licences)


@pytest.fixture(scope="module")
def copy(licensed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The licensed dataset without what may not be published."""
    from birdmml.core.licenses import Policy
    from birdmml.hub.dataset import check

    out = tmp_path_factory.mktemp("copy") / "data"
    return dataset_filtered.filter_rows(check(licensed, Policy()), Policy(), out)


def test_exactly_the_rows_that_may_go_are_there(licensed: Path, copy: Path) -> None:
    expected = [row for row in rows_of(licensed) if allowed(row)]
    assert 0 < len(expected) < len(rows_of(licensed, "id"))
    assert rows_of(copy) == expected


def test_each_other_row_is_listed_with_its_reason(licensed: Path, copy: Path) -> None:
    listed = list(csv.DictReader(io.StringIO((copy / "report" / "filtered.csv").read_text())))
    gone = {row["id"]: row for row in rows_of(licensed) if not allowed(row)}
    assert {line["id"] for line in listed} == set(gone)
    for line in listed:
        row = gone[line["id"]]
        assert (line["split"], line["species"]) == (row["split"], row["species"])
        assert line["license"] == row[f"{line['part']}_license"] and line["url"] == row[f"{line['part']}_url"]
        assert line["reason"] == ("unknown licence" if line["license"] == "unknown" else "forbids derivatives")
    told = json.loads((copy / "manifest.json").read_text())["filtered"]
    assert told["rows_removed"] == len(gone)
    counted = Counter((line["part"], line["license"]) for line in listed)
    assert {(p, s): n for p, v in told["by_part"].items() for s, n in v.items()} == counted


def test_it_is_a_sound_dataset_that_tells_its_own_counts(copy: Path, cli: Cli) -> None:
    ran = cli("validate", copy)
    assert ran.code == 0, ran.err
    assert cli("info", copy).code == 0
    manifest = json.loads((copy / "manifest.json").read_text())
    rows = rows_of(copy)
    assert manifest["counts"] == {
        "rows": len(rows),
        "species": len({r["species"] for r in rows}),
        "photos": len({r["image_id"] for r in rows}),
        "recordings": len({r["recording_id"] for r in rows}),
        "clips": len({r["audio_id"] for r in rows}),
    }
    for part in PARTS:
        assert manifest["licenses"][part] == Counter(r[f"{part}_license"] for r in rows)
    validation = json.loads((copy / "report" / "validation.json").read_text())
    assert validation["unknown_licenses"] == dict.fromkeys(PARTS, 0)
    assert sum(s["complete"] + s["recovered"] for s in validation["by_species"]) == len(rows)
    card = (copy / "README.md").read_text()
    assert "report/filtered.csv" in card and "| unknown |" not in card


def test_the_same_rows_are_read_by_all(copy: Path) -> None:
    rows = sorted(rows_of(copy, "id", "species", "label", "caption", "audio"), key=lambda r: r["id"])
    loaded = datasets.load_dataset(str(copy))
    streamed = datasets.load_dataset(str(copy), streaming=True)
    for found in (loaded, streamed):
        seen = [{**r, "split": split} for split in found for r in found[split]]
        seen.sort(key=lambda r: r["id"])
        assert [{k: r[k] for k in rows[0]} for r in seen] == rows
        assert all(r["image"].size == (r["image_width"], r["image_height"]) for r in seen)
    pattern = str(copy / "data" / "*.parquet")
    columns = ["id", "species", "label", "caption"]
    plain = [tuple(r[c] for c in columns) for r in rows]
    assert duckdb.sql(f"SELECT id, species, label, caption FROM '{pattern}' ORDER BY id").fetchall() == plain
    sound = dict(duckdb.sql(f"SELECT id, audio.bytes FROM '{pattern}'").fetchall())
    assert {k: bytes(v) for k, v in sound.items()} == {r["id"]: r["audio"]["bytes"] for r in rows}
    frame = polars.scan_parquet(pattern).select(columns).sort("id").collect()
    assert frame.rows() == plain
    records = mlcroissant.Dataset(copy / "croissant.json").records("rows")
    assert sorted(r["rows/id"].decode() for r in records) == [r["id"] for r in rows]


def test_row_groups_and_page_index_are_the_builds(copy: Path) -> None:
    for path in (copy / "data").iterdir():
        meta = pq.ParquetFile(path).metadata
        for group in (meta.row_group(i) for i in range(meta.num_row_groups)):
            assert all(group.column(c).has_offset_index for c in range(group.num_columns))


def test_the_same_again_has_the_same_bytes(licensed: Path, copy: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli("push", licensed, *REPO, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert tree(tmp_path / "out") == tree(copy)
    # And over itself.
    assert cli("push", licensed, *REPO, "--out", tmp_path / "out").code == 0
    assert tree(tmp_path / "out") == tree(copy)
    assert not (tmp_path / "out.partial").exists()


def test_what_is_left_out_is_told(licensed: Path, tmp_path: Path, cli: Cli) -> None:
    data = Path(shutil.copytree(licensed, tmp_path / "data"))
    before = tree(data)
    ran = cli("push", data, *REPO)
    assert ran.code == 0, ran.err
    gone = [r for r in rows_of(data) if not allowed(r)]
    assert f"a copy without {len(gone)} of {len(rows_of(data, 'id'))} rows" in ran.out
    assert "left out  image 'unknown'" in ran.out and "report/filtered.csv" in ran.out
    assert (tmp_path / "data-filtered" / "manifest.json").is_file()
    assert tree(data) == before


def test_a_policy_is_kept_in_the_manifest(licensed: Path, tmp_path: Path, cli: Cli) -> None:
    taken = "CC-BY,CC-BY-SA,CC0"
    ran = cli("push", licensed, *REPO, "--licenses", taken, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["filtered"]["licenses"] == taken
    ids = {"CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"}
    expected = [r for r in rows_of(licensed) if {r[f"{p}_license"] for p in PARTS} <= ids]
    assert rows_of(tmp_path / "out") == expected


def test_nothing_left_is_an_error(licensed: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli("push", licensed, *REPO, "--licenses", "CC-BY-1.0", "--out", tmp_path / "out")
    assert ran.code == 1 and "no row" in ran.err and not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_stays(licensed: Path, free: Path, tmp_path: Path, cli: Cli) -> None:
    """Only an earlier copy is replaced: no other folder, and no other dataset."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    other = Path(shutil.copytree(free, tmp_path / "other"))
    for folder in (mine, other):
        before = tree(folder)
        ran = cli("push", licensed, *REPO, "--out", folder)
        assert ran.code == 1 and "nothing was changed" in ran.err, ran.err
        assert tree(folder) == before
    ran = cli("push", licensed, *REPO, "--out", licensed)
    assert ran.code == 1 and "the dataset itself" in ran.err


def test_nothing_to_filter_makes_no_copy(free: Path, tmp_path: Path, cli: Cli) -> None:
    ran = cli("push", free, *REPO, "--out", tmp_path / "out")
    assert ran.code == 0 and not (tmp_path / "out").exists()


def test_the_demo_keeps_its_label_and_its_evaluation_set(small_demo: Path, tmp_path: Path) -> None:
    from birdmml.hub.dataset import check
    from birdmml.hub.dataset_checks import parse

    taken = parse("CC0")
    made = dataset_filtered.filter_rows(check(small_demo, taken), taken, tmp_path / "out")
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["demo"] and manifest["filtered"]["rows_removed"] == 0
    ours = tree(small_demo)
    same = {p for p, sha in tree(made).items() if ours.get(p) == sha}
    assert {p for p in ours if p.startswith(("data/", "evalsets/", "report/media/"))} <= same
