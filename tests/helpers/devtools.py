"""A browser that can be driven: headless Chromium over its debugging pipe, without any package."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers import browser

# Real time, for clicks and timings are waited for; and of all hosts this one alone, for pages from a server.
OTHERS = ("--virtual-time", "--hide-scrollbars", "--host-resolver-rules")
FLAGS = [
    *(f for f in browser.FLAGS if not f.startswith(OTHERS)),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class Tab:
    """One page: `requests` are all addresses that it asked for, `errors` what went wrong in it."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._number = to, back, b"", 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events on the way are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def open(self, page: Path | str, fragment: str = "") -> float:
        """Go to a page and wait until it is loaded; seconds from the start to then."""
        address = (page.resolve().as_uri() if isinstance(page, Path) else page) + fragment
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        for _ in range(600):
            if self.run("document.readyState") == "complete" and self.run("location.href") != "about:blank":
                break
            time.sleep(0.02)
        else:
            raise AssertionError(f"{address} is not loaded after a while")
        timing = "performance.getEntriesByType('navigation')[0]"
        return float(self.run(f"{timing}.domComplete - {timing}.startTime")) / 1000

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true."""
        for _ in range(300):
            if self.run(script):
                return
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}")

    def shape(self, width: int, height: int, dark: bool = False) -> None:
        """A window of this many px, with or without a wish for dark colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._back, 1 << 20)
            assert read, "the browser has gone"
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:400])
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(told["args"])[:400])


@contextlib.contextmanager
def tab() -> Iterator[Tab]:
    """A tab of a browser of its own, closed at the end."""
    path = browser.find()
    assert path is not None
    theirs, to = os.pipe()
    back, ours = os.pipe()
    # The browser reads from descriptor 3 and writes to 4: whatever lies there now must not be in the way.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs, ours)]

    def placed() -> None:
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    with tempfile.TemporaryDirectory(prefix="birdmml-browser-", ignore_cleanup_errors=True) as profile:
        command = [path, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(3, 4), preexec_fn=placed
        )
        for end in (theirs, ours, *ends):
            os.close(end)
        try:
            yield Tab(to, back)
        finally:
            process.kill()
            process.wait()
            os.close(to)
            os.close(back)
