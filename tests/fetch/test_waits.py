"""How long is waited: between requests, after failures, and where a service asks for peace; by hand and by law."""

from __future__ import annotations

import threading

import pytest
from helpers.servers import Fast
from hypothesis import given
from hypothesis import strategies as st

from birdmml.errors import UsageError
from birdmml.fetch.pace import Clock, Gate, Pace, Stopped, requested_wait_s

NOW = 1_800_000_000.0
TODAY = "Fri, 15 Jan 2027 08:00:00 GMT"  # NOW in words.


class Dice(Fast):
    """A fast clock whose chance is known."""

    def __init__(self, jitter: float) -> None:
        super().__init__()
        self.chance = jitter

    def jitter(self) -> float:
        return self.chance


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 3), (1, 3), (2, 6), (3, 12), (4, 24), (5, 48), (6, 60), (40, 60), (9999, 60)]
)
def test_the_wait_after_failures_doubles_up_to_a_minute(failures: int, longest: float) -> None:
    for jitter, share in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5)):
        clock = Dice(jitter)
        clock.back_off(failures, 3.0)
        assert clock.slept == [pytest.approx(longest * share)]


def test_nobody_goes_on_after_a_stop() -> None:
    clock = Fast()
    clock.check()
    clock.stop.set()
    for wait in (clock.check, lambda: clock.back_off(1, 1.0), lambda: Gate(clock, Pace()).slot().__enter__()):
        with pytest.raises(Stopped, match="run it again"):
            wait()
    assert 0 <= Clock().jitter() < 1


@given(st.floats(0.05, 50), st.integers(2, 20))
def test_requests_are_spaced(per_second: float, requests: int) -> None:
    clock = Fast()
    gate, times = Gate(clock, Pace(per_second, 1)), []
    for _ in range(requests):
        with gate.slot():
            times.append(clock.monotonic())
    assert times == pytest.approx([n / per_second for n in range(requests)])


def test_without_a_pace_nobody_waits_and_peace_is_kept() -> None:
    clock = Fast()
    gate = Gate(clock, Pace(None, 1))
    for _ in range(3):
        with gate.slot():
            pass
    assert clock.slept == []
    gate.hold(5)
    gate.hold(2)  # A shorter wish takes nothing back.
    with gate.slot():
        assert clock.monotonic() == 5
    gate.hold(4)
    with gate.slot():
        assert clock.monotonic() == 9
    assert clock.slept == [5, 4]


def test_peace_and_spacing_are_waited_for_together() -> None:
    clock = Fast()
    gate = Gate(clock, Pace(0.5, 1))
    with gate.slot():
        gate.hold(1)
    with gate.slot():
        assert clock.monotonic() == 2  # The spacing is longer.
        gate.hold(7)
    with gate.slot():
        assert clock.monotonic() == 9  # The peace is.


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_so_many_answers_are_under_way_at_a_time(parallel: int) -> None:
    gate, started, leave = Gate(Fast(), Pace(None, parallel)), threading.Semaphore(0), threading.Event()

    def ask() -> None:
        with gate.slot():
            started.release()
            leave.wait(10)

    threads = [threading.Thread(target=ask) for _ in range(parallel + 1)]
    for t in threads:
        t.start()
    assert all(started.acquire(timeout=10) for _ in range(parallel))
    assert not started.acquire(timeout=0.2)
    leave.set()
    for t in threads:
        t.join()


@given(st.floats(0.001, 100), st.integers(1, 50), st.integers(1, 100))
def test_the_shares_of_a_pace_ask_no_faster_than_it(per_second: float, parallel: int, parts: int) -> None:
    share = Pace(per_second, parallel).shared(parts)
    assert share.per_second is not None
    assert share.per_second * parts == pytest.approx(per_second)
    assert share.parallel == max(1, sum(1 for n in range(1, parallel + 1) if n % parts == 0))
    assert Pace(None, parallel).shared(parts) == Pace(None, share.parallel)


@pytest.mark.parametrize("bad", [(0.0, 2), (-1.0, 2), (float("inf"), 2), (float("nan"), 2), (1.0, 0), (None, 0)])
def test_a_pace_of_nothing_is_refused(bad: tuple[float | None, int]) -> None:
    with pytest.raises(UsageError, match="both must be above 0"):
        Pace(*bad)
    assert Pace(1e-9, 1).parallel == Pace(None, 1).parallel == 1


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {}, None),
        (400, {"retry-after": "7"}, 7),
        (399, {"retry-after": "7"}, None),
        (429, {"retry-after": " 7 "}, 7),
        (429, {"retry-after": "0"}, 0),
        (429, {"retry-after": "-7"}, None),
        (429, {"retry-after": "7.5"}, None),
        (429, {"retry-after": "\u0667"}, None),  # A digit, but no ASCII.
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": "9" * 15}, 10**15 - 1),
        (429, {"retry-after": "9" * 16}, None),
        (503, {"retry-after": "Fri, 15 Jan 2027 08:01:30 GMT"}, 90),
        (503, {"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0),
        (503, {"retry-after": TODAY, "date": "Fri, 15 Jan 2027 07:59:20 GMT"}, 40),
        (503, {"retry-after": TODAY, "date": "today"}, 0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30),
        (200, {"x-ratelimit-remaining": " 0 ", "x-ratelimit-reset": f"{NOW + 45:.0f}"}, 45),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW - 45:.0f}"}, 0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000000000"}, 1e9),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000000001"}, 0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}, 0),
        (200, {"x-ratelimit-remaining": "0"}, None),
        (200, {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "30"}, None),
        (200, {"x-ratelimit-reset": "30"}, None),
        (429, {"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30),
        (429, {"retry-after": "70", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 70),
    ],
)
def test_the_peace_that_an_answer_asks_for(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert requested_wait_s(status, headers, NOW) == seconds
