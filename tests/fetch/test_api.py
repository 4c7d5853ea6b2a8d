"""JSON services: nothing asked twice, nothing wrong taken, and the key nowhere."""

from __future__ import annotations

import gzip
import json
import logging
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.servers import Act, Fast, redirect
from helpers.services import HTML, JSON, Service
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import BuildError, UsageError
from birdmml.fetch.api import Answer, Answers, Api, Kept, error_message, parse
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger
from birdmml.fetch.pace import Budget, Politeness

KEY = "sEcReT0123456789+/="


class Bench:
    """A service whose answers a test sets, and a client for it."""

    def __init__(self, stack: ExitStack, folder: Path, **options: object) -> None:
        self.value: object = {"a": 1}
        self.keys: list[str | None] = []
        self.service = stack.enter_context(Service(None, self._answer))
        self.stack, self.folder, self.options = stack, folder, options
        self.reopen()

    def _answer(self, path: str, query: dict[str, str], base: str) -> Act:
        self.keys.append(query.get("key"))
        body = self.value if isinstance(self.value, bytes) else json.dumps(self.value).encode()
        return Act(200, JSON, body)

    def reopen(self) -> None:
        """As another run does it."""
        self.close, self.clock = ExitStack(), Fast()
        self.ledger = self.close.enter_context(Ledger(self.folder / "ledger.sqlite"))
        self.answers = self.close.enter_context(Answers(self.folder / "answers.sqlite"))
        settings = {"agent": "x", "retries": 3, "timeout_s": 2.0, **self.options}
        politeness = Politeness(**settings)  # type: ignore[arg-type]  # of each test
        self.fetcher = self.close.enter_context(Fetcher(self.ledger, politeness, self.clock))
        self.api = Api(self.fetcher, self.answers, self.service.url + "/", secrets={"key": KEY})
        self.stack.push(self.close)

    def get(self, fresh: bool = False) -> Answer:
        return self.api.get("/api/x", {"q": "gen:Larus sp:fuscus", "page": "1"}, fresh=fresh)

    @property
    def requests(self) -> int:
        return self.service.requests

    name = "/api/x?page=1&q=gen:Larus sp:fuscus"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as s:
        yield s


def test_an_answer_is_asked_for_once_also_by_the_next_run(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path)
    assert b.get() == Answer("done", {"a": 1}, 200, "")
    b.value = {"a": 2}
    assert b.get() == Answer("done", {"a": 1}, 200, "", kept=True)
    b.close.close()
    b.reopen()
    assert b.get().value == {"a": 1} and b.requests == 1 and b.keys == [KEY]
    assert b.api.get("/api/x", {"page": "1", "q": "gen:Larus sp:fuscus"}).kept  # The order is not the caller's.


def test_fresh_asks_with_the_etag_and_keeps_the_new_answer(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path)
    b.get()
    again = b.get(fresh=True)
    assert again.value == {"a": 1} and again.kept and b.service.seen(b.name).headers[1]["if-none-match"]
    assert b.service.seen(b.name).served == len(b'{"a": 1}')
    b.value = {"a": 2}
    assert b.get(fresh=True) == Answer("done", {"a": 2}, 200, "") and b.get().value == {"a": 2}
    b.service.act(b.name, then=Act(500))
    assert b.get(fresh=True).state == "failed"
    assert b.get().value == {"a": 2}  # What is there is better than a service that is down.


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (HTML, "a page came instead of JSON: Down for repairs"),
        (b'{"a": [1, 2', "no JSON that can be used (Expecting"),
        (b"", "no JSON that can be used"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b"[" + b"[]," * 600_000 + b"[]]", "more than 524,288 values"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[1e999999, -Infinity]", "-Infinity is no number"),
        (b'"\xff\xfe"', "it is not UTF-8"),
        (b"9" * 5000, "Exceeds the limit"),
        (b'"' + b"x" * (8 << 20) + b'"', "larger than 8.0 MiB"),
    ],
)
def test_what_is_no_json_is_a_failure_in_words(stack: ExitStack, tmp_path: Path, body: bytes, reason: str) -> None:
    b = Bench(stack, tmp_path)
    b.value = body
    answer = b.get()
    assert answer.state == "failed" and reason in answer.reason and len(answer.reason) < 400
    asked = b.requests
    assert b.get() == Answer("failed", None, answer.code, answer.reason, kept=True) and b.requests == asked
    b.value = {"a": 1}
    assert b.answers.retry_failed() == 1 and b.get().ok


def test_faults_that_pass_are_waited_out(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path, retries=8)
    b.service.act(
        b.name,
        Act(500),
        Act(429, {"Retry-After": "7"}),
        Act(503, {"Retry-After": "3"}),
        Act(200, {"Content-Type": "text/html"}, HTML),
        Act(200, body=b'{"a": '),
        Act(drop_after=3),
        Act(drop_after=3, reset=True),
    )
    assert b.get().ok and b.requests == 8 and sum(b.clock.slept) >= 10


def test_what_is_compressed_against_our_wish_is_read_within_bounds(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path, retries=1)
    packed = {"Content-Encoding": "gzip", **JSON}
    b.service.act("/api/1", then=Act(200, packed, gzip.compress(b'{"a": 3}')))
    b.service.act("/api/2", then=Act(200, packed, gzip.compress(bytes(100 << 20))))
    b.service.act("/api/3", then=Act(200, packed, b"no gzip"))
    b.service.act("/api/4", then=Act(200, packed, gzip.compress(b'{"a": 3}')[:-9]))
    b.service.act("/api/5", then=Act(200, {**packed, "Content-Encoding": "br"}, b"?"))
    assert b.api.get("/api/1").value == {"a": 3}
    tracemalloc.start()
    assert "larger than 8.0 MiB" in b.api.get("/api/2").reason
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()
    assert "compressed and cannot be opened" in b.api.get("/api/3").reason
    assert "ended before it was whole" in b.api.get("/api/4").reason
    assert "compressed and cannot be opened" in b.api.get("/api/5").reason


def test_a_missing_page_is_missing_and_asked_for_once(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path)
    b.service.act(b.name, then=Act(404, JSON, b'{"detail": "Page or revision not found."}'))
    assert b.get().state == "missing" and "Page or revision not found" in b.get().reason and b.requests == 1


def test_a_redirect_into_a_network_is_refused(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path)
    b.options["named"] = [b.service.url]
    b.close.close()
    b.reopen()
    b.service.act(b.name, then=redirect("http://169.254.169.254/x"))
    assert "redirected to 169.254.169.254, an address inside a network" in b.get().reason


SHAPES = (
    b'{"error": "missing_parameter", "message": "No key ' + KEY.encode() + b'"}',
    b'{"error": {"code": "client_error", "message": "Wrong key: sEcReT0123456789%2B%2F%3D"}}',
)


@pytest.mark.parametrize("body", SHAPES)
def test_a_refused_key_is_told_in_both_shapes_and_not_remembered(stack: ExitStack, tmp_path: Path, body: bytes) -> None:
    b = Bench(stack, tmp_path)
    b.service.act(b.name, Act(401, JSON, body))
    answer = b.get()
    assert (answer.state, answer.code) == ("failed", 401)
    assert answer.reason.startswith("HTTP 401: ") and "***" in answer.reason and "key" in answer.reason
    assert b.get().ok and b.requests == 2


def test_the_key_stands_nowhere(
    stack: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    told = []
    with caplog.at_level(logging.DEBUG):
        b = Bench(stack, tmp_path)
        b.value = {"you asked": f"http://x/?key={KEY}", "and": [KEY]}
        told.append(b.get())
        for n, act in enumerate(
            [
                *(Act(401, JSON, s) for s in SHAPES),
                Act(403, body=KEY.encode()),
                Act(400, body=f"key={KEY}".encode()),
                Act(500, body=KEY.encode() * 3),
                Act(200, body=b"<!doctype html><title>" + KEY.encode() + b"</title>"),
                redirect(f"ftp://a.org/?key={KEY}"),
                redirect(f"http://127.0.0.1:1/?key={KEY}"),
            ]
        ):
            b.service.act(f"/api/{n}", then=act)
            told.append(b.api.get(f"/api/{n}"))
    assert all(not a.ok for a in told[1:]) and told[0].ok
    b.close.close()
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    out = capfd.readouterr()
    for form in (KEY, "sEcReT0123456789%2B%2F%3D", "sEcReT0123456789"):
        assert form not in f"{told}{caplog.text}{out.out}{out.err}" and form.encode() not in kept
    with Answers(tmp_path / "answers.sqlite") as answers:  # Bodies are compressed there.
        bodies = [row[0] for row in answers._db.execute("SELECT url FROM answers")]
        assert all("sEcReT" not in f"{url}{answers.get(url)}" for url in bodies)
    with pytest.raises(ValueError, match="would stand in logs"):
        Api(b.fetcher, answers, "https://a.org", secrets={"id": KEY})


def test_a_service_that_is_given_up_leaves_its_reason(stack: ExitStack, tmp_path: Path) -> None:
    b = Bench(stack, tmp_path, budget=Budget(in_a_row=2), retries=5)
    b.service.act("/api/0", then=Act(500))
    assert "2 times in a row and is asked nothing more" in b.api.get("/api/0").reason and b.requests == 2
    assert "is asked nothing more in this run" in b.get().reason and b.requests == 2


@pytest.mark.parametrize("base", ["", "xeno-canto.org", "ftp://a.org", "file:///etc", "https://a.org/\n"])
def test_a_base_that_is_no_web_address_is_wrong_usage(stack: ExitStack, tmp_path: Path, base: str) -> None:
    b = Bench(stack, tmp_path)
    with pytest.raises(UsageError, match="no web address"):
        Api(b.fetcher, b.answers, base)


def test_kept_answers_of_another_program_or_in_use_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with Answers(path) as answers:
        answers.put("u", Kept("done", 200, body=b"[1]"))
        with pytest.raises(BuildError, match="in use by another run"):
            Answers(path)
    with Ledger(tmp_path / "ledger.sqlite"):
        pass
    with pytest.raises(BuildError, match="another program"):
        Answers(tmp_path / "ledger.sqlite")
    path.write_bytes(path.read_bytes()[:100] + bytes(4000))
    with pytest.raises(BuildError, match="damaged|another program"):
        Answers(path).get("u")
    (tmp_path / "text").write_text("hello, this is no database at all")
    with pytest.raises(BuildError, match="damaged"):
        Answers(tmp_path / "text")
    with pytest.raises(BuildError, match="was closed"):
        answers.get("u")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_json_is_read_as_it_was_written(value: object) -> None:
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_json_or_a_plain_error(data: bytes) -> None:
    try:
        parse(data)
    except ValueError as e:
        assert str(e) and "\n" not in str(e)
    line = error_message(data)
    assert len(line) <= 200 and line.isprintable()
