"""A submission read without believing it: its files, their form, and that they are the ones it lists."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birdmml.core import files
from birdmml.core.files import human_bytes, sha256_file
from birdmml.core.text import UNSEEN
from birdmml.errors import ResultError
from birdmml.leaderboard.submission import form
from birdmml.leaderboard.submission.form import MAX_BYTES
from birdmml.leaderboard.submission.model import HEAD, RESULTS, Entry, Problem, Submission, raise_first
from birdmml.results import outcomes
from birdmml.results.result import FILE, read_result

# The files of a submission: which may be there, how many, how large; a link or anything else is refused.
MAX_FILES, MAX_TOTAL = 5000, 4 * 2**30
MAX_PARQUET = 512 * 2**20
_DEPTH = 4
_PATH = re.compile(str(form.part("path")["pattern"]).removesuffix("$"))


def listing(folder: Path) -> tuple[dict[str, int], list[Problem]]:
    """(path from the folder -> bytes, sorted by path) of everything that may be read, and what may not be there."""
    sizes: dict[str, int] = {}
    problems: list[Problem] = []
    total = many = 0
    for entry, name, depth in _walk(folder):
        wrong, size = _wrong(entry, name, depth)
        total, many = total + (0 if wrong else size), many + 1
        if many > MAX_FILES or total > MAX_TOTAL:
            limits = f"the submission has more than {MAX_FILES:,} files or {human_bytes(MAX_TOTAL)}"
            problems.append(Problem(name, limits, "submit fewer results"))
            break
        if wrong:
            problems.append(Problem(name, wrong, "remove it, or submit again"))
        elif not entry.is_dir(follow_symlinks=False):
            sizes[name] = size
    # Names that are one file on systems that take no notice of case.
    by_key: dict[str, str] = {}
    problems += [
        Problem(name, f"the same as {other} where case does not count", "rename a result folder")
        for name in sorted(sizes)
        if (other := by_key.setdefault(name.casefold(), name)) != name
    ]
    return dict(sorted(sizes.items())), problems


def differences(folder: Path, sizes: Mapping[str, int], listed: Mapping[str, tuple[int, str]]) -> list[Problem]:
    """Where the files are not those that submission.json lists, by name, size and SHA-256."""
    problems = [
        Problem(name, "listed in submission.json, not there", "fetch the submission again")
        for name in sorted(set(listed) - set(sizes))
    ]
    for name in sorted(set(sizes) - {HEAD}):
        if name not in listed:
            problems.append(Problem(name, "not listed in submission.json", "remove it, or submit again"))
        elif sizes[name] != listed[name][0] or sha256_file(folder / name) != listed[name][1]:
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
        allowed = name == RESULTS or (depth < _DEPTH and _PATH.fullmatch(f"{name}/x"))
        return "" if allowed else "a folder that a submission never has", 0
    if not entry.is_file(follow_symlinks=False):
        return "no file and no folder, which a submission never has", 0
    size = entry.stat(follow_symlinks=False).st_size
    if name != HEAD and not (_PATH.fullmatch(name) and name.endswith((".json", ".parquet"))):
        return "a file that a submission never has", size
    cap = MAX_PARQUET if name.endswith(".parquet") else MAX_BYTES
    return (f"larger than {human_bytes(cap)}" if size > cap else ""), size


AGAIN = "submit again with `birdmml submit`"


@dataclass
class SubmissionReading:
    """What was found: `about` is None where submission.json cannot be used, and `problems` say why."""

    folder: Path
    sizes: Mapping[str, int]
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


def look(folder: Path) -> SubmissionReading:
    """Read what can be read, and note everything that is wrong; raises ResultError where there is no submission."""
    if not folder.is_dir() or not (folder / HEAD).is_file():
        raise ResultError(f"{folder} holds no {HEAD}: give a folder that `birdmml submit` wrote")
    try:
        sizes, problems = listing(folder)
        seen = SubmissionReading(folder, sizes, problems=problems)
        seen.about = _head(seen)
        if seen.about is not None:
            listed = {file["path"]: (file["bytes"], file["sha256"]) for file in seen.about["files"]}
            seen.problems += differences(folder, sizes, listed)
    except OSError as e:
        raise ResultError(f"{folder} cannot be read ({e.strerror or e}): see that you may read it") from e
    for name in sorted(seen.sizes, key=lambda n: n.split("/")):
        if name.endswith(f"/{FILE}") and name.count("/") == 2:
            _entry(seen, name)
    if not seen.entries and not seen.problems:
        seen.problems.append(Problem(HEAD, "no result beside it", AGAIN))
    return seen


def _head(seen: SubmissionReading) -> Mapping[str, Any] | None:
    """submission.json, if it has the form that the schema wants."""
    if HEAD not in seen.sizes:  # A link, or too large: noted already.
        return None
    try:
        about = form.load(seen.folder / HEAD, HEAD)
    except ResultError as e:
        seen.problems.append(_problem_of(seen.folder / HEAD, HEAD, e))
        return None
    wrong = [f"{place or 'it'} {problem}" for place, problem in form.problems(about)]
    if not wrong and digest_of(about) != about["digest"]:
        wrong.append("changed after it was written: its digest differs")
    if not wrong and (seen.folder / HEAD).read_bytes() != spelled(about):
        wrong.append("not spelled as `birdmml submit` writes it, though it says the same")
    seen.problems += [Problem(HEAD, problem, AGAIN) for problem in wrong]
    return None if wrong else about


def digest_of(about: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the canonical JSON of everything in submission.json but the digest itself."""
    return files.digest({name: value for name, value in about.items() if name != "digest"})


def spelled(about: Mapping[str, Any]) -> bytes:
    """submission.json: one spelling for equal values."""
    return (json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _entry(seen: SubmissionReading, name: str) -> None:
    """One result, and the predictions that lie in its folder: those that its figures name, and no other."""
    path = seen.folder / name
    try:
        form.load(path, name)
        result = read_result(path)
    except (ResultError, OverflowError) as e:
        seen.problems.append(_problem_of(path, name, e))
        return
    before = name.removesuffix(FILE)
    there = {n.removeprefix(before) for n in seen.sizes if n.startswith(before)} - {FILE}
    named = {figure.predictions for figure in result.figures}
    for file in sorted(there - named):
        seen.problems.append(Problem(f"{before}{file}", "named by no figure", f"remove it, or {AGAIN}"))
    for file in sorted(named - there):
        seen.problems.append(Problem(name, f"its figures need {file!r}, which is not there", AGAIN))
    seen.entries.append(Entry(path.parent, result))


def _problem_of(path: Path, name: str, error: Exception) -> Problem:
    """An error as a problem of the file, without the verifier's own folders."""
    text = str(error).replace(str(path), name).removeprefix(name).lstrip(": ")
    wrong, _, step = text.rpartition(": ")
    return Problem(name, wrong or text, step if wrong else AGAIN)


def name_of(entry: Entry) -> str:
    """ "results/confu-tiny-0a1b2c3d": how messages and submission.json name a result's folder."""
    return f"{RESULTS}/{entry.folder.name}"


# Parquet files of strangers: what they would unpack to is bounded before they are read whole.
MAX_ROWS = 5_000_000
MAX_UNPACKED = 2**30
MAX_NAME = 500  # bytes of an id or a class name
MAX_CANDIDATES = 10**7
_FORMS = {
    "placed": outcomes.PREDICTION_COLUMNS,
    "species": outcomes.SPECIES_COLUMNS,
    "measured": outcomes.MEASURE_COLUMNS,
}
_FACTS = {"kind", "candidates", "demo", "metric", "statistic", "chance"}
_BATCH = 2**16
_COUNT = re.compile(r"[0-9]{1,9}")


def check(path: Path) -> None:
    """Raise ResultError for a file that is no predictions file, holds more than one does, or would fill the memory."""
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            # Of row groups alone: pyarrow aborts the whole process on some damaged facts of a column.
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            unpacked = [group.total_byte_size for group in groups]
            if not 0 <= metadata.num_rows <= MAX_ROWS or any(not 0 <= g.num_rows <= MAX_ROWS for g in groups):
                raise ResultError(f"{metadata.num_rows:,} rows, more than {MAX_ROWS:,}")
            if (total := sum(unpacked)) > MAX_UNPACKED or min(unpacked, default=0) < 0:
                raise ResultError(f"would unpack to {human_bytes(total)}, more than {human_bytes(MAX_UNPACKED)}")
            names = _form(file.schema_arrow)
        with pq.ParquetFile(path, read_dictionary=names, metadata=metadata) as file:
            _texts(file, names)
    except (OSError, ValueError, KeyError, OverflowError, MemoryError, pa.ArrowException) as e:
        raise ResultError(f"no predictions file ({type(e).__name__}: {str(e)[:200]})") from e


def _form(schema: pa.Schema) -> list[str]:
    """The columns of texts; raises ResultError for columns or facts that such a file does not have."""
    facts = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    kind = facts.get("kind", "placed")
    if kind not in _FORMS or set(facts) - _FACTS or any(len(v) > MAX_NAME for v in facts.values()):
        raise ResultError("holds facts that a predictions file does not have")
    wanted = list(_FORMS[kind].items())
    wanted += [("draw", pa.int64())] if kind == "placed" and "draw" in schema.names else []
    if not schema.equals(pa.schema(wanted), check_metadata=False):
        raise ResultError(f"its columns are not those of a predictions file ({', '.join(schema.names)[:200]})")
    count = facts.get("candidates", "1")
    if not _COUNT.fullmatch(count) or int(count) > MAX_CANDIDATES:
        raise ResultError(f"{count[:20]!r} candidates: a number up to {MAX_CANDIDATES:,} was expected")
    return [name for name, kind_of in wanted if kind_of == pa.string()]


def _texts(file: pq.ParquetFile, names: list[str]) -> None:
    """Bound every text, and all of them together: a few bytes can name one long text for millions of rows."""
    total = 0
    for batch in file.iter_batches(_BATCH, columns=names):
        batch.validate(full=True)
        for name, column in zip(names, batch.columns, strict=True):
            texts = column.dictionary if pa.types.is_dictionary(column.type) else column
            lengths = pc.binary_length(texts)
            if (longest := pc.max(lengths).as_py() or 0) > MAX_NAME:
                raise ResultError(f"{name} has a text of {longest:,} bytes, more than {MAX_NAME}")
            # Python's pattern, for all texts of a batch at once: Arrow would compile one at every call.
            if UNSEEN.search("".join(filter(None, texts.to_pylist()))):
                raise ResultError(f"{name} has a text with control characters")
            used = lengths.take(column.indices) if texts is not column else lengths
            total += pc.sum(used).as_py() or 0
            if total > MAX_UNPACKED:
                raise ResultError(f"its texts would unpack to more than {human_bytes(MAX_UNPACKED)}")
