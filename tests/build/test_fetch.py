from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Act, Fast, Server, redirect

from birdmml.build import _http
from birdmml.build._pace import wait_asked
from birdmml.build._words import redact, words
from birdmml.build.fetch import Fetcher, Outcome, Wanted, space_needed
from birdmml.build.ledger import Ledger
from birdmml.errors import BuildError, Interrupted, UsageError

DATA = random.Random(7).randbytes(300_000)
MD5, SHA256 = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
OTHER = random.Random(8).randbytes(300_000)
PAGE = b"<!DOCTYPE html><html><head><title>Down for repairs</title></head><body><p>Back&nbsp;soon</p></body></html>"
NAME = "audio.tar.gz.part-aa"


class Bench:
    """A server, a ledger, a clock and a fetcher; `get` brings the one file."""

    def __init__(self, server: Server, folder: Path, **options: object) -> None:
        self.server, self.clock, self.to = server, Fast(), folder / NAME
        self.ledger = Ledger(folder / "ledger.sqlite")
        settings = {"agent": "birdmml-test", "clock": self.clock, "retries": 3, "timeout_s": 5.0, **options}
        self.fetcher = Fetcher(self.ledger, **settings)  # type: ignore[arg-type]  # options of each test

    def wanted(self, **promise: object) -> Wanted:
        promise = {"size": len(DATA), "md5": MD5, **promise}
        return Wanted(NAME, self.server.content(NAME), **promise)  # type: ignore[arg-type]  # as above

    def get(self, **promise: object) -> Outcome:
        outcome = self.fetcher.fetch(self.wanted(**promise), self.to)
        row = self.ledger.get(NAME)
        assert row
        told = (outcome.state, outcome.code, outcome.bytes, outcome.sha256, outcome.attempts, outcome.reason)
        assert told == (row.state, row.code, row.bytes, row.sha256, row.attempts, row.reason)
        assert self.to.exists() == (outcome.state == "done") == (outcome.path is not None)
        return outcome

    @property
    def part(self) -> Path:
        return self.to.with_name(NAME + ".part")

    @property
    def ranges(self) -> list[str]:
        return self.server.seen(NAME).ranges


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def make(*acts: Act, then: Act = Act(), etags: bool = True, data: bytes = DATA, **options: object) -> Bench:
        server = Server({NAME: data}, etags=etags).__enter__()
        server.act(NAME, *acts, then=then)
        opened.append(Bench(server, tmp_path / str(len(opened)), **options))
        return opened[-1]

    yield make
    for b in opened:
        b.fetcher.close()
        b.ledger.close()
        b.server.__exit__()


def test_a_sound_file_comes_whole_and_is_asked_for_once(bench: Callable[..., Bench]) -> None:
    b = bench()
    seen: list[tuple[str, int, int | None]] = []
    outcome = b.fetcher.fetch(b.wanted(), b.to, lambda *now: seen.append(now))
    assert outcome == Outcome(NAME, "done", b.to, 200, len(DATA), MD5, SHA256, 1, "")
    assert b.to.read_bytes() == DATA and not b.part.exists()
    assert seen[-1] == (NAME, len(DATA), len(DATA)) and [n for _, n, _ in seen] == sorted({n for _, n, _ in seen})
    assert b.get() == outcome and b.server.seen(NAME).requests == 1
    assert b.server.seen(NAME).headers[0]["user-agent"] == "birdmml-test"
    assert b.clock.slept == []


def test_a_file_that_was_deleted_comes_again_and_one_with_the_right_md5_is_taken(
    bench: Callable[..., Bench],
) -> None:
    b = bench()
    b.get()
    b.to.unlink()
    assert b.get().state == "done" and b.server.seen(NAME).requests == 2
    with Ledger(b.to.with_name("another.sqlite")) as fresh, Fetcher(fresh, agent="x") as fetcher:
        assert fetcher.fetch(b.wanted(), b.to).reason == "was there"
        b.to.write_bytes(OTHER)
        fresh.plan([b.wanted(size=len(DATA))])
    b.ledger.record(NAME, "wanted")
    assert b.get().state == "done" and b.to.read_bytes() == DATA and b.server.seen(NAME).requests == 3


@pytest.mark.parametrize("reset", [False, True])
def test_a_dropped_connection_goes_on_from_the_bytes_that_are_there(
    bench: Callable[..., Bench], reset: bool
) -> None:
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


def test_attempts_that_bring_nothing_run_out_with_growing_waits_and_the_bytes_stay(
    bench: Callable[..., Bench],
) -> None:
    b = bench(Act(drop_after=1000), then=Act(drop_after=0))
    outcome = b.get()
    assert (outcome.state, outcome.attempts, outcome.bytes) == ("failed", 5, 1000)
    assert "dropped" in outcome.reason and "4 attempts" in outcome.reason
    assert b.clock.slept == [1, 1, 2, 4]
    assert b.get() == outcome and b.server.seen(NAME).requests == 5  # Settled until somebody asks to retry.
    assert b.ledger.retry_failed() == 1
    b.server.act(NAME)
    assert b.get().attempts == 6 and b.ranges[-1] == "bytes=1000-" and b.to.read_bytes() == DATA


def test_a_server_that_ignores_ranges_starts_the_file_over(bench: Callable[..., Bench]) -> None:
    b = bench(Act(drop_after=200_000), Act(ignore_range=True, drop_after=150_000), Act(ignore_range=True))
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=200000-", "bytes=150000-"]
    b = bench(then=Act(ignore_range=True, drop_after=150_000))  # Never further: no progress, and so an end.
    assert b.get().state == "failed" and len(b.ranges) == 5


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-299999/300000", "bytes 100001-299999/300000", "bytes */300000", "pages 1-2/3", "", "bytes 100000-299999"],
)
def test_another_range_than_the_one_asked_for_is_not_taken(bench: Callable[..., Bench], content_range: str) -> None:
    wrong = Act(headers={"Content-Range": content_range})
    b = bench(Act(drop_after=100_000), wrong, then=wrong)
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=100000-", ""]


def test_a_range_of_a_file_of_another_size_is_wrong_and_so_is_206_unasked(bench: Callable[..., Bench]) -> None:
    b = bench(Act(drop_after=100_000), then=Act(headers={"Content-Range": "bytes 100000-399999/400000"}))
    assert b.get().state == "done"  # Started over, without a second drop.
    b = bench(then=Act(206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA))
    assert "another range" in b.get().reason


def test_a_short_range_is_followed_by_the_next(bench: Callable[..., Bench]) -> None:
    slices = [
        Act(206, {"Content-Range": f"bytes {n}-{n + 99_999}/{len(DATA)}"}, DATA[n : n + 100_000])
        for n in (100_000, 200_000)
    ]
    b = bench(Act(drop_after=100_000), *slices)
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_a_file_that_changed_on_the_server_is_not_stitched_together(bench: Callable[..., Bench]) -> None:
    for md5 in (hashlib.md5(OTHER).hexdigest(), None):
        b = bench(Act(drop_after=100_000))
        changing = iter((DATA, OTHER, OTHER))
        original = b.server.answer
        b.server.answer = lambda *a: (*original(*a)[:2], next(changing))  # type: ignore[method-assign]  # B008
        assert b.get(md5=md5, size=None).state == "done"
        assert b.to.read_bytes() == OTHER and b.ranges == ["", "bytes=100000-"]


def test_without_md5_and_etag_nothing_is_stitched(bench: Callable[..., Bench]) -> None:
    b = bench(Act(drop_after=100_000), etags=False)
    assert b.get(md5=None).state == "done"
    assert b.ranges == ["", ""] and b.to.read_bytes() == DATA
    b = bench(Act(drop_after=100_000), etags=False)
    assert b.get().state == "done" and b.ranges == ["", "bytes=100000-"]


def test_a_weak_etag_is_no_etag(bench: Callable[..., Bench]) -> None:
    b = bench(Act(drop_after=100_000, headers={"ETag": 'W/"1"'}))
    assert b.get(md5=None).state == "done" and b.ranges == ["", ""]


def test_416_says_that_all_is_there_or_starts_over(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.part.write_bytes(DATA)
    assert b.get(size=None).code == 416 and b.to.read_bytes() == DATA and b.server.seen(NAME).served == 0
    b = bench()
    b.part.write_bytes(DATA + b"more")
    assert b.get(size=None).state == "done" and b.ranges == [f"bytes={len(DATA) + 4}-", ""]
    assert b.to.read_bytes() == DATA


def test_what_is_whole_after_a_kill_is_checked_and_not_asked_for(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.part.write_bytes(DATA)
    assert b.get().state == "done" and b.server.seen(NAME).requests == 0


def test_wrong_bytes_are_fetched_once_more_and_then_given_up(bench: Callable[..., Bench]) -> None:
    b = bench(Act(body=OTHER))
    assert b.get().attempts == 2 and b.to.read_bytes() == DATA
    b = bench(then=Act(body=OTHER))
    outcome = b.get()
    assert (outcome.state, outcome.attempts, outcome.bytes) == ("corrupt", 2, 0)
    assert hashlib.md5(OTHER).hexdigest() in outcome.reason and MD5 in outcome.reason
    assert not b.part.exists()
    assert b.get() == outcome and b.server.seen(NAME).requests == 2


def test_bytes_of_an_older_file_in_the_part_are_found_out(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.part.write_bytes(OTHER[:100_000])
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["bytes=100000-", ""]


@pytest.mark.parametrize(
    ("act", "served"),
    [
        (Act(extra=b"x" * 1000), 0),  # Content-Length says so: no byte is read.
        (Act(extra=b"x" * 10_000_000, no_length=True, drip=65536), 400_000),
        (Act(body=DATA[:-1]), 0),
        (Act(body=DATA[:-1], no_length=True), None),
    ],
)
def test_a_body_of_another_size_than_promised_is_corrupt(
    bench: Callable[..., Bench], act: Act, served: int | None
) -> None:
    b = bench(then=act)
    outcome = b.get(md5=None)
    if served is None:  # Short without a word is a drop: it is resumed, and what is resumed does not exist.
        assert outcome.state in ("failed", "corrupt")
        return
    assert outcome.state == "corrupt" and "promised" in outcome.reason and not b.part.exists()
