from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fetch_bench import DATA, MD5, NAME, OTHER, PAGE, MakeBench, benches
from helpers.servers import Act, redirect

from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger, LedgerRow
from birdmml.fetch.pace import Politeness


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    with benches(tmp_path) as make:
        yield make


def test_a_sound_file_comes_whole_and_is_asked_for_once(bench: MakeBench) -> None:
    b = bench()
    seen: list[tuple[str, int, int | None]] = []
    outcome = b.fetcher.fetch(b.wanted(), b.to, lambda *now: seen.append(now))
    assert (outcome.key, outcome.state, outcome.path, outcome.code, outcome.bytes) == (
        NAME,
        "done",
        b.to,
        200,
        len(DATA),
    )
    assert (outcome.md5, outcome.sha256, outcome.attempts) == (MD5, hashlib.sha256(DATA).hexdigest(), 1)
    assert b.to.read_bytes() == DATA and not b.part.exists()
    assert seen[-1] == (NAME, len(DATA), len(DATA)) and [n for _, n, _ in seen] == sorted({n for _, n, _ in seen})
    assert b.get() == outcome and b.server.seen(NAME).requests == 1
    assert b.server.seen(NAME).headers[0]["user-agent"] == "birdmml-test"
    assert b.clock.slept == []


def test_a_file_that_was_deleted_comes_again_and_one_with_the_right_md5_is_taken(bench: MakeBench) -> None:
    b = bench()
    b.get()
    b.to.unlink()
    assert b.get().state == "done" and b.server.seen(NAME).requests == 2
    with Ledger(b.to.with_name("another.sqlite")) as fresh, Fetcher(fresh, Politeness("x")) as fetcher:
        assert fetcher.fetch(b.wanted(), b.to).reason == "was there"
        b.to.write_bytes(OTHER)
        fresh.plan([b.wanted(size=len(DATA))])
    b.ledger.record(LedgerRow(NAME, "", "wanted"))
    assert b.get().state == "done" and b.to.read_bytes() == DATA and b.server.seen(NAME).requests == 3


@pytest.mark.parametrize("reset", [False, True])
def test_a_dropped_connection_goes_on_from_the_bytes_that_are_there(bench: MakeBench, reset: bool) -> None:
    drops = [Act(drop_after=k, reset=reset) for k in (90_000, 1, 100_000, 50_000, 50_000, 5_000)]
    b = bench(*drops)  # Six drops with progress, where three retries are allowed without.
    outcome = b.get()
    assert outcome.state == "done" and outcome.attempts == 7 and outcome.code == 206
    assert b.to.read_bytes() == DATA
    seen = b.server.seen(NAME)
    if not reset:  # A reset may take bytes along that were on their way.
        assert seen.served == len(DATA)
        assert b.ranges == ["", *(f"bytes={n}-" for n in (90_000, 90_001, 190_001, 240_001, 290_001, 295_001))]
    assert {h["if-range"] for h in seen.headers[1:]} == {f'"{hashlib.sha1(DATA).hexdigest()}"'}


def test_attempts_that_bring_nothing_run_out_with_growing_waits_and_the_bytes_stay(bench: MakeBench) -> None:
    b = bench(Act(drop_after=1000), then=Act(drop_after=0))
    outcome = b.get()
    assert (outcome.state, outcome.attempts, outcome.bytes) == ("failed", 5, 1000)
    assert "dropped" in outcome.reason and "4 attempts" in outcome.reason
    assert b.clock.slept == [1, 1, 2, 4]
    assert b.get() == outcome and b.server.seen(NAME).requests == 5  # Settled until somebody asks to retry.
    assert b.ledger.retry_failed() == 1
    b.server.act(NAME)
    assert b.get().attempts == 6 and b.ranges[-1] == "bytes=1000-" and b.to.read_bytes() == DATA


def test_a_server_that_ignores_ranges_starts_the_file_over(bench: MakeBench) -> None:
    b = bench(Act(drop_after=200_000), Act(ignore_range=True, drop_after=150_000), Act(ignore_range=True))
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=200000-", "bytes=150000-"]
    b = bench(then=Act(ignore_range=True, drop_after=150_000))  # Never further: no progress, and so an end.
    assert b.get().state == "failed" and len(b.ranges) == 5


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-299999/300000", "bytes 100001-299999/300000", "bytes */300000", "pages 1-2/3", "", "bytes 100000-299999"],
)
def test_another_range_than_the_one_asked_for_is_not_taken(bench: MakeBench, content_range: str) -> None:
    wrong = Act(headers={"Content-Range": content_range})
    b = bench(Act(drop_after=100_000), wrong, then=wrong)
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=100000-", ""]


def test_a_range_of_a_file_of_another_size_is_wrong_and_so_is_206_unasked(bench: MakeBench) -> None:
    b = bench(Act(drop_after=100_000), then=Act(headers={"Content-Range": "bytes 100000-399999/400000"}))
    assert b.get().state == "done"  # Started over, without a second drop.
    b = bench(then=Act(206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA))
    assert "another range" in b.get().reason


def test_a_short_range_is_followed_by_the_next(bench: MakeBench) -> None:
    slices = [
        Act(206, {"Content-Range": f"bytes {n}-{n + 99_999}/{len(DATA)}"}, DATA[n : n + 100_000])
        for n in (100_000, 200_000)
    ]
    b = bench(Act(drop_after=100_000), *slices)
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_a_file_that_changed_on_the_server_is_not_stitched_together(bench: MakeBench) -> None:
    for md5 in (hashlib.md5(OTHER).hexdigest(), None):
        b = bench(Act(body=DATA, drop_after=100_000), data=OTHER)
        assert b.get(md5=md5, size=None).state == "done"
        assert b.to.read_bytes() == OTHER and b.ranges == ["", "bytes=100000-"]


def test_a_range_with_another_etag_starts_over_and_not_for_ever(bench: MakeBench) -> None:
    drop = Act(drop_after=100_000)
    changed = Act(headers={"ETag": '"another"'})
    b = bench(drop, changed)
    assert b.get(md5=None).state == "done" and b.ranges == ["", "bytes=100000-", ""]
    b = bench(*[drop, changed] * 10)
    outcome = b.get(md5=None)
    assert (outcome.state, outcome.attempts) == ("failed", 5)  # Four without a byte beyond the first 100,000.


def test_without_md5_and_etag_nothing_is_stitched(bench: MakeBench) -> None:
    b = bench(Act(drop_after=100_000), etags=False)
    assert b.get(md5=None).state == "done"
    assert b.ranges == ["", ""] and b.to.read_bytes() == DATA
    b = bench(Act(drop_after=100_000), etags=False)
    assert b.get().state == "done" and b.ranges == ["", "bytes=100000-"]


def test_a_weak_etag_is_no_etag(bench: MakeBench) -> None:
    b = bench(Act(drop_after=100_000, headers={"ETag": 'W/"1"'}))
    assert b.get(md5=None).state == "done" and b.ranges == ["", ""]


def test_416_says_that_all_is_there_or_starts_over(bench: MakeBench) -> None:
    b = bench()
    b.part.write_bytes(DATA)
    assert b.get(size=None).code == 416 and b.to.read_bytes() == DATA and b.server.seen(NAME).served == 0
    b = bench()
    b.part.write_bytes(DATA + b"more")
    assert b.get(size=None).state == "done" and b.ranges == [f"bytes={len(DATA) + 4}-", ""]
    assert b.to.read_bytes() == DATA


def test_what_is_whole_after_a_kill_is_checked_and_not_asked_for(bench: MakeBench) -> None:
    b = bench()
    b.part.write_bytes(DATA)
    assert b.get().state == "done" and b.server.seen(NAME).requests == 0


def test_wrong_bytes_are_fetched_once_more_and_then_given_up(bench: MakeBench) -> None:
    b = bench(Act(body=OTHER))
    assert b.get().attempts == 2 and b.to.read_bytes() == DATA
    b = bench(then=Act(body=OTHER))
    outcome = b.get()
    assert (outcome.state, outcome.attempts, outcome.bytes) == ("corrupt", 2, 0)
    assert hashlib.md5(OTHER).hexdigest() in outcome.reason and MD5 in outcome.reason
    assert not b.part.exists()
    assert b.get() == outcome and b.server.seen(NAME).requests == 2


def test_bytes_of_an_older_file_in_the_part_are_found_out(bench: MakeBench) -> None:
    b = bench()
    b.part.write_bytes(OTHER[:100_000])
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["bytes=100000-", ""]


@pytest.mark.parametrize(
    "act", [Act(extra=b"x" * 1000), Act(extra=b"x" * 5_000_000, no_length=True), Act(body=DATA[:-1])]
)
def test_a_body_of_another_size_than_promised_is_corrupt(bench: MakeBench, act: Act) -> None:
    b = bench(then=act)
    outcome = b.get(md5=None)
    assert outcome.state == "corrupt" and outcome.attempts == 2 and "promised" in outcome.reason
    assert not b.part.exists()


def test_a_body_too_long_is_cut_off(bench: MakeBench) -> None:
    b = bench(Act(extra=b"x" * 50_000_000, no_length=True))
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.server.seen(NAME).served < 50_000_000


def test_an_end_before_the_promised_size_is_a_drop(bench: MakeBench) -> None:
    b = bench(Act(body=DATA[:-1], no_length=True))
    assert b.get().state == "done" and b.ranges == ["", "bytes=299999-"]
    b = bench(then=Act(body=DATA[:-1], no_length=True))
    outcome = b.get(md5=None)
    assert outcome.state == "failed" and "299,999 of 300,000" in outcome.reason


def test_a_file_of_unknown_size_has_a_limit(bench: MakeBench) -> None:
    for act in (Act(), Act(no_length=True)):
        b = bench(then=act, most_bytes=200_000)
        outcome = b.get(size=None, md5=None)
        assert outcome.state == "failed" and "200,000" in outcome.reason and outcome.attempts == 1
        assert not b.part.exists()


def test_a_file_recompressed_on_its_way_needs_an_md5(bench: MakeBench) -> None:
    b = bench(then=Act(headers={"Content-Encoding": "gzip"}))
    assert "recompressed" in b.get(md5=None).reason
    b.ledger.retry_failed()
    assert b.get().state == "done"  # Its MD5 says that it only claimed so.


def test_whatever_a_server_does_no_wrong_byte_is_taken(bench: MakeBench) -> None:
    rng = random.Random(11)

    def act() -> Act:
        size = rng.choice([0, 1, 1000, 100_000, 299_999, 300_000])
        return rng.choice(
            [
                Act(drop_after=size),
                Act(drop_after=size, reset=True),
                Act(drop_after=size, ignore_range=True),
                Act(drop_after=size, headers={"ETag": '"another"'}),
                Act(drop_after=size, headers={"Content-Range": f"bytes {size}-299999/300000"}),
                Act(drop_after=size, no_length=True),
                Act(body=OTHER, drop_after=size),
                Act(body=OTHER, headers={"ETag": f'"{hashlib.sha1(DATA).hexdigest()}"'}),  # It lies.
                Act(body=DATA[:size], no_length=True),
                Act(extra=b"x" * size, no_length=rng.random() < 0.5),
                Act(body=PAGE, ignore_range=True),
                Act(rng.choice([206, 304, 416, 429, 500, 503])),
                redirect("?again"),
            ]
        )

    states = []
    for _ in range(25):
        b = bench(*(act() for _ in range(rng.randrange(8))))
        for _ in range(rng.randrange(2)):
            b.part.write_bytes(rng.choice([DATA, OTHER])[: rng.randrange(400_000)])
        states.append(b.get(size=rng.choice([None, len(DATA)])).state)
        assert states[-1] != "done" or b.to.read_bytes() == DATA
    assert states.count("done") >= 12


def test_an_answer_of_another_size_costs_none_of_the_bytes_that_are_there(bench: MakeBench) -> None:
    other = Act(body=b"{}", ignore_range=True)
    b = bench(Act(drop_after=250_000), other)
    assert b.get().state == "done" and b.ranges == ["", "bytes=250000-", "bytes=250000-"]
    b = bench(Act(drop_after=250_000), other, other)
    outcome = b.get()
    assert (outcome.state, outcome.bytes) == ("corrupt", 250_000)
    b.ledger.retry_failed()
    assert b.get().state == "done" and b.ranges[-1] == "bytes=250000-"
