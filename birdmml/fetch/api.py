"""A small client for JSON services: answers are kept on the disk, keys are kept out of everything.

api = Api(fetcher, answers, "https://xeno-canto.org", secrets={"key": key})
answer = api.get("/api/3/recordings", {"query": "gen:Larus sp:fuscus", "page": "1"})
answer.value if answer.ok else answer.reason
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from birdmml.errors import UsageError
from birdmml.fetch.answers import Answers, Kept
from birdmml.fetch.ask import UNCHANGED, Reply
from birdmml.fetch.fetcher import Fetcher
from birdmml.fetch.web import Again, Final
from birdmml.fetch.words import is_page, redact, words

MOST_BYTES = 8 << 20
MOST_VALUES = 1 << 19  # Brackets and commas: each may cost 64 bytes of memory where it costs 1 on the wire.
SHORTEST = 3  # What is not longer is no secret, and would eat the text.
REFUSED = (401, 403)  # Asked again next time: a key may have come in between.


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
        self._fetcher, self._answers = fetcher, answers
        self._secrets, self._most_bytes = dict(secrets), most_bytes
        fetcher.hide(*self._secrets.values())

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
        known = self._answers.get(url)
        if known is not None and not fresh:
            answer = self._read(known)
            if answer is not None:
                return answer
        return self._ask(url, known if known is not None and known.state == "done" else None)

    def _read(self, kept: Kept) -> Answer | None:
        """A kept answer; None for one that is none, though it was when it came."""
        try:
            value = parse(kept.body) if kept.state == "done" else None
        except ValueError:
            return None
        return Answer(kept.state, value, kept.code, kept.reason, kept=True)

    def _ask(self, url: str, known: Kept | None) -> Answer:
        secret = urlencode(self._secrets, quote_via=quote)
        full = url + (("&" if "?" in url else "?") + secret if secret else "")
        headers = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        refused = REFUSED if self._secrets else ()
        check = _Check(self._fetcher, [v.encode() for v in self._secrets.values() if len(v) > SHORTEST])
        try:
            reply = self._fetcher.ask(full, self._most_bytes, headers, refused, check)
        except Final as e:
            answer = Answer(
                "missing" if e.state == "missing" else "failed", None, e.code, self.hidden(e.reason)
            )
            if not (known is not None and e.passing):  # What is there is better than a service that is down.
                self._answers.put(url, Kept(answer.state, e.code, reason=answer.reason))
            return answer
        if reply.code == UNCHANGED and known is not None:
            unchanged = self._read(known)
            return unchanged if unchanged is not None else self._ask(url, None)
        if reply.code in refused:
            said = self.hidden(said_in(reply.body))
            return Answer(
                "failed", None, reply.code, f"HTTP {reply.code}: {said}" if said else f"HTTP {reply.code}"
            )
        self._answers.put(url, Kept("done", reply.code, reply.etag, body=check.body))
        return Answer("done", check.value, reply.code, "")

    def hidden(self, text: str) -> str:
        """A text of the service without our secrets."""
        return self._fetcher.scrub(text)


class _Check:
    """Whether an answer is JSON. A page may pass; what is twice no JSON will not."""

    def __init__(self, fetcher: Fetcher, secrets: Sequence[bytes]) -> None:
        self._fetcher, self._secrets, self._wrong = fetcher, secrets, 0
        self.body = b""
        self.value: Any = None

    def __call__(self, reply: Reply) -> None:
        if reply.code != 200:
            return
        if is_page(reply.body[:1024], reply.kind):
            said = self._fetcher.scrub(words(reply.body[:4096]))
            raise Again(f"a page came instead of JSON: {said}", 200)
        try:
            self.body = reply.body
            for secret in self._secrets:  # A service may repeat what it was asked.
                self.body = self.body.replace(secret, b"***")
            self.value = parse(self.body)
        except ValueError as e:
            self._fail(f"the answer is no JSON that can be used ({e})")

    def _fail(self, reason: str) -> NoReturn:
        self._wrong += 1
        if self._wrong > 1:
            raise Final("failed", f"{reason}; twice", 200)
        raise Again(reason, 200)


def parse(data: bytes) -> Any:
    """JSON in UTF-8, without NaN; raises ValueError, in words, for anything else and for bombs."""
    if sum(data.count(c) for c in b"[{,:") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as e:
        raise ValueError(f"{e.msg} at character {e.pos:,} of {len(e.doc):,}") from None


def said_in(body: bytes) -> str:
    """The message of an error in JSON, `{"error": "x", "message": "y"}` or `{"error": {"code": "x", "message": "y"}}`.

    The words of anything else.
    """
    try:
        value = parse(body)
    except ValueError:
        return words(body[:4096])
    found = value if isinstance(value, dict) else {}
    inner = found.get("error")
    parts = (
        [inner.get("code"), inner.get("message")]
        if isinstance(inner, dict)
        else [inner, found.get("message")]
    )
    told = ": ".join(str(p) for p in parts if isinstance(p, str | int))
    return words((told or body[:200].decode("utf-8", "replace")).encode())


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
