"""How much a run may spend on services that fail: retries in all, and failures in a row at one host."""

from __future__ import annotations

import threading
from dataclasses import dataclass

RETRIES = 10_000
IN_A_ROW = 40
SILENT_S = 1800.0
LAST_IN_A_ROW = 5


@dataclass
class _Row:
    """Failures of a host since something last worked there."""

    failures: int
    since: float


class Budget:
    """What all downloads of one run share; usable from several threads.

    `retries` are attempts beyond the first, over all files and hosts. Once they are used up a file is given up at
    its first failure. A host is asked nothing more in this run, and what is left of it is given up without a
    request, once nothing worked there `in_a_row` times or for `silent_s` seconds of failures, or 5 times after the
    retries were used up.
    """

    def __init__(self, retries: int = RETRIES, in_a_row: int = IN_A_ROW, silent_s: float = SILENT_S) -> None:
        self.retries, self.in_a_row, self.silent_s = retries, in_a_row, silent_s
        self.left = retries
        self._rows: dict[str, _Row] = {}
        self._closed: dict[str, str] = {}
        self._lock = threading.Lock()

    def closed(self, host: str) -> str:
        """Why nothing more is asked of a host; "" while it may be asked."""
        with self._lock:
            return self._closed.get(host, "")

    def worked(self, host: str) -> None:
        """The host answered as it should (a file that is not there is an answer, too)."""
        with self._lock:
            self._rows.pop(host, None)

    def failed(self, host: str, now_s: float, again: bool = True) -> str:
        """Note a failed attempt and, if it is to be made `again`, take a retry; why there is none, or ""."""
        with self._lock:
            row = self._rows.setdefault(host, _Row(0, now_s))
            row.failures += 1
            most = self.in_a_row if self.left else min(self.in_a_row, LAST_IN_A_ROW)
            if row.failures >= most or now_s - row.since > self.silent_s:
                self._closed[host] = (
                    f"{host} failed {row.failures} times in a row and is asked nothing more in this run"
                )
                return self._closed[host]
            if again and not self.left:
                return f"the {self.retries:,} retries of this run are used up"
            self.left -= again
            return ""

    def given_up(self) -> dict[str, str]:
        """The hosts that are asked nothing more, with the reason of each."""
        with self._lock:
            return dict(self._closed)
