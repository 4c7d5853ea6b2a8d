"""A release downloaded part by part from a server that misbehaves; the dataset is that of the files at hand."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Ran, tree
from helpers.releases import PARTS, Whole, make, proven, quick, settings, shelf, told, whole
from helpers.servers import Act, Fast, Server

from birdmml.dataset import decode
from birdmml.dataset.build import FinishedBuild, build
from birdmml.errors import BirdmmlError
from birdmml.sources.release import archive

Cli = Callable[..., Ran]
KNOBS: dict[str, Any] = {"species": 4, "rows": 6, "audio_parts": 8}

quick = quick
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole(tmp_path_factory.mktemp("full") / "r", seed=7, **KNOBS)


@pytest.fixture(scope="module")
def calm(full: Whole, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tree of a build from all the files."""
    out = tmp_path_factory.mktemp("calm") / "out"
    make(full.truth.root, out)
    return told(out)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birdmml.fetch.download.Clock", Fast)


@pytest.fixture
def server(full: Whole) -> Iterator[Server]:
    with Server(full.truth.root / "files") as server:
        yield server


def download(server: Server, out: Path, **how: Any) -> FinishedBuild:
    return build(settings(zenodo=server.url), out, max_rejects=0.5, **how)


@pytest.mark.parametrize("dialect", ["new", "old", "rdm"])
def test_a_download_ends_in_the_bytes_of_the_files_at_hand(
    full: Whole, calm: dict[str, str], tmp_path: Path, dialect: str
) -> None:
    with Server(full.truth.root / "files", dialect=dialect) as server:
        built = download(server, tmp_path / "out")
        assert server.peak <= 2
        assert all(server.seen(name).requests == 1 for name in server.files)
    assert told(tmp_path / "out") == calm
    assert built.unfinished == ""
    assert not (tmp_path / "out.partial").exists()


def test_a_server_that_misbehaves_costs_time_and_nothing_else(
    server: Server, calm: dict[str, str], tmp_path: Path
) -> None:
    server.act("record", Act(status=503))
    server.act("bird-mml.csv", Act(status=429, headers={"Retry-After": "120"}), Act(drop_after=500))
    server.act("photos.tar.gz", Act(drop_after=20_000), Act(drop_after=9_000, reset=True))
    server.act(PARTS + "aa", Act(drop_after=100_000), Act(ignore_range=True))
    server.act(PARTS + "ab", Act(body=b"x" * len(server.files[PARTS + "ab"])))
    server.act(PARTS + "ac", Act(status=503, headers={"Retry-After": "7"}), Act(status=500))
    server.act(PARTS + "ad", Act(no_length=True), then=Act(extra=b"more"))
    download(server, tmp_path / "out")
    assert told(tmp_path / "out") == calm
    assert server.peak <= 2
    assert server.seen(PARTS + "ab").requests == 2
    assert server.seen(PARTS + "aa").ranges == ["", "bytes=100000-"]


def test_a_part_that_cannot_be_had_is_a_hole_and_comes_later(
    full: Whole, server: Server, calm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    honest = decode._ingest_one

    def noted(source: object, item: Any, *rest: Any) -> object:
        decoded.append(item.record.locator)
        return honest(source, item, *rest)

    monkeypatch.setattr(decode, "_ingest_one", noted)
    server.act(PARTS + "ae", then=Act(status=404))
    built = download(server, tmp_path / "out")
    assert f"{PARTS}ae (missing: HTTP 404" in built.unfinished
    assert "--resume --retry-failed" in built.unfinished
    found = proven(full, tmp_path / "out")
    assert (
        {r["clip"] for r in found if r["audio_recovered"]}
        == {r["clip"] for r in found if full.fates(["ae"])[r["clip"]] == "behind"}
        != set()
    )
    make(shelf(full.truth.root, tmp_path / "r", {"ae"}, record=False), tmp_path / "same")
    parquet = {k: v for k, v in tree(tmp_path / "same").items() if k.startswith("data/")}
    assert {k: v for k, v in tree(tmp_path / "out").items() if k.startswith("data/")} == parquet

    # Without --retry-failed it is not asked for again; with it, it is, and only what it brings is decoded.
    asked = {name: server.seen(name).requests for name in server.files}
    server.act(PARTS + "ae")
    first = set(decoded)
    decoded.clear()
    assert download(server, tmp_path / "out", resume=True).unfinished
    assert decoded == []
    assert {name: server.seen(name).requests for name in server.files} == asked
    built = download(server, tmp_path / "out", resume=True, retry_failed=True)
    assert built.unfinished == ""
    assert decoded
    assert not set(decoded) & first
    again = {name for name in server.files if server.seen(name).requests > asked[name]}
    assert PARTS + "ae" in again <= {PARTS + "ad", PARTS + "ae", PARTS + "af"}
    assert told(tmp_path / "out") == calm


def test_the_disk_holds_one_part_of_the_archive(
    full: Whole, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    folder = tmp_path / "out.partial"
    honest = archive.DownloadedFiles.path

    def counted(self: archive.DownloadedFiles, file: Any) -> Path | None:
        found = honest(self, file)
        seen.append(sum(p.stat().st_size for p in (folder / "source" / "files").iterdir()))
        return found

    monkeypatch.setattr(archive.DownloadedFiles, "path", counted)
    download(server, tmp_path / "out")
    table = len(server.files["bird-mml.csv"])
    sizes = [len(d) for n, d in server.files.items() if n.startswith(PARTS)]
    assert len(seen) == len(server.files)
    assert max(seen) <= table + max(*sizes, len(server.files["photos.tar.gz"]))


def test_a_table_that_cannot_be_had_ends_the_build_with_a_clear_word(
    server: Server, calm: dict[str, str], tmp_path: Path
) -> None:
    server.act("bird-mml.csv", then=Act(status=404))
    with pytest.raises(BirdmmlError, match=r"bird-mml.csv cannot be had \(missing: HTTP 404.*--retry-failed"):
        download(server, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    server.act("bird-mml.csv")
    download(server, tmp_path / "out", retry_failed=True)
    assert told(tmp_path / "out") == calm


def test_unknown_records_and_dead_servers_are_one_line(server: Server, tmp_path: Path, cli: Cli) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    for args, words in {
        ("--zenodo", server.url, "--record", "1"): "HTTP 404",
        ("--zenodo", server.url, "--record", "../x"): "is no record id",
        ("--zenodo", dead): "refused",
        ("--zenodo", "nonsense"): "nonsense",
        ("--zenodo", "ftp://example.org"): "ftp://example.org",
    }.items():
        for more in ((), ("--dry-run",)):
            ran = cli("build", "--source", "release", *args, "--out", tmp_path / "out", *more)
            assert ran.code in (1, 2)
            told = [line for line in ran.err.splitlines() if line.strip()]
            assert len(told) == 1
            assert words in told[0]
            assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())
    with pytest.raises(BirdmmlError, match="HTTP 404"):
        build(settings(zenodo=server.url, record="1"), tmp_path / "out")
    assert not list(tmp_path.iterdir())
