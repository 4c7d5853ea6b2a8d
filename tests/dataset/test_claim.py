"""Claims: who works on a part, over file systems that pass no locks on."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from birdmml.dataset.place import BuildLock
from birdmml.errors import BuildError


def foreign(path: Path) -> None:
    """A claim of another machine."""
    path.write_text(json.dumps({"machine": "elsewhere", "node": "node7", "pid": 1, "since": 0.0, "token": "x"}))


def test_a_claim_of_another_machine_holds_while_it_is_touched(tmp_path: Path) -> None:
    path, ended = tmp_path / "claim", threading.Event()
    foreign(path)

    def touch() -> None:
        while not ended.wait(0.05):
            os.utime(path)

    toucher = threading.Thread(target=touch)
    toucher.start()
    with pytest.raises(BuildError, match="x is being worked on by process 1 on node7"), BuildLock(path, "x", 0.1, 5.0):
        pass
    ended.set()
    toucher.join()
    with BuildLock(path, "x", beat_s=0.1, stale_s=0.5) as mine:
        assert json.loads(path.read_text())["pid"] == os.getpid()
        mine.check()
    assert not path.exists()


def test_who_lost_its_claim_finds_out_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    with BuildLock(path, "part 3", beat_s=0.02) as mine:
        path.rename(tmp_path / "aside")
        foreign(path)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                mine.check()
            except BuildError as e:
                assert "part 3 was taken over by another run" in str(e)
                break
            time.sleep(0.01)
        else:
            pytest.fail("nothing was noticed")
    assert "elsewhere" in path.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": "no"}', '{"machine": 7}'])
def test_a_claim_that_cannot_be_read_is_put_aside_when_nobody_touches_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "claim").write_text(text)
    with BuildLock(tmp_path / "claim", "x", beat_s=0.1, stale_s=0.2):
        pass


def test_a_claim_that_cannot_be_opened_is_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "claim").mkdir()
    with (
        pytest.raises(BuildError, match=r"claim cannot be read \(Is a directory\)"),
        BuildLock(tmp_path / "claim", "x"),
    ):
        pass
    assert (tmp_path / "claim").is_dir()
