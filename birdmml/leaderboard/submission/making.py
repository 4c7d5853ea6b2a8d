"""Results -> a submission's folder, whole or not at all: copied, stated, checked, and only then given its name."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdmml.core.files import atomic_write, sha256_file, sync_folder
from birdmml.errors import ResultError, UsageError
from birdmml.leaderboard.submission import checking, form
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.model import HEAD, RESULTS, SCHEMA_VERSION, About, Submission, raise_first
from birdmml.leaderboard.submission.reading import digest_of, read, spelled
from birdmml.leaderboard.verify import find
from birdmml.results import outcomes
from birdmml.results.outcomes import inside
from birdmml.results.result import FILE, read_result
from birdmml.schema import Result

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+=_-]{0,127}")
# Labels that must be asked for, and the words that ask.
CONSENT_OPTIONS = {"demo": "--allow-demo", "limited": "--allow-limited", "dirty": "--allow-dirty"}
WHY = {
    "demo": "of the demo, which is no benchmark",
    "limited": "limited to some rows (--limit), which compare with nothing else",
    "dirty": "made with code that is in no commit",
}
# What `About` calls a field, where the schema keeps it, and the option that gives it.
_ABOUT_OPTIONS = {
    "name": (("name",), "--name"),
    "contact": (("contact",), "--contact"),
    "license": (("license",), "--license"),
    "training_data": (("training_data", "declaration"), "--training-data"),
    "energy_kwh": (("energy_kwh",), "--energy-kwh"),
    "created": (("created",), "--date"),
}


def make(
    sources: Sequence[Path],
    about: About,
    out: Path,
    allow_demo: bool = False,
    *,
    allow_limited: bool = False,
    allow_dirty: bool = False,
) -> Submission:
    """Copy the results at or below `sources` into `out`, with a submission.json that states them.

    The same results and words give the same bytes. `out` must not be there, or be empty, or hold this very
    submission. Raises UsageError for words or an `out` that will not do, ResultError for results that are refused
    or do not follow from their items; `out` is then as it was.
    """
    # An earlier submission may lie among the results.
    folders = [f for f in find(sources) if not f.resolve().is_relative_to(out.resolve())]
    if not folders:
        raise ResultError(f"{out} is all that was found: give the folders that `birdmml bench` wrote")
    loaded = [read_result(folder) for folder in folders]
    _refuse(folders, loaded, {"demo": allow_demo, "limited": allow_limited, "dirty": allow_dirty})
    about = _checked_about(about, loaded)
    _check_free(out)
    # Beside `out`, so that giving it its name is a rename within one file system.
    part = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    try:
        part.mkdir(parents=True)
        for folder, result in zip(folders, loaded, strict=True):
            target = part / RESULTS / folder.resolve().name
            for name in (FILE, *_files_of(result)):
                source = inside(folder, name)
                with source.open("rb") as original, atomic_write(target / name, sync_name=False) as copy:
                    shutil.copyfileobj(original, copy)
        head = _head(part, folders, loaded, about)
        with atomic_write(part / HEAD) as f:
            f.write(spelled(head))
        raise_first(check(part).problems)
        _placed(part, out, head["digest"])
    except OSError as e:
        raise ResultError(f"{out} cannot be written ({e.strerror or e}): choose another --out") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return read(out)


def tried(sources: Sequence[Path], about: About, out: Path, allow_demo: bool = False, **allowed: bool) -> Submission:
    """What `make` would write, made and checked in a folder that is gone afterwards; `out` is only looked at."""
    _check_free(out)
    with tempfile.TemporaryDirectory(prefix="birdmml-submit-") as folder:
        return make(sources, about, Path(folder) / "submission", allow_demo, **allowed)


def _refuse(folders: Sequence[Path], loaded: Sequence[Result], allowed: Mapping[str, bool]) -> None:
    for label, option in CONSENT_OPTIONS.items():
        those = [f for f, r in zip(folders, loaded, strict=True) if label in checking.labels_of([r])]
        if those and not allowed[label]:
            raise ResultError(
                f"{len(those)} of {len(loaded)} results are {WHY[label]} ({those[0]}):"
                f" leave them out, or pass {option} to submit them so labelled"
            )
    seen: dict[str, Path] = {}
    for folder in folders:
        if not _FOLDER.fullmatch(folder.resolve().name):
            raise UsageError(f"{folder}: rename it: letters, digits, and . + = _ - alone are taken")
        if (other := seen.setdefault(folder.resolve().name.casefold(), folder)) is not folder:
            raise UsageError(f"{other} and {folder} have one name: rename one of them")


def _checked_about(about: About, loaded: Sequence[Result]) -> About:
    """The same without spaces around it and with its date; raises UsageError for what the schema does not take."""
    texts: dict[str, Any] = {
        f.name: v.strip() for f in dataclasses.fields(about) if isinstance(v := getattr(about, f.name), str)
    }
    about = dataclasses.replace(about, **texts)
    if not about.created:
        about = dataclasses.replace(about, created=checking.newest(loaded))
    for name, (path, option) in _ABOUT_OPTIONS.items():
        value: Any = getattr(about, name)
        if value == "":
            raise UsageError(f"the submission has no {name.replace('_', ' ')}: give {option}")
        rule: Any = form.schema()
        for part in path:
            rule = rule["properties"][part]
        wrong = form.bad_text(value) if isinstance(value, str) else ""
        for problem in [wrong] if wrong else [problem for _, problem in form.problems(value, rule)]:
            raise UsageError(f"{option} {problem}: give another")
    if not checking.is_date(about.created):
        raise UsageError(f"--date {about.created!r} is no date: give YYYY-MM-DD")
    return about


def _check_free(out: Path) -> None:
    """Raise UsageError where `out` holds anything; a submission is told apart once the new one is known."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out {out} is no folder: choose another")
    if out.is_dir() and any(out.iterdir()) and not (out / HEAD).is_file():
        raise UsageError(f"--out {out} holds something else: choose another folder")


def _placed(part: Path, out: Path, digest: str) -> None:
    """Give the finished folder its name; the very same submission may be there already."""
    if out.is_dir() and any(out.iterdir()):
        with contextlib.suppress(ResultError):
            if read(out).about["digest"] == digest:
                return
        raise UsageError(f"--out {out} holds another submission: choose another folder, or remove it")
    if out.is_dir():
        out.rmdir()
    part.rename(out)
    sync_folder(out.parent)


def _files_of(result: Result) -> list[str]:
    return sorted({figure.predictions for figure in result.figures})


def _head(part: Path, folders: Sequence[Path], loaded: Sequence[Result], about: About) -> dict[str, Any]:
    entries = sorted(zip([f.resolve().name for f in folders], loaded, strict=True), key=lambda pair: pair[0])
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": about.name,
        "contact": about.contact,
        "license": about.license,
        "training_data": {"declaration": about.training_data, "digests": checking.training_digests(loaded)},
        "energy_kwh": about.energy_kwh,
        "labels": checking.labels_of(loaded),
        "created": about.created,
        "results": [_stated(part, name, result) for name, result in entries],
        "files": list(_listed(part)),
    }
    return head | {"digest": digest_of(head)}


def _stated(part: Path, name: str, result: Result) -> dict[str, Any]:
    folder = part / RESULTS / name
    try:
        items = {file: outcomes.read(folder, file) for file in _files_of(result)}
    except ResultError as e:
        raise ResultError(str(e).replace(f"{part}/", "")) from e
    return checking.result_of(f"{RESULTS}/{name}", result, items)


def _listed(part: Path) -> Iterator[dict[str, Any]]:
    names = sorted(p.relative_to(part).as_posix() for p in part.rglob("*") if p.is_file())
    for name in names:
        path = part / name
        yield {"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
