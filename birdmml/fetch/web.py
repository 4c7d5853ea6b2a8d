"""One HTTP answer: redirects followed by our rules, each host at its pace, every failure a plain word."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from http import HTTPStatus
from urllib.parse import unquote

import httpx

from birdmml.errors import UsageError
from birdmml.fetch.pace import Clock, Gate, wait_asked
from birdmml.fetch.words import redact, words

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
LOCATION = "x-hidden-location"
GONE = (404, 410)
AGAIN = (408, 425, 429)
ERROR_BYTES = 4096
IDENTITY = {"Accept-Encoding": "identity"}  # The bytes of the file, not a recompression of them.


class Again(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


class Final(Exception):
    """Trying again is of no use; `state` is the ledger's word for it."""

    def __init__(self, state: str, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.state, self.reason, self.code = state, reason, code


class Web:
    """A client for all threads. `headers` are by base address: they go there and nowhere else, and into no text."""

    def __init__(
        self,
        clock: Clock,
        *,
        agent: str,
        headers: Mapping[str, Mapping[str, str]],
        parallel: int,
        per_minute: float | None,
        timeout_s: float,
        longest_wait_s: float,
        allow_private: bool,
    ) -> None:
        self.clock = clock
        self.timeout_s = timeout_s
        try:
            self._own = {self._parts(base): dict(own) for base, own in headers.items()}
        except Final as e:
            raise UsageError(f"headers are given by base address, such as https://a.org: {e.reason}") from e
        self._hidden = [value for own in self._own.values() for value in own.values()]
        self._pace = (parallel, per_minute)
        self._longest_wait_s, self._allow_private = longest_wait_s, allow_private
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()
        for name, value in [
            ("User-Agent", agent),
            *(pair for own in self._own.values() for pair in own.items()),
        ]:
            if not (name.isascii() and value.isascii() and (name + value).isprintable()):
                raise UsageError(
                    f"the header {name!r} must be plain ASCII on one line: check how its value is set"
                )
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
        timeout = httpx.Timeout(timeout_s, pool=None)
        self._client = httpx.Client(
            headers={"User-Agent": agent, **IDENTITY},
            timeout=timeout,
            limits=limits,
            verify=_tls(),
            event_hooks={"response": [_hide_location]},
        )
        _keep_keys_out_of_logs()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def open(self, url: str, extra: Mapping[str, str] = {}) -> Iterator[httpx.Response]:
        """The answer to GET after at most five redirects, its body unread; errors while it is read are told, too.

        Raises Again, Final or Stopped.
        """
        for _ in range(MOST_REDIRECTS + 1):
            with self._one(url, {**extra, **self._own.get(self._parts(url), {})}) as answer:
                if answer.status_code not in REDIRECTS or LOCATION not in answer.headers:
                    yield answer
                    return
                url = self._next(url, answer)
        raise Final("failed", f"more than {MOST_REDIRECTS} redirects", answer.status_code)

    def refuse(self, answer: httpx.Response) -> None:
        """Raise Final or Again, with the answer's own words, for a status that is an error."""
        code = answer.status_code
        if code < 400:
            return
        reason = self.scrub(
            ": ".join(filter(None, (_status(code), self.said(answer.iter_raw())))), str(answer.url)
        )
        if code in GONE:
            raise Final("missing", reason, code)
        if code >= 500 or code in AGAIN or "retry-after" in answer.headers:
            raise Again(reason, code)
        raise Final("failed", reason, code)

    def scrub(self, text: str, url: str = "") -> str:
        """A text without the values of our headers and of the keys in the address."""
        query = url.partition("?")[2].partition("#")[0].split("&")
        hidden = [*self._hidden, *(p.partition("=")[2] for p in query if redact(p) != p)]
        for value in sorted({*hidden, *map(unquote, hidden)}, key=len, reverse=True):
            if len(value) > 3:  # Shorter ones are no secrets, and would eat the text.
                text = text.replace(value, "***")
        return redact(text)

    def said(self, chunks: Iterator[bytes]) -> str:
        """The first words of an answer's body, as far as they come."""
        body, started = b"", self.clock.monotonic()
        try:
            for chunk in chunks:
                body += chunk
                if len(body) >= ERROR_BYTES or self.clock.monotonic() - started > self.timeout_s:
                    break
        except httpx.TransportError:
            pass  # The status has been told already; the words are a courtesy.
        return words(body[:ERROR_BYTES])

    @contextmanager
    def _one(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One request at its host's pace."""
        gate = self._gate(url)
        with gate.slot():
            try:
                request = self._client.build_request("GET", url, headers=dict(headers))
                with closing(self._client.send(request, stream=True, follow_redirects=False)) as answer:
                    wait_s = wait_asked(answer.status_code, answer.headers, self.clock.now())
                    if wait_s is not None:
                        gate.hold(min(wait_s, self._longest_wait_s))
                    yield answer
            except (httpx.TransportError, httpx.DecodingError) as e:
                raise Again(self._told(e, url)) from e

    def _gate(self, url: str) -> Gate:
        host = self._parts(url)[1]
        with self._lock:
            return self._gates.setdefault(host, Gate(self.clock, *self._pace))

    def _parts(self, url: str) -> tuple[str, str, int]:
        """Scheme, host and port; raises Final for an address that is not http or https."""
        try:
            parts = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError) as e:
            raise Final("failed", f"{redact(url)[:80]!r} is no address") from e
        if parts.scheme not in ("http", "https") or not parts.host:
            raise Final("failed", f"{redact(url)[:80]!r} is not http or https")
        return parts.scheme, parts.host, parts.port or (443 if parts.scheme == "https" else 80)

    def _next(self, url: str, answer: httpx.Response) -> str:
        """Where a redirect leads; raises Final for a place that it must not lead to."""
        try:
            target = str(httpx.URL(url).join(answer.headers[LOCATION]))
        except (httpx.InvalidURL, UnicodeError, ValueError) as e:
            raise Final("failed", "redirected to what is no address", answer.status_code) from e
        try:
            old, new = self._parts(url), self._parts(target)
        except Final as e:
            raise Final("failed", f"redirected, but {e.reason}", answer.status_code) from e
        if old[0] == "https" and new[0] == "http":
            raise Final("failed", f"redirected from https to http at {new[1]}", answer.status_code)
        if new[1] != old[1] and not self._allow_private and is_private(new[1]) and not is_private(old[1]):
            raise Final("failed", f"redirected to {new[1]}, an address inside a network", answer.status_code)
        return target

    def _told(self, e: httpx.RequestError, url: str) -> str:
        """A dropped connection in words. httpx's own are used only where they cannot hold a header."""
        if isinstance(e, httpx.ConnectTimeout):
            return f"no connection to {self._parts(url)[1]} within {self.timeout_s:g} s"
        if isinstance(e, httpx.TimeoutException):
            return f"nothing came for {self.timeout_s:g} s"
        if isinstance(e, (httpx.ConnectError, httpx.ProxyError)):
            return self.scrub(f"no connection to {self._parts(url)[1]}: {e}", url)
        if isinstance(e, httpx.DecodingError):
            return "the answer is compressed and cannot be opened"
        return "the connection was dropped"


def is_private(host: str) -> bool:
    """Whether a host name or address lies inside a network; a name that cannot be looked up does not."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # Behind a proxy names are looked up there; without one, connecting says what is wrong.
    return not all(_global(str(address)) for address in found)


def _global(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_global


def _status(code: int) -> str:
    known = code in HTTPStatus._value2member_map_
    return f"HTTP {code} {HTTPStatus(code).phrase}" if known else f"HTTP {code}"


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates takes 20 ms: once is enough."""
    return httpx.create_ssl_context()


def _hide_location(answer: httpx.Response) -> None:
    """Keep redirects from httpx, which reads them even when it is not to follow, and mends what it should refuse."""
    if "location" in answer.headers:
        answer.headers[LOCATION] = answer.headers.pop("location")


class _Redacting(logging.Filter):
    """httpx writes whole addresses into its log, and with them the keys."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_REDACTING = _Redacting()


def _keep_keys_out_of_logs() -> None:
    for name in ("httpx", "httpcore.http11", "httpcore.connection"):
        logging.getLogger(name).addFilter(_REDACTING)  # Adding it twice changes nothing.
