from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from helpers.archives import NAMES, SMALL, Shelf, Sized, birds, cut, drink, mixed, plain, tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdmml.core.files import digest
from birdmml.errors import SourceError
from birdmml.fetch.salvage import parts
from birdmml.fetch.salvage.members import MemberLimits, RecoveredMember
from birdmml.fetch.salvage.stream import Stream


@pytest.mark.parametrize("late", [(4,), (0,), (7,), (3, 4), (2, 5)])
def test_a_part_that_turns_up_is_read_and_no_other(
    tmp_path: Path, late: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(tar(SMALL))
    paths = cut(packed, tmp_path / "parts", 8)
    shelf, got = Shelf(paths, late), dict[str, RecoveredMember]()
    assert drink(Stream(shelf, state=tmp_path / "state"), got)
    before, read = set(got), 0
    honest = parts._read

    def counted(path: Path, offset: int, size: int) -> bytes:
        nonlocal read
        read += size
        return honest(path, offset, size)

    monkeypatch.setattr(parts, "_read", counted)
    for i in range(8):
        if i not in late:
            paths[i].unlink()  # What was read before is not needed again.
    for index in late:
        shelf.gone.discard(index)
        shelf.asked.clear()
        read = 0
        stream = Stream(shelf, state=tmp_path / "state")
        assert drink(stream, got) and not stream.notes
        assert index in shelf.asked and set(shelf.asked) <= set(late) and not shelf.held
        assert read <= paths[index].stat().st_size + (1 << 17)  # Headers are looked for 64 KiB ahead.
    assert plain(got) == SMALL
    report = stream.report()
    assert report.whole and report.checksum == "matches" and report.unverified == 0
    assert report.counts["complete"] + report.counts["recovered"] == len(SMALL)
    assert all(got[name].state == "complete" for name in set(got) - before) or len(late) > 1
    shelf.asked.clear()
    assert list(Stream(shelf, state=tmp_path / "state")) == [] and shelf.asked == []


@pytest.mark.parametrize("gone", [(), (2,)])
def test_stopped_anywhere_it_goes_on_without_the_parts_it_released(tmp_path: Path, gone: tuple[int, ...]) -> None:
    files = birds(10, 16000)
    kept = cut(gzip.compress(tar(files)), tmp_path / "kept", 6)
    whole = dict[str, RecoveredMember]()
    drink(Stream(Shelf(kept, gone)), whole)
    for stop in range(1, 14):
        root = tmp_path / str(stop)
        shutil.copytree(tmp_path / "kept", root / "parts")
        shelf, got = (Shelf([root / "parts" / p.name for p in kept], gone, once=True), dict[str, RecoveredMember]())
        done = drink(Stream(shelf, state=root / "state"), got, stop)
        shelf.held.clear()
        drink(again := Stream(shelf, state=root / "state"), got)
        assert {n: (m.data, m.state) for n, m in got.items()} == {n: (m.data, m.state) for n, m in whole.items()}
        assert again.report().checksum == ("unknown" if gone else "matches")
        assert not any(p.exists() for i, p in enumerate(shelf.paths) if i not in gone)
    assert done  # Every place to stop at was tried.


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    level=st.integers(0, 9),
    n=st.integers(1, 24),
    gone=st.lists(st.integers(0, 23), max_size=4, unique=True),
    back=st.integers(0, 4),
    stops=st.lists(st.integers(1, 30), max_size=6),
    every=st.integers(1, 5),
)
def test_stops_and_late_parts_change_nothing_in_what_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int, level: int, n: int, gone: list[int], back: int, stops: list[int], every: int,
) -> None:  # fmt: skip
    root = tmp_path_factory.mktemp("case")
    files = mixed(seed)
    data = tar(files, [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT][seed % 2])
    packed = data if seed % 7 == 0 else gzip.compress(data, level)
    paths = cut(packed, root / "parts", n)
    paths = [p.rename(p.with_name(f"x.tar.{NAMES[i]}")) for i, p in enumerate(paths)] if seed % 7 == 0 else paths
    gone = [i for i in gone if i < len(paths)]
    shelf, got = Shelf(paths, gone), dict[str, RecoveredMember]()
    for index in [None, *gone[:back]]:
        shelf.gone.discard(-1 if index is None else index)
        while not drink(stream := Stream(shelf, state=root / "state"), got, stops.pop() if stops else None, every):
            assert not stream.notes
    one, undisturbed = dict[str, RecoveredMember](), Stream(Shelf(paths, gone[back:]))
    drink(undisturbed, one)
    assert plain(got) == plain(one)
    assert plain(got) == {name: files[name] for name in got}
    mine, its = stream.report(), undisturbed.report()
    assert (mine.lost, mine.refused, mine.holes, mine.checksum) == (its.lost, its.refused, its.holes, its.checksum)
    assert mine.reached_end == its.reached_end
    assert sum(mine.counts.values()) == sum(its.counts.values())
    assert gone[back:] or (plain(got) == files and mine.whole)


CONSUMER = """
import sys, time
from pathlib import Path
from birdmml.core.files import atomic_write
from birdmml.fetch.salvage.members import RecoveredMember as Member
from birdmml.fetch.salvage.stream import Stream
from birdmml.fetch.salvage.parts import Files
out, parts = Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
class Released(Files):
    def release(self, index):
        self._placed[index].unlink(missing_ok=True)
        self._sizes.pop(index, None)
stream = Stream(Released(parts), state=out / "state")
for event in stream:
    if isinstance(event, Member):
        with atomic_write(out / event.name) as f:
            f.write(event.data)
        time.sleep(0.004)
    stream.acknowledge(event.seq)
"""


def test_a_killed_consumer_loses_nothing(tmp_path: Path) -> None:
    paths = cut(gzip.compress(tar(SMALL)), tmp_path / "parts", 8)
    out = tmp_path / "out"
    command = [sys.executable, "-c", CONSUMER, str(out), *map(str, paths)]
    runs = 0
    for enough in (10, 35, 10**6):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while process.poll() is None and len(list(out.rglob("*.wav"))) < enough:
            time.sleep(0.002)
        process.kill()
        runs += process.wait() == -9
    assert runs == 2
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.wav")} == SMALL
    assert not any(p.exists() for p in paths)


@pytest.mark.parametrize("sized", [True, False])
def test_a_part_cut_short_is_a_hole_until_it_is_whole(tmp_path: Path, sized: bool) -> None:
    paths = cut(gzip.compress(tar(SMALL)), tmp_path / "parts", 8)
    shelf, got = Sized(paths) if sized else Shelf(paths), dict[str, RecoveredMember]()
    whole = paths[4].read_bytes()
    paths[4].write_bytes(whole[:1000])
    drink(stream := Stream(shelf, state=tmp_path / "state"), got)
    assert [(h.kind, h.parts) for h in stream.report().holes] == [("truncated", (paths[4].name,))]
    assert plain(got) == {name: SMALL[name] for name in got} and len(got) > 40
    paths[4].write_bytes(whole)
    shelf.asked.clear()
    drink(stream := Stream(shelf, state=tmp_path / "state"), got)
    assert shelf.asked == [4] and plain(got) == SMALL and stream.report().whole


def state_files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "remove", "folder"])
@pytest.mark.parametrize("which", ["list", "mark"])
def test_a_damaged_state_is_told_and_started_over(tmp_path: Path, how: str, which: str) -> None:
    files = birds(14, 12000)
    paths, state = cut(gzip.compress(tar(files)), tmp_path / "parts", 6), tmp_path / "state"
    drink(Stream(Shelf(paths, {2}), state=state), {}, 9)
    path = next(p for p in state_files(state) if (p.suffix == ".json") == (which == "list"))
    data = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "remove":
        middle = len(data) // 2
        path.write_bytes({"cut": data[:middle], "empty": b""}.get(how) or data[:middle] + b"\xff" + data[middle + 1 :])
    if how == "folder":
        with pytest.raises(SourceError, match="name another"):
            Stream(Shelf(paths), state=state)
        return
    stream, got = Stream(Shelf(paths), state=state), dict[str, RecoveredMember]()
    assert bool(stream.notes) == (which == "mark" or how != "remove")
    assert all("starts over" in note for note in stream.notes)
    assert drink(stream, got) and plain(got) == files


@pytest.mark.parametrize(
    "change",
    [
        {"marks": []},
        {"marks": "x"},
        {"marks": [{"part": -1}]},
        {"plain": [1], "sizes": [[0, -5]]},
        {"sizes": {"a": 1}},
        {"marks": [{"part": 3, "file": "../../etc/passwd.mark"}]},
        {"of": "another archive"},
        {"marks": [{"part": 10**400}]},
    ],
    ids=range(8),
)
def test_a_forged_list_is_no_traceback(tmp_path: Path, change: dict[str, object]) -> None:
    files = birds(6, 12000)
    paths, state = cut(gzip.compress(tar(files)), tmp_path / "parts", 3), tmp_path / "state"
    drink(Stream(Shelf(paths), state=state), {})
    path = state / "salvage-state.json"
    body = json.loads(path.read_text())["body"] | change
    path.write_text(json.dumps({"sha256": digest(body), "body": body}))
    stream, got = Stream(Shelf(paths), state=state), dict[str, RecoveredMember]()
    assert stream.notes and drink(stream, got) and plain(got) == files


def test_a_state_of_other_limits_or_another_archive_is_not_used(tmp_path: Path) -> None:
    paths = cut(gzip.compress(tar(birds(6, 12000))), tmp_path / "parts", 3)
    drink(Stream(Shelf(paths), state=tmp_path / "state"), {})
    assert "other limits" in Stream(Shelf(paths), MemberLimits(members=5), tmp_path / "state").notes[0]
