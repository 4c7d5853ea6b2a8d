"""A record of Zenodo (or of another InvenioRDM): its files in any of the three dialects, and what each is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from string import ascii_lowercase
from typing import Any
from urllib.parse import quote, urlsplit

from birdmml.errors import SourceError
from birdmml.fetch.download import Fetcher
from birdmml.sources.common import one_line

ZENODO = "https://zenodo.org"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_PART = re.compile(r"(?P<stem>.+part-?)(?P<tail>[a-z]{2})")
_WHOLE = (".zip", ".tar", ".tar.gz", ".tgz")
# What `split` appends to the names of parts, in their order.
_TAILS = [a + b for a in ascii_lowercase for b in ascii_lowercase]
_SHOWN = 12  # Names in one message.


@dataclass(frozen=True)
class RecordFile:
    """One file of a record: its name, its size in bytes, its MD5 (hex) where one is given, and its address."""

    key: str
    size: int
    md5: str | None
    url: str


@dataclass(frozen=True)
class ZenodoRecord:
    """A record and its files, in the order in which it lists them."""

    id: str
    title: str
    files: tuple[RecordFile, ...]


@dataclass(frozen=True)
class ReleaseArchive:
    """One archive: a single file, or the parts of a split one in order; `missing` names the parts in its gaps.

    Parts that are missing behind the last one cannot be told from the names.
    """

    name: str
    files: tuple[RecordFile, ...]
    missing: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        """Whether it is in parts."""
        return bool(_PART.fullmatch(self.files[0].key))


@dataclass(frozen=True)
class Release:
    """What the files of a published Bird-MML are."""

    csv: RecordFile
    audio: tuple[ReleaseArchive, ...]
    photos: tuple[ReleaseArchive, ...]


def record_url(base: str, record_id: str) -> str:
    """The address of a record's JSON; raises SourceError for an id that is none."""
    if not _ID.fullmatch(record_id):
        raise SourceError(f"{record_id!r} is no record id: Zenodo's are numbers, such as 18920487")
    return f"{base.rstrip('/')}/api/records/{record_id}"


def content_url(base: str, record_id: str, key: str) -> str:
    """The address of a file's bytes."""
    return f"{record_url(base, record_id)}/files/{quote(key, safe='')}/content"


def fetch_record(fetcher: Fetcher, base: str, record_id: str) -> ZenodoRecord:
    """Ask for a record and read it; raises SourceError, and what `fetcher` raises."""
    return read_record(fetcher.get(record_url(base, record_id)), base)


def read_record(data: bytes, base: str = ZENODO) -> ZenodoRecord:
    """A record from its JSON: Zenodo's of today, the one before 2023, or InvenioRDM's own.

    A file without a usable address lies where `content_url(base, ...)` says. Raises SourceError, naming the
    field, for what is missing or cannot be.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise SourceError(f"the record is no JSON ({e}): download it again, or check its address") from e
    if not isinstance(body, dict):
        raise _bad("the whole", body, "an object")
    record_id = body.get("id")
    if isinstance(record_id, bool) or not isinstance(record_id, int | str) or not _ID.fullmatch(str(record_id)):
        raise _bad("id", record_id, "a record's number")
    files = tuple(_file(where, value, base, str(record_id)) for where, value in _listed(body))
    keys = [f.key for f in files]
    if twice := sorted({k for k in keys if keys.count(k) > 1}):
        raise SourceError(f"the record lists {twice[0]!r} twice in files: download it again, or check its address")
    metadata = body.get("metadata", {})
    title = body.get("title", metadata.get("title", "") if isinstance(metadata, dict) else "")
    if not isinstance(title, str):
        raise _bad("title", title, "a text")
    return ZenodoRecord(str(record_id), one_line(title), files)


def sort_release(record: ZenodoRecord) -> Release:
    """Which file is the table (`*.csv`), which are audio and which photos (`photo` or `image` in the name).

    Parts of a split archive whose name says neither are audio, as in the published record. Where no archive is
    named after photos, one whole archive that is not named after audio is taken for them. Raises SourceError
    unless there is exactly one table.
    """
    tables = [f for f in record.files if f.key.casefold().endswith(".csv")]
    if len(tables) != 1:
        keys = [f.key for f in tables or record.files]
        have = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
        problem = f"{len(tables)} tables ({have})" if tables else f"no table (*.csv) among {have}"
        raise SourceError(f"record {record.id} has {problem}: give a record of Bird-MML, or use --from DIR")
    audio, photos, unnamed = list[ReleaseArchive](), list[ReleaseArchive](), list[ReleaseArchive]()
    for archive in _archives(record.files):
        name = archive.name.casefold()
        if "audio" in name:
            audio.append(archive)
        elif "photo" in name or "image" in name:
            photos.append(archive)
        else:
            (audio if archive.split else unnamed).append(archive)
    if not photos and len(unnamed) == 1:
        photos = unnamed
    return Release(tables[0], tuple(audio), tuple(photos))


def _archives(files: Iterable[RecordFile]) -> list[ReleaseArchive]:
    """Whole archives and groups of parts, by name."""
    archives: list[ReleaseArchive] = []
    parts: dict[str, dict[int, RecordFile]] = {}
    for file in files:
        if part := _PART.fullmatch(file.key):
            parts.setdefault(part["stem"], {})[_TAILS.index(part["tail"])] = file
        elif file.key.casefold().endswith(_WHOLE):
            archives.append(ReleaseArchive(file.key, (file,)))
    for stem, placed in parts.items():
        gaps = tuple(stem + _TAILS[i] for i in range(max(placed)) if i not in placed)
        name = re.sub(r"[._-]?part-?$", "", stem)
        archives.append(ReleaseArchive(name, tuple(placed[i] for i in sorted(placed)), gaps))
    return sorted(archives, key=lambda a: (a.name, a.split))


def _listed(body: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The file objects, each with the name of its field."""
    files, where = body.get("files"), "files"
    if isinstance(files, dict):
        files, where = files.get("entries"), "files.entries"
    if isinstance(files, dict):
        # The name of an entry is its key; the value may repeat it.
        entries = [(k, {"key": k, **v} if isinstance(v, dict) else v) for k, v in files.items()]
        listed = [(f"{where}[{k!r}]", v) for k, v in entries]
    elif isinstance(files, list):
        listed = [(f"{where}[{i}]", v) for i, v in enumerate(files)]
    else:
        raise _bad(where, files, "a list of files", str(body.get("message", "")))
    if not listed:
        raise SourceError(f"the record lists no {where}: it may be restricted or withdrawn; check it in a browser")
    return listed


def _file(where: str, value: Any, base: str, record_id: str) -> RecordFile:
    if not isinstance(value, dict):
        raise _bad(where, value, "an object")
    name, key = _first(value, "key", "filename")
    if not isinstance(key, str) or not key.strip():
        raise _bad(f"{where}.{name}", key, "a file name")
    # It must stay one inside a folder of any system.
    climbs = key in (".", "..") or "/" in key or "\\" in key or PureWindowsPath(key).drive
    if climbs or not key.isprintable() or len(key.encode()) > 200:
        raise _bad(f"{where}.{name}", key, "a plain file name")
    name, size = _first(value, "size", "filesize")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 53:
        raise _bad(f"{where}.{name}", size, "a number of bytes")
    return RecordFile(
        key, size, _md5(where, value.get("checksum")), _url(where, value, content_url(base, record_id, key))
    )


def _md5(where: str, checksum: Any) -> str | None:
    """None where there is no MD5: absent, or of another kind."""
    if checksum is None or checksum == "":
        return None
    kind, _, digits = checksum.rpartition(":") if isinstance(checksum, str) else ("", "", "")
    if kind.casefold() not in ("", "md5"):
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{32}", digits):
        raise _bad(f"{where}.checksum", checksum, "md5: and 32 hex digits")
    return digits.lower()


def _url(where: str, value: Mapping[str, Any], default: str) -> str:
    """The link to the bytes: `content`, `download`, or a `self` that is no description of the file."""
    links = value.get("links", {})
    if not isinstance(links, dict):
        raise _bad(f"{where}.links", links, "an object")
    for name in ("content", "download", "self"):
        if name not in links:
            continue
        link = links[name]
        if not isinstance(link, str) or not _is_web(link):
            raise _bad(f"{where}.links.{name}", link, "an http or https address")
        if name != "self" or not re.search(r"/records/[^/]+(/draft)?/files/[^/]+$", urlsplit(link).path):
            return link
    return default


def _is_web(link: str) -> bool:
    try:
        parts = urlsplit(link)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and link.isprintable()
    except ValueError:
        return False


def _first(value: Mapping[str, Any], *names: str) -> tuple[str, Any]:
    """The first field that is there, with its name; the newest name where none is."""
    return next(((n, value[n]) for n in names if n in value), (names[0], None))


def _bad(field: str, value: Any, wanted: str, remark: str = "") -> SourceError:
    what = "missing" if value is None else f"{value!r:.80}"
    more = f' (it says "{remark:.80}")' if remark else ""
    return SourceError(
        f"the record's {field} is {what}, not {wanted}{more}: check that it is a Zenodo record, or download it again"
    )
