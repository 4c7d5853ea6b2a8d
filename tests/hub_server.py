"""A hub that runs here: it keeps what it is sent, and can be told to refuse."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPO = "someone/birds"
TOKEN = "hf_a_secret_of_this_test"


class Hub:
    """As much of the Hub's interface as an upload needs; remembers what came in."""

    def __init__(self, status: int = 200) -> None:
        self.files: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.status, self.private = status, False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                self.answer(
                    {
                        "id": REPO,
                        "_id": "1",
                        "private": hub.private,
                        "sha": "0" * 40,
                        "siblings": [],
                        "tags": [],
                    }
                )

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                hub.tokens.add(self.headers.get("Authorization", ""))
                self.answer(hub.answer(self.path, sent))

            def answer(self, value: dict[str, Any]) -> None:
                content = json.dumps(value).encode()
                self.send_response(hub.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, sent: bytes) -> dict[str, Any]:
        if self.status != 200:
            return {"error": f"no entry with {TOKEN}"}
        if path.endswith("/repos/create"):
            return {"url": f"{self.url}/{REPO}", "id": REPO, "name": REPO}
        if "/preupload/" in path:
            asked = json.loads(sent)["files"]
            return {
                "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            }
        if "/commit/" in path:
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {
                "success": True,
                "commitOid": "0" * 40,
                "commitUrl": f"{self.url}/{REPO}/commit/{'0' * 40}",
            }
        return {"errors": [], "warnings": []}
