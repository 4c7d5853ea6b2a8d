from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from birdmml.errors import BuildError
from birdmml.fetch.ledger import GIVEN_UP, STATES, Ledger, LedgerRow, WantedFile

MD5, OTHER = "0" * 32, "f" * 32


def wanted(key: str, **promise: object) -> WantedFile:
    return WantedFile(key, f"https://a.org/{key}", **promise)  # type: ignore[arg-type]  # sizes and sums of each test


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ledger.sqlite"


def test_what_is_recorded_is_read_by_the_next_run(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.plan([wanted("a", size=10, md5=MD5), wanted("b")]) == 2
        ledger.record(LedgerRow("a", "", "done", code=206, bytes=10, sha256="s", etag='"e"', attempts=3))
        ledger.record(LedgerRow("b", "", "failed", code=503, bytes=4, md5=OTHER, attempts=9, reason="HTTP 503"))
    with Ledger(path) as ledger:
        a, b = ledger.iter()
    assert (a.state, a.code, a.bytes, a.expected, a.md5, a.sha256, a.etag, a.attempts, a.reason) == (
        *("done", 206, 10, 10, MD5, "s", '"e"', 3, ""),
    )
    assert (b.state, b.code, b.bytes, b.expected, b.md5, b.attempts) == ("failed", 503, 4, None, OTHER, 9)
    assert [p.name for p in path.parent.iterdir()] == ["ledger.sqlite"]  # One file once it is closed.


def test_planning_again_changes_nothing_unless_the_promise_changed(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.plan([wanted("a", size=10, md5=MD5), wanted("b", size=10), wanted("c")])
        for key in "abc":
            ledger.record(LedgerRow(key, "", "done", bytes=10, md5=OTHER, attempts=1))
        moved = WantedFile("a", "https://b.org/a", 10, MD5)  # With an MD5 it is the same file, wherever it lies.
        assert ledger.plan([moved, wanted("a"), wanted("b", size=10), wanted("b"), wanted("c")]) == 0
        assert ledger.counts()["done"] == 3
        changed = [wanted("a", size=10, md5=OTHER), wanted("b", size=11), WantedFile("c", "https://b.org/c")]
        assert ledger.plan(changed) == 3
        rows = {r.key: r for r in ledger.iter("wanted")}
    assert {k: (r.expected, r.md5, r.attempts, r.bytes) for k, r in rows.items()} == {
        "a": (10, OTHER, 0, 0),
        "b": (11, None, 0, 0),
        "c": (None, None, 0, 0),
    }


def test_a_promised_md5_is_not_overwritten_and_a_measured_one_is_kept(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.plan([wanted("a", md5=MD5), wanted("b")])
        for key in "ab":
            ledger.record(LedgerRow(key, "", "done", md5=OTHER))
        assert [r.md5 for r in ledger.iter()] == [MD5, OTHER]


def test_counts_name_every_state_and_retry_makes_the_given_up_wanted(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.counts() == dict.fromkeys(STATES, 0)
        ledger.plan(wanted(s) for s in STATES)
        for state in STATES:
            ledger.record(LedgerRow(state, "", state, bytes=3, etag='"e"', attempts=2, reason="why"))
        assert ledger.counts() == dict.fromkeys(STATES, 1)
        assert ledger.retry_failed() == len(GIVEN_UP) and ledger.retry_failed() == 0
        assert {r.key for r in ledger.iter("wanted")} == {"wanted", *GIVEN_UP}
        row = ledger.get("failed")
        assert row and (row.bytes, row.etag, row.attempts, row.reason) == (3, '"e"', 2, "")
        assert ledger.get("done") and ledger.get("nobody") is None


def test_keys_in_addresses_and_reasons_are_not_stored(path: Path) -> None:
    with Ledger(path) as ledger:
        url = "https://me:s3cret-password@a.org/x?q=owl&key=s3cret-key"
        ledger.plan([WantedFile("a", url)])
        ledger.record(LedgerRow("a", "", "failed", reason=f"HTTP 401 for {url}"))
        row = ledger.get("a")
        assert row and row.url == "https://***@a.org/x?q=owl&key=***" and row.reason == f"HTTP 401 for {row.url}"
        assert ledger.plan([WantedFile("a", url.replace("s3cret-key", "new-key"))]) == 0
    assert b"s3cret" not in path.read_bytes()


@pytest.mark.parametrize(
    ("key", "promise"), [("", {}), ("a", {"size": -1}), ("a", {"md5": "A" * 32}), ("a", {"md5": "0" * 31})]
)
def test_promises_that_cannot_be_are_refused(key: str, promise: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        wanted(key, **promise)


def test_mistakes_of_ours_leave_the_rows_alone(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.plan([wanted("a")])
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record(LedgerRow("a", "", "perhaps"))
        with pytest.raises(KeyError):
            ledger.record(LedgerRow("b", "", "done"))

        def broken() -> object:
            yield wanted("c")
            yield wanted("d")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            ledger.plan(broken())  # type: ignore[arg-type]  # it is what is tested
        assert [(r.key, r.state) for r in ledger.iter()] == [("a", "wanted")]


def test_rows_come_in_order_while_other_threads_write(path: Path) -> None:
    keys = [f"{n:05d}" for n in range(2500)]
    with Ledger(path) as ledger:
        ledger.plan(wanted(k) for k in random.Random(1).sample(keys, len(keys)))

        def work(mine: list[str]) -> None:
            for key in mine:
                ledger.record(LedgerRow(key, "", "done", bytes=int(key)))

        threads = [threading.Thread(target=work, args=(keys[n::4],)) for n in range(4)]
        for t in threads:
            t.start()
        assert [r.key for r in ledger.iter()] == keys
        for t in threads:
            t.join()
        assert [(r.key, r.bytes) for r in ledger.iter("done")] == [(k, int(k)) for k in keys]


def test_a_second_process_is_refused_and_the_third_goes_on(path: Path) -> None:
    program = "import sys\nfrom pathlib import Path\n"
    program += "from birdmml.fetch.ledger import LedgerRow, Ledger, WantedFile as Wanted\n"
    program += "ledger = Ledger(Path(sys.argv[1]))\nledger.plan([Wanted('a', 'https://a.org')])\n"
    program += "ledger.record(LedgerRow('a', '', 'partial', bytes=7))\nprint('here', flush=True)\nsys.stdin.read()\n"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program, str(path)], **pipes) as other:  # type: ignore[call-overload]  # pipes
        assert other.stdout.readline() == "here\n"
        with pytest.raises(BuildError, match="in use by another run"):
            Ledger(path)
        os.kill(other.pid, signal.SIGKILL)
    with Ledger(path) as ledger:
        row = ledger.get("a")
        assert row and (row.state, row.bytes) == ("partial", 7)


@pytest.mark.parametrize("content", [b"PNG and so on" * 100, b"x"])
def test_another_file_is_no_ledger_and_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(BuildError, match="delete it and run it again"):
        Ledger(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("statement", ["CREATE TABLE files (key TEXT)", "PRAGMA application_id = 7"])
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()
    before = path.read_bytes()
    with pytest.raises(BuildError, match="another program"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_damaged_ledger_says_so_and_what_to_do(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.plan(wanted(f"{n:06d}") for n in range(3000))
    sound = path.read_bytes()
    rng = random.Random(3)
    refused = 0
    for trial in range(40):
        spoilt = bytearray(sound)
        if trial % 2:
            del spoilt[rng.randrange(1, len(sound)) :]
        else:
            at = rng.randrange(0, len(sound) - 2000)
            spoilt[at : at + 2000] = rng.randbytes(2000)
        path.write_bytes(spoilt)
        try:
            with Ledger(path) as ledger:
                list(ledger.iter())
                ledger.counts()
                ledger.plan([wanted("z")])
        except BuildError as e:
            assert "run it again" in str(e)
            refused += 1
    assert refused >= 30
    path.write_bytes(sound)
    with Ledger(path) as ledger:
        assert ledger.counts()["wanted"] == 3000


def test_a_folder_that_is_none_and_a_closed_ledger_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match="cannot be written"):
        Ledger(tmp_path / "file" / "ledger.sqlite")
    with pytest.raises(BuildError, match="cannot be used"):
        Ledger(tmp_path)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        pass
    with pytest.raises(BuildError, match="closed"):
        ledger.counts()


def test_a_full_disk_undoes_one_record_only(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.plan(wanted(f"{n}") for n in range(100))
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then answers as on a full disk.
        with pytest.raises(BuildError, match="disk is full"):
            ledger.plan(wanted(f"more {n}") for n in range(1000))
        assert ledger.counts()["wanted"] == 100
        ledger.record(LedgerRow("1", "", "done", bytes=1))
        assert ledger.counts()["done"] == 1
