"""The folder a build works in, and the moment when the new dataset takes the old one's place.

data/            the dataset, untouched until the new one is complete
data.partial/    work in progress: staging, the new dataset, a lock; kept when a build stops early
data.partial/parts/    the parts of a build that is divided, see part_place
data.old/        the old dataset, for the instant between two renames
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from filelock import FileLock, Timeout

from birdmml.build import parts
from birdmml.errors import BuildError
from birdmml.files import replace_folder, restore_folder
from birdmml.manifest import is_dataset

_MARK = ".birdmml-build"


class Place:
    """Owns `out` for the time of one build; raises BuildError if it may not or cannot.

    `owned` says of a folder that is in the way whether it holds what may be replaced.
    """

    def __init__(self, out: Path, owned: Callable[[Path], bool] = is_dataset) -> None:
        self._owned = owned
        self.out = out.expanduser().resolve()
        self.work = self.out.with_name(self.out.name + ".partial")
        self.old = self.work / "old"
        self.dataset = self.work / "dataset"
        self.staging = self.work / "staging"
        self.spool = self.work / "spool"
        self.source = self.work / "source"  # Where a source that downloads or unpacks keeps its own state.
        self.catalog = self.work / "catalog.sqlite"
        self.parts = self.work / parts.FOLDER
        self._spoilt = self.source / "spoilt"  # Left by a source that found its input wrong in the end.
        self._lock = FileLock(self.work / ".lock", timeout=0)

    def __enter__(self) -> Self:
        self.check_out()
        self.make_work()
        self._claim_work()
        restore_folder(self.out, self.old)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._lock.release()
        if kind is not None and not self._worth_keeping():
            shutil.rmtree(self.work, ignore_errors=True)

    def prepare(self, key: str) -> bool:
        """Make the work folder ready for a build with this key; True if earlier work of the same can be used."""
        plan = self.work / "plan"
        resumed = plan.is_file() and plan.read_text(encoding="utf-8") == key and self.staging.is_dir()
        resumed = resumed and not self._spoilt.exists()
        for folder in (self.dataset,) if resumed else (self.dataset, self.staging, self.source, self.spool):
            shutil.rmtree(folder, ignore_errors=True)
        self.staging.mkdir(exist_ok=True)
        self.dataset.mkdir()
        plan.write_text(key, encoding="utf-8")
        return resumed

    def has_work(self) -> bool:
        """Whether an earlier build has left finished work to go on from."""
        return self._worth_keeping() and not self._spoilt.exists()

    def _worth_keeping(self) -> bool:
        kept = (self.staging, self.source, self.spool, self.parts)
        return any(any(folder.rglob("*")) for folder in kept)

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

    def disk_words(self, error: OSError) -> str:
        """One line about what the disk would not do, with the next step."""
        return _disk_words(self, error)

    def check_out(self) -> None:
        """Raises BuildError if `out` holds what may not be replaced."""
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

    def make_work(self) -> None:
        """Make the work folder; raises BuildError if it cannot be made or is somebody else's."""
        try:
            if self.work.is_dir() and any(self.work.iterdir()) and not (self.work / _MARK).exists():
                raise BuildError(
                    f"{self.work} is in the way and not birdmml's: move it, or choose another --out"
                )
            self.work.mkdir(parents=True, exist_ok=True)
            # A folder that takes nothing is better found now than after the decoding.
            (self.work / _MARK).touch()
            if self.out.is_dir() and not os.access(self.out, os.W_OK):
                raise PermissionError(13, "no write permission", str(self.out))
        except OSError as e:
            raise BuildError(f"cannot write to {self.work} ({e.strerror}): choose another --out") from e

    def _claim_work(self) -> None:
        try:
            self._lock.acquire()
        except Timeout as e:
            raise BuildError(
                f"another build is writing {self.out}: wait for it, or choose another --out"
            ) from e


class _Works(Protocol):
    out: Path
    work: Path


@contextlib.contextmanager
def telling(place: _Works) -> Iterator[None]:
    """What the disk would not do becomes a BuildError in one line, with the next step."""
    try:
        yield
    except OSError as e:
        raise BuildError(_disk_words(place, e)) from e
    except sqlite3.OperationalError as e:
        # What SQLite calls an error of the disk is mostly a full one.
        raise BuildError(_disk_words(place, OSError(errno.ENOSPC, str(e)))) from e


def _disk_words(place: _Works, error: OSError) -> str:
    where = error.filename or place.work
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"the disk is full at {where}: {place.out} is as it was; free some space and run the same command "
            "again (finished work is kept), or choose another --out"
        )
    return f"{where}: {error.strerror or error}; {place.out} is as it was; mend it and run the same command again"
