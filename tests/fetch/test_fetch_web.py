from __future__ import annotations

import gzip
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fetch_bench import DATA, MD5, NAME, PAGE, MakeBench, benches
from helpers.servers import Act, Fast, Server, redirect

from birdmml.errors import BuildError, UsageError
from birdmml.fetch import web
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness, requested_wait_s
from birdmml.fetch.web import redact, words


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    with benches(tmp_path) as make:
        yield make


@pytest.mark.parametrize("code", [404, 410])
def test_a_file_that_is_not_there_is_missing_at_once(bench: MakeBench, code: int) -> None:
    b = bench(then=Act(code, body=b'{"message": "no such file"}'))
    outcome = b.get()
    assert (outcome.state, outcome.code, outcome.attempts) == ("missing", code, 1)
    assert "no such file" in outcome.reason and b.clock.slept == [] and not b.part.exists()


def test_other_refusals_are_final_too_but_say_so(bench: MakeBench) -> None:
    b = bench(then=Act(403, body=PAGE))
    outcome = b.get()
    assert (outcome.state, outcome.code, outcome.attempts) == ("failed", 403, 1)
    assert "Forbidden" in outcome.reason and "Down for repairs: Back soon" in outcome.reason


@pytest.mark.parametrize("status", [429, 503, 403])
def test_retry_after_in_seconds_is_waited_for(bench: MakeBench, status: int) -> None:
    b = bench(Act(status, {"Retry-After": "120"}))
    assert b.get().state == "done"
    assert sum(b.clock.slept) == 120


def test_retry_after_as_a_date_counts_from_the_servers_clock_and_is_capped(bench: MakeBench) -> None:
    date = {"Date": "Tue, 03 Mar 2026 10:00:00 GMT", "Retry-After": "Tue, 03 Mar 2026 10:01:30 GMT"}
    b = bench(Act(503, date), Act(429, {"Retry-After": "86400"}), longest_wait_s=600)
    assert b.get().state == "done"
    assert sum(b.clock.slept) == 90 + 600


def test_server_errors_back_off_and_keep_what_is_there(bench: MakeBench) -> None:
    b = bench(Act(drop_after=100_000), Act(500), Act(502), Act(504))
    outcome = b.get()
    assert outcome.state == "done" and b.clock.slept == [1, 1, 2, 4]
    assert b.ranges == ["", *["bytes=100000-"] * 4] and b.server.seen(NAME).served == len(DATA)
    b = bench(then=Act(500, body=b"out of cheese"))
    outcome = b.get()
    assert (outcome.state, outcome.code, outcome.attempts) == ("failed", 500, 4)
    assert "500 Internal Server Error: out of cheese" in outcome.reason


def test_a_used_up_rate_limit_is_waited_out_before_the_next_request(bench: MakeBench) -> None:
    b = bench(then=Act(headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "45"}))
    b.get()
    assert b.clock.slept == []
    b.fetcher.fetch(WantedFile("second", b.server.content(NAME)), b.to.with_name("second"))
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
    assert requested_wait_s(status, headers, now=1000.0) == seconds


def test_requests_of_one_host_are_spaced(bench: MakeBench) -> None:
    b = bench(per_minute=60)
    for n in range(4):
        b.fetcher.fetch(WantedFile(f"{n}", b.server.content(NAME)), b.to.with_name(f"{n}"))
    assert b.clock.slept == [1, 1, 1]


@pytest.mark.parametrize("kind", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_page_in_place_of_the_file_is_a_failure_with_its_words(bench: MakeBench, kind: dict[str, str]) -> None:
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


def test_a_page_that_comes_in_drops_is_still_a_page(bench: MakeBench) -> None:
    b = bench(then=Act(body=PAGE, drip=3))
    assert "Down for repairs" in b.get(md5=None, size=None).reason


def test_a_server_that_falls_silent_is_left_after_the_timeout(bench: MakeBench) -> None:
    never = threading.Event()
    b = bench(Act(hold=never, hold_after=100_000), timeout_s=0.2)
    assert b.get().state == "done" and b.ranges == ["", "bytes=100000-"]
    never.set()


def test_a_trickle_ends_and_counts_as_nothing(bench: MakeBench) -> None:
    b = bench(then=Act(drip=1), retries=1)
    arrived = threading.Lock()

    def tick(*_: object) -> None:
        with arrived:
            b.clock.sleep(1)  # As if every byte took a second.

    outcome = b.fetcher.fetch(b.wanted(), b.to, tick)
    assert outcome.state == "failed" and "bytes came in 5 s" in outcome.reason and outcome.attempts == 2


def test_redirects_are_followed_five_times(bench: MakeBench) -> None:
    b = bench(*[redirect("?again", status) for status in (301, 302, 303, 307, 308)])
    assert b.get().state == "done"
    b = bench(then=redirect("?again"))
    outcome = b.get()
    assert outcome.state == "failed" and "more than 5 redirects" in outcome.reason
    assert b.server.seen(NAME).requests == 6


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "data:,x"])
def test_redirects_to_what_is_not_http_are_refused(bench: MakeBench, to: str) -> None:
    b = bench(then=redirect(to))
    outcome = b.get()
    assert outcome.state == "failed" and "redirected" in outcome.reason and outcome.attempts == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "nothing", "http://", "http://[::1", "http://a b/"])
def test_addresses_that_are_not_http_are_refused(bench: MakeBench, url: str) -> None:
    b = bench()
    assert b.fetcher.fetch(WantedFile("x", url), b.to).state == "failed"


def test_a_redirect_from_outside_into_a_network_is_refused(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "is_private", lambda host: host == "localhost")
    for allowed, state in ((False, "failed"), (True, "done")):
        b = bench(allow_private=allowed)
        b.server.act(NAME, redirect(b.server.content(NAME).replace("127.0.0.1", "localhost")))
        outcome = b.get()
        assert outcome.state == state and (allowed or "localhost" in outcome.reason)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1", "2130706433", "0.0.0.0"]
)
def test_what_is_inside_a_network(host: str) -> None:
    assert web.is_private(host)
    assert not web.is_private("8.8.8.8")


def test_headers_go_to_their_host_only_and_are_told_nobody(bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token, key = "s3cret-token", "s3cret-key"
    b = bench()
    away = b.server.content(NAME).replace("127.0.0.1", "localhost")
    echo = Act(403, body=f"Bearer {token} with {key} is not good, see {away}?key={key}".encode())
    b.server.act(NAME, redirect("?again"), redirect(away), Act(), then=echo)
    url = f"{b.server.content(NAME)}?query=owl&key={key}"
    own = {b.server.url: {"Authorization": f"Bearer {token}"}, "https://a.org": {"X-Key": "another"}}
    with Fetcher(b.ledger, Politeness("x", headers=own)) as fetcher:
        assert fetcher.fetch(WantedFile("x", url, len(DATA), MD5), b.to).state == "done"
        told = [fetcher.fetch(WantedFile("y", url), b.to).reason]
        with pytest.raises(BuildError) as error:
            fetcher.get(url)
    sent = [(h.get("authorization"), h.get("x-key")) for h in b.server.seen(NAME).headers]
    assert sent == [(f"Bearer {token}", None)] * 2 + [(None, None)] + [(f"Bearer {token}", None)] * 2
    assert "Forbidden" in told[0]
    b.ledger.close()
    told += [str(error.value), caplog.text, b.ledger.path.read_bytes().decode("latin-1")]
    assert "owl" in told[1] and "HTTP Request" in told[2] and "owl" in told[3]
    for text in told:
        assert "s3cret" not in text


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"https://a.org": {"X-Token": "s3cret\r\nHost: elsewhere"}}, "X-Token"),
        ({"https://a.org": {"X-Token": "s3cret\xe9"}}, "X-Token"),
        ({"a.org": {"X-Token": "s3cret"}}, "base address"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_without_their_values(
    tmp_path: Path, headers: dict[str, dict[str, str]], said: str
) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger, pytest.raises(UsageError, match=said) as error:
        Fetcher(ledger, Politeness("x", headers=headers))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://a.org/x?query=owl&key=abc&page=2", "https://a.org/x?query=owl&key=***&page=2"),
        ("https://me:pw@a.org/x", "https://***@a.org/x"),
        ("see https://a.org/?X-Amz-Signature=1f&sig=2, then", "see https://a.org/?X-Amz-Signature=***&sig=*** then"),
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


def test_no_connection_is_a_failure_with_the_host_named(bench: MakeBench) -> None:
    b = bench()
    b.server.__exit__()
    outcome = b.get()
    assert outcome.state == "failed" and outcome.code is None and "127.0.0.1" in outcome.reason
    assert outcome.attempts == 4 and not b.part.exists()


def test_a_small_answer_has_the_same_patience(tmp_path: Path) -> None:
    clock = Fast()
    with Server({"/api": b"{}"}) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        fetcher = Fetcher(ledger, Politeness("x", retries=2), clock)
        server.act("/api", Act(503, {"Retry-After": "9"}), Act(drop_after=1))
        assert fetcher.get(server.content("/api")) == b"{}" and sum(clock.slept) == 9 + 2
        packed = Act(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
        server.act("/api", packed)
        assert fetcher.get(server.content("/api")) == b"{}"
        for bad, said in (
            (Act(404), "404"),
            (Act(500), "500"),
            (Act(302), "302"),
            (Act(body=bytes(2000)), "larger than 1.0 KiB"),
            (replace(packed, body=b"no gzip"), "cannot be opened"),
        ):
            server.act("/api", then=bad)
            with pytest.raises(BuildError, match=said):
                fetcher.get(server.content("/api"), most_bytes=1024)
        fetcher.close()
