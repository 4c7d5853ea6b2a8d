"""Preparations that are killed at random moments, the main process or a worker, and end as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import evalset
from helpers.evalsets import content, packed


@pytest.mark.drill
@pytest.mark.parametrize("form", ("folder", "archive"))
def test_twenty_kills(form: str, tmp_path: Path) -> None:
    source = evalset("ssw60", tmp_path / "ssw60")
    if form == "archive":
        source = packed(source, tmp_path / "ssw60.tar.gz")
    command = [sys.executable, "-m", "birdmml", "prepare", "ssw60", "--from", str(source), "--out"]
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "calm")], check=True, capture_output=True)
    usual, rng, died = time.monotonic() - started, random.Random(form), 0
    for _ in range(20):
        running = subprocess.Popen(
            [*command, str(tmp_path / "out")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.3 * usual, usual))
        if rng.random() < 0.5:
            found = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True)
            if found.stdout.split():
                subprocess.run(["kill", "-9", rng.choice(found.stdout.split())], capture_output=True)
                time.sleep(0.2)
        running.send_signal(signal.SIGKILL)
        died += running.wait() == -signal.SIGKILL
        if (tmp_path / "out" / "manifest.json").exists():
            assert content(tmp_path / "out") == content(tmp_path / "calm")
    subprocess.run([*command, str(tmp_path / "out")], check=True, capture_output=True)
    assert content(tmp_path / "out") == content(tmp_path / "calm")
    assert died >= 5
