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
SOUND = Act()
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

    def make(
        *acts: Act, then: Act = SOUND, etags: bool = True, data: bytes = DATA, **options: object
    ) -> Bench:
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
    assert seen[-1] == (NAME, len(DATA), len(DATA)) and [n for _, n, _ in seen] == sorted(
        {n for _, n, _ in seen}
    )
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
        assert b.ranges == [
            "",
            *(f"bytes={n}-" for n in (90_000, 90_001, 190_001, 240_001, 290_001, 295_001)),
        ]
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
    [
        "bytes 0-299999/300000",
        "bytes 100001-299999/300000",
        "bytes */300000",
        "pages 1-2/3",
        "",
        "bytes 100000-299999",
    ],
)
def test_another_range_than_the_one_asked_for_is_not_taken(
    bench: Callable[..., Bench], content_range: str
) -> None:
    wrong = Act(headers={"Content-Range": content_range})
    b = bench(Act(drop_after=100_000), wrong, then=wrong)
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.ranges == ["", "bytes=100000-", ""]


def test_a_range_of_a_file_of_another_size_is_wrong_and_so_is_206_unasked(
    bench: Callable[..., Bench],
) -> None:
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
        b = bench(Act(body=DATA, drop_after=100_000), data=OTHER)
        assert b.get(md5=md5, size=None).state == "done"
        assert b.to.read_bytes() == OTHER and b.ranges == ["", "bytes=100000-"]


def test_a_range_with_another_etag_starts_over_and_not_for_ever(bench: Callable[..., Bench]) -> None:
    drop = Act(drop_after=100_000)
    changed = Act(headers={"ETag": '"another"'})
    b = bench(drop, changed)
    assert b.get(md5=None).state == "done" and b.ranges == ["", "bytes=100000-", ""]
    b = bench(*[drop, changed] * 10)
    outcome = b.get(md5=None)
    assert (outcome.state, outcome.attempts) == ("failed", 5)  # Four without a byte beyond the first 100,000.


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
    "act",
    [
        Act(extra=b"x" * 1000),
        Act(extra=b"x" * 5_000_000, no_length=True),
        Act(body=DATA[:-1]),
    ],
)
def test_a_body_of_another_size_than_promised_is_corrupt(bench: Callable[..., Bench], act: Act) -> None:
    b = bench(then=act)
    outcome = b.get(md5=None)
    assert outcome.state == "corrupt" and outcome.attempts == 2 and "promised" in outcome.reason
    assert not b.part.exists()


def test_a_body_too_long_is_cut_off(bench: Callable[..., Bench]) -> None:
    b = bench(Act(extra=b"x" * 50_000_000, no_length=True))
    assert b.get().state == "done" and b.to.read_bytes() == DATA
    assert b.server.seen(NAME).served < 50_000_000


def test_an_end_before_the_promised_size_is_a_drop(bench: Callable[..., Bench]) -> None:
    b = bench(Act(body=DATA[:-1], no_length=True))
    assert b.get().state == "done" and b.ranges == ["", "bytes=299999-"]
    b = bench(then=Act(body=DATA[:-1], no_length=True))
    outcome = b.get(md5=None)
    assert outcome.state == "failed" and "299,999 of 300,000" in outcome.reason


def test_a_file_of_unknown_size_has_a_limit(bench: Callable[..., Bench]) -> None:
    for act in (Act(), Act(no_length=True)):
        b = bench(then=act, most_bytes=200_000)
        outcome = b.get(size=None, md5=None)
        assert outcome.state == "failed" and "200,000" in outcome.reason and outcome.attempts == 1
        assert not b.part.exists()


@pytest.mark.parametrize("code", [404, 410])
def test_a_file_that_is_not_there_is_missing_at_once(bench: Callable[..., Bench], code: int) -> None:
    b = bench(then=Act(code, body=b'{"message": "no such file"}'))
    outcome = b.get()
    assert (outcome.state, outcome.code, outcome.attempts) == ("missing", code, 1)
    assert "no such file" in outcome.reason and b.clock.slept == [] and not b.part.exists()


def test_other_refusals_are_final_too_but_say_so(bench: Callable[..., Bench]) -> None:
    b = bench(then=Act(403, body=PAGE))
    outcome = b.get()
    assert (outcome.state, outcome.code, outcome.attempts) == ("failed", 403, 1)
    assert "Forbidden" in outcome.reason and "Down for repairs: Back soon" in outcome.reason


@pytest.mark.parametrize("status", [429, 503, 403])
def test_retry_after_in_seconds_is_waited_for(bench: Callable[..., Bench], status: int) -> None:
    b = bench(Act(status, {"Retry-After": "120"}))
    assert b.get().state == "done"
    assert sum(b.clock.slept) == 120


def test_retry_after_as_a_date_counts_from_the_servers_clock_and_is_capped(
    bench: Callable[..., Bench],
) -> None:
    date = {"Date": "Tue, 03 Mar 2026 10:00:00 GMT", "Retry-After": "Tue, 03 Mar 2026 10:01:30 GMT"}
    b = bench(Act(503, date), Act(429, {"Retry-After": "86400"}), longest_wait_s=600)
    assert b.get().state == "done"
    assert sum(b.clock.slept) == 90 + 600


def test_server_errors_back_off_and_keep_what_is_there(bench: Callable[..., Bench]) -> None:
    b = bench(Act(drop_after=100_000), Act(500), Act(502), Act(504))
    outcome = b.get()
    assert outcome.state == "done" and b.clock.slept == [1, 1, 2, 4]
    assert b.ranges == ["", *["bytes=100000-"] * 4] and b.server.seen(NAME).served == len(DATA)
    b = bench(then=Act(500, body=b"out of cheese"))
    outcome = b.get()
    assert (outcome.state, outcome.code, outcome.attempts) == ("failed", 500, 4)
    assert "500 Internal Server Error: out of cheese" in outcome.reason


def test_a_used_up_rate_limit_is_waited_out_before_the_next_request(bench: Callable[..., Bench]) -> None:
    b = bench(then=Act(headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "45"}))
    b.get()
    assert b.clock.slept == []
    b.fetcher.fetch(Wanted("second", b.server.content(NAME)), b.to.with_name("second"))
    assert b.clock.slept == [45]


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "7"}, 7),
        (429, {"retry-after": "-7"}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": "9" * 40}, None),
        (503, {"retry-after": "Thu, 01 Jan 1970 00:16:50 GMT"}, 10),
        (503, {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        (200, {"retry-after": "7"}, None),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2000000060"}, 2_000_000_060 - 1000),
        (200, {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "30"}, None),
        (200, {"x-ratelimit-remaining": "0"}, None),
        (429, {"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}, 9),
    ],
)
def test_what_a_server_asks_for(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked(status, headers, now=1000.0) == seconds


def test_requests_of_one_host_are_spaced(bench: Callable[..., Bench]) -> None:
    b = bench(per_minute=60)
    for n in range(4):
        b.fetcher.fetch(Wanted(f"{n}", b.server.content(NAME)), b.to.with_name(f"{n}"))
    assert b.clock.slept == [1, 1, 1]


@pytest.mark.parametrize("kind", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_page_in_place_of_the_file_is_a_failure_with_its_words(
    bench: Callable[..., Bench], kind: dict[str, str]
) -> None:
    page = Act(headers=kind, body=PAGE, ignore_range=True)
    b = bench(Act(drop_after=100_000), page)
    assert b.get().state == "done" and b.server.seen(NAME).served == len(DATA) + len(PAGE)
    b = bench(Act(drop_after=100_000), then=page)
    for promise in ({}, {"md5": None}, {"md5": None, "size": None}):
        outcome = b.get(**promise)
        assert outcome.state == "failed" and "Down for repairs: Back soon" in outcome.reason
        assert outcome.bytes == 100_000  # What is there is not given up for a page.
        b.ledger.retry_failed()
    b = bench(data=PAGE)
    assert b.get(md5=None, size=None, page_ok=True).state == "done"


def test_a_page_that_comes_in_drops_is_still_a_page(bench: Callable[..., Bench]) -> None:
    b = bench(then=Act(body=PAGE, drip=3))
    assert "Down for repairs" in b.get(md5=None, size=None).reason


def test_a_server_that_falls_silent_is_left_after_the_timeout(bench: Callable[..., Bench]) -> None:
    never = threading.Event()
    b = bench(Act(hold=never, hold_after=100_000), timeout_s=0.2)
    assert b.get().state == "done" and b.ranges == ["", "bytes=100000-"]
    never.set()


def test_a_trickle_ends_and_counts_as_nothing(bench: Callable[..., Bench]) -> None:
    b = bench(then=Act(drip=1), retries=1)
    arrived = threading.Lock()

    def tick(*_: object) -> None:
        with arrived:
            b.clock.sleep(1)  # As if every byte took a second.

    outcome = b.fetcher.fetch(b.wanted(), b.to, tick)
    assert outcome.state == "failed" and "bytes came in 5 s" in outcome.reason and outcome.attempts == 2


def test_redirects_are_followed_five_times(bench: Callable[..., Bench]) -> None:
    b = bench(*[redirect("?again", status) for status in (301, 302, 303, 307, 308)])
    assert b.get().state == "done"
    b = bench(then=redirect("?again"))
    outcome = b.get()
    assert outcome.state == "failed" and "more than 5 redirects" in outcome.reason
    assert b.server.seen(NAME).requests == 6


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "data:,x"])
def test_redirects_to_what_is_not_http_are_refused(bench: Callable[..., Bench], to: str) -> None:
    b = bench(then=redirect(to))
    outcome = b.get()
    assert outcome.state == "failed" and "redirected" in outcome.reason and outcome.attempts == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://x/y", "nothing", "http://", "http://[::1", "http://a b/"]
)
def test_addresses_that_are_not_http_are_refused(bench: Callable[..., Bench], url: str) -> None:
    b = bench()
    assert b.fetcher.fetch(Wanted("x", url), b.to).state == "failed"


def test_a_redirect_from_outside_into_a_network_is_refused(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_http, "is_private", lambda host: host == "localhost")
    for allowed, state in ((False, "failed"), (True, "done")):
        b = bench(allow_private=allowed)
        b.server.act(NAME, redirect(b.server.content(NAME).replace("127.0.0.1", "localhost")))
        outcome = b.get()
        assert outcome.state == state and (allowed or "localhost" in outcome.reason)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "2130706433",
        "0.0.0.0",
    ],
)
def test_what_is_inside_a_network(host: str) -> None:
    assert _http.is_private(host)
    assert not _http.is_private("8.8.8.8")


def test_headers_go_to_the_host_of_the_file_only_and_are_told_nobody(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, key = "s3cret-token", "s3cret-key"
    b = bench(headers={"Authorization": f"Bearer {token}"})
    away = b.server.content(NAME).replace("127.0.0.1", "localhost")
    echo = Act(403, body=f"Bearer {token} with {key} is not good, see {away}?key={key}".encode())
    b.server.act(NAME, redirect("?again"), redirect(away), Act(), then=echo)
    url = f"{b.server.content(NAME)}?query=owl&key={key}"
    assert b.fetcher.fetch(Wanted("x", url, len(DATA), MD5), b.to).state == "done"
    assert [h.get("authorization") for h in b.server.seen(NAME).headers] == [f"Bearer {token}"] * 2 + [None]
    told = [b.fetcher.fetch(Wanted("y", url), b.to).reason]
    assert "Forbidden" in told[0]
    with pytest.raises(BuildError) as error:
        b.fetcher.get(url)
    b.ledger.close()
    told += [str(error.value), caplog.text, b.ledger.path.read_bytes().decode("latin-1")]
    assert "owl" in told[1] and "HTTP Request" in told[2] and "owl" in told[3]
    for text in told:
        assert "s3cret" not in text


def test_a_header_that_would_split_is_refused_without_its_value(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger, pytest.raises(UsageError, match="X-Token") as error:
        Fetcher(ledger, agent="x", headers={"X-Token": "s3cret\r\nHost: elsewhere"})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://a.org/x?query=owl&key=abc&page=2", "https://a.org/x?query=owl&key=***&page=2"),
        ("https://me:pw@a.org/x", "https://***@a.org/x"),
        (
            "see https://a.org/?X-Amz-Signature=1f&sig=2, then",
            "see https://a.org/?X-Amz-Signature=***&sig=*** then",
        ),
        ("/x?access_token=abc#part", "/x?access_token=***#part"),
        ("https://a.org/x?page=2", "https://a.org/x?page=2"),
    ],
)
def test_redacted_addresses(text: str, told: str) -> None:
    assert redact(text) == told


def test_words_of_an_answer_are_one_short_plain_line() -> None:
    assert words(PAGE) == "Down for repairs: Back soon"
    assert words(b"\x1b[31mred\x00\r\nline") == "[31mred line"
    assert len(words(b"x" * 5000)) == 200


def test_no_connection_is_a_failure_with_the_host_named(bench: Callable[..., Bench]) -> None:
    b = bench()
    b.server.__exit__()
    outcome = b.get()
    assert outcome.state == "failed" and outcome.code is None and "127.0.0.1" in outcome.reason
    assert outcome.attempts == 4 and not b.part.exists()


def test_a_disk_without_room_is_said_before_a_byte_is_asked_for(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
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
        n: (Wanted(n, "http://x/", size), tmp_path / "new" / n)
        for n, size in [("a", 10), ("b", 7), ("c", None)]
    }
    assert str(space_needed(files.values(), tmp_path / "new")).startswith(
        "17 B and 1 files of unknown size needed"
    )
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a").write_bytes(bytes(10))
    (tmp_path / "new" / "b.part").write_bytes(bytes(3))
    space = space_needed(files.values(), tmp_path / "new")
    assert (space.needed, space.unknown) == (4, 1) and space.fits and space.free > 4


FULL_DISK = """
import sys
from pathlib import Path
from birdmml.build.fetch import Fetcher, Wanted
from birdmml.build.ledger import Ledger
from birdmml.errors import BuildError
url, md5, size, ledger, folder = sys.argv[1:]
with Ledger(Path(ledger)) as book, Fetcher(book, agent="x") as fetcher:
    try:
        print(fetcher.fetch(Wanted("f", url, int(size) or None, md5), Path(folder) / "f").state)
    except BuildError as e:
        row = book.get("f")
        print(row.state, row.bytes, e)
"""


def test_a_disk_that_fills_up_keeps_what_came(bench: Callable[..., Bench], tmp_path: Path) -> None:
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
    mount = (
        'mount -t tmpfs -o size=100k none "$0" && cd "$0" && "$@" && mount -o remount,size=1m "$0" && "$@"'
    )
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
            (Wanted(f"{n}{k}", s.content(k)), tmp_path / str(n) / k[1:])
            for k in files
            for n, s in enumerate((one, two))
        ]
        # Both servers are on one machine, hence one host; the name tells them apart.
        jobs = [
            (Wanted(w.key, w.url.replace("127.0.0.1", "localhost") if w.key[0] == "1" else w.url), to)
            for w, to in jobs
        ]
        with Fetcher(ledger, agent="x") as fetcher:
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
        assert ledger.counts() == {
            "wanted": 0,
            "partial": 0,
            "done": 23,
            "missing": 1,
            "corrupt": 0,
            "failed": 0,
        }
        assert all(to.read_bytes() == files["/" + to.name] for w, to in jobs if states[w.key] == "done")
        with Fetcher(ledger, agent="x") as fetcher:
            assert {o.key: o.state for o in fetcher.fetch_all(jobs)} == states
        assert sum(one.seen(k).requests + two.seen(k).requests for k in files) == 24


def test_an_error_in_one_thread_stops_the_others(tmp_path: Path) -> None:
    files = {f"/{i}": bytes(1000) for i in range(20)}
    with (
        Server(files) as server,
        Ledger(tmp_path / "l.sqlite") as ledger,
        Fetcher(ledger, agent="x") as fetcher,
    ):
        (tmp_path / "blocked").write_bytes(b"a file, no folder")
        jobs = [
            (Wanted(k, server.content(k)), tmp_path / ("blocked" if k == "/3" else "out") / k[1:])
            for k in files
        ]
        with pytest.raises(BuildError, match="blocked"):
            list(fetcher.fetch_all(jobs))
        with pytest.raises(Interrupted, match="run it again"):
            fetcher.fetch(*jobs[-1])
        assert server.seen("/19").requests == 0
    with (
        Server(files) as server,
        Ledger(tmp_path / "l.sqlite") as ledger,
        Fetcher(ledger, agent="x") as fetcher,
    ):
        hold = threading.Event()
        server.act("/0", Act(hold=hold))
        same = (Wanted("/0", server.content("/0")), tmp_path / "same")
        with pytest.raises(BuildError, match="twice"):
            list(fetcher.fetch_all([same, same]))
        hold.set()


def test_a_small_answer_has_the_same_patience(tmp_path: Path) -> None:
    clock = Fast()
    with Server({"/api": b"{}"}) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        fetcher = Fetcher(ledger, agent="x", clock=clock, retries=2)
        server.act("/api", Act(503, {"Retry-After": "9"}), Act(drop_after=1))
        assert fetcher.get(server.content("/api")) == b"{}" and sum(clock.slept) == 9 + 2
        for bad, said in (
            (Act(404), "404"),
            (Act(500), "500"),
            (Act(body=bytes(2000)), "larger than 1.0 KiB"),
        ):
            server.act("/api", then=bad)
            with pytest.raises(BuildError, match=said):
                fetcher.get(server.content("/api"), most_bytes=1024)
        fetcher.close()


def test_a_killed_download_goes_on_from_its_bytes(bench: Callable[..., Bench], tmp_path: Path) -> None:
    data = random.Random(9).randbytes(4_000_000)
    b = bench(data=data)
    release = threading.Event()
    b.server.act(NAME, Act(hold=release, hold_after=1_500_000), Act(hold=release, hold_after=1_000_000))
    (tmp_path / "run.py").write_text(FULL_DISK)
    (tmp_path / "out").mkdir()
    part = tmp_path / "out" / "f.part"
    command = [
        sys.executable,
        str(tmp_path / "run.py"),
        b.server.content(NAME),
        hashlib.md5(data).hexdigest(),
    ]
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
