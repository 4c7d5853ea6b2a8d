"""Builds of the release that are killed at random moments, main process or worker, and end as if nothing had been."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import tree
from helpers.releases import make, shelf, whole
from helpers.servers import Server

KINDS = ("tar.gz", "zip", "tree", "download")


def prepared(kind: str, folder: Path) -> Path:
    """The release with a part missing, its photos in a tar.gz or a zip, or all of it unpacked."""
    photos = "zip" if kind == "zip" else "tar.gz"
    full = whole(folder / "r", seed=11, species=6, rows=8, photo_archive=photos)
    if kind != "tree":
        return shelf(full.truth.root, folder / "files", {"ah"})
    (folder / "files").mkdir()
    (folder / "files" / "bird-mml.csv").write_bytes((full.truth.root / "files/bird-mml.csv").read_bytes())
    for name, data in full.media.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "files"


def killed_and_resumed(tmp_path: Path, kind: str, kills: int, seed: int) -> int:
    """Kill builds at random moments, let the last one end, compare its bytes; how many really died."""
    root = prepared(kind, tmp_path)
    with Server(root) as server:
        where = ["--zenodo", server.url] if kind == "download" else ["--from", str(root)]
        command = [sys.executable, "-m", "birdmml", "build", "--source", "release", *where]
        command += ["--clip-seconds", "1", "--workers", "2", "--max-rejects", "0.2", "--out"]
        started = time.monotonic()
        make(root, tmp_path / "calm", max_rejects=0.2)
        usual = 2 + 2 * (time.monotonic() - started)  # As a process of its own, with workers.
        rng, died = random.Random(seed), 0
        for _ in range(kills):
            died += _one(command, tmp_path / "out", rng, usual)
            whole_one = (tmp_path / "out" / "manifest.json").exists()
            assert not whole_one or tree(tmp_path / "out") == tree(tmp_path / "calm")
        done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
    assert not any((tmp_path / "out.partial" / "spool").glob("*"))
    return died


def _one(command: list[str], out: Path, rng: random.Random, usual: float) -> bool:
    """One build that is killed: itself, or first one of its workers and a little later itself."""
    before = {p.name for p in out.with_name("out.partial").glob("staging/*")}
    running = subprocess.Popen(
        [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    # Half of them wait until the work has begun, so that not all die while Python starts.
    deadline = time.monotonic() + usual
    while rng.random() < 0.98 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
        if {p.name for p in out.with_name("out.partial").glob("s*/*")} - before:
            break
    time.sleep(rng.uniform(0, usual / 2))
    if rng.random() < 0.5:
        found = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True).stdout.split()
        if found:
            subprocess.run(["kill", "-9", rng.choice(found)], capture_output=True)
            time.sleep(rng.uniform(0, usual / 2))
    running.send_signal(signal.SIGKILL)
    return running.wait() == -signal.SIGKILL


def test_two_kills_of_a_download(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, "download", kills=2, seed=0)


@pytest.mark.drill
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills(kind: str, tmp_path: Path) -> None:
    died = killed_and_resumed(tmp_path, kind, kills=13, seed=1)
    print(kind, died, "of 13 died")
    assert died >= 6
