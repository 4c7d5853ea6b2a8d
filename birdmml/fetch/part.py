"""The `.part` file of a download: what has come so far, hashed as it comes, renamed when whole."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from birdmml.errors import BuildError
from birdmml.files import human_bytes, sync_folder

BLOCK = 1 << 20
HEAD = 1024
FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: Path) -> int:
    """Bytes free for us where `folder` lies or will lie. Raises BuildError where that cannot be told."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        return shutil.disk_usage(there).free
    except OSError as e:
        raise BuildError(f"the free space of {folder} cannot be read ({e}): name another folder") from e


class Part:
    """`<to>.part`, open for writing at its end; a context manager that closes it and leaves it there.

    `size` bytes are in it, `head` are the first of them; `md5()` and `sha256()` cover all. Raises BuildError
    when the disk is full (with the bytes needed and free) or the file cannot be read or written.
    """

    def __init__(self, to: Path, promised: int | None) -> None:
        self.to, self.promised = to, promised
        self.path = to.with_name(to.name + ".part")
        with self._told():
            to.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115, PTH123 - closed by __exit__; unbuffered: a kill loses nothing
        self._begin()
        with self._told():
            self._file.seek(0)
            while block := self._file.read(BLOCK):
                self._take(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        while rest:
            with self._told():
                n = self._file.write(rest)
            self._take(rest[:n])
            rest = rest[n:]

    def restart(self) -> None:
        """Forget all bytes."""
        with self._told():
            self._file.truncate(0)
        self._begin()

    def need(self, size: int | None) -> None:
        """Raise BuildError when a file of `size` bytes does not fit on the disk with what is there of it."""
        free = free_bytes(self.to.parent)
        if size is not None and size - self.size > free:
            raise BuildError(self._full(size - self.size, free))

    def finish(self) -> None:
        """Sync, and rename to the file's own name."""
        with self._told():
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.replace(self.to)
        sync_folder(self.to.parent)

    def discard(self) -> None:
        """Delete it."""
        with self._told():
            self._file.close()
            self.path.unlink(missing_ok=True)

    def md5(self) -> str:
        """Hex MD5 of all bytes."""
        return self._md5.hexdigest()

    def sha256(self) -> str:
        """Hex SHA-256 of all bytes."""
        return self._sha256.hexdigest()

    def _begin(self) -> None:
        self.size, self.head = 0, b""
        self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()

    def _take(self, block: bytes | memoryview) -> None:
        if len(self.head) < HEAD:
            self.head += bytes(block[: HEAD - len(self.head)])
        self.size += len(block)
        self._md5.update(block)
        self._sha256.update(block)

    def _full(self, needed: int | None, free: int) -> str:
        more = (
            f"{needed:,} bytes ({human_bytes(needed)}) more are needed" if needed else "more bytes are needed"
        )
        return (
            f"the disk of {self.to.parent} is full: {more} for {self.to.name}, {free:,} ({human_bytes(free)}) are "
            "free: make room, then run it again; it goes on from what is there"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            if e.errno in FULL:
                needed = self.promised - self.size if self.promised is not None else None
                raise BuildError(self._full(needed, free_bytes(self.to.parent))) from e
            raise BuildError(
                f"{self.path} cannot be written ({e}): check the folder, then run it again"
            ) from e
