"""A submission read without believing it: its files, their form, and that they are the ones it lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmml import files, results
from birdmml.errors import ResultError
from birdmml.leaderboard.submission import form, strict, tree
from birdmml.leaderboard.submission.model import HEAD, RESULTS, Entry, Problem, Submission, raise_first
from birdmml.schema import Result

AGAIN = "submit again with `birdmml submit`"


@dataclass
class Look:
    """What was found: `about` is None where submission.json cannot be used, and `problems` say why."""

    folder: Path
    found: Mapping[str, int]
    about: Mapping[str, Any] | None = None
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(folder: Path) -> Submission:
    """The submission in a folder, if its files are those that it lists and have the form that they must have.

    Its figures are not computed again: that is `check`. Raises ResultError with the first thing that is wrong.
    """
    seen = look(folder)
    raise_first(seen.problems)
    if seen.about is None:  # Never without a problem.
        raise ResultError(f"{folder / HEAD} cannot be used: {AGAIN}")
    return Submission(folder, seen.about, tuple(seen.entries))


def look(folder: Path) -> Look:
    """Read what can be read, and note everything that is wrong; raises ResultError where there is no submission."""
    if not folder.is_dir() or not (folder / HEAD).is_file():
        raise ResultError(f"{folder} holds no {HEAD}: give a folder that `birdmml submit` wrote")
    try:
        seen = Look(folder, *_listing(folder))
        seen.about = _head(seen)
        listed = _listed(seen.about) if seen.about is not None else None
        if listed is not None:
            seen.problems += tree.differences(folder, seen.found, listed)
    except OSError as e:
        raise ResultError(f"{folder} cannot be read ({e.strerror or e}): see that you may read it") from e
    for name in sorted(seen.found, key=lambda n: n.split("/")):
        if name.endswith(f"/{results.FILE}") and name.count("/") == 2:
            _entry(seen, name)
    if not seen.entries and not seen.problems:
        seen.problems.append(Problem(HEAD, "no result beside it", AGAIN))
    return seen


def _listing(folder: Path) -> tuple[dict[str, int], None, list[Entry], list[Problem]]:
    found, problems = tree.listing(folder)
    return found, None, [], problems


def _head(seen: Look) -> Mapping[str, Any] | None:
    """submission.json, if it has the form that the schema wants."""
    if HEAD not in seen.found:  # A link, or too large: noted already.
        return None
    try:
        about = strict.load(seen.folder / HEAD, HEAD)
    except ResultError as e:
        seen.problems.append(_told(seen.folder / HEAD, HEAD, e))
        return None
    wrong = [f"{place or 'it'} {told}" for place, told in form.problems(about)]
    if not wrong and digest_of(about) != about["digest"]:
        wrong.append("changed after it was written: its digest differs")
    if not wrong and (seen.folder / HEAD).read_bytes() != spelled(about):
        wrong.append("not spelled as `birdmml submit` writes it, though it says the same")
    seen.problems += [Problem(HEAD, found, AGAIN) for found in wrong]
    return None if wrong else about


def digest_of(about: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the canonical JSON of everything in submission.json but the digest itself."""
    return files.digest({name: value for name, value in about.items() if name != "digest"})


def spelled(about: Mapping[str, Any]) -> bytes:
    """submission.json: one spelling for equal values."""
    return (json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _listed(about: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    return {file["path"]: (file["bytes"], file["sha256"]) for file in about["files"]}


def _entry(seen: Look, name: str) -> None:
    """One result, and the predictions that lie in its folder: those that its figures name, and no other."""
    path = seen.folder / name
    try:
        strict.load(path, name)
        result = results.read_result(path)
    except (ResultError, OverflowError) as e:
        seen.problems.append(_told(path, name, e))
        return
    before = name.removesuffix(results.FILE)
    there = {n.removeprefix(before) for n in seen.found if n.startswith(before)} - {results.FILE}
    named = _named(result)
    for file in sorted(there - named):
        seen.problems.append(Problem(f"{before}{file}", "named by no figure", f"remove it, or {AGAIN}"))
    for file in sorted(named - there):
        seen.problems.append(Problem(name, f"its figures need {file!r}, which is not there", AGAIN))
    seen.entries.append(Entry(path.parent, result))


def _named(result: Result) -> set[str]:
    return {figure.predictions for figure in result.figures}


def _told(path: Path, name: str, error: Exception) -> Problem:
    """An error as a problem of the file, without the verifier's own folders."""
    text = str(error).replace(str(path), name).removeprefix(name).lstrip(": ")
    found, _, step = text.rpartition(": ")
    return Problem(name, found or text, step if found else AGAIN)


def name_of(entry: Entry) -> str:
    """ "results/confu-tiny-0a1b2c3d": how messages and submission.json name a result's folder."""
    return f"{RESULTS}/{entry.folder.name}"
