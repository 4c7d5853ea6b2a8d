"""A build of the release's size: all rows arrive, and memory does not grow with them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fakes.release import write, write_record

PAPER_ROWS = 149_681
SECONDS = 0.2


def release(root: Path, species: int, rows: int, total: int) -> Path:
    """A release with small media, its table cut to `total` rows."""
    write(root, 0, species=species, rows=rows, seconds=SECONDS, photo_px=24, missing=())
    table = root / "files" / "bird-mml.csv"
    with table.open(encoding="utf-8", newline="") as f:
        lines = list(csv.reader(f))
    with table.open("w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows(lines[: total + 1])
    write_record(root, "http://127.0.0.1:1", "new")
    return root


def measured(root: Path, out: Path) -> tuple[int, float, int]:
    """(rows, seconds, peak RSS in bytes of the whole process tree) of one build with two workers."""
    command = [sys.executable, "-m", "birdmml", "build", "--source", "release", "--from", str(root)]
    command += ["--out", str(out), "--clip-seconds", str(SECONDS), "--workers", "2", "--json"]
    began, peak = time.monotonic(), 0
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    tree = psutil.Process(running.pid)
    while running.poll() is None:
        try:
            peak = max(peak, sum(p.memory_info().rss for p in (tree, *tree.children(recursive=True))))
        except psutil.Error:
            continue  # One of them has just ended.
        time.sleep(0.1)
    assert running.returncode == 0
    manifest = json.loads((out / "manifest.json").read_text())
    return manifest["counts"]["rows"], time.monotonic() - began, peak


def test_a_build_of_two_thousand_rows_stays_small(tmp_path: Path) -> None:
    rows, _, peak = measured(release(tmp_path / "rel", 20, 100, 2000), tmp_path / "out")
    assert rows >= 2000
    assert peak < 1_000_000_000


@pytest.mark.drill
def test_a_build_of_the_papers_size_is_whole_and_as_small_as_a_tenth_of_it(tmp_path: Path) -> None:
    tenth_rows, _, tenth = measured(release(tmp_path / "tenth", 150, 100, 14_968), tmp_path / "small")
    rows, seconds, peak = measured(release(tmp_path / "whole", 150, 998, PAPER_ROWS), tmp_path / "large")
    size = sum(p.stat().st_size for p in (tmp_path / "large" / "data").iterdir())
    print(f"{tenth_rows:,} rows: peak {tenth / 2**20:,.0f} MiB")
    print(f"{rows:,} rows: {seconds:,.0f} s, peak {peak / 2**20:,.0f} MiB, {size / 2**20:,.0f} MiB of shards")
    assert tenth_rows >= 14_968
    assert rows >= PAPER_ROWS
    assert peak < 1_500_000_000
    assert peak < 1.15 * tenth
