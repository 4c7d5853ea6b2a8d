"""`birdmml push`: what may not leave does not, every file is listed, and nothing leaves unasked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import Ran, tree
from helpers.licensed import change_manifest, change_shard, rows_of
from helpers.report_data import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core import licenses
from birdmml.core.licenses import normalise
from birdmml.errors import UsageError
from birdmml.hub import dataset_checks

Cli = Callable[..., Ran]
REPO = ("--repo", "someone/birds")


@pytest.fixture
def data(free: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(free, tmp_path / "data"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)


def refused(ran: Ran, *words: str) -> None:
    assert ran.code == 1, ran.out + ran.err
    assert "uploaded  " not in ran.out
    assert [w for w in words if w not in ran.err] == []
    assert "Traceback" not in ran.err


def test_a_dry_run_lists_every_file_and_changes_nothing(data: Path, cli: Cli, no_network: None) -> None:
    before = tree(data)
    ran = cli("push", data, *REPO)
    assert ran.code == 0, ran.err
    listed = {line.split()[0] for line in ran.out.splitlines() if line.startswith("  ")}
    assert listed == set(before)
    assert "nothing was uploaded: add --push" in ran.out and "the hub was not asked" in ran.out
    assert tree(data) == before


def test_json_tells_the_same(data: Path, cli: Cli, no_network: None) -> None:
    told = json.loads(cli("push", data, *REPO, "--json", "--date", "2026-01-02").out)
    ours = tree(data)
    assert {f["path"]: f["sha256"] for f in told["files"] if f["path"] != "croissant.json"} == {
        path: sha for path, sha in ours.items() if path != "croissant.json"
    }
    assert not told["uploaded"] and told["hub"] is None and not told["demo"] and told["notes"] == []


def test_licences_that_forbid_it_stop_it(licensed: Path, cli: Cli, no_network: None) -> None:
    ran = cli("push", licensed, *REPO)
    rows = rows_of(licensed, "id", "image_license", "audio_license")
    for part, spdx in (("image", "unknown"), ("image", "CC-BY-ND-4.0"), ("audio", "CC-BY-NC-ND-4.0")):
        mine = [r["id"] for r in rows if r[f"{part}_license"] == spdx]
        line = next(line for line in ran.err.splitlines() if f"{part} {spdx!r}" in line)
        assert f"{len(mine):,} rows" in line and mine[0] in line
    refused(ran, "--filter-licenses", "forbids derivatives", "unknown licence")


def test_a_policy_names_what_it_takes(free: Path, cli: Cli, no_network: None) -> None:
    refused(cli("push", free, *REPO, "--licenses", "CC0,CC-BY"), "image 'CC-BY-NC-SA-4.0'", "not among --licenses")
    ran = cli("push", free, *REPO, "--licenses", "CC0, CC-BY, CC-BY-NC, cc-by-nc-sa-4.0")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("text", ["", " , ", "unknown", "GPL-3.0", "CC-BY-NX", "CC-BY-9.0", "../x", HOSTILE])
def test_a_policy_that_is_none(text: str, free: Path, cli: Cli, no_network: None) -> None:
    ran = cli("push", free, *REPO, "--licenses", text)
    assert ran.code == 2 and "--licenses" in ran.err and "Traceback" not in ran.err


@given(st.sampled_from("BY BY-SA BY-NC BY-NC-SA BY-ND BY-NC-ND".split()), st.sampled_from("2.0 3.0 4.0".split()))
def test_the_default_policy_takes_all_but_nd(terms: str, version: str) -> None:
    spdx = f"CC-{terms}-{version}"
    assert bool(licenses.Policy().why_not(spdx)) == ("ND" in terms)
    # A family takes its versions and nothing of its relatives.
    family = dataset_checks.parse(f"CC-{terms}")
    others = [t for t in "BY BY-SA BY-NC BY-NC-SA BY-ND BY-NC-ND".split() if t != terms]
    assert family.why_not(spdx) == "" and all(family.why_not(f"CC-{t}-{version}") for t in others)


@given(st.text(max_size=30))
def test_no_text_but_a_licence_passes(text: str) -> None:
    known = normalise(text) == text and text != "unknown"
    assert known or licenses.Policy().why_not(text) == "unknown licence"


@pytest.mark.parametrize("name", ["birds", "a/b/c", "../x", "a/..", "a--b/c", "someone/b.git", "a b/c", "", "a/b\n"])
def test_a_repository_that_is_none(name: str, free: Path, cli: Cli, no_network: None) -> None:
    ran = cli("push", free, "--repo", name)
    assert ran.code == 2 and "--repo" in ran.err


def test_options_that_make_no_sense(free: Path, tmp_path: Path, cli: Cli, no_network: None) -> None:
    assert cli("push", free, *REPO, "--date", "yesterday").code == 2
    assert cli("push", free, *REPO, "--out", tmp_path / "x").code == 2
    assert cli("push", free).code == 2


def test_a_folder_that_is_no_dataset(tmp_path: Path, cli: Cli, no_network: None) -> None:
    refused(cli("push", tmp_path, *REPO), "manifest.json", "birdmml build")
    refused(cli("push", tmp_path / "gone", *REPO), "birdmml build")
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    refused(cli("push", tmp_path, *REPO), "manifest.json")


def test_the_demo_needs_a_word_and_says_what_it_is(small_demo: Path, cli: Cli, no_network: None) -> None:
    refused(cli("push", small_demo, *REPO), "--allow-demo", "not Bird-MML")
    ran = cli("push", small_demo, *REPO, "--allow-demo")
    assert ran.code == 0 and "DEMO" in ran.out
    assert json.loads(cli("push", small_demo, *REPO, "--allow-demo", "--json").out)["demo"]


def test_a_demo_in_disguise_is_refused(small_demo: Path, tmp_path: Path, cli: Cli, no_network: None) -> None:
    data = Path(shutil.copytree(small_demo, tmp_path / "data"))
    card = data / "README.md"
    card.write_text(card.read_text().replace("birdmml demo (generated; not Bird-MML)", "Bird-MML"))
    refused(cli("push", data, *REPO, "--allow-demo"), "demo: README.md")


def test_demo_rows_under_another_name_are_refused(small_demo: Path, tmp_path: Path, cli: Cli, no_network: None) -> None:
    data = Path(shutil.copytree(small_demo, tmp_path / "data"))
    shutil.rmtree(data / "evalsets")
    change_manifest(data, lambda m: m.update(demo=False, name="bird-mml", files={}))
    for options in ((), ("--allow-demo",)):
        refused(cli("push", data, *REPO, *options), "demo: data/", "rows of the generated demo")


def test_a_linked_folder_itself(free: Path, tmp_path: Path, cli: Cli, no_network: None) -> None:
    (tmp_path / "link").symlink_to(free)
    refused(cli("push", tmp_path / "link", *REPO), "is a link")


def test_the_value_of_a_key_in_the_environment_does_not_leave(
    data: Path, cli: Cli, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENO_CANTO_KEY", "5e1f00d5e1f00d5e1f")
    with (data / "README.md").open("a") as f:
        f.write("fetched with 5e1f00d5e1f00d5e1f")
    ran = cli("push", data, *REPO)
    refused(ran, "private: README.md", "not shown")
    assert "5e1f00d" not in ran.err + ran.out


def test_addresses_with_such_folders_are_no_paths(data: Path, cli: Cli, no_network: None) -> None:
    with (data / "README.md").open("a") as f:
        f.write("https://example.org/home/ann/p.jpg and https://example.org/data/tmp/x?keyboard=12345678901\n")
    assert cli("push", data, *REPO).code == 0


def test_what_the_viewer_dislikes_is_told_and_does_not_stop(
    data: Path, cli: Cli, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_checks, "MAX_GROUP_BYTES", 1000)
    monkeypatch.setattr(dataset_checks, "MAX_GROUP_ROWS", 1)
    change_shard(data, lambda t: t, row_group_size=100)
    path = data / "README.md"
    text = path.read_text()
    for old, new in (("cc-by-4.0", "cc-by-9.9"), ('"n<1K"', '"1M<n<10M"'), ('"en"', '"Klingon!"')):
        text = text.replace(old, new)
    path.write_text(text)
    ran = cli("push", data, *REPO)
    assert ran.code == 0, ran.err
    for word in (
        "row_group: data/train-00000-of-00001.parquet: a row group of",
        "page_index: data/train",
        "card_field: README.md license: 'cc-by-9.9'",
        "card_field: README.md size_categories: '1M<n<10M'; give n<1K",
        "card_field: README.md language",
        "questions are open",
    ):
        assert word in ran.out, ran.out


def test_a_maintainers_own_words_are_kept(data: Path, cli: Cli, no_network: None) -> None:
    sheet = data / "datasheet.md"
    sheet.write_text(sheet.read_text().replace("TO BE ANSWERED BY THE MAINTAINER", "Yes"))
    told = json.loads(cli("push", data, *REPO, "--json").out)
    assert next(f["sha256"] for f in told["files"] if f["path"] == "datasheet.md") == tree(data)["datasheet.md"]
    assert told["findings"] == []


def test_a_dataset_of_before_gets_its_documents(data: Path, cli: Cli, no_network: None) -> None:
    before = tree(data)
    for name in ("README.md", "croissant.json", "datasheet.md"):
        (data / name).unlink()
    told = json.loads(cli("push", data, *REPO, "--json").out)
    made = {f["path"]: f["sha256"] for f in told["files"]}
    assert made["README.md"] == before["README.md"] and made["datasheet.md"] == before["datasheet.md"]
    assert "croissant.json" in made and any("README.md was not there" in n for n in told["notes"])
    assert not (data / "README.md").exists()


def test_hostile_rows_and_licences_are_words_only(data: Path, cli: Cli, no_network: None) -> None:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("image_license")
        return table.set_column(at, table.schema.field(at), pa.array([HOSTILE] * table.num_rows))

    change_shard(data, change, write_page_index=True)
    rows = rows_of(data, "image_license")

    def tell(manifest: dict[str, Any]) -> None:
        counted = pc.value_counts(pa.array([r["image_license"] for r in rows])).to_pylist()
        manifest["licenses"]["image"] = {c["values"]: c["counts"] for c in counted}

    change_manifest(data, tell)
    ran = cli("push", data, *REPO)
    refused(ran, "unknown licence")
    assert "\x00" not in ran.err and "\u202e" not in ran.err and "\x07" not in ran.err


def test_usage_errors_are_raised_as_such() -> None:
    with pytest.raises(UsageError):
        dataset_checks.parse("MIT")
