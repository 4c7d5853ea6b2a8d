"""Archives of the release's miniature: tar, tar.gz and zip with the same bytes each time, cut as `split` cuts."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

KINDS = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
LONGEST_MATCH = 258  # Deflate: bytes that one symbol on the edge of two parts can stand for.


class Archive(Protocol):
    """What members are put into; `spans` has where each regular one begins and ends, headers included."""

    spans: dict[str, tuple[int, int]]

    def add(self, name: str, data: bytes) -> None:
        """A regular file."""

    def zeros(self, name: str, size: int) -> None:
        """A regular file of so many zeros."""

    def folder(self, name: str) -> None:
        """A directory."""

    def special(self, name: str, kind: str, target: str = "") -> bool:
        """A link or device (a key of KINDS); False where the format has none."""

    def close(self) -> None:
        """Write the end."""


class Tar:
    """A tar, packed with gzip at `level` unless that is None."""

    def __init__(self, path: Path, level: int | None) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        self._sink = _Gzip(path, level)
        # Of a file, tarfile's writer needs write and tell.
        self._tar = tarfile.TarFile(mode="w", fileobj=self._sink, format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]

    def add(self, name: str, data: bytes) -> None:
        """A regular file."""
        self._put(name, len(data), io.BytesIO(data))

    def zeros(self, name: str, size: int) -> None:
        """A regular file of so many zeros."""
        self._put(name, size, _Zeros())

    def folder(self, name: str) -> None:
        """A directory."""
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        self._tar.addfile(info)

    def special(self, name: str, kind: str, target: str = "") -> bool:
        """A link or device (a key of KINDS)."""
        info = tarfile.TarInfo(name)
        info.type, info.linkname = KINDS[kind], target
        self._tar.addfile(info)
        return True

    def close(self) -> None:
        """Write the end."""
        self._tar.close()
        self._sink.close()

    def _put(self, name: str, size: int, source: io.BytesIO | _Zeros) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        begin = self._tar.offset
        self._tar.addfile(info, source)
        self.spans[name] = (begin, self._tar.offset)


class Zip:
    """A zip; it has no devices and no hard links."""

    def __init__(self, path: Path, level: int) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level)

    def add(self, name: str, data: bytes) -> None:
        """A regular file."""
        self._zip.writestr(self._info(name), data)
        self.spans[name] = (0, 0)

    def zeros(self, name: str, size: int) -> None:
        """A regular file of so many zeros."""
        with self._zip.open(self._info(name), "w") as f:
            for at in range(0, size, 1 << 20):
                f.write(bytes(min(1 << 20, size - at)))
        self.spans[name] = (0, 0)

    def folder(self, name: str) -> None:
        """A directory."""
        self._zip.writestr(self._info(f"{name}/"), b"")

    def special(self, name: str, kind: str, target: str = "") -> bool:
        """A symbolic link; False for anything else."""
        if kind != "symlink":
            return False
        info = self._info(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        self._zip.writestr(info, target)
        return True

    def close(self) -> None:
        """Write the end."""
        self._zip.close()

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o644 << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        return info


def cut(path: Path, stem: str, pieces: int, piece_bytes: int = 0) -> list[Path]:
    """Cut a file into parts `stem` + aa, ab, ... of one size (the last may be smaller), and remove it."""
    size = piece_bytes or max(1, -(-path.stat().st_size // pieces))
    parts: list[Path] = []
    with path.open("rb") as f:
        while data := f.read(size):
            n = len(parts)
            part = path.with_name(f"{stem}{chr(97 + n // 26)}{chr(97 + n % 26)}")
            part.write_bytes(data)
            parts.append(part)
    path.unlink()
    return parts


def holders(parts: list[Path], spans: dict[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """Which parts of a tar.gz hold any of a member's bytes: by how far zlib gets with each part."""
    edges = list(_edges(parts))
    found = {}
    for name, (begin, end) in spans.items():
        found[name] = tuple(
            part.name for part, low, high in edges if begin < high + LONGEST_MATCH and end > low
        )
    return found


def _edges(parts: list[Path]) -> Iterator[tuple[Path, int, int]]:
    """Each part with the range of decompressed bytes that end in it."""
    stream, done = zlib.decompressobj(31), 0
    for part in parts:
        begin = done
        with part.open("rb") as f:
            while data := f.read(1 << 12):
                done += len(stream.decompress(data))
        yield part, begin, done


class _Zeros:
    """A file of zeros, as long as it is read."""

    def read(self, n: int = 0, /) -> bytes:
        return bytes(n)


class _Gzip:
    """Counts what a tar writes, and packs it (level None: does not)."""

    def __init__(self, path: Path, level: int | None) -> None:
        self._file: BinaryIO = path.open("wb")
        # 31: a gzip wrapper, whose header has no time in it.
        self._pack = None if level is None else zlib.compressobj(level, zlib.DEFLATED, 31)
        self._count = 0

    def tell(self) -> int:
        return self._count

    def write(self, data: bytes) -> int:
        self._count += len(data)
        self._file.write(self._pack.compress(data) if self._pack else data)
        return len(data)

    def close(self) -> None:
        if self._pack:
            self._file.write(self._pack.flush())
        self._file.close()
