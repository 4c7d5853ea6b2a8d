"""The files of a submission: which may be there, how many, how large; a link or anything else is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from birdmml.files import human_bytes, sha256_file
from birdmml.leaderboard.submission import form
from birdmml.leaderboard.submission.model import HEAD, RESULTS, Problem
from birdmml.leaderboard.submission.strict import MAX_BYTES

MAX_FILES, MAX_TOTAL = 5000, 4 * 2**30
MAX_PARQUET = 512 * 2**20
_DEPTH = 4
_PATH = re.compile(str(form.part("path")["pattern"]).removesuffix("$"))


def listing(folder: Path) -> tuple[dict[str, int], list[Problem]]:
    """(path from the folder -> bytes, sorted by path) of everything that may be read, and what may not be there."""
    found: dict[str, int] = {}
    problems: list[Problem] = []
    total = many = 0
    for entry, name, depth in _walk(folder):
        wrong, size = _wrong(entry, name, depth)
        total, many = total + (0 if wrong else size), many + 1
        if many > MAX_FILES or total > MAX_TOTAL:
            told = f"the submission has more than {MAX_FILES:,} files or {human_bytes(MAX_TOTAL)}"
            problems.append(Problem(name, told, "submit fewer results"))
            break
        if wrong:
            problems.append(Problem(name, wrong, "remove it, or submit again"))
        elif not entry.is_dir(follow_symlinks=False):
            found[name] = size
    return dict(sorted(found.items())), problems + _alike(found)


def differences(
    folder: Path, found: Mapping[str, int], listed: Mapping[str, tuple[int, str]]
) -> list[Problem]:
    """Where the files are not those that submission.json lists, by name, size and SHA-256."""
    problems = [
        Problem(name, "listed in submission.json, not there", "fetch the submission again")
        for name in sorted(set(listed) - set(found))
    ]
    for name in sorted(set(found) - {HEAD}):
        if name not in listed:
            problems.append(Problem(name, "not listed in submission.json", "remove it, or submit again"))
        elif found[name] != listed[name][0] or sha256_file(folder / name) != listed[name][1]:
            changed = "changed after submission.json was written: its size or SHA-256 differs"
            problems.append(Problem(name, changed, "fetch the submission again"))
    return problems


def _walk(folder: Path) -> Iterator[tuple[os.DirEntry[str], str, int]]:
    """Everything below the folder, depth first; nothing behind a link, nothing deeper than a submission is."""
    todo = [(folder, "", 1)]
    while todo:
        at, before, depth = todo.pop()
        with os.scandir(at) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name = f"{before}{entry.name}"
                yield entry, name, depth
                if entry.is_dir(follow_symlinks=False) and depth < _DEPTH:
                    todo.append((Path(entry.path), f"{name}/", depth + 1))


def _wrong(entry: os.DirEntry[str], name: str, depth: int) -> tuple[str, int]:
    """What is wrong with one entry ("": nothing), and its bytes."""
    if entry.is_symlink():
        return "a link, which a submission never has", 0
    if entry.is_dir(follow_symlinks=False):
        known = name == RESULTS or (depth < _DEPTH and _PATH.fullmatch(f"{name}/x"))
        return "" if known else "a folder that a submission never has", 0
    if not entry.is_file(follow_symlinks=False):
        return "no file and no folder, which a submission never has", 0
    size = entry.stat(follow_symlinks=False).st_size
    if name != HEAD and not (_PATH.fullmatch(name) and name.endswith((".json", ".parquet"))):
        return "a file that a submission never has", size
    cap = MAX_PARQUET if name.endswith(".parquet") else MAX_BYTES
    return (f"larger than {human_bytes(cap)}" if size > cap else ""), size


def _alike(found: Mapping[str, int]) -> list[Problem]:
    """Names that are one file on systems that take no notice of case."""
    by_key: dict[str, str] = {}
    return [
        Problem(name, f"the same as {other} where case does not count", "rename a result folder")
        for name in sorted(found)
        if (other := by_key.setdefault(name.casefold(), name)) != name
    ]
