"""A hub for datasets that runs here: large files go to a store of their own, and it can be told to misbehave."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import pytest

REPO = "someone/birds"
TOKEN = "hf_a_secret_of_this_test"
LARGE = (".parquet", ".jpg", ".flac", ".png", ".mp4")
RESET, LOST = ("reset", "lost")  # Breaks off in the middle of the body; does it, and breaks off before the answer.


def git_blob(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class DatasetHub:
    """`files` is what commits have shown, `store` large files by SHA-256, `put` how often each was sent whole.

    `faults` are (part of an address, what to do instead): a status, RESET or LOST; each is used once.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.store: dict[str, bytes] = {}
        self.put: Counter[str] = Counter()
        self.commits: list[list[str]] = []
        self.asked: Counter[str] = Counter()
        self.made, self.private = False, False
        self.faults: list[tuple[str, int | str]] = []
        self.on_put: Callable[[int], None] = lambda number: None
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def serving(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
        """Run it in the place of the Hub, with a token that may write, and without waiting."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", self.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def environment(self) -> dict[str, str]:
        """What a process of its own needs to talk to this hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def fault(self, path: str) -> int | str | None:
        with self.lock:
            for n, (part, act) in enumerate(self.faults):
                if part in path:
                    del self.faults[n]
                    return act
        return None

    def tree(self) -> list[dict[str, Any]]:
        found = []
        for path, data in sorted(self.files.items()):
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_blob(data)}
            if path.endswith(LARGE):
                sha = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
            found.append(entry)
        return found

    def commit(self, lines: list[dict[str, Any]]) -> None:
        changed = dict(self.files)
        told = []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changed[value["path"]] = self.store[value["oid"]]
            elif line["key"] == "deletedFile":
                del changed[value["path"]]
            if line["key"] != "header":
                told.append(value["path"])
        self.files = changed
        self.commits.append(told)


class _Handler(BaseHTTPRequestHandler):
    hub: DatasetHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked[path] += 1
        act = self.hub.fault(path)
        if isinstance(act, int):
            self.answer({"error": "no"}, act)
        elif act is not None:
            self.hang_up()
        elif not self.hub.made:
            self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            self.answer(self.hub.tree())
        else:
            told = {"id": REPO, "_id": "1", "private": self.hub.private, "sha": "0" * 40, "siblings": []}
            self.answer({**told, "tags": []})

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.hub.asked[path] += 1
        act = self.hub.fault(path)
        if act == RESET:
            return self.hang_up()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if isinstance(act, int):
            return self.answer({"error": f"no entry with {TOKEN}"}, act, {"Retry-After": "1"})
        value = self.posted(path, body)
        return self.hang_up() if act == LOST else self.answer(value)

    def posted(self, path: str, body: bytes) -> Any:
        hub = self.hub
        if path.endswith("/repos/create"):
            asked = json.loads(body)
            if not hub.made:
                hub.private = bool(asked.get("private")) or asked.get("visibility") == "private"
            hub.made = True
            return {"url": f"{hub.url}/datasets/{REPO}", "id": REPO, "name": REPO}
        if "/preupload/" in path:
            named = json.loads(body)["files"]
            modes = ["lfs" if f["path"].endswith(LARGE) else "regular" for f in named]
            return {
                "files": [
                    {"path": f["path"], "uploadMode": mode, "shouldIgnore": False}
                    for f, mode in zip(named, modes, strict=True)
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            return {"transfer": "basic", "objects": [self.action(o) for o in json.loads(body)["objects"]]}
        if "/commit/" in path:
            hub.commit([json.loads(line) for line in body.splitlines()])
            return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{hub.url}/datasets/{REPO}/commit/{'0' * 40}"}
        return {"errors": [], "warnings": []}

    def action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        told = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] in self.hub.store:
            return told
        return {**told, "actions": {"upload": {"href": f"{self.hub.url}/store/{wanted['oid']}", "header": {}}}}

    def do_PUT(self) -> None:
        hub, oid = self.hub, self.path.rsplit("/", 1)[1]
        act = hub.fault(self.path)
        length = int(self.headers.get("Content-Length", 0))
        if act == RESET:
            self.rfile.read(length // 2)
            return self.hang_up()
        data = self.rfile.read(length)
        if len(data) != length:
            return None
        if isinstance(act, int):
            return self.answer({"error": "later"}, act)
        if hashlib.sha256(data).hexdigest() != oid:
            return self.answer({"error": "other bytes"}, 400)
        with hub.lock:
            hub.put[oid] += 1
            hub.store[oid] = data
            number = sum(hub.put.values())
        hub.on_put(number)
        return self.answer({})

    def hang_up(self) -> None:
        """Break the connection with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)
