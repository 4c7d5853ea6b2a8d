"""How much a run may spend on services that fail: retries in all, and failures in a row at one host."""

from __future__ import annotations

import threading
from dataclasses import dataclass

RETRIES = 10_000
IN_A_ROW = 40
REFUSALS = 200
SILENT_S = 1800.0
LONGEST_GAP_S = 660.0  # The longest wait between two attempts; what lies beyond was no waiting for this host.
LAST_IN_A_ROW = 5


@dataclass
class _Row:
    """What a host failed and refused since something last worked there, and the seconds that went by so."""

    last_s: float
    failures: int = 0
    refusals: int = 0
    silent_s: float = 0.0


class Budget:
    """What all downloads of one run share; usable from several threads.

    `retries` are attempts beyond the first, over all files and hosts. Once they are used up a file is given up at
    its first failure. A host is asked nothing more in this run, and what is left of it is given up without a
    request, once nothing worked there `in_a_row` times (5 times after the retries were used up), or for
    `silent_s` seconds, or once it refused `refusals` requests in a row (403: it does not want us).
    """

    def __init__(
        self,
        retries: int = RETRIES,
        in_a_row: int = IN_A_ROW,
        silent_s: float = SILENT_S,
        refusals: int = REFUSALS,
    ) -> None:
        self.retries, self.in_a_row, self.silent_s, self.refusals = retries, in_a_row, silent_s, refusals
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

    def refused(self, host: str, now_s: float) -> None:
        """The host answered, but will not give what was asked for: forbidden, wrong twice, redirected astray."""
        with self._lock:
            row = self._rows.setdefault(host, _Row(now_s))
            row.refusals += 1
            if row.refusals >= self.refusals:
                self._close(host, f"refused {row.refusals} requests in a row")

    def failed(self, host: str, now_s: float, again: bool = True) -> str:
        """Note a failed attempt and, if it is to be made `again`, take a retry; why there is none, or ""."""
        with self._lock:
            row = self._rows.setdefault(host, _Row(now_s))
            row.failures += 1
            row.silent_s += min(now_s - row.last_s, LONGEST_GAP_S)
            row.last_s = now_s
            most = self.in_a_row if self.left else min(self.in_a_row, LAST_IN_A_ROW)
            silent = row.silent_s > self.silent_s and row.failures >= LAST_IN_A_ROW
            if row.failures >= most or silent:
                return self._close(host, f"failed {row.failures} times in a row")
            if again and not self.left:
                return f"the {self.retries:,} retries of this run are used up"
            self.left -= again
            return ""

    def _close(self, host: str, why: str) -> str:
        return self._closed.setdefault(host, f"{host} {why} and is asked nothing more in this run")

    def given_up(self) -> dict[str, str]:
        """The hosts that are asked nothing more, with the reason of each."""
        with self._lock:
            return dict(self._closed)
