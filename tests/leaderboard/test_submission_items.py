"""A submission's items are those of the verifier's own data, or of the list beside a protocol; and its protocol's."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import Ran, submitted
from helpers.submitted import DIGEST, IDS

from birdmml.bench import items
from birdmml.bench.protocol import digest, load, names
from birdmml.core import files
from birdmml.errors import EvalsetError, ResultError, UnknownName
from birdmml.leaderboard.submission import expected
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.expected import Expected, SplitItems
from birdmml.leaderboard.submission.model import items_digest

Cli = Callable[..., Ran]
FILE = "predictions/zero-shot.test-split.A.parquet"


def wanted(ids: tuple[str, ...] = IDS, digest: str = DIGEST, told: bool = False) -> Expected:
    known = SplitItems("dataset", **items_digest(ids), ids=frozenset(ids) if told else None)
    return Expected("your data", {"dataset": digest}, {"test-split": known})


def lines(folder: Path, data: Expected | None) -> list[str]:
    return [p.line for p in check(folder, data).problems]


def test_the_digest_of_ids_is_of_sorted_ids_by_newlines() -> None:
    by_hand = hashlib.sha256(b"a\nb\nc").hexdigest()
    assert items_digest(["c", "a", "b", "a"]) == {"n": 3, "sha256": by_hand}


@pytest.mark.parametrize("told", [True, False], ids=["data", "list"])
def test_the_right_items_pass_and_others_are_found(tmp_path: Path, told: bool) -> None:
    folder = submitted.submission_in(tmp_path).folder
    assert lines(folder, wanted(told=told)) == []
    assert check(folder, wanted(told=told)).notes == ()
    strange = lines(folder, wanted((*IDS[:-1], "bird-99"), told=told))
    assert len(strange) == 5
    words = "1 items are not in test-split of your data ('bird-11')" if told else "the digest of their ids differs"
    assert all(words in line for line in strange)
    fewer = lines(folder, wanted((*IDS, "bird-12"), told=told))
    assert all("12 items, test-split has 13" in line for line in fewer)
    # few-shot draws its queries: what it did not ask is no gap.
    assert sum("few-shot" in line for line in fewer) == 0
    assert len(fewer) == 4


def test_items_noted_as_left_out_are_no_gap(tmp_path: Path) -> None:
    result = submitted.result_in(tmp_path / "small-1")

    def change(value: dict[str, Any]) -> None:
        value["dataset"]["rows"]["test"] = 14
        for figure in value["figures"]:
            figure["note"] = "another note; 2 items lack a modality"

    submitted.edit_json(result / "result.json", change)
    folder = submitted.making.make([result], submitted.ABOUT, tmp_path / "submission").folder
    assert lines(folder, wanted((*IDS, "bird-12", "bird-13"), told=True)) == []
    assert len(lines(folder, wanted(told=True))) == 4


def test_other_data_are_named_once_and_their_items_not_compared(tmp_path: Path) -> None:
    folder = submitted.submission_in(tmp_path).folder
    (line,) = lines(folder, wanted(("x",), "9" * 64))
    assert f"dataset has the digest {DIGEST}, that of your data is {'9' * 64}" in line


def test_what_a_list_lacks_is_noted(tmp_path: Path) -> None:
    folder = submitted.submission_in(tmp_path).folder
    report = check(folder, Expected("your data", {}, {}))
    assert report.sound
    assert "items of test-split were not compared" in report.notes[0]


def test_ids_are_read_from_a_built_dataset_as_scoring_reads_them(small_demo: Path) -> None:
    rows, films = items.of_data(small_demo)
    assert (rows.name, films.name) == ("dataset", "demo")
    manifest = json.loads((small_demo / "manifest.json").read_text())
    assert rows.digest == films.digest == manifest["digest"]
    for split, told in manifest["splits"].items():
        if told["rows"]:
            found = [pq.read_table(small_demo / s["path"], columns=["id"])["id"].to_pylist() for s in told["shards"]]
            assert rows.ids[f"{split}-split"] == tuple(i for ids in found for i in ids)
    assert set(films.ids) == {"demo-videos", "demo-videos-all"}
    assert all(i.startswith("demo-") for i in films.ids["demo-videos"])
    with pytest.raises(EvalsetError, match="nowhere"):
        items.of_data(small_demo, Path("nowhere"))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """benchmarks/protocols that a test may add to."""
    root = Path(shutil.copytree(files.folder("protocols"), tmp_path / "shipped" / "benchmarks" / "protocols"))
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "shipped" / "birdmml")
    assert files.folder("protocols") == root
    return root


def follower(tmp_path: Path, **changes: Any) -> Path:
    """A submission of a result that says it follows birdmml-v1, departures and all else as given."""
    told = {"name": "birdmml-v1", "digest": digest("birdmml-v1"), "departures": ["as a test does"]}
    settings = {"protocol": told | changes, "evalsets": {"dataset": DIGEST}, "limit": None}
    result = submitted.result_in(tmp_path / "small-1", settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submitted.making, "raise_first", lambda problems: None)
        return submitted.making.make([result], submitted.ABOUT, tmp_path / "submission").folder


def test_a_list_is_written_from_data_and_found_beside_its_protocol(
    small_demo: Path, shelf: Path, tmp_path: Path
) -> None:
    path = expected.write_list("birdmml-v1", small_demo, None, shelf / "items")
    assert path == shelf / "items" / "birdmml-v1.json"
    told = json.loads(path.read_text())
    rows = items.of_data(small_demo)[0]
    assert told["digests"] == {"dataset": rows.digest, "demo": rows.digest}
    assert told["items"]["test-split"] == {"of": "dataset", **items_digest(rows.ids["test-split"])}
    folder = follower(tmp_path)
    (line,) = lines(folder, None)
    assert "the list of protocol birdmml-v1" in line
    told["digests"], told["items"] = ({"dataset": DIGEST}, {"test-split": {"of": "dataset", **items_digest(IDS)}})
    path.write_text(json.dumps(told))
    assert check(folder).sound
    assert check(folder).notes == ()
    for broken in ("{}", "[]", '{"protocol": "x", "digests": {}, "items": {"a": 1}}'):
        path.write_text(broken)
        with pytest.raises(ResultError):
            check(folder)
    with pytest.raises(UnknownName):
        expected.write_list("nonesuch", small_demo, None, shelf / "items")


def test_a_result_that_departs_from_its_protocol_in_silence_is_found(tmp_path: Path) -> None:
    silent = lines(follower(tmp_path / "a", departures=[]), None)
    assert any("seeds [0, 1], protocol birdmml-v1 has" in line for line in silent)
    assert any("no figure of noise on ssw60" in line for line in silent)
    other = lines(follower(tmp_path / "b", digest="f" * 64), None)
    assert len(other) == 1
    assert "protocol birdmml-v1 has the digest" in other[0]
    assert lines(follower(tmp_path / "c", name="my-own"), None) == []


@pytest.mark.parametrize("name", names())
def test_a_result_that_follows_a_shipped_protocol_passes(name: str) -> None:
    protocol = load(name)
    labels: dict[str, set[str]] = {}
    for one in protocol.evaluate:
        arrays = protocol.data.source == "evalset"
        label = f"{one.evalset}-{one.split}" if arrays else f"{one.evalset}-videos"
        label += "-all" if one.split == "all" else ""
        label = f"{one.split}-split" if one.evalset == "dataset" else label
        labels.setdefault(one.suite.replace("_", "-"), set()).add(label)
    for method in protocol.methods:
        stated = {
            "protocol": {"name": name, "digest": protocol.digest, "departures": []},
            "seeds": list(protocol.seeds),
            "settings": {"limit": None},
            "method": method.name.replace("-", "_"),
            "variant": method.variant or "paper",
            "evalsets": {one.evalset: "x" for one in protocol.evaluate},
        }
        assert list(expected.follows(stated, labels)) == []
        assert len(list(expected.follows(stated, {}))) == len(protocol.evaluate)
        assert len(list(expected.follows(stated | {"settings": {"limit": 9}}, labels))) == 1
        assert len(list(expected.follows(stated | {"method": "other"}, labels))) == 1


def test_the_command_compares_with_data(cli: Cli, small_demo: Path, tmp_path: Path) -> None:
    folder = submitted.submission_in(tmp_path).folder
    ran = cli("verify", folder, "--data", small_demo)
    assert ran.code == 1
    assert "that of your data is" in ran.out
