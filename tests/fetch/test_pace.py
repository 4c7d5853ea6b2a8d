"""How fast services are asked, what a run may spend on failures, and who asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.servers import Act, Fast, Server, redirect
from helpers.services import Service

from birdmml.errors import UsageError
from birdmml.fetch import web
from birdmml.fetch.download import Fetcher, FetchOutcome
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Budget, Pace, Politeness
from birdmml.fetch.web import user_agent


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as s:
        yield s


def fetcher(stack: ExitStack, folder: Path, **options: object) -> Fetcher:
    ledger = stack.enter_context(Ledger(folder / "ledger.sqlite"))
    settings = {"agent": "birdmml-test", "back_off_s": 0.01, "timeout_s": 5.0, **options}
    clock = settings.pop("clock", None)
    return stack.enter_context(Fetcher(ledger, Politeness(**settings), clock))  # type: ignore[arg-type]  # options of each test


def files(server: Server, folder: Path, n: int) -> list[tuple[WantedFile, Path]]:
    base = server.url
    return [(WantedFile(f"{base}/{i}", f"{base}/{i}.jpg"), folder / f"{i}.jpg") for i in range(n)]


def server(stack: ExitStack, n: int, **acts: Act) -> Server:
    return stack.enter_context(Server({f"/{i}.jpg": b"x" * (100 + i) for i in range(n)}))


@pytest.mark.parametrize("how", ["fetch_all", "fetch_small"])
def test_each_service_has_its_own_pace(stack: ExitStack, tmp_path: Path, how: str) -> None:
    root = tmp_path / "www"
    root.mkdir()
    for i in range(12):
        (root / f"{i}.jpg").write_bytes(b"x" * 100)
    slow, fast = stack.enter_context(Service(root)), stack.enter_context(Service(root))
    for i in range(12):
        fast.act(f"/{i}.jpg", then=Act(drip=10))  # 50 ms each: several are under way at a time.
    f = fetcher(stack, tmp_path, paces={slow.url: Pace(20.0, 1), fast.url: Pace(None, 6)})
    jobs = [*files(slow, tmp_path / "slow", 12), *files(fast, tmp_path / "fast", 12)]
    began = time.monotonic()
    assert [o.state for o in getattr(f, how)(jobs)] == ["done"] * 24
    assert time.monotonic() - began >= 11 / 20
    assert slow.peak == 1 and 2 <= fast.peak <= 6
    # Twenty a second, as the server saw it: no quarter of a second has more than 5, and 1 at each of its edges.
    assert slow.rate(0.25) <= 7 < fast.rate(1.0)


def test_parts_that_run_at_a_time_share_a_pace() -> None:
    assert Pace(1.0, 4).shared(4) == Pace(0.25, 1)
    assert Pace(None, 8).shared(3) == Pace(None, 2)
    assert Pace(9.0, 2).shared(100) == Pace(0.09, 1)
    for bad in ((0.0, 1), (-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 0)):
        with pytest.raises(UsageError, match="above 0"):
            Pace(*bad)


def test_a_redirect_waits_for_the_pace_of_where_it_leads(stack: ExitStack, tmp_path: Path) -> None:
    first, second = server(stack, 4), server(stack, 4)
    for i in range(4):
        first.act(f"/{i}.jpg", then=redirect(f"{second.url}/{i}.jpg"))
    clock = Fast()
    f = fetcher(stack, tmp_path, paces={second.url: Pace(0.5, 1)}, clock=clock)
    for wanted, to in files(first, tmp_path, 4):
        assert f.fetch(wanted, to).state == "done"
    assert clock.slept == [2, 2, 2]


@pytest.mark.parametrize("how", ["fetch_all", "fetch_small"])
def test_a_service_that_dies_costs_a_bounded_number_of_requests(stack: ExitStack, tmp_path: Path, how: str) -> None:
    dead, well = server(stack, 60), server(stack, 60)
    for i in range(60):
        dead.act(f"/{i}.jpg", then=Act(500))
    budget = Budget(retries=1000, in_a_row=12)
    f = fetcher(stack, tmp_path, paces={dead.url: Pace(None, 2), well.url: Pace(None, 2)}, budget=budget)
    jobs = [
        j for pair in zip(files(dead, tmp_path / "a", 60), files(well, tmp_path / "b", 60), strict=True) for j in pair
    ]
    found: dict[str, list[FetchOutcome]] = {"done": [], "failed": []}
    for outcome in getattr(f, how)(jobs):
        found[outcome.state].append(outcome)
    assert len(found["done"]) == len(found["failed"]) == 60
    asked = sum(dead.seen(f"/{i}.jpg").requests for i in range(60))
    assert 12 <= asked <= 13  # One more may be under way when the twelfth fails.
    assert all("times in a row and is asked nothing more in this run" in o.reason for o in found["failed"])
    assert budget.closed(dead.url.removeprefix("http://"))
    assert not budget.closed(well.url.removeprefix("http://"))
    # What was given up is settled until it is asked for again.
    f2 = list(getattr(f, how)(files(dead, tmp_path / "a", 60)))
    assert {o.state for o in f2} == {"failed"} and f.ledger.retry_failed() == 60


def test_when_the_retries_are_used_up_a_file_fails_at_once_and_says_so(stack: ExitStack, tmp_path: Path) -> None:
    s = server(stack, 10)
    for i in range(10):
        s.act(f"/{i}.jpg", *[Act(503)] * (2 if i < 3 else i % 2))
    f = fetcher(stack, tmp_path, budget=Budget(retries=4), clock=Fast())
    outcomes = {o.key[-1]: o for o in (f.fetch(*job) for job in files(s, tmp_path, 10))}
    # The first two take two retries each; the third and every second one after it then fail at their first failure.
    assert "".join(k for k, o in sorted(outcomes.items()) if o.state == "failed") == "23579"
    for key in "23579":
        assert "the 4 retries of this run are used up" in outcomes[key].reason and outcomes[key].attempts == 1


def test_a_service_that_only_asks_for_peace_is_left_after_half_an_hour(stack: ExitStack, tmp_path: Path) -> None:
    s, clock = server(stack, 50), Fast()
    for i in range(50):
        s.act(f"/{i}.jpg", then=Act(429, {"Retry-After": "600"}))
    f = fetcher(stack, tmp_path, budget=Budget(), clock=clock)
    assert {f.fetch(*job).state for job in files(s, tmp_path, 50)} == {"failed"}
    assert sum(clock.slept) <= 1800 + 2 * 600 + 60


def test_failures_long_apart_are_no_silence() -> None:
    budget = Budget()
    assert [budget.failed("a", t * 7200.0) for t in range(3)] == ["", "", ""]
    budget.worked("a")
    assert [budget.failed("a", t * 599.0) for t in range(4)] == [""] * 4
    assert "5 times in a row" in budget.failed("a", 2400.0) and "a failed 5 times" in budget.closed("a")


@pytest.mark.parametrize("code", [403, 404])
def test_a_service_that_does_not_want_us_is_left_alone(stack: ExitStack, tmp_path: Path, code: int) -> None:
    s = server(stack, 60)
    for i in range(60):
        s.act(f"/{i}.jpg", then=Act(code))
    f = fetcher(stack, tmp_path, budget=Budget(refusals=20))
    outcomes = list(f.fetch_small(files(s, tmp_path, 60)))
    asked = sum(s.seen(f"/{i}.jpg").requests for i in range(60))
    if code == 403:
        assert 20 <= asked <= 21 and {o.state for o in outcomes} == {"failed"}
        assert sum("refused 20 requests in a row and is asked nothing more" in o.reason for o in outcomes) >= 39
    else:  # That a file is not there is an answer.
        assert asked == 60 and {o.state for o in outcomes} == {"missing"}


def test_retries_are_counted_over_all_threads() -> None:
    budget = Budget(retries=500, in_a_row=10**9)

    def spend() -> None:
        for _ in range(200):
            budget.failed(threading.current_thread().name, 0.0)
            budget.worked(threading.current_thread().name)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert budget.left == 0 and not any(budget.closed(t.name) for t in threads)


@pytest.mark.parametrize(
    ("contact", "agent"),
    [
        ("me@here.org", "(mailto:me@here.org)"),
        (" mailto:me@here.org ", "(mailto:me@here.org)"),
        ("https://lab.example.org/birds?x=1", "(https://lab.example.org/birds?x=1)"),
    ],
)
def test_who_asks_can_be_reached(contact: str, agent: str) -> None:
    assert user_agent(contact).startswith("birdmml/") and user_agent(contact).endswith(agent)


@pytest.mark.parametrize(
    "contact", [None, "", "  ", "me", "me@here", "a@b.c\r\nX: y", "ftp://a.org", "https://a.org/(x)", "é@here.org"]
)
def test_without_a_contact_nothing_is_asked(contact: str | None) -> None:
    with pytest.raises(UsageError, match="--contact"):
        user_agent(contact)


def test_only_addresses_that_the_user_named_may_be_inside_a_network(stack: ExitStack, tmp_path: Path) -> None:
    named, other = server(stack, 3), server(stack, 3)
    named.act("/1.jpg", then=redirect(f"{other.url}/1.jpg"))
    named.act("/2.jpg", then=redirect("http://169.254.169.254/latest/meta-data/"))
    f = fetcher(stack, tmp_path, named=[named.url])
    wanted = [*files(named, tmp_path, 3), (WantedFile("stray", f"{other.url}/0.jpg"), tmp_path / "stray")]
    wanted += [
        (WantedFile("v6", "http://[::1]/x"), tmp_path / "v6"),
        (WantedFile("ten", "http://10.0.0.1/x"), tmp_path / "ten"),
    ]
    wanted += [(WantedFile("file", "file:///etc/passwd"), tmp_path / "file")]
    states = [(o.state, o.reason) for o in f.fetch_small(wanted)]
    assert sorted(s for s, _ in states) == ["done"] + ["failed"] * 6
    inside = [r for _, r in states if "inside a network" in r]
    assert len(inside) == 5 and other.seen("/0.jpg").requests == other.seen("/1.jpg").requests == 0
    assert sum("--allow-private" in r for r in inside) == 3
    assert sum("not http or https" in r for _, r in states) == 1


def test_private_addresses_can_be_allowed(stack: ExitStack, tmp_path: Path) -> None:
    named, other = server(stack, 1), server(stack, 1)
    named.act("/0.jpg", then=redirect(f"{other.url}/0.jpg"))
    f = fetcher(stack, tmp_path, named=[named.url], allow_private=True)
    assert [o.state for o in f.fetch_small(files(named, tmp_path, 1))] == ["done"]


def test_a_name_that_changes_its_address_while_it_is_asked_is_found_out(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = server(stack, 1)
    monkeypatch.setattr(web, "is_private", lambda host: False)  # It was public when it was looked up.
    monkeypatch.setattr(web, "getproxies", dict)
    f = fetcher(stack, tmp_path, named=[])
    (outcome,) = f.fetch_small(files(s, tmp_path, 1))
    assert outcome.state == "failed" and "led to 127.0.0.1, an address inside a network" in outcome.reason


def test_secrets_stand_in_no_text(stack: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    s = stack.enter_context(Server({}))
    secret = "s3cret/with+signs"
    with caplog.at_level(logging.DEBUG):
        f = fetcher(stack, tmp_path, retries=0)
        f.web.hide(secret)
        quoted = "s3cret%2Fwith%2Bsigns"
        s.act("/x", then=Act(403, body=f"bad key {secret} or {quoted}".encode()))
        outcome = f.fetch(WantedFile("x", f"{s.url}/x?key={quoted}"), tmp_path / "x")
    assert "bad key *** or ***" in outcome.reason
    row = f.ledger.get("x")
    assert row and "s3cret" not in f"{row}{outcome}{caplog.text}"
