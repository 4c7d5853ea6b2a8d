"""The upload of a dataset against a hub that misbehaves: whole in the end, nothing sent twice, nothing told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import Ran, tree
from helpers.dataset_hub import LARGE, LOST, RESET, TOKEN, DatasetHub

from birdmml.hub import dataset_upload

Cli = Callable[..., Ran]
PUSH = ("--repo", "someone/birds", "--push")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    with DatasetHub().serving(monkeypatch) as hub:
        yield hub


def shown(hub: DatasetHub) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in hub.files.items()}


def is_whole(hub: DatasetHub, data: Path) -> None:
    """Byte for byte the folder, but for croissant.json, which has the hub's addresses."""
    ours, theirs = tree(data), shown(hub)
    assert theirs.keys() == ours.keys()
    assert {p for p in ours if ours[p] != theirs[p]} == {"croissant.json"}
    croissant = json.loads(hub.files["croissant.json"])
    assert croissant["distribution"][0]["contentUrl"] == "https://huggingface.co/datasets/someone/birds"


def sent_once(hub: DatasetHub, data: Path) -> None:
    large = {sha for path, sha in tree(data).items() if path.endswith(LARGE)}
    assert hub.put == dict.fromkeys(large, 1)


def test_an_upload_is_whole_and_comes_in_one_commit(free: Path, cli: Cli, hub: DatasetHub) -> None:
    ran = cli("push", free, *PUSH)
    assert ran.code == 0, ran.err
    assert f"uploaded  {hub.url}/datasets/someone/birds/commit/" in ran.out
    is_whole(hub, free)
    sent_once(hub, free)
    assert len(hub.commits) == 1 and not hub.private


def test_the_same_again_sends_nothing(free: Path, cli: Cli, hub: DatasetHub) -> None:
    cli("push", free, *PUSH)
    ran = cli("push", free, *PUSH)
    assert ran.code == 0, ran.err
    files = len(tree(free))
    assert f"to send   0 files, 0 B; {files} are there already" in ran.out
    assert len(hub.commits) == 1
    sent_once(hub, free)


def test_a_dry_run_tells_what_would_be_replaced_and_removed(free: Path, cli: Cli, hub: DatasetHub) -> None:
    assert "new" in cli("push", free, *PUSH[:2]).out  # There is no repository yet: asking makes none.
    assert not hub.made
    cli("push", free, *PUSH)
    hub.files["README.md"] = b"x" * 2048
    hub.files["data/train-00000-of-00009.parquet"] = b"old"
    hub.files["LICENSE.txt"] = b"theirs"
    before = shown(hub)
    ran = cli("push", free, *PUSH[:2])
    lines = {line.split()[0]: line for line in ran.out.splitlines() if line.startswith("  ")}
    assert "replaces 2.0 KiB" in lines["README.md"]
    assert "there already" in lines["manifest.json"]
    assert "removed from the hub" in lines["data/train-00000-of-00009.parquet"]
    assert "LICENSE.txt" not in lines
    assert shown(hub) == before
    told = json.loads(cli("push", free, *PUSH[:2], "--json").out)["hub"]
    assert told["replaced"] == {"README.md": 2048} and told["removed"] == ["data/train-00000-of-00009.parquet"]
    cli("push", free, *PUSH)
    assert hub.files.pop("LICENSE.txt") == b"theirs"
    is_whole(hub, free)


FAULTS: dict[str, list[tuple[str, int | str]]] = {
    "too many requests": [("/store/", 429), ("/preupload/", 429), ("/commit/", 429), ("/tree/", 429)],
    "server in trouble": [("/store/", 500), ("/batch", 503), ("/commit/", 500), ("/repos/create", 502)],
    "reset in the middle": [("/store/", RESET), ("/store/", RESET), ("/commit/", RESET), ("/tree/", RESET)],
    "answer of the commit lost": [("/commit/", LOST)],
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_passes_is_waited_for(name: str, free: Path, cli: Cli, hub: DatasetHub) -> None:
    hub.faults = list(FAULTS[name])
    if "/tree/" in dict(FAULTS[name]):
        hub.made = True  # An empty repository, whose tree can be asked for.
    ran = cli("push", free, *PUSH)
    assert ran.code == 0, ran.err
    assert hub.faults == []
    is_whole(hub, free)
    sent_once(hub, free)
    assert len(hub.commits) == 1
    assert TOKEN not in ran.out + ran.err


@pytest.mark.parametrize(("status", "word"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (400, "push again")])
def test_what_does_not_pass_is_not_tried_again(status: int, word: str, free: Path, cli: Cli, hub: DatasetHub) -> None:
    hub.faults = [("/commit/", status)] * 9
    ran = cli("push", free, *PUSH)
    assert ran.code == 1 and word in ran.err and TOKEN not in ran.out + ran.err
    assert len(hub.faults) == 8 and hub.files == {}
    # What had arrived is not sent again.
    hub.faults = []
    assert cli("push", free, *PUSH).code == 0
    sent_once(hub, free)
    is_whole(hub, free)


def test_a_hub_that_stays_away_is_given_up(free: Path, cli: Cli, hub: DatasetHub) -> None:
    hub.faults = [("/commit/", 500)] * 99
    ran = cli("push", free, *PUSH)
    assert ran.code == 1 and "the upload failed" in ran.err and "again in 8 s" in ran.err
    assert "Traceback" not in ran.err and hub.files == {}


def test_large_datasets_come_in_several_commits_the_manifest_last(
    free: Path, cli: Cli, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_upload, "COMMIT_FILES", 10)
    monkeypatch.setattr(dataset_upload, "GROUP_FILES", 3)
    hub.faults = [("/commit/", LOST)]
    assert cli("push", free, *PUSH).code == 0
    is_whole(hub, free)
    sent_once(hub, free)
    assert len(hub.commits) > 2
    documents = {"README.md", "manifest.json", "croissant.json", "datasheet.md"}
    assert documents <= set(hub.commits[-1]) and not any(documents & set(c) for c in hub.commits[:-1])


def test_private_means_private(free: Path, cli: Cli, hub: DatasetHub) -> None:
    assert cli("push", free, *PUSH, "--private").code == 0 and hub.private
    hub.private = False
    hub.files = {}
    ran = cli("push", free, *PUSH, "--private")
    assert ran.code == 1 and "public" in ran.err and hub.files == {}


def test_a_file_that_changes_while_it_is_sent_is_not_shown(
    free: Path, tmp_path: Path, cli: Cli, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(free, tmp_path / "data"))
    ask = dataset_upload.there

    def meanwhile(*args: object) -> dict[str, dataset_upload.There]:
        with (data / "README.md").open("a") as f:
            f.write("more")
        return ask(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset_upload, "there", meanwhile)
    ran = cli("push", data, *PUSH)
    assert ran.code == 1 and "was changed while" in ran.err and hub.files == {}


def test_without_a_token_or_a_network_nothing_is_sent(
    free: Path, cli: Cli, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.utils.get_token", lambda: None)
    ran = cli("push", free, *PUSH)
    assert ran.code == 1 and "no token" in ran.err and not hub.made
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ran = cli("push", free, *PUSH)
    assert ran.code == 1 and "HF_HUB_OFFLINE" in ran.err and not hub.made


def test_a_dry_run_says_where_the_hub_did_not_answer(free: Path, cli: Cli, hub: DatasetHub) -> None:
    for fault in (500, RESET, 401):
        hub.faults = [("/api/datasets/", fault)]
        ran = cli("push", free, *PUSH[:2])
        assert ran.code == 0 and "or did not answer" in ran.out, ran.err
    assert not hub.made


def test_what_may_not_be_published_does_not_reach_the_hub(licensed: Path, cli: Cli, hub: DatasetHub) -> None:
    ran = cli("push", licensed, *PUSH)
    assert ran.code == 1 and not hub.made and not hub.asked


def test_a_filtered_copy_is_what_arrives(licensed: Path, tmp_path: Path, cli: Cli, hub: DatasetHub) -> None:
    ran = cli("push", licensed, *PUSH, "--filter-licenses", "--out", tmp_path / "copy")
    assert ran.code == 0, ran.err
    is_whole(hub, tmp_path / "copy")
    assert "report/filtered.csv" in hub.files


def test_a_demo_arrives_as_a_demo(small_demo: Path, cli: Cli, hub: DatasetHub) -> None:
    ran = cli("push", small_demo, *PUSH, "--allow-demo")
    assert ran.code == 0 and "DEMO" in ran.out
    is_whole(hub, small_demo)
    assert b"This is not Bird-MML" in hub.files["README.md"]


def pushed(data: Path, hub: DatasetHub, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    """A push in a process of its own, killed by SIGKILL when the hub has taken `kill_at` more files."""
    command = [sys.executable, "-m", "birdmml", "push", str(data), *PUSH]
    env = {**os.environ, **hub.environment()}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wanted = sum(hub.put.values()) + kill_at
        done = threading.Event()

        def kill(number: int) -> None:
            if kill_at and number >= wanted and not done.is_set():
                done.set()
                os.kill(process.pid, signal.SIGKILL)

        hub.on_put = kill
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def killed_and_resumed(data: Path, hub: DatasetHub, kills: list[int]) -> None:
    for kill_at in kills:
        assert pushed(data, hub, kill_at).returncode == -signal.SIGKILL
        assert hub.files == {}  # Nobody sees a part of it.
    ran = pushed(data, hub)
    assert ran.returncode == 0, ran.stderr
    is_whole(hub, data)
    sent_once(hub, data)
    assert TOKEN not in ran.stdout + ran.stderr


def test_a_killed_upload_goes_on(free: Path, hub: DatasetHub) -> None:
    killed_and_resumed(free, hub, [4])


@pytest.mark.drill
def test_an_upload_killed_five_times_goes_on(free: Path, hub: DatasetHub) -> None:
    killed_and_resumed(free, hub, [1, 2, 3, 5, 8])
