"""Parts of a release that turn up later: what they bring is added, and nothing else is done again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import tree
from helpers.releases import PARTS, Whole, make, proven, quick, shelf, whole

from birdmml.dataset import decode
from birdmml.errors import UsageError

quick = quick
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole(tmp_path_factory.mktemp("full") / "r", seed=5, species=4, rows=9)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is decoded, in order."""
    seen: list[str] = []
    honest = decode._ingest_one

    def noted(source: object, item: decode.ChunkItem, record: object, task: object, out: object) -> object:
        seen.append(record.locator)
        return honest(source, item, record, task, out)

    monkeypatch.setattr(decode, "_ingest_one", noted)
    return seen


OTHERS = (("ad", "ah", "al"), ("al", "ad", "ah"))
ORDERS = [("ah", "ad", "al"), *(pytest.param(o, marks=pytest.mark.drill) for o in OTHERS)]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_holes_that_close_one_by_one_end_in_the_bytes_of_a_build_without_them(
    full: Whole, tmp_path: Path, decoded: list[str], order: tuple[str, ...]
) -> None:
    gone = {"ad", "ah", "al"}
    root = shelf(full.truth.root, tmp_path / "r", gone, record=False)
    make(root, tmp_path / "out")
    every = list(decoded)
    for letters in order:
        os.link(full.truth.root / "files" / (PARTS + letters), root / (PARTS + letters))
        gone -= {letters}
        decoded.clear()
        built = make(root, tmp_path / "out", resume=True)
        assert decoded
        assert not set(decoded) & set(every)
        every += decoded
        make(shelf(full.truth.root, tmp_path / letters, gone, record=False), tmp_path / f"fresh-{letters}")
        assert tree(tmp_path / "out") == tree(tmp_path / f"fresh-{letters}")
        labels = {r["clip"] for r in proven(full, tmp_path / "out") if r["audio_recovered"]}
        fates = full.fates(gone)
        assert all(fates[clip] == "behind" for clip in labels)
    assert built.unfinished == ""
    assert not (tmp_path / "out.partial").exists()
    assert set(every) == {name.removeprefix("bird-mml/") for name in full.media}


def test_resuming_with_nothing_new_changes_nothing(full: Whole, tmp_path: Path, decoded: list[str]) -> None:
    root = shelf(full.truth.root, tmp_path / "r", {"ah"}, record=False)
    make(root, tmp_path / "out")
    before = tree(tmp_path / "out")
    decoded.clear()
    built = make(root, tmp_path / "out", resume=True)
    assert decoded == []
    assert built.resumed > 0
    assert tree(tmp_path / "out") == before
    assert f"{PARTS}ah could not be read" in built.unfinished


def test_a_corrupt_part_that_is_put_right_is_a_late_part(full: Whole, tmp_path: Path) -> None:
    root = shelf(full.truth.root, tmp_path / "r")
    part = root / (PARTS + "ah")
    right = part.read_bytes()
    part.unlink()
    part.write_bytes(right[:1000] + b"!" + right[1001:])
    assert f"{PARTS}ah (corrupt)" in make(root, tmp_path / "out").unfinished
    part.write_bytes(right)
    assert make(root, tmp_path / "out", resume=True).unfinished == ""
    make(full.truth.root, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_resume_wants_something_to_go_on_from(full: Whole, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no unfinished work"):
        make(full.truth.root, tmp_path / "out", resume=True)
    assert not list(tmp_path.glob("out*"))
