"""The members of a zip, with the same values as `stream` and the same refusals.

A zip keeps its list of members at its end, with a checksum for each. Raises SourceError for a file without that list.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from birdmml.errors import SourceError
from birdmml.fetch.salvage.account import inside, shown
from birdmml.fetch.salvage.members import Event, Loss, MemberLimits, RecoveredMember, Refusal

BLOCK = 1 << 20  # Bytes unpacked at a time.
RATIO = 1100  # Deflate's best is 1032; what promises more is a lie.
HEADER = 30  # Bytes before the name in a member's own header.
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # The others unpack without a bound on memory.
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def members(path: Path, limits: MemberLimits | None = None) -> Iterator[Event]:
    """Member, Refusal or Loss for every file in the zip, in the order of its list; folders are passed over.

    At most one member is in memory. Every Member has the checksum that the zip states. Raises SourceError when the
    file is no zip, was cut short, or cannot be read.
    """
    limits = limits or MemberLimits()
    with _opened(path) as archive:
        infos = archive.infolist()
        if len(infos) > limits.members:
            raise SourceError(f"{path} lists {len(infos):,} members, more than the limit of {limits.members:,}")
        for seq, event in enumerate(_events(archive, infos, limits), 1):
            yield replace(event, seq=seq)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e}): check the path, or copy the file again") from e
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError) as e:
        raise SourceError(
            f"{path} is no zip, or was cut short: the list of members at its end cannot be read ({e}): get it again"
        ) from e


def _events(archive: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo], limits: MemberLimits) -> Iterator[Event]:
    shared, seen = _overlapping(infos), set[str]()
    for i, info in enumerate(infos):
        if info.is_dir():
            continue
        name, reason = inside(info.orig_filename)
        if not reason:
            reason = _refused(info, limits)
        if not reason and i in shared:
            reason = "it lies over another member, as in a bomb"
        if not reason and name in seen:
            reason = "there is an earlier member of this name"
        if reason:
            yield Refusal(shown(info.orig_filename), reason)
            continue
        event = _read(archive, info, name)
        if isinstance(event, RecoveredMember):
            seen.add(name)
        yield event


def _refused(info: zipfile.ZipInfo, limits: MemberLimits) -> str:
    """Why the member must not be taken ("" when it may), from what the list says."""
    kind = KINDS.get(stat.S_IFMT(info.external_attr >> 16))
    if kind:
        return kind
    if info.flag_bits & 1:
        return "it is encrypted"
    if info.compress_type not in METHODS:
        return f"it is compressed by method {info.compress_type}, which cannot be read here"
    if info.file_size > limits.member_bytes:
        return f"{info.file_size:,} bytes are more than the limit of {limits.member_bytes:,}"
    if info.file_size > BLOCK and info.file_size > RATIO * max(info.compress_size, 1):
        return f"{info.file_size:,} bytes from {info.compress_size:,} are a bomb"
    return ""


def _overlapping(infos: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Members whose bytes belong to another one as well: a small file that unpacks to a huge one."""
    order = sorted(range(len(infos)), key=lambda i: infos[i].header_offset)
    shared, end, owner = set[int](), -1, -1
    for i in order:
        info = infos[i]
        if info.header_offset < end:
            shared |= {i, owner}
        until = info.header_offset + HEADER + info.compress_size
        if until > end:
            end, owner = until, i
    return shared


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Event:
    try:
        with archive.open(info) as file:
            return RecoveredMember(name, _all_bytes(file, info.file_size), "complete")
    except (zipfile.BadZipFile, zlib.error, EOFError) as e:
        return Loss(name, f"its bytes are not those that were packed ({e or 'they end too early'})")
    except NotImplementedError as e:
        return Refusal(name, f"it cannot be read here ({e})")
    except (OSError, ValueError, RuntimeError) as e:  # bz2 and lzma say so in these, and so does a bad offset.
        return Loss(name, f"it cannot be unpacked ({e})")


def _all_bytes(file: IO[bytes], size: int) -> bytes:
    """All bytes of a member, of which there must be `size`; its checksum is compared at its end."""
    data = bytearray()
    while block := file.read(BLOCK):
        data += block
        if len(data) > size:
            raise EOFError(f"more than the {size:,} bytes that it states")
    if len(data) != size:
        raise EOFError(f"{len(data):,} of {size:,} bytes")
    return bytes(data)
