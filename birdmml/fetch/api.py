"""A small client for JSON services: answers are kept on the disk, keys are kept out of everything.

Answers lie in a SQLite file, so that a build that goes on asks nothing twice: one row an address, without keys. One
that will not come is kept, too, with its reason.

api = Api(fetcher, answers, "https://xeno-canto.org", secrets={"key": key})
answer = api.get("/api/3/recordings", {"query": "gen:Larus sp:fuscus", "page": "1"})
answer.value if answer.ok else answer.reason
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from birdmml.core.files import no_number
from birdmml.core.sqlite import Database, Wording
from birdmml.errors import UsageError
from birdmml.fetch.ask import UNCHANGED, Reply, ask, patiently
from birdmml.fetch.download import Fetcher
from birdmml.fetch.web import Again, Final, Wrong, is_page, redact, words

MOST_BYTES = 8 << 20
MOST_VALUES = 1 << 19  # Brackets and commas: each may cost 64 bytes of memory where it costs 1 on the wire.
SHORTEST = 3  # What is not longer is no secret, and would eat the text.
APPLICATION_ID = 0x6269726A  # "birj"
TABLE = """CREATE TABLE IF NOT EXISTS answers (
    url TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('done', 'missing', 'failed')),
    code INTEGER,
    etag TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
)"""
GET = "SELECT state, code, etag, reason, body FROM answers WHERE url = ?"
PUT = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)"
REFUSED = (401, 403)  # Asked again next time: a key may have come in between.


@dataclass(frozen=True)
class Kept:
    """One answer: `state` is done, missing (404, 410) or failed; `body` is empty unless done."""

    state: str
    code: int | None
    etag: str = ""
    reason: str = ""
    body: bytes = b""


class Answers(Database):
    """The answers in the file at `path`, created where there is none; a context manager for one process at a time.

    Raises BuildError for a file that is damaged, another program's, in use, or cannot be written.
    """

    tables = (TABLE,)
    pragmas = ("locking_mode = EXCLUSIVE", *Database.pragmas)
    marks = MappingProxyType({"application_id": APPLICATION_ID})
    wording = Wording(
        unusable="{path} cannot be written ({error}): make room or check the folder, then run it again",
        damaged="{path} is damaged ({error}): delete it and run it again; the services are asked anew",
        locked="{path} is in use by another run: wait for it, or stop it",
        foreign="{path} belongs to another program: move it away, then run it again",
    )
    wait_s = 0

    def get(self, url: str) -> Kept | None:
        """What came from an address; None where it was never asked. A body that cannot be read counts as that."""
        row = self.fetch_one(GET, (url,))
        if row is None:
            return None
        try:
            state, code, etag, reason, body = row
            return Kept(state, code, etag, reason, zlib.decompress(body) if body else b"")
        except zlib.error:
            return None

    def put(self, url: str, kept: Kept) -> None:
        """Remember an answer in place of the last one."""
        body = zlib.compress(kept.body, 6) if kept.body else b""
        self.run(PUT, (url, kept.state, kept.code, kept.etag, kept.reason, body))

    def retry_failed(self) -> int:
        """Forget what failed or was missing, so that it is asked again; returns how many."""
        return self.run("DELETE FROM answers WHERE state != 'done'")

    def counts(self) -> dict[str, int]:
        """How many answers are in each state."""
        numbers = dict(self.fetch_all("SELECT state, count(*) FROM answers GROUP BY state"))
        return {s: numbers.get(s, 0) for s in ("done", "missing", "failed")}


@dataclass(frozen=True)
class Answer:
    """What a service said. `state` is done, missing (404, 410) or failed; `value` is the JSON of a done one.

    `reason` says why there is none, without keys; `kept` whether it came from the disk.
    """

    state: str
    value: Any
    code: int | None
    reason: str
    kept: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.state == "done"


class Api:
    """One service at `base`. `secrets` are parameters that every request carries and nothing else ever shows.

    Raises UsageError for a base that is no web address. May be used from several threads.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        answers: Answers,
        base: str,
        *,
        secrets: Mapping[str, str] = {},
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.base = base.rstrip("/")
        if not self.base.startswith(("http://", "https://")) or not self.base.isprintable():
            raise UsageError(f"{redact(base)[:80]!r} is no web address: give one such as https://a.org")
        for name in secrets:
            if redact(f"?{name}=x") == f"?{name}=x":
                raise ValueError(f"a secret parameter named {name!r} would stand in logs")
        self._web, self._answers = fetcher.web, answers
        self._secrets, self._most_bytes = dict(secrets), most_bytes
        self._web.hide(*self._secrets.values())

    def url(self, path: str, params: Mapping[str, str] = {}) -> str:
        """The address that is asked, without secrets; parameters in the order of their names."""
        query = urlencode(sorted(params.items()), quote_via=quote)
        return f"{self.base}{path}" + (f"?{query}" if query else "")

    def get(self, path: str, params: Mapping[str, str] = {}, *, fresh: bool = False) -> Answer:
        """The answer to GET, from the disk where it was asked before.

        `fresh` asks all the same (with the ETag of what is there, so that an unchanged answer costs little) and
        keeps the new one. What is no JSON, too large or nested too deeply is a failure with its reason. Raises
        BuildError when the answers cannot be kept, and Stopped.
        """
        url = self.url(path, params)
        kept = self._answers.get(url)
        if kept is not None and not fresh:
            answer = self._read(kept)
            if answer is not None:
                return answer
        return self._ask(url, kept if kept is not None and kept.state == "done" else None)

    def _read(self, kept: Kept) -> Answer | None:
        """A kept answer; None for one that is none, though it was when it came."""
        try:
            value = parse(kept.body) if kept.state == "done" else None
        except ValueError:
            return None
        return Answer(kept.state, value, kept.code, kept.reason, kept=True)

    def _ask(self, url: str, kept: Kept | None) -> Answer:
        secret = urlencode(self._secrets, quote_via=quote)
        full = url + (("&" if "?" in url else "?") + secret if secret else "")
        headers = {"If-None-Match": kept.etag} if kept is not None and kept.etag else {}
        refused = REFUSED if self._secrets else ()
        try:
            reply, value = patiently(self._web, full, lambda: self._request(full, headers, refused))
        except Final as e:
            state = "missing" if e.state == "missing" else "failed"
            answer = Answer(state, None, e.code, self._web.scrub(e.reason))
            if not (kept is not None and e.passing):  # What is there is better than a service that is down.
                self._answers.put(url, Kept(answer.state, e.code, reason=answer.reason))
            return answer
        if reply.code == UNCHANGED and kept is not None:
            unchanged = self._read(kept)
            return unchanged if unchanged is not None else self._ask(url, None)
        if reply.code in refused:
            text = self._web.scrub(error_message(reply.body))
            return Answer("failed", None, reply.code, f"HTTP {reply.code}: {text}" if text else f"HTTP {reply.code}")
        self._answers.put(url, Kept("done", reply.code, reply.etag, body=reply.body))
        return Answer("done", value, reply.code, "")

    def _request(self, url: str, headers: Mapping[str, str], refused: Collection[int]) -> tuple[Reply, Any]:
        """One answer without our secrets, and the JSON in it. A page may pass; what is twice no JSON will not."""
        reply = ask(self._web, url, self._most_bytes, headers, refused)
        if reply.code != 200:
            return reply, None
        if is_page(reply.body[:1024], reply.kind):
            text = self._web.scrub(words(reply.body[:4096]))
            raise Again(f"a page came instead of JSON: {text}", 200)
        body = reply.body
        for secret in filter(lambda value: len(value) > SHORTEST, self._secrets.values()):
            body = body.replace(secret.encode(), b"***")  # A service may repeat what it was asked.
        try:
            return replace(reply, body=body), parse(body)
        except ValueError as e:
            raise Wrong(f"the answer is no JSON that can be used ({e})", 200, state="failed") from e


def parse(data: bytes) -> Any:
    """JSON in UTF-8, without NaN; raises ValueError, in words, for anything else and for bombs."""
    if sum(data.count(c) for c in b"[{,:") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as e:
        raise ValueError(f"{e.msg} at character {e.pos:,} of {len(e.doc):,}") from None


def error_message(body: bytes) -> str:
    """The message of an error in JSON, `{"error": "x", "message": "y"}` or `{"error": {"code": "x", "message": "y"}}`.

    The words of anything else.
    """
    try:
        value = parse(body)
    except ValueError:
        return words(body[:4096])
    fields = value if isinstance(value, dict) else {}
    error = fields.get("error")
    parts = [error, fields.get("message")]
    if isinstance(error, dict):
        parts = [error.get("code"), error.get("message")]
    text = ": ".join(str(p) for p in parts if isinstance(p, str | int))
    return words((text or body[:200].decode("utf-8", "replace")).encode())
