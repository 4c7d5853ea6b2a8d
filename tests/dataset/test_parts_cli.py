"""Parts by the command line, and options that do not go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ran

Cli = Callable[..., Ran]


def test_by_the_command_line(cli: Cli, tmp_path: Path) -> None:
    small = ["build", "--species", "4", "--per-species", "6", "--image-size", "32", "--clip-seconds", "2"]
    small += ["--out", tmp_path / "out"]
    for index in range(2):
        ran = cli(*small, "--num-shards", 2, "--shard-index", index, "--json")
        assert ran.code == 0
        told = json.loads(ran.out)
        assert (told["part"], told["count"], told["rejects"]) == (index, 2, 0)
    ran = cli(*small, "--finish", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["counts"]["rows"] == 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-shards", 3], "needs to be told what to do"),
        (["--shard-index", 3], "add --num-shards"),
        (["--num-shards", 3, "--shard-index", 3], "give an index from 0 to 2"),
        (["--num-shards", 3, "--shard-index", 1, "--finish"], "leave one of the two out"),
        (["--finish", "--resume"], "--resume is not for parts"),
        (["--ray-address", "auto"], "--ray-address is for --runner ray"),
        (["--runner", "spark"], "neither local nor ray"),
        (["--at-once", 2], "--at-once is for parts"),
        (["--num-shards", 3, "--shard-index", 1, "--at-once", 5], "5 parts at a time of 3"),
        (["--num-shards", 100_000, "--shard-index", 1], "more than 99999"),
    ],
)
def test_options_that_do_not_go_together(cli: Cli, tmp_path: Path, options: list[object], words: str) -> None:
    ran = cli("build", "--out", tmp_path / "out", *options)
    assert ran.code == 2
    assert words in ran.err
    assert list(tmp_path.iterdir()) == []
