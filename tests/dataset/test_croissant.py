"""croissant.json: valid for mlcroissant, whose records are the rows; the datasheet; equal builds, equal bytes."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pytest
from helpers import Ran, tree
from helpers.licensed import change_manifest, rows_of
from helpers.report_data import HOSTILE
from markdown_it import MarkdownIt
from PIL import Image

from birdmml.core import files
from birdmml.dataset import card, croissant
from birdmml.dataset.format import COLUMNS

Cli = Callable[..., Ran]
NO_DATE = "datePublished"


def documents_of(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    manifest = json.loads((root / "manifest.json").read_text())
    return manifest, json.loads((root / "report" / "validation.json").read_text())


def hubs(root: Path, tmp_path: Path, date: str = "2026-01-02") -> Path:
    path = tmp_path / "croissant.json"
    path.write_text(croissant.render(*documents_of(root), "someone/birds", date))
    return path


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def same_as_rows(found: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Every record is the row of its id as pyarrow reads it; media byte for byte, or pixel for pixel."""
    by_id = {row["id"]: row for row in rows}
    assert sorted(plain(r["rows/id"]) for r in found) == sorted(by_id)
    for record in found:
        row = by_id[plain(record["rows/id"])]
        assert record["rows/audio"] == row["audio"]["bytes"]
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        np.testing.assert_array_equal(np.asarray(record["rows/image"]), pixels)
        assert plain(record["rows/split"]) == row["split"]
        for column in COLUMNS:
            if column.kind not in ("image", "audio"):
                assert plain(record[f"rows/{column.name}"]) == row[column.name], column.name


@pytest.fixture(params=["small_demo", "licensed"])
def data(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_the_records_are_the_rows(data: Path) -> None:
    dataset = mlcroissant.Dataset(data / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    # A build has no date; that is the one recommended property it lacks.
    assert all(NO_DATE in warning for warning in issues.warnings) and len(issues.warnings) == 1
    same_as_rows(list(dataset.records("rows")), rows_of(data))


def test_one_split_can_be_asked_for(data: Path) -> None:
    dataset = mlcroissant.Dataset(data / "croissant.json")
    rows = rows_of(data)
    for split in {row["split"] for row in rows}:
        found = list(dataset.records("rows", filters={"rows/split": split}))
        same_as_rows(found, [row for row in rows if row["split"] == split])
        dataset = mlcroissant.Dataset(data / "croissant.json")  # A filter changes the loaded one for good.
    told = {plain(r["splits/name"]): r["splits/rows"] for r in dataset.records("splits")}
    assert told == {s: v["rows"] for s, v in documents_of(data)[0]["splits"].items()}


def test_the_hubs_file_is_clean_and_loads_from_a_copy(data: Path, tmp_path: Path) -> None:
    path = hubs(data, tmp_path)
    dataset = mlcroissant.Dataset(path, mapping={croissant.REPOSITORY: data})
    assert not dataset.metadata.ctx.issues.errors and not dataset.metadata.ctx.issues.warnings
    same_as_rows(list(dataset.records("rows")), rows_of(data))
    assert dataset.metadata.url == "https://huggingface.co/datasets/someone/birds"
    assert dataset.metadata.date_published.date().isoformat() == "2026-01-02"


def test_it_says_what_the_files_are(data: Path) -> None:
    told = json.loads((data / "croissant.json").read_text())
    assert told["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    shards = {d["@id"]: d for d in told["distribution"] if d["@id"].endswith(".parquet")}
    assert {p.relative_to(data).as_posix() for p in (data / "data").iterdir()} == shards.keys()
    for path, shard in shards.items():
        assert shard["sha256"] == files.sha256_file(data / path)
        assert shard["contentSize"] == f"{(data / path).stat().st_size} B"


def test_licences_are_addresses(licensed: Path) -> None:
    metadata = mlcroissant.Dataset(licensed / "croissant.json").metadata
    rows = rows_of(licensed, "image_license", "audio_license", "caption_license")
    expected = {v for row in rows for k, v in row.items() if k != "split"} - {"unknown"}
    found = {a.split("creativecommons.org/")[1].strip("/") for a in map(str, metadata.license)}
    assert found == {
        "publicdomain/zero/1.0" if e == "CC0-1.0" else f"licenses/{e[3:-4].lower()}/{e[-3:]}" for e in expected
    }


def test_what_is_told_of_people_and_defects(licensed: Path, small_demo: Path) -> None:
    metadata = mlcroissant.Dataset(licensed / "croissant.json").metadata
    unknown = documents_of(licensed)[1]["unknown_licenses"]["image"]
    assert any(f"image has an unknown licence: {unknown}" in line for line in metadata.data_limitations)
    assert any("image_author" in line for line in metadata.personal_sensitive_information)
    assert metadata.data_collection and metadata.data_biases and metadata.machine_annotation_tools
    demo = json.loads((small_demo / "croissant.json").read_text())
    assert "not Bird-MML" in demo["description"] and "demo" in demo["keywords"]


def test_equal_builds_have_equal_documents(small_demo: Path, tmp_path: Path, cli: Cli) -> None:
    manifest, validation = documents_of(small_demo)
    for name, render in (("croissant.json", croissant.render), ("datasheet.md", card.render)):
        assert render(manifest, validation) == (small_demo / name).read_text()


def test_hostile_words_stay_words(licensed: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(licensed, tmp_path / "data"))

    def change(manifest: dict[str, Any]) -> None:
        manifest["name"] = HOSTILE
        manifest["source"]["card"] |= {"summary": HOSTILE, "citation": HOSTILE, "url": HOSTILE}
        manifest["licenses"]["image"] = {HOSTILE: manifest["counts"]["rows"]}

    change_manifest(data, change)
    path = hubs(data, tmp_path)
    text = path.read_text()
    assert not re.search("[\x00\x07\u202e]", text)
    dataset = mlcroissant.Dataset(path, mapping={croissant.REPOSITORY: data})
    assert not dataset.metadata.ctx.issues.errors
    assert len(list(dataset.records("rows"))) == len(rows_of(data, "id"))
    html = MarkdownIt("commonmark", {"linkify": False}).render(card.render(*documents_of(data)))
    # Every tag is Markdown's own for the template: none is what the hostile text asked for.
    allowed = "h1 h2 p strong em a code ul li blockquote br".split()
    assert set(re.findall(r"</?([a-z0-9]+)", html)) <= set(allowed)
    assert not re.search(r"<(?:img|a)[^>]*evil", html)


def test_the_datasheet_invents_nothing(licensed: Path) -> None:
    text = (licensed / "datasheet.md").read_text()
    manifest = documents_of(licensed)[0]
    assert f"{manifest['counts']['rows']}, of {manifest['counts']['species']} species" in text
    asked = re.findall(r"^\*\*(.+\?)\*\*$", text, flags=re.MULTILINE)
    assert len(asked) > 15
    for question in ("For what purpose", "Over what time", "ethical review", "Who keeps it"):
        at = text.index(question)
        assert card.OPEN in text[at : at + 260], question


def test_a_build_with_more_workers_has_the_same_documents(tmp_path: Path, cli: Cli) -> None:
    small = "--species 4 --per-species 5 --image-size 32 --clip-seconds 2".split()
    for workers in (1, 2):
        ran = cli("build", "--out", tmp_path / str(workers), "--workers", workers, *small)
        assert ran.code == 0, ran.err
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert {"croissant.json", "datasheet.md", "README.md"} <= tree(tmp_path / "1").keys()
