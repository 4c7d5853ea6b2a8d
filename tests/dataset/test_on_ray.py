"""Builds on a Ray cluster end with the bytes of local ones, whatever happens to its nodes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import helpers
import pyarrow.parquet as pq
import pytest
from helpers import Ran, bird_folder, tree

from birdmml import __version__
from birdmml.core import discover
from birdmml.dataset import on_ray
from birdmml.dataset.build import build
from birdmml.dataset.place import BuildLock, BuildPlace
from birdmml.dataset.recipe import BuildSettings, Limits
from birdmml.errors import BuildError

Cli = Callable[..., Ran]
SPECIES = (
    "Setophaga petechia", "Turdus migratorius", "Cyanocitta cristata", "Corvus brachyrhynchos",
    "Poecile atricapillus", "Cardinalis cardinalis",
)  # fmt: skip
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'birdmml[ray]'"
)


def on_killed_nodes(tmp_path: Path, media: int, count: int, kills: int) -> dict[str, Any]:
    """A build on `kills` + 2 nodes, `kills` of them killed in the midst; what the script says."""
    birds = bird_folder(tmp_path / "birds", photos=media, recordings=media, species=SPECIES)
    own = discover.load("source", "folder").Settings(str(birds), clip_seconds=1.0)
    build(BuildSettings("folder", own, limits=Limits(clip_s=1.0)), tmp_path / "calm")
    script = Path(helpers.__file__).with_name("ray_cluster.py")
    # Sockets need a short path; and a process of its own keeps Ray's handlers and threads out of this one.
    with tempfile.TemporaryDirectory(prefix="bm-", dir="/tmp") as folder:
        command = [sys.executable, str(script), str(birds), str(tmp_path / "out"), str(count), str(kills)]
        env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
    ids = [row for p in (tmp_path / "out/data").iterdir() for row in pq.read_table(p, columns=["id"])["id"].to_pylist()]
    assert len(ids) == len(set(ids)) >= media * len(SPECIES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["birds", "calm", "out"]
    told: dict[str, Any] = json.loads(ran.stdout)  # Ray's own words go elsewhere.
    return told


@needs_ray
@pytest.mark.skipif(os.name == "nt", reason="nodes are killed by POSIX means")
def test_a_node_killed_in_the_middle_costs_nothing(tmp_path: Path) -> None:
    assert len(on_killed_nodes(tmp_path, media=40, count=6, kills=1)["killed"]) == 1


@needs_ray
@pytest.mark.drill
def test_nodes_killed_one_after_the_other(tmp_path: Path) -> None:
    assert len(on_killed_nodes(tmp_path, media=500, count=12, kills=3)["killed"]) == 3


@needs_ray
def test_a_local_cluster_builds_the_demo_and_says_nothing_but_json(tmp_path: Path) -> None:
    small = ["build", "--species", "4", "--per-species", "6", "--image-size", "32", "--clip-seconds", "2"]
    run = [sys.executable, "-m", "birdmml", *small, "--json", "--out"]
    subprocess.run([*run, str(tmp_path / "whole")], check=True, capture_output=True)
    more = ["--runner", "ray", "--num-shards", "2", "--workers", "1"]
    ran = subprocess.run([*run, str(tmp_path / "out"), *more], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["counts"]["rows"] == 24
    assert ran.stderr == ""
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_without_ray_one_line_says_what_to_install(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = cli("build", "--out", tmp_path / "out", "--runner", "ray")
    assert ran.code == 2
    assert ran.err == "birdmml: --runner ray needs Ray: pip install 'birdmml[ray]'\n"
    assert list(tmp_path.iterdir()) == []


def test_a_source_of_one_stream_is_refused_before_ray_is_looked_for(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    own = fakes.source("release", tmp_path / "rel", 0)
    ran = cli("build", "--source", "release", "--from", own.root, "--out", tmp_path / "out", "--runner", "ray")
    assert ran.code == 2
    assert "reads one stream from end to end and cannot be divided" in ran.err


def test_nothing_of_ray_is_imported_for_a_local_build() -> None:
    code = "import sys, birdmml.cli.build, birdmml.dataset.build, birdmml.dataset.divide; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_two_builds_on_ray_of_one_dataset_keep_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "_ray", object)
    place = BuildPlace(tmp_path / "out")
    place.make_work()
    own = discover.load("source", "demo").Settings()
    with (
        BuildLock(place.work / "driver", "it"),
        pytest.raises(BuildError, match="on Ray is being worked on by process"),
    ):
        on_ray.build_on_ray(BuildSettings("demo", own), tmp_path / "out", on_ray.Cluster())
    with pytest.raises(AttributeError):  # Free now: it goes on to what is no Ray.
        on_ray.build_on_ray(BuildSettings("demo", own), tmp_path / "out", on_ray.Cluster())
    assert list(tmp_path.iterdir()) == []


class _Node:
    """A cluster of one node that answers a question about the folder in its own way."""

    def __init__(self, answer: Callable[[Path], tuple[str, str]]) -> None:
        self._answer = answer
        self.exceptions = SimpleNamespace(RayError=RuntimeError)

    def nodes(self) -> list[dict[str, Any]]:
        where = {"NodeManagerHostname": "node7", "NodeManagerAddress": "10.0.0.7"}
        return [{"NodeID": "n7", "Alive": True, "Resources": {"CPU": 1}, **where}]

    def get(self, reference: str, timeout: float) -> tuple[str, str]:
        return self._answer(Path(reference))


def _shares(folder: Path) -> tuple[str, str]:
    return on_ray._look(str(folder), "n7")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_shares, None),
        (lambda folder: ("No such file or directory", __version__), r"node7 .*does not share .*\(No such file"),
        (lambda folder: (folder.name, __version__), "writes a folder of its own under that name"),
        (lambda folder: (folder.name, "0.0.9"), "node7 .* has birdmml 0.0.9"),
        (lambda folder: 1 / 0, None),
    ],
)  # fmt: skip
def test_a_node_that_does_not_share_the_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Path], tuple[str, str]], words: str | None
) -> None:
    monkeypatch.setattr(on_ray, "_on_node", lambda ray, node: SimpleNamespace(remote=lambda folder, node: folder))
    place = BuildPlace(tmp_path / "out")
    place.make_work()
    node = _Node(answer)
    if words is None and answer is _shares:
        on_ray._check_nodes(node, place)
    elif words is None:
        with pytest.raises(ZeroDivisionError):
            on_ray._check_nodes(node, place)
    else:
        with pytest.raises(BuildError, match=words):
            on_ray._check_nodes(node, place)
    assert [p.name for p in place.work.iterdir()] == [".birdmml-build"]


def test_a_node_that_lacks_birdmml_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> tuple[str, str]:
        raise RuntimeError("task failed\nModuleNotFoundError: No module named 'birdmml'")

    monkeypatch.setattr(on_ray, "_on_node", lambda ray, node: SimpleNamespace(remote=lambda folder, node: folder))
    place = BuildPlace(tmp_path / "out")
    place.make_work()
    with pytest.raises(BuildError, match=r"cannot run birdmml \(ModuleNotFoundError.*\): install birdmml"):
        on_ray._check_nodes(_Node(fails), place)
