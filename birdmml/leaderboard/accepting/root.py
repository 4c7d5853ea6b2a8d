"""The root of a folder of submissions: a folder each, changes.json, and the maintainer's own files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from birdmml.errors import ResultError
from birdmml.files import human_bytes, sha256_file
from birdmml.leaderboard.submission.model import HEAD, Problem
from birdmml.leaderboard.submission.strict import MAX_BYTES

CHANGES = "changes.json"
MAX_ENTRIES = 10_000


@dataclass(frozen=True)
class Root:
    """What lies at the root: names of folders, and the SHA-256 of each file but changes.json; nothing behind a link."""

    path: Path
    folders: tuple[str, ...]
    files: Mapping[str, str]
    problems: tuple[Problem, ...]


def scan(path: Path) -> Root:
    """Look at the root of a folder of submissions; raises ResultError where there is none, or it cannot be read."""
    if path.is_symlink() or not path.is_dir():
        raise ResultError(f"{path} is no folder: give one that holds a folder for each submission")
    if (path / HEAD).exists():
        raise ResultError(f"{path} is itself a submission: give the folder that holds it")
    folders, files, problems = [], {}, []
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found[:MAX_ENTRIES]:
            if told := _wrong(entry):
                problems.append(Problem(entry.name, told, "leave it out"))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.name != CHANGES:
                files[entry.name] = sha256_file(Path(entry.path))
    except OSError as e:
        raise ResultError(f"{path} cannot be read ({e.strerror or e}): see that you may read it") from e
    if len(found) > MAX_ENTRIES:
        problems.append(Problem(".", f"{len(found):,} entries, more than {MAX_ENTRIES:,}", "propose fewer"))
    return Root(path, tuple(folders), files, tuple(problems))


def _wrong(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "a link, which is never followed"
    if entry.is_dir(follow_symlinks=False):
        return ""
    if not entry.is_file(follow_symlinks=False):
        return "no file and no folder"
    large = entry.stat(follow_symlinks=False).st_size > MAX_BYTES
    return f"larger than {human_bytes(MAX_BYTES)}" if large else ""
