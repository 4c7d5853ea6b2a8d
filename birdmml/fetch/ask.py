"""Small answers in memory: pages of an API, asked for with patience and looked at before they count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from birdmml.fetch.attempts import TooLarge, patiently, read, unpacked
from birdmml.fetch.transfer import Patience
from birdmml.fetch.web import Again, Final, Web
from birdmml.fetch.words import is_page
from birdmml.files import human_bytes

UNCHANGED = 304


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its body (empty for 304), its ETag and type ("" where it has none)."""

    code: int
    body: bytes
    etag: str
    kind: str


def ask(
    web: Web,
    patience: Patience,
    url: str,
    most_bytes: int,
    headers: Mapping[str, str] = {},
    errors: Collection[int] = (),
    check: Callable[[Reply], Any] = lambda reply: None,
) -> Reply:
    """The answer to GET: 200, 304 where `headers` ask for it, or one of `errors`.

    `check` looks at it and may raise Again or Final. Raises Final when no good answer comes, and Stopped.
    """

    def once() -> Reply:
        reply = _once(web, url, most_bytes, headers, errors)
        check(reply)
        return reply

    return patiently(web, patience, url, once)


def unchanged(web: Web, patience: Patience, url: str, etag: str) -> bool:
    """Whether the server's file still has this ETag; its body is not read. Raises Final where it does not say."""

    def look() -> bool:
        with web.open(url, {"If-None-Match": etag}) as answer:
            web.refuse(answer)
            if answer.status_code not in (200, UNCHANGED):
                raise Final("failed", f"HTTP {answer.status_code} is no answer", answer.status_code)
            if answer.status_code == 200 and is_page(b"", answer.headers.get("content-type", "")):
                raise Again("a page came instead of the file", 200)
            return answer.status_code == UNCHANGED or answer.headers.get("etag") == etag

    return patiently(web, patience, url, look)


def _once(web: Web, url: str, most_bytes: int, headers: Mapping[str, str], errors: Collection[int]) -> Reply:
    with web.open(url, headers) as answer:
        code = answer.status_code
        if code not in errors:
            web.refuse(answer)
        fine = {200, *errors} | ({UNCHANGED} if "If-None-Match" in headers else set())
        if code not in fine:
            raise Final("failed", f"HTTP {code} is no answer", code)
        try:
            chunks, encoding = answer.iter_raw(), answer.headers.get("content-encoding", "identity")
            if encoding != "identity":
                chunks = unpacked(chunks, encoding)
            body = b"" if code == UNCHANGED else read(web, chunks, most_bytes)
        except TooLarge:
            raise Final("failed", f"the answer is larger than {human_bytes(most_bytes)}", code) from None
        return Reply(code, body, answer.headers.get("etag", "")[:200], answer.headers.get("content-type", ""))
