"""Services on ports of their own that can be told to misbehave: a folder of files, and an API in front of it.

    with Service(folder) as bucket, xeno_canto(folder2, faults=Faults(every=5)) as xc:
        bucket.url, xc.url                   where they listen
        bucket.act("/photos/1/medium.jpg", Act(status=403))      as servers.Server does
        bucket.seen("/photos/1/medium.jpg").requests             how often it was asked for
        bucket.whole["/photos/1/medium.jpg"]                     how often it was answered as it should be
        bucket.requests, bucket.peak, bucket.rate()              in all, at a time, the most in a second

Names are decoded paths; behind them the query, decoded, sorted and without the key ("/api?page=1&query=gen:Larus").
An API is a function (path, query, base) -> Act, bytes or None (not its business: the folder is asked).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from fakes.wikipedia import FakeWikipedia
from fakes.xeno_canto import FakeXenoCanto

from helpers.servers import Act, Seen, Server, redirect

Handler = Callable[[str, dict[str, str], str], "Act | bytes | None"]
JSON = {"Content-Type": "application/json"}
HTML = b"<!DOCTYPE html><html><head><title>Down for repairs</title></head><body>Back soon</body></html>"
# What passes: the same request works the next time.
PASSING = {
    "500": Act(500, body=b"out of cheese"),
    "503": Act(503, {"Retry-After": "0"}, body=b"too busy"),
    "429": Act(429, {"Retry-After": "1"}, body=b"slow down"),
    "page": Act(200, {"Content-Type": "text/html"}, body=HTML),
    "slow": Act(drip=4096),
    "reset": Act(drop_after=20, reset=True),
    "cut": Act(drop_after=20),
}
# What stays: a name that has one of these has it for ever.
LASTING = {
    "403": Act(403, body=b"AccessDenied"),
    "404": Act(404, body=b"NoSuchKey"),
    "metadata": redirect("http://169.254.169.254/latest/meta-data/"),
    "localhost": redirect("http://localhost:9/secret"),
}


@dataclass(frozen=True)
class Faults:
    """A passing fault in one request of `every`, a lasting one for one name of `lost` (0: none), by the seed."""

    every: int = 0
    lost: int = 0
    seed: int = 0
    passing: tuple[str, ...] = ("500", "503", "page", "slow", "reset", "cut")
    lasting: tuple[str, ...] = tuple(LASTING)

    def lasts(self, name: str) -> str:
        """The kind of lasting fault that a name has, or "": what a test may expect to be missing."""
        return self._pick(f"{self.seed}:{name}", self.lost, self.lasting)

    def act(self, name: str, nth: int) -> Act | None:
        """How to misbehave at the n-th request for a name; None: not at all."""
        if kind := self.lasts(name):
            return LASTING[kind]
        kind = self._pick(f"{self.seed}:{name}:{nth}", self.every, self.passing)
        return PASSING[kind] if kind else None

    def _pick(self, what: str, every: int, kinds: tuple[str, ...]) -> str:
        chance = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big")
        return kinds[chance // max(every, 1) % len(kinds)] if every and chance % every == 0 else ""


NO_FAULTS = Faults()


class Service(Server):
    """One host. `faults` are for every request but those that a test acted on with `act`."""

    def __init__(
        self, root: Path | None = None, api: Handler | None = None, faults: Faults = NO_FAULTS, etags: bool = True
    ) -> None:
        super().__init__({}, etags=etags)
        self.root, self.api, self.faults = root, api, faults
        self.whole: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.agents: Counter[str] = Counter()
        self.misbehaved: Counter[str] = Counter()

    def answer(self, path: str, headers: dict[str, str]) -> tuple[Seen, Act, bytes | None]:
        """Count a request and say how to answer it."""
        name, act, data = self._reply(path)
        seen = self.seen(name)
        with self._lock:
            self.arrivals.append(time.monotonic())
            self.agents[headers.get("user-agent", "")] += 1
            nth = seen.requests
            seen.requests += 1
            seen.headers.append(headers)
            told = self._acts.get(name)
            fault = None
            if told is not None:
                acts, then = told
                fault = acts[nth] if nth < len(acts) else then
                fault = fault if fault != Act() else None
            else:
                fault = self.faults.act(name, nth)
            if fault is None or fault == PASSING["slow"]:
                self.whole[name] += 1
            else:
                self.misbehaved[name] += 1
        if fault is not None and fault.status == 200 and fault.body is None and act is not None:
            # The API's own answer, sent badly.
            fault = Act(
                act.status, {**act.headers, **fault.headers}, act.body, fault.drop_after, fault.reset, drip=fault.drip
            )
        return seen, fault or act or Act(), data

    @property
    def requests(self) -> int:
        """All requests so far."""
        return len(self.arrivals)

    def rate(self, window_s: float = 1.0) -> int:
        """The most requests that came in any `window_s` seconds."""
        times, most, start = sorted(self.arrivals), 0, 0
        for end, at in enumerate(times):
            while at - times[start] >= window_s:
                start += 1
            most = max(most, end - start + 1)
        return most

    def twice(self) -> dict[str, int]:
        """Names that were answered as they should be more than once."""
        return {name: n for name, n in self.whole.items() if n > 1}

    def _reply(self, path: str) -> tuple[str, Act | None, bytes | None]:
        """The name of a request, the API's answer, the file's bytes."""
        bare, _, query = path.partition("?")
        place = unquote(bare)
        values = dict(parse_qsl(query, keep_blank_values=True))
        shown = "&".join(f"{k}={v}" for k, v in sorted(values.items()) if k != "key")
        name = f"{place}?{shown}" if shown else place
        reply = self.api(place, values, self.url) if self.api else None
        if isinstance(reply, Act):
            return name, reply, b""
        return name, None, reply if reply is not None else self._file(place)

    def _file(self, place: str) -> bytes | None:
        if self.root is None:
            return None
        path = (self.root / place.lstrip("/")).resolve()
        return path.read_bytes() if path.is_file() and path.is_relative_to(self.root.resolve()) else None


@contextmanager
def xeno_canto(root: Path, faults: Faults = NO_FAULTS, key: str = "0123456789abcdef0123") -> Iterator[Service]:
    """Xeno-canto over a folder that `fakes.xeno_canto.write` filled; `.fake` holds its records."""
    fake = FakeXenoCanto(root, key)
    lock = threading.Lock()

    def api(path: str, query: dict[str, str], base: str) -> Act | bytes | None:
        with lock:
            found = fake.answer(path, query, base)
        return found and Act(found[0], JSON, found[1])

    with Service(root, api, faults) as service:
        service.fake = fake  # type: ignore[attr-defined]  # for tests that change it
        yield service


@contextmanager
def wikipedia(root: Path, faults: Faults = NO_FAULTS) -> Iterator[Service]:
    """Wikipedia over a folder that `fakes.wikipedia.write` filled; `.fake` holds its pages."""
    fake = FakeWikipedia(root)

    def api(path: str, query: dict[str, str], base: str) -> Act | bytes | None:
        found = fake.answer(path)
        return found and Act(found[0], {**JSON, **found[1]}, found[2])

    with Service(None, api, faults) as service:
        service.fake = fake  # type: ignore[attr-defined]  # for tests that change it
        yield service
