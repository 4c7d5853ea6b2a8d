"""Many small files: as right as large ones, cheap, and lost neither to a kill nor to a power cut."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.servers import Act, Fast, Server
from helpers.services import LASTING, Faults, Service

from birdmml.errors import BuildError
from birdmml.fetch import download, transfer
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Clock, Politeness

Jobs = list[tuple[WantedFile, Path]]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as s:
        yield s


def folder(root: Path, n: int, size: int = 2000) -> dict[str, bytes]:
    rng = random.Random(1)
    data = {f"/{i}.jpg": rng.randbytes(size + i) for i in range(n)}
    root.mkdir()
    for name, content in data.items():
        (root / name[1:]).write_bytes(content)
    return data


def jobs(url: str, names: list[str], to: Path) -> Jobs:
    return [(WantedFile(n, url + n), to / n[1:3] / n[1:]) for n in names]


def fetcher(stack: ExitStack, where: Path, **options: object) -> Fetcher:
    ledger = stack.enter_context(Ledger(where / "ledger.sqlite"))
    settings = {"agent": "birdmml-test", "back_off_s": 0.001, "timeout_s": 5.0, **options}
    clock = settings.pop("clock", None)
    return stack.enter_context(Fetcher(ledger, Politeness(**settings), clock))  # type: ignore[arg-type]  # options of each test


def test_one_fault_in_three_requests_loses_nothing_but_what_lasts(stack: ExitStack, tmp_path: Path) -> None:
    data = folder(tmp_path / "www", 120)
    faults = Faults(every=3, lost=8, seed=3)
    s = stack.enter_context(Service(tmp_path / "www", faults=faults))
    f = fetcher(stack, tmp_path, named=[s.url], parallel=4)
    outcomes = {o.key: o for o in f.fetch_small(jobs(s.url, list(data), tmp_path / "out"))}
    lost = {n: faults.lasts(n) for n in data if faults.lasts(n)}
    assert set(lost.values()) == set(LASTING) and sum(s.misbehaved.values()) > 40
    for name, o in outcomes.items():
        row = f.ledger.get(name)
        assert row and (row.state, row.sha256, row.bytes, row.reason) == (o.state, o.sha256, o.bytes, o.reason)
        if name not in lost:
            assert o.path and o.path.read_bytes() == data[name]
            assert o.state == "done" and o.sha256 == hashlib.sha256(data[name]).hexdigest()
        else:
            assert o.state == ("missing" if lost[name] == "404" else "failed") and o.path is None and o.reason
    assert s.twice() == {} and s.peak <= 4
    assert not list(tmp_path.rglob("*.part"))
    asked = s.requests
    again = {o.key: o.state for o in f.fetch_small(jobs(s.url, list(data), tmp_path / "out"))}
    assert again == {n: o.state for n, o in outcomes.items()} and s.requests == asked


@pytest.mark.parametrize(
    ("promise", "act", "reason"),
    [
        ({"size": 5}, Act(), "4 bytes came, 5 were promised; twice"),
        ({"md5": "0" * 32}, Act(), "0 was promised; twice"),
        ({}, Act(headers={"Content-Encoding": "gzip"}), "recompressed"),
        ({}, Act(headers={"Content-Type": "text/html"}), "a page came instead of the file"),
        ({}, Act(206, body=b"abcd"), "HTTP 206 brings no file"),
        ({}, Act(204), "HTTP 204 brings no file"),
        ({}, Act(drop_after=2), "the connection was dropped"),
    ],
)
def test_wrong_bytes_are_no_file(
    stack: ExitStack, tmp_path: Path, promise: dict[str, object], act: Act, reason: str
) -> None:
    s = stack.enter_context(Server({"/a": b"abcd"}))
    s.act("/a", then=act)
    f = fetcher(stack, tmp_path, clock=Fast(), retries=2, timeout_s=0.3)
    wanted = WantedFile("a", f"{s.url}/a", **promise)  # type: ignore[arg-type]  # promises of each case
    (outcome,) = f.fetch_small([(wanted, tmp_path / "a")])
    assert outcome.state == ("corrupt" if "twice" in reason else "failed") and reason in outcome.reason
    assert not (tmp_path / "a").exists() and not (tmp_path / "a.part").exists()


class Quick(Clock):
    """Time that flies: ten seconds in one."""

    def monotonic(self) -> float:
        return 10 * time.monotonic()


def test_a_service_that_trickles_or_falls_silent_is_left(stack: ExitStack, tmp_path: Path) -> None:
    s = stack.enter_context(Server({"/drops": b"x" * 4000, "/silence": b"y" * 4000, "/sound": b"z" * 4000}))
    never = threading.Event()
    s.act("/drops", then=Act(drip=1))
    s.act("/silence", Act(hold=never, hold_after=100))
    f = fetcher(stack, tmp_path, clock=Quick(), retries=1, timeout_s=1.0)
    found = {o.key: o for o in f.fetch_small(jobs(s.url, ["/drops", "/silence", "/sound"], tmp_path / "out"))}
    never.set()
    assert found["/drops"].state == "failed" and "bytes came in 1 s (2 attempts)" in found["/drops"].reason
    assert found["/silence"].state == "done" and found["/silence"].attempts == 2
    assert found["/sound"].state == "done" and s.seen("/drops").served < 1000


def test_a_large_file_among_small_ones_goes_to_the_disk_as_it_comes(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SMALL_BYTES", 1000)
    s = stack.enter_context(Server({"/told": b"x" * 5000, "/untold": b"y" * 5000, "/little": b"z" * 1000}))
    s.act("/untold", then=Act(no_length=True))
    f = fetcher(stack, tmp_path)
    found = {o.key: o for o in f.fetch_small(jobs(s.url, ["/told", "/untold", "/little"], tmp_path / "out"))}
    assert {o.state for o in found.values()} == {"done"}
    assert {k: p.path.read_bytes()[:1] for k, p in found.items() if p.path} == {
        "/told": b"x",
        "/untold": b"y",
        "/little": b"z",
    }


def test_jobs_are_read_as_room_appears(stack: ExitStack, tmp_path: Path) -> None:
    s = stack.enter_context(Server({"/a": b"abcd"}))
    f = fetcher(stack, tmp_path)
    read = 0

    def endless() -> Iterator[tuple[WantedFile, Path]]:
        nonlocal read
        while True:
            read += 1
            yield WantedFile(f"{read}", f"{s.url}/a"), tmp_path / f"{read}"

    outcomes = f.fetch_small(endless())
    for _ in range(10):
        next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # a generator
    assert read <= 2 * download.BATCH


def test_rows_are_written_once_and_synced_in_batches(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "www", 100)
    monkeypatch.setattr(download, "BATCH", 30)
    s = stack.enter_context(Service(tmp_path / "www"))
    f = fetcher(stack, tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(f.ledger, "synced", lambda keys: synced.append(len(list(keys))))
    commits: list[str] = []
    f.ledger._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    list(f.fetch_small(jobs(s.url, list(data), tmp_path / "out")))
    f.ledger._db.set_trace_callback(None)
    assert sum(synced) == 100 and max(synced) <= 31 and len(synced) == 4
    assert len(commits) == 100 + 4  # One a file, and one for each page that is planned.


def test_what_a_power_cut_took_comes_again(stack: ExitStack, tmp_path: Path) -> None:
    data = folder(tmp_path / "www", 6)
    s = stack.enter_context(Service(tmp_path / "www"))
    wanted = jobs(s.url, list(data), tmp_path / "out")
    with ExitStack() as first:
        f = fetcher(first, tmp_path)
        outcomes = f.fetch_small(iter(wanted))
        while f.ledger.counts()["done"] < 6:
            next(outcomes)
        first.pop_all()  # As if killed: nothing is closed, so nothing is synced.
        f.ledger._db.close()
    (wanted[0][1]).write_bytes(bytes(len(data["/0.jpg"])))  # Its blocks never came; its size did.
    (wanted[1][1]).write_bytes(b"")
    wanted[2][1].unlink()  # Used and deleted: done.
    f = fetcher(stack, tmp_path)
    assert f.ledger.counts()["wanted"] == 2 and f.ledger.counts()["done"] == 4
    again = [j for j in wanted if j[0].key != "/2.jpg"]
    assert {o.state for o in f.fetch_small(again)} == {"done"}
    assert all(to.read_bytes() == data[w.key] for w, to in again)
    assert s.twice() == {"/0.jpg": 2, "/1.jpg": 2}


def test_a_full_disk_stops_with_what_is_needed(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = stack.enter_context(Server({"/a": b"abcd"}))

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    f = fetcher(stack, tmp_path)
    with pytest.raises(BuildError, match=r"is full: a needs 4 B, .* are free: make room, then run it again"):
        list(f.fetch_small([(WantedFile("a", f"{s.url}/a"), tmp_path / "a")]))
    row = f.ledger.get("a")
    assert row and row.state == "wanted"


DRIVER = """
import sys
from pathlib import Path
from birdmml.fetch.download import Fetcher
from birdmml.fetch.pace import Politeness
from birdmml.fetch.ledger import WantedFile as Wanted
from birdmml.fetch.ledger import Ledger
url, out, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
polite = Politeness("x", parallel=4, back_off_s=0.01)
with Ledger(out / "ledger.sqlite") as ledger, Fetcher(ledger, polite) as fetcher:
    jobs = ((Wanted(f"/{i}.jpg", f"{url}/{i}.jpg"), out / f"{i % 7}" / f"{i}.jpg") for i in range(n))
    print(sum(o.state == "done" for o in fetcher.fetch_small(jobs)), flush=True)
"""


def test_killed_again_and_again_it_asks_for_nothing_twice(stack: ExitStack, tmp_path: Path) -> None:
    n = 150
    data = folder(tmp_path / "www", n)
    s = stack.enter_context(Service(tmp_path / "www", faults=Faults(every=5, passing=("500", "reset", "cut"))))
    command = [sys.executable, "-c", DRIVER, s.url, str(tmp_path / "out"), str(n)]
    kills = 0
    for share in (0.2, 0.45, 0.7):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while len(s.whole) < share * n and run.poll() is None:
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        run.wait()
        kills += 1
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == n and kills == 3
    for i in range(n):
        assert (tmp_path / "out" / f"{i % 7}" / f"{i}.jpg").read_bytes() == data[f"/{i}.jpg"]
    # What was on the wire at a kill may come twice: four threads, three kills.
    assert len(s.twice()) <= 4 * kills and max(s.whole.values()) <= 2
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_fresh_file_comes_only_if_it_changed(stack: ExitStack, tmp_path: Path) -> None:
    s = stack.enter_context(Server({"/taxa.csv.gz": b"first" * 1000}))
    f = fetcher(stack, tmp_path, clock=Fast(), retries=1)
    to, url = tmp_path / "taxa.csv.gz", f"{s.url}/taxa.csv.gz"
    seen = s.seen("/taxa.csv.gz")
    assert f.fetch(WantedFile("taxa", url), to).state == "done" and seen.served == 5000
    assert f.fetch(WantedFile("taxa", url, fresh=True), to).state == "done"
    assert (seen.requests, seen.served) == (2, 5000)
    assert "if-none-match" in seen.headers[1] and "if-none-match" not in seen.headers[0]
    s.act("/taxa.csv.gz", Act(500), Act(500))
    kept = f.fetch(WantedFile("taxa", url, fresh=True), to)
    assert kept.state == "done" and "kept, for the server did not say" in kept.reason and to.stat().st_size == 5000
    s.files["/taxa.csv.gz"] = b"second" * 1000
    assert f.fetch(WantedFile("taxa", url), to).state == "done" and to.read_bytes()[:5] == b"first"
    assert f.fetch(WantedFile("taxa", url, fresh=True), to).bytes == 6000 and to.read_bytes()[:6] == b"second"
    served = seen.served
    assert f.fetch(WantedFile("taxa", url, fresh=True), to).state == "done" and seen.served == served
