"""One file on a server that misbehaves, and everything that is needed to download it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from birdmml.fetch.download import Fetcher, FetchOutcome
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness
from helpers.servers import Act, Fast, Server

DATA = random.Random(7).randbytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()
OTHER = random.Random(8).randbytes(300_000)
PAGE = b"<!DOCTYPE html><html><head><title>Down for repairs</title></head><body><p>Back&nbsp;soon</p></body></html>"
NAME = "audio.tar.gz.part-aa"
SOUND = Act()


class Bench:
    """A server, a ledger, a clock and a fetcher; `get` brings the one file."""

    def __init__(self, server: Server, folder: Path, **options: object) -> None:
        self.server, self.clock, self.to = server, Fast(), folder / NAME
        self.ledger = Ledger(folder / "ledger.sqlite")
        settings = {"agent": "birdmml-test", "retries": 3, "timeout_s": 5.0, **options}
        self.fetcher = Fetcher(self.ledger, Politeness(**settings), self.clock)  # type: ignore[arg-type]  # of each test

    def wanted(self, **promise: object) -> WantedFile:
        promise = {"size": len(DATA), "md5": MD5, **promise}
        return WantedFile(NAME, self.server.content(NAME), **promise)  # type: ignore[arg-type]  # as above

    def get(self, **promise: object) -> FetchOutcome:
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


MakeBench = Callable[..., Bench]


@contextmanager
def benches(folder: Path) -> Iterator[MakeBench]:
    """`make(*acts, then=..., etags=..., data=..., **options of the fetcher)` sets up one bench after another."""
    with ExitStack() as stack:
        made: list[Bench] = []

        def make(*acts: Act, then: Act = SOUND, etags: bool = True, data: bytes = DATA, **options: object) -> Bench:
            server = stack.enter_context(Server({NAME: data}, etags=etags))
            server.act(NAME, *acts, then=then)
            made.append(Bench(server, folder / str(len(made)), **options))
            stack.callback(made[-1].ledger.close)
            stack.callback(made[-1].fetcher.close)
            return made[-1]

        yield make
