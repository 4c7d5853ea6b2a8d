"""A user's own photos and recordings: folders by species, or a CSV/JSONL manifest.

    DIR/images/<species>/*          photos, any format that Pillow reads
    DIR/audio/<species>/*           recordings, any format that libsndfile reads
or  DIR/manifest.csv (.jsonl)       species, path, and optionally caption, license, author, url,
                                    observation, recording, start_s, sha256; paths relative to the manifest
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from birdmml.core.licenses import normalise
from birdmml.core.species_list import SHIPPED, SpeciesList
from birdmml.errors import MediaError, SourceError, UsageError
from birdmml.schema import Caption, Card, Credit, Photo, Recording, Reject
from birdmml.sources.common import file_stamp, scientific_name
from birdmml.sources.csv_stream import codec, column_names, not_encoded, read_records

CARD = Card(summary="A user's own photos and recordings", license="as each file's row says", citation="", url="")

MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl", "metadata.csv", "metadata.jsonl")
REQUIRED = ("species", "path")
MAX_BYTES = 1 << 30
# What people call the columns; the first spelling is ours.
_ALIASES = {"licence": "license", "file": "path", "file_name": "path", "filename": "path", "text": "caption"}


def read_table(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as (line number, column -> text); column names in lower case, unknown columns left in.

    Raises SourceError for a file that is not text in `encoding`, is no table, or lacks a required column.
    """
    json_lines = path.suffix.casefold() in (".jsonl", ".ndjson")
    empty = True
    for line, row in _json_lines(path, encoding) if json_lines else _csv(path, encoding):
        empty = False
        if missing := [c for c in REQUIRED if c not in row]:
            raise SourceError(
                f"{path}, line {line}: no column {' and '.join(missing)}; found {', '.join(row) or 'none'}: "
                f"a manifest needs {', '.join(REQUIRED)}"
            )
        yield line, row
    if empty:
        raise SourceError(f"{path} lists nothing: it needs a header with {', '.join(REQUIRED)} and one row a file")


def _text(path: Path, encoding: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path} is larger than {MAX_BYTES:,} bytes: split it into several builds")
        data = path.read_bytes()
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e.strerror}): check the file and its permissions") from e
    name = codec(data[:4], encoding, path)
    try:
        return data.decode(name)
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise not_encoded(path, line, data[e.start], encoding) from e


def _csv(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    names = [_name(n) for n in column_names(path, encoding)]
    if len(set(names)) != len(names):
        raise SourceError(f"{path}: a column stands twice in the header ({', '.join(names)}): rename one")
    for record in read_records(path, encoding):
        if record.problem:
            raise SourceError(f"{path}, line {record.line}: {record.problem}")
        yield record.line, dict(zip(names, record.values.values(), strict=True))


def _json_lines(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(_text(path, encoding).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise SourceError(f"{path}, line {number}: not JSON ({e}): one object a line is needed") from e
        if not isinstance(value, dict):
            raise SourceError(f"{path}, line {number}: not an object: one object a line is needed")
        yield number, {_name(str(k)): "" if v is None else str(v).strip() for k, v in value.items()}


def _name(name: str) -> str:
    key = name.strip().casefold()
    return _ALIASES.get(key, key)


IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
)
LITTER = frozenset({"thumbs.db", "desktop.ini"})

# A Xeno-canto number in a file name tells which files are parts of one recording.
_XENO_CANTO = re.compile(r"(?<![A-Za-z0-9])XC(\d{3,})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """`root` is the folder or the manifest file; clips are `clip_seconds` long; `encoding` is the manifest's.

    `species_list`: the species that there are, if not the 150.
    """

    root: str = ""
    clip_seconds: float = 10.0
    encoding: str = "utf-8"
    species_list: SpeciesList = SHIPPED


def records(settings: Settings) -> Iterator[Photo | Recording | Reject]:
    """Photos and recordings in a stable order; rows and files that cannot be taken come as rejects.

    Raises SourceError if there is nothing to read, and for a manifest that is no table.
    """
    root, species_list = _root(settings), settings.species_list
    for manifest in (Path(settings.root).expanduser(), *(root / name for name in MANIFEST_NAMES)):
        if manifest.is_file():
            yield from _listed(root, read_table(manifest, settings.encoding), species_list)
            return
    if not (root / "images").is_dir() and not (root / "audio").is_dir():
        raise SourceError(
            f"{root} has neither images/<species>/ and audio/<species>/ folders nor a manifest "
            f"({', '.join(MANIFEST_NAMES)}): arrange the files so, or name another folder with --from"
        )
    yield from _walk(root, "images", IMAGE_SUFFIXES, species_list)
    yield from _walk(root, "audio", AUDIO_SUFFIXES, species_list)


def open_media(settings: Settings, locator: str) -> Path:
    """The file of a record; raises MediaError if it has gone."""
    path = _root(settings) / locator
    if not path.is_file():
        raise MediaError("missing_file", "there is no such file")
    return path


def stamp(settings: Settings, locator: str) -> str:
    """Size and time of a file: a changed file is not taken over from an interrupted build."""
    try:
        return file_stamp(_root(settings) / locator)
    except OSError:
        return "absent"


def facts(settings: Settings) -> dict[str, Any]:
    """What the manifest of the dataset says about this source."""
    return {"demo": False}


def public_settings(settings: Settings) -> dict[str, Any]:
    """The settings without the user's path, which is nobody's business and would change the digest."""
    return {"root": _root(settings).name, "clip_seconds": settings.clip_seconds, "encoding": settings.encoding}


# Asked for each file, and each time the disk would be asked three times.
@functools.lru_cache(maxsize=8)
def _root(settings: Settings) -> Path:
    if not settings.root:
        raise UsageError("the folder source needs a folder: add --from DIR")
    root = Path(settings.root).expanduser()
    if not root.exists():
        raise SourceError(f"{root} does not exist: name the folder with your photos and recordings with --from")
    return (root.parent if root.is_file() else root).resolve()


def _walk(
    root: Path, top: str, suffixes: frozenset[str], species_list: SpeciesList
) -> Iterator[Photo | Recording | Reject]:
    """Every file below `top`, folder by folder in name order; the folder just below names the species."""
    if (root / top).is_dir():
        for locator, linked in _files(root, top):
            parts = locator.split("/")
            suffix = PurePosixPath(locator).suffix.casefold()
            if linked and not (root / locator).is_file():
                yield Reject(locator, "linked_folder", "a link to a folder (or to nothing) is not followed: copy it")
            elif len(parts) < 3:
                yield Reject(locator, "no_species", f"put it into a folder named after its species: {top}/<species>/")
            elif suffix not in suffixes:
                yield Reject(locator, "unknown_type", f"{suffix or 'no suffix'} is no type for {top}/")
            else:
                yield _record(root, root / top, locator, parts[1], {}, species_list, linked=linked)


def _files(root: Path, folder: str) -> Iterator[tuple[str, bool]]:
    """(path below `root`, whether it is a link) of every entry that is no folder; memory is that of one folder."""
    # In name order, for the order of records decides the bytes of a dataset; the disk's order is any.
    with os.scandir(root / folder) as scan:
        entries = sorted((e.name, e.is_symlink(), e.is_dir(follow_symlinks=False)) for e in scan)
    for name, linked, is_folder in entries:
        if name.startswith(".") or name.casefold() in LITTER:
            continue
        if is_folder:
            yield from _files(root, f"{folder}/{name}")
        else:
            yield f"{folder}/{name}", linked


def _listed(
    root: Path, rows: Iterator[tuple[int, dict[str, str]]], species_list: SpeciesList
) -> Iterator[Photo | Recording | Reject]:
    """The rows of a manifest, each a record or a reject."""
    seen: set[tuple[str, str]] = set()
    for line, row in rows:
        locator = row["path"].replace("\\", "/")
        where = locator or f"line {line}"
        if not locator:
            yield Reject(where, "no_path", f"line {line} names no file")
        elif _leaves(locator):
            yield Reject(where, "path_outside", f"line {line}: the path is absolute or climbs out of the folder")
        elif (key := (str(PurePosixPath(locator)), row.get("start_s", ""))) in seen:
            yield Reject(where, "listed_twice", f"line {line}: the file was listed before")
        else:
            seen.add(key)
            yield _record(root, root, key[0], row.get("species", ""), row, species_list, line, linked=True)


def _record(
    root: Path,
    top: Path,
    locator: str,
    species: str,
    row: dict[str, str],
    species_list: SpeciesList,
    line: int = 0,
    linked: bool = False,
) -> Photo | Recording | Reject:
    """One file as a record: its kind by its suffix, its species by the list.

    A path that may be `linked` must lie below `top` in truth.
    """
    at = f"line {line}: " if line else ""
    suffix = PurePosixPath(locator).suffix.casefold()
    if linked and not (root / locator).resolve().is_relative_to(top.resolve()):
        return Reject(locator, "path_outside", f"{at}the file is a link that leaves the folder")
    if suffix not in IMAGE_SUFFIXES and suffix not in AUDIO_SUFFIXES:
        return Reject(locator, "unknown_type", f"{at}{suffix or 'no suffix'} is neither an image nor a sound format")
    name, problem = scientific_name(species_list, species)
    if problem:
        return Reject(locator, "unknown_species", f"{at}{problem}")
    credit = Credit(normalise(row.get("license")), row.get("license", ""), row.get("author", ""), row.get("url", ""))
    text = row.get("caption", "").strip()
    caption = Caption(text, "provided", credit) if text else None
    if suffix in IMAGE_SUFFIXES:
        group = row.get("observation") or locator
        return Photo(locator, name, locator, group, credit, caption, sha256=row.get("sha256", ""))
    try:
        start_s = float(row["start_s"]) if row.get("start_s") else None
    except ValueError:
        return Reject(locator, "bad_start_s", f"{at}start_s is {row['start_s']!r}, not a number of seconds")
    identity = locator if start_s is None else f"{locator}@{start_s:g}s"
    match = _XENO_CANTO.search(PurePosixPath(locator).name)
    group = row.get("recording") or (f"XC{match[1]}" if match else locator)
    return Recording(identity, name, locator, group, credit, caption, start_s=start_s, sha256=row.get("sha256", ""))


def _leaves(path: str) -> bool:
    """Whether a path, read as POSIX or as Windows, is absolute or has a `..` in it."""
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    return posix.is_absolute() or bool(windows.drive or windows.root) or ".." in posix.parts
