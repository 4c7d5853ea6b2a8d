"""A hub that runs here: it keeps what it is sent, and can be told to refuse."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub
import pytest

REPO = "someone/birds"
TOKEN = "hf_a_secret_of_this_test"


class Hub:
    """As much of the Hub's interface as an upload needs; remembers what came in."""

    def __init__(self, status: int = 200) -> None:
        self.files: dict[str, bytes] = {}
        self.kinds: dict[str, dict[str, bytes]] = {"models": {}, "datasets": {}, "spaces": {}}
        self.made: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.tokens: set[str] = set()
        self.status, self.private = status, False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                if "/tree/" in self.path:
                    there = hub.kinds[self.path.split("/")[2]]
                    self.answer([{"type": "file", "path": p, "size": 1, "oid": "0" * 40} for p in there])
                    return
                self.answer(
                    {"id": REPO, "_id": "1", "private": hub.private, "sha": "0" * 40, "siblings": [], "tags": []}
                )

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                hub.tokens.add(self.headers.get("Authorization", ""))
                self.answer(hub.answer(self.path, sent))

            def answer(self, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(hub.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def serving(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
        """Run it in the place of the Hub, with a token that may write."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", self.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        yield self
        self.server.shutdown()
        self.server.server_close()
        thread.join()

    def answer(self, path: str, sent: bytes) -> dict[str, Any]:
        if self.status != 200:
            return {"error": f"no entry with {TOKEN}"}
        if path.endswith("/repos/create"):
            self.made.append(json.loads(sent))
            return {"url": f"{self.url}/{REPO}", "id": REPO, "name": REPO}
        if "/preupload/" in path:
            asked = json.loads(sent)["files"]
            return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        if "/commit/" in path:
            there = self.kinds[path.split("/")[2]]
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    there[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del there[line["value"]["path"]]
                    self.removed.append(line["value"]["path"])
            self.files |= there
            return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.url}/{REPO}/commit/{'0' * 40}"}
        return {"errors": [], "warnings": []}
