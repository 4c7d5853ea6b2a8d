"""Builds that are killed at random moments, again and again, and end as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import bird_folder, tree


def kills_and_a_calm_end(tmp_path: Path, kills: int, seed: int) -> tuple[int, dict[str, str], dict[str, str]]:
    """Kill a build (its main process or a worker) at random moments, then let it end; bytes beside a calm build's."""
    birds = bird_folder(tmp_path / "birds", photos=80, recordings=80)
    command = [sys.executable, "-m", "birdmml", "build", "--source", "folder", "--from", str(birds)]
    command += ["--clip-seconds", "1", "--workers", "2", "--out"]
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "calm")], check=True, capture_output=True)
    usual = time.monotonic() - started
    rng, died = random.Random(seed), 0
    for _ in range(kills):
        running = subprocess.Popen(
            [*command, str(tmp_path / "out")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.2, usual))
        if rng.random() < 0.5:
            found = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True).stdout.split()
            if found:
                subprocess.run(["kill", "-9", rng.choice(found)], capture_output=True)
        running.send_signal(signal.SIGKILL)
        died += running.wait() == -signal.SIGKILL
        whole = (tmp_path / "out" / "manifest.json").exists()
        assert not whole or tree(tmp_path / "out") == tree(tmp_path / "calm")
    subprocess.run([*command, str(tmp_path / "out")], check=True, capture_output=True)
    return died, tree(tmp_path / "out"), tree(tmp_path / "calm")


def test_three_kills(tmp_path: Path) -> None:
    _, out, calm = kills_and_a_calm_end(tmp_path, kills=3, seed=0)
    assert out == calm


@pytest.mark.drill
def test_fifty_kills(tmp_path: Path) -> None:
    died, out, calm = kills_and_a_calm_end(tmp_path, kills=50, seed=1)
    assert out == calm
    assert died >= 25
