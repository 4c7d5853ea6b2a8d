"""Files that are either whole or absent, JSON with one spelling, hashes of both, and where benchmarks/ lies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from birdmml.errors import UsageError

PACKAGE = Path(__file__).parents[1]


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def no_number(text: str) -> NoReturn:
    """For `json.loads(parse_constant=...)`: NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{text} is no number")


def canonical_json(value: Any) -> str:
    """JSON with one spelling for equal values: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value).encode())


def plain_json(value: Any) -> Any:
    """`value` as it is after it was written as JSON and read again."""
    return json.loads(canonical_json(value))


@contextmanager
def atomic_write(path: Path, sync_name: bool = True) -> Iterator[BinaryIO]:
    """Write to a neighbour, sync, rename: readers see the old file or the new one, never a part.

    Without `sync_name` the name itself may be lost in a power cut (the caller writes another file that counts).
    Raises OSError as the file system does; then the neighbour is gone and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except BaseException:  # Ctrl-C, too, must not leave a part; raised again.
        part.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_folder(path.parent)


class HashingWriter:
    """A file to write to that knows its SHA-256 and its size, for writers that never seek."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.size, self.closed = file, hashlib.sha256(), 0, False

    def write(self, data: bytes) -> int:
        """Pass on and count."""
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Pass on."""
        self._file.flush()

    def close(self) -> None:
        """Nothing: the file is the caller's."""
        self.closed = True

    def hexdigest(self) -> str:
        """Hex SHA-256 of what was written."""
        return self._hash.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system can."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows cannot open folders; its renames are journalled.
    try:
        os.fsync(fd)
    except OSError:
        pass  # Some network file systems refuse; the rename itself has happened.
    finally:
        os.close(fd)


def replace_folder(new: Path, folder: Path, old: Path) -> None:
    """Put the finished folder `new` in the place of `folder`, which lies at `old` between two renames and is then gone.

    All three are on one file system. Where the second rename fails, the first is taken back and its error raised;
    after a death between the two, `restore_folder` does so (called here first, too).
    """
    restore_folder(folder, old)
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:  # Ctrl-C between the two renames, too.
        restore_folder(folder, old)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path, old: Path) -> None:
    """Put `old` back where a `replace_folder` that died has left a gap; clear it away where `folder` is there."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as f:
        f.write(text.encode())


def human_bytes(n: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def folder(name: str) -> Path:
    """benchmarks/`name`: beside the package in a checkout, inside it once installed.

    A wheel carries it as birdmml/benchmarks/`name` (pyproject.toml, force-include). Raises UsageError where it is in
    neither place.
    """
    for root in (PACKAGE, PACKAGE.parent):
        if (path := root / "benchmarks" / name).is_dir():
            return path
    raise UsageError(f"benchmarks/{name} did not come with this birdmml: install it again")
