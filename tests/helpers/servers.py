"""A local server in Zenodo's layout that can be told to misbehave, and a clock that does not wait.

    with Server({"a.bin": data, "/photos/1/original.jpg": jpeg}) as server:
        server.act("a.bin", Act(drop_after=100), Act(status=429, headers={"Retry-After": "120"}))
        server.content("a.bin")             the address of its bytes; server.record_url that of the record
        server.seen("a.bin").requests       how often it was asked for; also .served (body bytes), .ranges

Names that begin with "/" lie at that path; all others are files of the record, which `dialect` words.
The n-th request for a name gets its n-th act; behind the last one the server behaves (or repeats `then`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

from birdmml.fetch.pace import Clock


@dataclass(frozen=True)
class Act:
    """One way to answer; what is left out is done as it should be.

    A `status` other than 200 comes with `body` (or nothing) and `headers`; these go in place of ours.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # In place of the file's bytes.
    drop_after: int | None = None  # Close the connection after so many bytes of the body.
    reset: bool = False  # ... with a reset instead of an end.
    ignore_range: bool = False
    extra: bytes = b""  # Behind the file; Content-Length counts it, too.
    no_length: bool = False  # No Content-Length: the body ends where the connection does.
    hold: threading.Event | None = None  # Behind `hold_after` bytes, wait for this (30 s at most).
    hold_after: int = 0
    drip: int | None = None  # Send so many bytes at a time, 5 ms apart.


def redirect(to: str, status: int = 302) -> Act:
    """An answer that sends the client elsewhere."""
    return Act(status, {"Location": to})


@dataclass
class Seen:
    """What was asked for under one name."""

    requests: int = 0
    served: int = 0  # Bytes of bodies.
    headers: list[dict[str, str]] = field(default_factory=list)  # Of each request, names in lower case.

    @property
    def ranges(self) -> list[str]:
        """The Range header of each request, "" for none."""
        return [h.get("range", "") for h in self.headers]


class Server:
    """Serves a dict of bytes, or the files of a folder, on a port of 127.0.0.1; a context manager.

    `dialect` is how the record is worded: "new" (Zenodo today), "old" (before 2023) or "rdm" (InvenioRDM).
    """

    def __init__(
        self, files: Mapping[str, bytes] | Path, record_id: str = "18920487", dialect: str = "new", etags: bool = True
    ) -> None:
        self.files = dict(files) if isinstance(files, Mapping) else _folder(files)
        self.record_id, self.dialect, self.etags = record_id, dialect, etags
        self.peak = 0  # The most answers that were under way at a time.
        self._busy = 0
        self._acts: dict[str, tuple[tuple[Act, ...], Act]] = {}
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it listens: the `base` of record_url and content_url."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def content(self, name: str) -> str:
        """The address of a file's bytes."""
        folder = f"/api/records/{self.record_id}/files/{quote(name, safe='')}/content"
        return self.url + (quote(name) if name.startswith("/") else folder)

    def act(self, name: str, *acts: Act, then: Act = Act()) -> None:
        """From now on answer requests for `name` with these, one each, and with `then` behind them."""
        done = self.seen(name).requests
        self._acts[name] = ((Act(),) * done + acts, then)

    def seen(self, name: str) -> Seen:
        """What was asked for a name (`"record"` for the record's JSON)."""
        with self._lock:
            return self._seen.setdefault(name, Seen())

    def record(self) -> dict[str, Any]:
        """The record as JSON, in the dialect."""
        entries = [self._entry(k, v) for k, v in sorted(self.files.items()) if not k.startswith("/")]
        files: Any = entries
        if self.dialect == "rdm":
            files = {"enabled": True, "entries": {e["key"]: e for e in entries}}
        number: Any = self.record_id if self.dialect == "rdm" else int(self.record_id)
        return {"id": number, "metadata": {"title": "Bird-MML"}, "files": files}

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        md5, link = hashlib.md5(data).hexdigest(), self.content(name)
        if self.dialect == "old":
            return {"filename": name, "filesize": len(data), "checksum": md5, "links": {"download": link}}
        links = {"self": link}
        if self.dialect == "rdm":
            links = {"self": link.removesuffix("/content"), "content": link}
        return {"key": name, "size": len(data), "checksum": f"md5:{md5}", "links": links}

    def answer(self, path: str, headers: dict[str, str]) -> tuple[Seen, Act, bytes | None]:
        """Count a request: what is seen of its name, how to answer, and the bytes (None: there are none)."""
        name, data = self._find(path)
        seen = self.seen(name)
        with self._lock:
            acts, then = self._acts.get(name, ((), Act()))
            act = acts[seen.requests] if seen.requests < len(acts) else then
            seen.requests += 1
            seen.headers.append(headers)
        return seen, act, data

    def busy(self, change: int) -> None:
        """An answer began or is about to end."""
        with self._lock:
            self._busy += change
            self.peak = max(self.peak, self._busy)

    def _find(self, path: str) -> tuple[str, bytes | None]:
        path = unquote(path.partition("?")[0])
        api = f"/api/records/{self.record_id}"
        if path == api:
            return "record", json.dumps(self.record()).encode()
        found = re.fullmatch(re.escape(api) + "/files/(.+)/content", path)
        name = found[1] if found else path
        return name, self.files.get(name)


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # Or each small answer waits 40 ms for the client.

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # A client may leave at any time.
            super().handle()

    def do_GET(self) -> None:
        seen, act, data = self.owner.answer(self.path, {k.lower(): v for k, v in self.headers.items()})
        self._left = False
        self.owner.busy(+1)
        try:
            self._answer(seen, act, data)
        except OSError:
            self.close_connection = True  # The client has gone.
        finally:
            self._leave()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, seen: Seen, act: Act, data: bytes | None) -> None:
        status, headers, body = act.status, {}, act.body or b""
        if status == 200 and data is None and act.body is None:
            status = 404
        elif status == 200:
            status, headers, body = self._content(act, act.body if act.body is not None else data or b"")
        if not act.no_length:
            headers["Content-Length"] = str(len(body))
        else:
            headers["Connection"] = "close"
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), **headers, **act.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(seen, act, body)

    def _content(self, act: Act, whole: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for the range that is asked for, or for all."""
        etag = f'"{hashlib.sha1(whole).hexdigest()}"'
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        headers |= {"ETag": etag} if self.owner.etags else {}
        if self.owner.etags and self.headers.get("If-None-Match") == etag:
            return 304, headers, b""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or act.ignore_range or self.headers.get("If-Range", etag) != etag:
            return 200, headers, whole + act.extra
        start = int(asked[1])
        if start >= len(whole):
            return 416, {"Content-Range": f"bytes */{len(whole)}"}, b""
        headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        return 206, headers, whole[start:] + act.extra

    def _send(self, seen: Seen, act: Act, body: bytes) -> None:
        end = len(body) if act.drop_after is None else min(act.drop_after, len(body))
        at, step = 0, act.drip or 1 << 16
        while at < end:
            stop = min(at + step, end)
            if act.hold and at <= act.hold_after < stop:
                stop = act.hold_after
                if at == stop:
                    act.hold.wait(30)
                    stop = min(at + step, end)
            if stop == len(body):
                self._leave()  # Before the last bytes: with them the client may begin its next request.
            self.wfile.write(body[at:stop])
            seen.served += stop - at
            at = stop
            if act.drip:
                time.sleep(0.005)
        if end < len(body) or act.reset or act.drop_after is not None or act.no_length:
            self.close_connection = True
        if act.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self.owner.busy(-1)


class Fast(Clock):
    """A clock that never waits: sleeping moves it on. `slept` holds every wait in seconds; jitter is none."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []
        self._at = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self._at

    def now(self) -> float:
        return 1_800_000_000.0 + self._at

    def jitter(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self._at += seconds


def _folder(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
