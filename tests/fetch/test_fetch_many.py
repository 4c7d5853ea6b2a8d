from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fetch_bench import DATA, MD5, NAME, MakeBench, benches
from helpers.servers import Act, Server

from birdmml.errors import BuildError, Interrupted
from birdmml.fetch.download import Fetcher, space_needed
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    with benches(tmp_path) as make:
        yield make


def test_a_disk_without_room_is_said_before_a_byte_is_asked_for(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 299_999))
    with pytest.raises(BuildError, match=r"300,000 bytes .* 299,999 .*goes on"):
        b.get()
    assert b.server.seen(NAME).requests == 0
    b.part.write_bytes(DATA[:1])
    assert b.get().state == "done"


def test_space_counts_what_is_there(tmp_path: Path) -> None:
    files = {
        n: (WantedFile(n, "http://x/", size), tmp_path / "new" / n) for n, size in [("a", 10), ("b", 7), ("c", None)]
    }
    assert str(space_needed(files.values(), tmp_path / "new")).startswith("17 B and 1 files of unknown size needed")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a").write_bytes(bytes(10))
    (tmp_path / "new" / "b.part").write_bytes(bytes(3))
    space = space_needed(files.values(), tmp_path / "new")
    assert (space.needed, space.unknown) == (4, 1) and space.fits and space.free > 4


FULL_DISK = """
import sys
from pathlib import Path
from birdmml.fetch.download import Fetcher
from birdmml.fetch.pace import Politeness
from birdmml.fetch.ledger import WantedFile as Wanted
from birdmml.fetch.ledger import Ledger
from birdmml.errors import BuildError
url, md5, size, ledger, folder = sys.argv[1:]
with Ledger(Path(ledger)) as book, Fetcher(book, Politeness("x")) as fetcher:
    try:
        print(fetcher.fetch(Wanted("f", url, int(size) or None, md5), Path(folder) / "f").state)
    except BuildError as e:
        row = book.get("f")
        print(row.state, row.bytes, e)
"""


def test_a_disk_that_fills_up_keeps_what_came(bench: MakeBench, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    b = bench(then=Act(no_length=True))  # Nobody says the size: the disk itself must.
    (tmp_path / "run.py").write_text(FULL_DISK)
    (tmp_path / "disk").mkdir()
    python = [
        sys.executable,
        str(tmp_path / "run.py"),
        b.server.content(NAME),
        MD5,
        "0",
        str(tmp_path / "l.sqlite"),
        ".",
    ]
    mount = 'mount -t tmpfs -o size=100k none "$0" && cd "$0" && "$@" && mount -o remount,size=1m "$0" && "$@"'
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, str(tmp_path / "disk"), *python], capture_output=True, text=True
    )
    first, *_, last = ran.stdout.splitlines() or [ran.stderr]
    assert first.startswith("partial ") and "is full" in first and "0 (0 B) are free" in first
    assert int(first.split()[1]) > 50_000
    assert last == "done"
    assert b.ranges == ["", f"bytes={first.split()[1]}-"]


def test_two_of_a_host_are_under_way_at_a_time_and_outcomes_come_as_they_end(tmp_path: Path) -> None:
    files = {f"/photo{i}.jpg": bytes([i]) * 2000 for i in range(12)}
    with Server(files) as one, Server(files) as two, Ledger(tmp_path / "l.sqlite") as ledger:
        gates = {n: threading.Event() for n in ("/photo0.jpg", "/photo1.jpg")}
        for name, gate in gates.items():
            one.act(name, Act(hold=gate, hold_after=1000))
        one.act("/photo5.jpg", then=Act(404))
        jobs = [
            (WantedFile(f"{n}{k}", s.content(k)), tmp_path / str(n) / k[1:])
            for k in files
            for n, s in enumerate((one, two))
        ]
        # Both servers are on one machine, hence one host; the name tells them apart.
        jobs = [
            (WantedFile(w.key, w.url.replace("127.0.0.1", "localhost") if w.key[0] == "1" else w.url), to)
            for w, to in jobs
        ]
        with Fetcher(ledger, Politeness("x")) as fetcher:
            outcomes = fetcher.fetch_all(jobs)
            early = [next(outcomes) for _ in range(3)]
            assert {o.key[0] for o in early} == {"1"}  # The first host's two slots are held.
            assert one.peak == 2 and sum(one.seen(k).requests for k in files) == 2
            for gate in gates.values():
                gate.set()
            rest = list(outcomes)
        states = {o.key: o.state for o in (*early, *rest)}
        assert states == {w.key: "missing" if w.key == "0/photo5.jpg" else "done" for w, _ in jobs}
        assert one.peak == 2 and two.peak <= 2
        assert ledger.counts() == {"wanted": 0, "partial": 0, "done": 23, "missing": 1, "corrupt": 0, "failed": 0}
        assert all(to.read_bytes() == files["/" + to.name] for w, to in jobs if states[w.key] == "done")
        with Fetcher(ledger, Politeness("x")) as fetcher:
            assert {o.key: o.state for o in fetcher.fetch_all(jobs)} == states
        assert sum(one.seen(k).requests + two.seen(k).requests for k in files) == 24


def test_an_error_in_one_thread_stops_the_others(tmp_path: Path) -> None:
    files = {f"/{i}": bytes(1000) for i in range(20)}
    with Server(files) as server, Ledger(tmp_path / "l.sqlite") as ledger, Fetcher(ledger, Politeness("x")) as fetcher:
        (tmp_path / "blocked").write_bytes(b"a file, no folder")
        jobs = [
            (WantedFile(k, server.content(k)), tmp_path / ("blocked" if k == "/3" else "out") / k[1:]) for k in files
        ]
        with pytest.raises(BuildError, match="blocked"):
            list(fetcher.fetch_all(jobs))
        with pytest.raises(Interrupted, match="run it again"):
            fetcher.fetch(*jobs[-1])
        assert server.seen("/19").requests == 0
    with Server(files) as server, Ledger(tmp_path / "l.sqlite") as ledger, Fetcher(ledger, Politeness("x")) as fetcher:
        hold = threading.Event()
        server.act("/0", Act(hold=hold))
        same = (WantedFile("/0", server.content("/0")), tmp_path / "same")
        with pytest.raises(BuildError, match="twice"):
            list(fetcher.fetch_all([same, same]))
        hold.set()


def test_a_killed_download_goes_on_from_its_bytes(bench: MakeBench, tmp_path: Path) -> None:
    data = random.Random(9).randbytes(4_000_000)
    b = bench(data=data)
    release = threading.Event()
    b.server.act(NAME, Act(hold=release, hold_after=1_500_000), Act(hold=release, hold_after=1_000_000))
    (tmp_path / "run.py").write_text(FULL_DISK)
    (tmp_path / "out").mkdir()
    part = tmp_path / "out" / "f.part"
    command = [sys.executable, str(tmp_path / "run.py"), b.server.content(NAME), hashlib.md5(data).hexdigest()]
    command += [str(len(data)), str(tmp_path / "l.sqlite"), str(tmp_path / "out")]
    for there in (1_500_000, 2_500_000):
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size >= there) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL and part.stat().st_size == there
        running.stdout.close()  # type: ignore[union-attr]  # it is a pipe
        with Ledger(tmp_path / "l.sqlite") as ledger:
            row = ledger.get("f")
            assert row and row.state == "partial"
    release.set()
    assert subprocess.run(command, capture_output=True, text=True).stdout == "done\n"
    assert (tmp_path / "out" / "f").read_bytes() == data and not part.exists()
    assert b.ranges == ["", "bytes=1500000-", "bytes=2500000-"]
    # What was held back was sent to nobody: a block more at most.
    assert len(data) <= b.server.seen(NAME).served <= len(data) + 2 * 65536
    with Ledger(tmp_path / "l.sqlite") as ledger:
        row = ledger.get("f")
        assert row and (row.state, row.attempts, row.bytes) == ("done", 3, len(data))
    assert subprocess.run(command, capture_output=True, text=True).stdout == "done\n"
    assert b.server.seen(NAME).requests == 3
