"""The folder where a build works: who holds it, what lies in it, and how the new dataset takes the old one's place.

data/            the dataset, untouched until the new one is complete
data.partial/    work in progress: staging, the new dataset, a lock; kept when a build stops early
data.partial/parts/    the parts of a build that is divided, see `divide`
data.old/        the old dataset, for the instant between two renames
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from filelock import FileLock, Timeout

from birdmml.core.files import replace_folder, restore_folder
from birdmml.dataset.format import is_dataset
from birdmml.errors import BuildError, UsageError

MAX_PARTS = 99_999
FOLDER = "parts"
# The chunks of one part are fewer: their files have six digits.
CHUNKS = 1_000_000
_MARK = ".birdmml-build"
BEAT_S = 10.0
# Longer than a network file system hides a change (a minute, unless it is told otherwise).
STALE_S = 90.0


@dataclass(frozen=True)
class BuildPart:
    """Part `index` of `count`; `at_once` of them run at a time, and share what a service allows (0: all of them).

    Raises UsageError unless 0 <= index < count and 0 <= at_once <= count.
    """

    index: int = 0
    count: int = 1
    at_once: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(f"part {self.index} of {self.count}: give an index from 0 to {max(self.count - 1, 0)}")
        if not 0 <= self.at_once <= self.count:
            raise UsageError(f"{self.at_once} parts at a time of {self.count}: give 0 (all) to {self.count}")
        if self.count > MAX_PARTS:
            raise UsageError(f"{self.count} parts are more than {MAX_PARTS}: give fewer, larger ones")

    @property
    def sharing(self) -> int:
        """How many parts share what a service allows."""
        return self.at_once or self.count

    def takes(self, key: str) -> bool:
        """Whether this part does the work named `key`; every key belongs to exactly one part."""
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % self.count == self.index

    @property
    def name(self) -> str:
        """What the part's folder is called."""
        return f"{self.index:05d}-of-{self.count:05d}"


def numbered(chunk: int, part: BuildPart) -> int:
    """The number that a part's chunk has among the chunks of all parts; `located` takes it apart again."""
    return ((part.count * (MAX_PARTS + 1) + part.index) * CHUNKS) + chunk


def located(chunk: int) -> tuple[BuildPart | None, int]:
    """Which part a chunk belongs to (None: the build is not divided), and its number there."""
    where, number = divmod(chunk, CHUNKS)
    if not where:
        return None, number
    count, index = divmod(where, MAX_PARTS + 1)
    return BuildPart(index, count), number


class WorkFolder:
    """Where a build of `out`, or one part of it, works, and what is in that folder."""

    def __init__(self, out: Path, work: Path) -> None:
        self.out, self.work = out, work
        self.staging, self.spool = work / "staging", work / "spool"
        self.source = work / "source"  # Where a source that downloads or unpacks keeps its own state.
        self.catalog = work / "catalog.sqlite"
        self.kept = [self.staging, self.spool, self.source]  # What an interrupted run leaves to the next.

    def worth_keeping(self) -> bool:
        """Whether a next run could go on from what is here."""
        return any(any(folder.rglob("*")) for folder in self.kept)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """What the disk would not do becomes a BuildError in one line, with the next step."""
        try:
            yield
        except OSError as e:
            raise BuildError(self.disk_words(e)) from e
        except sqlite3.OperationalError as e:
            # What SQLite calls an error of the disk is mostly a full one.
            raise BuildError(self.disk_words(OSError(errno.ENOSPC, str(e)))) from e

    def disk_words(self, error: OSError) -> str:
        """One line about what the disk would not do, with the next step."""
        where = error.filename or self.work
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return (
                f"the disk is full at {where}: {self.out} is as it was; free some space and run the same command "
                "again (finished work is kept), or choose another --out"
            )
        return f"{where}: {error.strerror or error}; {self.out} is as it was; mend it and run the same command again"


class BuildPlace(WorkFolder):
    """Owns `out` for the time of one build; raises BuildError if it may not or cannot.

    `owned` says of a folder that is in the way whether it holds what may be replaced.
    """

    def __init__(self, out: Path, owned: Callable[[Path], bool] = is_dataset) -> None:
        out = out.expanduser().resolve()
        super().__init__(out, out.with_name(out.name + ".partial"))
        self._owned = owned
        self.old, self.dataset, self.parts = self.work / "old", self.work / "dataset", self.work / FOLDER
        self._spoilt = self.source / "spoilt"  # Left by a source that found its input wrong in the end.
        # The system lets go of it however the process ends, so a build that was killed leaves no claim behind.
        self._lock = FileLock(self.work / ".lock", timeout=0)

    def __enter__(self) -> Self:
        self.make_work()
        try:
            self._lock.acquire()
        except Timeout as e:
            raise BuildError(f"another build is writing {self.out}: wait for it, or choose another --out") from e
        restore_folder(self.out, self.old)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._lock.release()
        if kind is not None and not self.worth_keeping():
            shutil.rmtree(self.work, ignore_errors=True)

    def prepare(self, key: str) -> bool:
        """Make the work folder ready for a build with this key; True if earlier work of the same can be used."""
        plan = self.work / "plan"
        resumed = plan.is_file() and plan.read_text(encoding="utf-8") == key and self.staging.is_dir()
        resumed = resumed and not self._spoilt.exists()
        for folder in (self.dataset,) if resumed else (self.dataset, *self.kept):
            shutil.rmtree(folder, ignore_errors=True)
        self.staging.mkdir(exist_ok=True)
        self.dataset.mkdir()
        plan.write_text(key, encoding="utf-8")
        return resumed

    def has_work(self) -> bool:
        """Whether an earlier build has left finished work to go on from."""
        return self.worth_keeping() and not self._spoilt.exists()

    def worth_keeping(self) -> bool:
        """Whether a next build could go on from what is here, parts included."""
        return super().worth_keeping() or any(self.parts.rglob("*"))

    def commit(self, keep_work: bool = False) -> None:
        """Put the finished dataset in place of the old one; clear the work away, unless more may come to it."""
        replace_folder(self.dataset, self.out, self.old)
        if keep_work:
            self.catalog.unlink(missing_ok=True)
        else:
            shutil.rmtree(self.work, ignore_errors=True)

    def forget(self) -> None:
        """Clear the work folder away if nothing is in it, and no part of a divided build was begun."""
        with contextlib.suppress(OSError):
            self.parts.rmdir()
        if self.work.is_dir() and {p.name for p in self.work.iterdir()} <= {_MARK}:
            shutil.rmtree(self.work, ignore_errors=True)

    def make_work(self) -> None:
        """Make the work folder; raises BuildError if it is somebody else's, or `out` holds what may not be replaced."""
        if not self.out.name:
            raise BuildError(f"--out {self.out} is the root of a file system: name a folder of its own")
        if self.out.exists() and not self.out.is_dir():
            raise BuildError(f"--out {self.out} is a file: name a folder, or move the file away")
        try:
            occupied = self.out.is_dir() and any(self.out.iterdir())
        except OSError as e:
            raise BuildError(f"--out {self.out} cannot be read ({e.strerror}): choose another folder") from e
        if occupied and not self._owned(self.out):
            raise BuildError(
                f"--out {self.out} exists and is not a birdmml dataset: nothing was changed; name a new folder, "
                "or empty this one yourself"
            )
        try:
            if self.work.is_dir() and any(self.work.iterdir()) and not (self.work / _MARK).exists():
                raise BuildError(f"{self.work} is in the way and not birdmml's: move it, or choose another --out")
            self.work.mkdir(parents=True, exist_ok=True)
            # A folder that takes nothing is better found now than after the decoding.
            (self.work / _MARK).touch()
            if self.out.is_dir() and not os.access(self.out, os.W_OK):
                raise PermissionError(13, "no write permission", str(self.out))
        except OSError as e:
            raise BuildError(f"cannot write to {self.work} ({e.strerror}): choose another --out") from e


class Busy(BuildError):
    """Another run holds the claim."""


@dataclass(frozen=True)
class _Holder:
    """A claim as it was read: its text, what that says of the run, and when the file was last touched."""

    text: str
    touched_ns: int

    @property
    def run(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def __str__(self) -> str:
        return f"process {self.run.get('pid', '?')} on {self.run.get('node', 'an unknown machine')}"


class BuildLock:
    """The claim on what `path` stands for, `what` in words; raises Busy where another run holds it.

    Locks of files do not reach other machines on every network file system. A claim is a file that only one run can
    create; its owner touches it every few seconds, and a claim that nobody touches any more is put aside. Who loses
    its claim (its machine stood still for minutes, and another run went on) finds out at the next touch and stops.
    """

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
        run = {
            "machine": _machine(),
            "node": platform.node(),
            "pid": os.getpid(),
            # Numbers of processes come back; with the time of its start a process is one of a kind.
            "since": psutil.Process().create_time(),
            "token": secrets.token_hex(8),
        }
        os.write(self._fd, json.dumps(run).encode())
        os.fsync(self._fd)
        return True

    def _alive(self, holder: _Holder) -> bool:
        """Whether the holder still runs: asked of the system on its own machine, else by watching for a touch."""
        if holder.run.get("machine") == _machine():
            return _runs(holder.run)
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
            if (caught := _read(aside)) is not None and caught.text != holder.text and not self.path.exists():
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
            return True  # The server is away: nothing says that the claim is lost.


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


def _runs(run: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(run["pid"]))
        same = bool(process.create_time() == run["since"])
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
