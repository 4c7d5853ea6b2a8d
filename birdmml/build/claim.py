"""One run's hold on a folder that several machines see.

Locks of files do not reach other machines on every network file system. A claim is a file that only one run can
create; its owner touches it every few seconds, and a claim that nobody touches any more is put aside. Who loses its
claim (its machine stood still for minutes, and another run went on) finds out at the next touch and stops.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from birdmml.errors import BuildError

BEAT_S = 10.0
# Longer than a network file system hides a change (a minute, unless it is told otherwise).
STALE_S = 90.0


class Busy(BuildError):
    """Another run holds the claim."""


@dataclass(frozen=True)
class _Holder:
    """A claim as found: what stands in it, and when it was last touched by the file system's clock."""

    text: str
    touched_ns: int

    def told(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def __str__(self) -> str:
        told = self.told()
        return f"process {told.get('pid', '?')} on {told.get('node', 'an unknown machine')}"


class Claim:
    """The claim on what `path` stands for, `what` in words; raises Busy where another run holds it."""

    def __init__(self, path: Path, what: str, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> None:
        self.path, self.what, self.beat_s, self.stale_s = path, what, beat_s, stale_s
        self._fd = -1
        self._end = threading.Event()
        self._lost = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        while not self._create():
            holder = _read(self.path)
            if holder is None:
                continue
            if self._alive(holder):
                raise Busy(
                    f"{self.what} is being worked on by {holder}: wait for it, or end it "
                    f"(if there is no such process, try again after {self.stale_s:g} s)"
                )
            self._put_aside(holder)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        if self._mine():
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def check(self) -> None:
        """Raises BuildError if another run has taken over."""
        if self._lost:
            raise BuildError(
                f"{self.what} was taken over by another run, as this one stood still for longer than "
                f"{self.stale_s:g} s: leave it to that one"
            )

    def held(self) -> str:
        """Who holds it now, "" if nobody does."""
        holder = _read(self.path)
        return str(holder) if holder is not None and self._alive(holder) else ""

    def _create(self) -> bool:
        try:
            # Exclusive creation is atomic on network file systems, too (NFS 3 and later).
            self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        os.write(self._fd, json.dumps(_self()).encode())
        os.fsync(self._fd)
        return True

    def _alive(self, holder: _Holder) -> bool:
        """Whether the holder still runs: asked of the system on its own machine, else by watching for a touch."""
        told = holder.told()
        if told.get("machine") == _machine():
            return _runs(told)
        end = time.monotonic() + self.stale_s
        while time.monotonic() < end:
            time.sleep(min(1.0, self.stale_s / 20))
            now = _read(self.path)
            if now is None or now.text != holder.text:
                return now is not None and self._alive(now)
            if now.touched_ns != holder.touched_ns:
                return True
        return False

    def _put_aside(self, holder: _Holder) -> None:
        """Take a dead run's claim away; of two runs that try, one renames it."""
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
            if (found := _read(aside)) is not None and found.text != holder.text and not self.path.exists():
                aside.rename(self.path)  # Another run's new claim was caught: it goes back.
            aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._end.wait(self.beat_s):
            with contextlib.suppress(OSError):  # A server that is away for a while is no other run.
                os.utime(self._fd)
            self._lost = self._lost or not self._mine()

    def _mine(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False
        except OSError:
            return True


def _read(path: Path) -> _Holder | None:
    """The claim at a path, None where there is none; opened, so that a network file system asks its server.

    Raises BuildError for one that cannot be read: whose it is cannot be told, so it may not be taken.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as f:
            return _Holder(f.read(4096), os.fstat(f.fileno()).st_mtime_ns)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise BuildError(
            f"the claim {path} cannot be read ({e.strerror}): another user's run may hold it; wait for that one, "
            "or delete the claim if there is none"
        ) from e


def _self() -> dict[str, Any]:
    return {
        "machine": _machine(),
        "node": platform.node(),
        "pid": os.getpid(),
        "since": psutil.Process().create_time(),
        "token": secrets.token_hex(8),
    }


def _runs(told: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(told["pid"]))
        same = bool(process.create_time() == told["since"])
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _machine() -> str:
    """What tells this machine's process numbers from any other's: its name, its start, and the container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return ":".join(parts)
