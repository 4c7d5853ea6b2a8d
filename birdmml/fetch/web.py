"""One HTTP answer: redirects followed by our rules, each host at its pace, every failure a plain word.

Also what may be said of it: addresses and answers without keys, pages as one plain line; and who asks.
"""

from __future__ import annotations

import html
import ipaddress
import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache, lru_cache
from http import HTTPStatus
from urllib.parse import quote, quote_plus, unquote
from urllib.request import getproxies

import httpx

from birdmml import __version__
from birdmml.errors import UsageError
from birdmml.fetch.pace import Budget, Clock, Gate, Pace, Politeness, requested_wait_s

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
MOST_HOSTS = 10_000  # Whose addresses are remembered.
LOCATION = "x-hidden-location"
GONE = (404, 410)
AGAIN = (408, 425, 429)
ERROR_BYTES = 4096
LONGEST_WORDS = 200
IDENTITY = {"Accept-Encoding": "identity"}  # The bytes of the file, not a recompression of them.

_HIDDEN = r"[\w.%-]*(?:key|token|secret|sig|pass|pwd|auth|cred|session)[\w.%-]*"
_QUERY = re.compile(rf"(?i)(?<![\w.%-])({_HIDDEN})=([^&\s'\"<>#;]*)")
_USER_NAME = re.compile(r"(?i)(\bhttps?://)[^/\s'\"?#]*@")
_SCRIPT = re.compile(r"(?is)<(script|style)\b.*?(</\1>|$)")
_TITLE = re.compile(r"(?is)<title[^>]*>(.*?)</title>")
_TAG = re.compile(r"(?s)<[^>]*>")
_HTML = re.compile(rb"(?is)\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html[\s>])")
_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_HOME_PAGE = re.compile(r"https?://[A-Za-z0-9.-]+\.[A-Za-z]{2,}(:\d+)?(/[\x21-\x27\x2a-\x7e]*)?")


class Again(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


class Wrong(Again):
    """An answer came and its content is not what was promised: asked for once more, then given up as `state`.

    `problem` is what is wrong, `taken` whether wrong bytes are among those that are kept.
    """

    def __init__(self, problem: str, code: int | None, state: str = "corrupt", taken: bool = True) -> None:
        super().__init__(problem, code)
        self.problem, self.state, self.taken = problem, state, taken


class Final(Exception):
    """Trying again is of no use (or, if it is `passing`, not now); `state` is the ledger's word for it."""

    def __init__(self, state: str, reason: str, code: int | None = None, passing: bool = False) -> None:
        super().__init__(reason)
        self.state, self.reason, self.code, self.passing = state, reason, code, passing


Place = tuple[str, str, int]


class Web:
    """A client for all threads, as polite as `politeness` says. Raises UsageError for headers or bases that are none.

    Headers are by base address: they go there and nowhere else, and into no text. Where the user named base
    addresses, no other address inside a network is asked, redirected to or not.
    """

    def __init__(self, clock: Clock, politeness: Politeness) -> None:
        self.clock, self.politeness = clock, politeness
        self.budget = politeness.budget or Budget(1 << 62, 1 << 62)
        named, per_minute = politeness.named, politeness.per_minute
        try:
            self._own = {_place(base): dict(own) for base, own in politeness.headers.items()}
            self._paces = {_name(_place(base)): pace for base, pace in politeness.paces.items()}
            self._named = None if named is None else {_place(base) for base in named}
        except Final as e:
            raise UsageError(
                f"what belongs to a service is given by its base address, such as https://a.org: {e.reason}"
            ) from e
        self._hidden = [value for own in self._own.values() for value in own.values()]
        self._pace = Pace(per_minute / 60 if per_minute else None, politeness.parallel)
        self._inside: dict[str, bool] = {}
        self._proxied = bool(getproxies())  # Then the peer is the proxy, and says nothing of the host.
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()
        agent = {"User-Agent": politeness.agent}
        for name, value in (pair for own in (agent, *self._own.values()) for pair in own.items()):
            if not (name.isascii() and value.isascii() and (name + value).isprintable()):
                raise UsageError(f"the header {name!r} must be plain ASCII on one line: check how its value is set")
        self._client = httpx.Client(
            headers={**agent, **IDENTITY},
            timeout=httpx.Timeout(politeness.timeout_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            verify=_tls(),
            event_hooks={"response": [_hide_location]},
        )
        for logger in ("httpx", "httpcore.http11", "httpcore.connection"):
            logging.getLogger(logger).addFilter(_REDACTING)  # Adding it twice changes nothing.

    def hide(self, *secrets: str) -> None:
        """Keep these, as they are or as part of an address, out of every text that is told from now on."""
        spelled = [form for s in secrets for form in (s, quote(s, safe=""), quote_plus(s))]
        self._hidden += [s for s in dict.fromkeys(spelled) if s not in self._hidden]

    def host(self, url: str) -> str:
        """The name under which the gate, the lane and the budget of an address are kept: host, or base address."""
        try:
            place = _place(url)
        except Final:
            return ""  # It will fail in its turn, with the address named.
        return _name(place) if _name(place) in self._paces else place[1]

    def parallel(self, host: str) -> int:
        """How many answers of a host (as `host` names it) may be under way at a time."""
        return self._paces.get(host, self._pace).parallel

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def open(self, url: str, extra: Mapping[str, str] = {}) -> Iterator[httpx.Response]:
        """The answer to GET after at most five redirects, its body unread; errors while it is read are told, too.

        Raises Again, Final or Stopped.
        """
        if self._named is not None and self._hostile(_place(url)):
            raise Final("failed", f"{_place(url)[1]} is an address inside a network; see --allow-private")
        for _ in range(MOST_REDIRECTS + 1):
            with self._one(url, {**extra, **self._own.get(_place(url), {})}) as answer:
                self._check_peer(url, answer)
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
        phrase = f" {HTTPStatus(code).phrase}" if code in HTTPStatus._value2member_map_ else ""
        parts = (f"HTTP {code}{phrase}", self.first_words(answer.iter_raw()))
        reason = self.scrub(": ".join(filter(None, parts)), str(answer.url))
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

    def first_words(self, chunks: Iterator[bytes]) -> str:
        """The first words of an answer's body, as far as they come."""
        body, started = b"", self.clock.monotonic()
        try:
            for chunk in chunks:
                body += chunk
                if len(body) >= ERROR_BYTES or self.clock.monotonic() - started > self.politeness.timeout_s:
                    break
        except httpx.TransportError:
            pass  # The status has been told already; the words are a courtesy.
        return words(body[:ERROR_BYTES])

    @contextmanager
    def _one(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One request at its host's pace."""
        with self._lock:
            name = self.host(url)
            gate = self._gates.setdefault(name, Gate(self.clock, self._paces.get(name, self._pace)))
        with gate.slot():
            try:
                request = self._client.build_request("GET", url, headers=dict(headers))
                with closing(self._client.send(request, stream=True, follow_redirects=False)) as answer:
                    wait_s = requested_wait_s(answer.status_code, answer.headers, self.clock.now())
                    if wait_s is not None:
                        gate.hold(min(wait_s, self.politeness.longest_wait_s))
                    yield answer
            except (httpx.TransportError, httpx.DecodingError) as e:
                raise Again(self._broken(e, url)) from e

    def _check_peer(self, url: str, answer: httpx.Response) -> None:
        """Refuse the answer of a host that was looked up as a public one and reached as another."""
        place, stream = _place(url), answer.extensions.get("network_stream")
        trusted = self._named is None or self.politeness.allow_private or place in self._named
        if trusted or self._proxied or stream is None:
            return
        peer = stream.get_extra_info("server_addr")
        if peer and not _global(str(peer[0])):
            raise Final("failed", f"{place[1]} led to {peer[0]}, an address inside a network")

    def _hostile(self, place: Place) -> bool:
        """Whether an address lies inside a network and the user did not name it."""
        if self.politeness.allow_private or place in (self._named or ()):
            return False
        with self._lock:
            inside = self._inside.get(place[1])
        if inside is None:
            inside = is_private(place[1])
            with self._lock:
                if len(self._inside) < MOST_HOSTS:
                    self._inside[place[1]] = inside
        return inside

    def _next(self, url: str, answer: httpx.Response) -> str:
        """Where a redirect leads; raises Final for a place that it must not lead to."""
        try:
            target = str(httpx.URL(url).join(answer.headers[LOCATION]))
        except (httpx.InvalidURL, UnicodeError, ValueError) as e:
            raise Final("failed", "redirected to what is no address", answer.status_code) from e
        try:
            old, new = _place(url), _place(target)
        except Final as e:
            raise Final("failed", f"redirected, but {e.reason}", answer.status_code) from e
        if old[0] == "https" and new[0] == "http":
            raise Final("failed", f"redirected from https to http at {new[1]}", answer.status_code)
        inside = new[1] != old[1] and self._hostile(new) and not is_private(old[1])
        if inside if self._named is None else self._hostile(new):
            raise Final("failed", f"redirected to {new[1]}, an address inside a network", answer.status_code)
        return target

    def _broken(self, e: httpx.RequestError, url: str) -> str:
        """A dropped connection in words. httpx's own are used only where they cannot hold a header."""
        if isinstance(e, httpx.ConnectTimeout):
            return f"no connection to {_place(url)[1]} within {self.politeness.timeout_s:g} s"
        if isinstance(e, httpx.TimeoutException):
            return f"nothing came for {self.politeness.timeout_s:g} s"
        if isinstance(e, (httpx.ConnectError, httpx.ProxyError)):
            return self.scrub(f"no connection to {_place(url)[1]}: {e}", url)
        if isinstance(e, httpx.DecodingError):
            return "the answer is compressed and cannot be opened"
        return "the connection was dropped"


@lru_cache(maxsize=4096)
def _place(url: str) -> Place:
    """Scheme, host and port; raises Final for an address that is not http or https."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as e:
        raise Final("failed", f"{redact(url)[:80]!r} is no address") from e
    if parts.scheme not in ("http", "https") or not parts.host:
        raise Final("failed", f"{redact(url)[:80]!r} is not http or https")
    return parts.scheme, parts.host, parts.port or (443 if parts.scheme == "https" else 80)


def _name(place: Place) -> str:
    return f"{place[1]}:{place[2]}"


def is_private(host: str) -> bool:
    """Whether a host name or address lies inside a network; a name that cannot be looked up does not."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # Behind a proxy names are looked up there; without one, connecting says what is wrong.
    return not all(_global(str(address)) for address in addresses)


def _global(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_global


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


def redact(text: str) -> str:
    """An address, or a text with addresses in it, without user names, passwords and keys in query strings."""
    return _QUERY.sub(r"\1=***", _USER_NAME.sub(r"\1***@", text))


def is_page(head: bytes, content_type: str = "") -> bool:
    """Whether an answer is an HTML page, by its type or its first bytes."""
    kind = content_type.partition(";")[0].strip().casefold()
    begins = _HTML.match(head[:1024].removeprefix(b"\xef\xbb\xbf"))
    return kind in ("text/html", "application/xhtml+xml") or begins is not None


def words(body: bytes) -> str:
    """What a page or an error says, on one line of at most 200 characters: the title first, no markup or controls."""
    text = body.decode("utf-8", "replace")
    if is_page(body) or "</" in text:
        title = _TITLE.search(text)
        rest = _TITLE.sub(" ", _SCRIPT.sub(" ", text))
        text = html.unescape(f"{title[1]}: {_TAG.sub(' ', rest)}" if title else _TAG.sub(" ", rest))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).strip(" :")
    return line if len(line) <= LONGEST_WORDS else line[: LONGEST_WORDS - 1] + "…"


def user_agent(contact: str | None) -> str:
    """`birdmml/1.0 (mailto:me@here.org)` from the user's address or home page; raises UsageError without one."""
    contact = (contact or "").strip().removeprefix("mailto:")
    why = "iNaturalist, Xeno-canto and Wikipedia want to know whom to write to: give your address or home page"
    if not contact:
        raise UsageError(f"no contact was given; {why} with --contact")
    if len(contact) > 200 or not (_MAIL.fullmatch(contact) or _HOME_PAGE.fullmatch(contact)):
        raise UsageError(f"--contact {contact[:80]!r} is neither an e-mail address nor a web address; {why}")
    return f"birdmml/{__version__} ({'mailto:' if '@' in contact and '//' not in contact else ''}{contact})"
