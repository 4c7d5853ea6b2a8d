"""Run by test_resume.py: trains in forked children, kills them with SIGKILL, and lets the last one end.

Usage: resume_driver.py DATA OUT EVERY [STEP...]: a child dies as soon as the journal has each STEP, the next resumes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from birdmml.models import journal
from birdmml.models.plan import plan, run
from helpers.small import OPTIONS

# Dropout, augmentation, a partial last batch: all that random numbers and positions can get wrong.
SETTINGS = [*OPTIONS, "training.epochs=4", "training.batch_size=7", "training.cache_gib=0", "training.buffer_mib=1"]


def work(data: Path, out: Path, every: int) -> None:
    made = plan(data, "confu", "tiny", SETTINGS, device="cpu")
    run(made, out, every, resume=True, quiet=True)


def steps(out: Path) -> int:
    path = out / journal.FILE
    return max([line["step"] for line in journal.read(out)], default=0) if path.is_file() else 0


def main(data: Path, out: Path, every: int, kills: list[int]) -> None:
    fork, died = multiprocessing.get_context("fork"), 0
    for until in [*kills, 0]:
        child = fork.Process(target=work, args=(data, out, every))
        child.start()
        while until and child.is_alive() and steps(out) < until:
            time.sleep(0.002)
        if until and child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
        child.join()
        died += child.exitcode == -signal.SIGKILL
    print(json.dumps({"died": died, "end": child.exitcode}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), [int(word) for word in sys.argv[4:]])
