"""Accepted submissions, and what a pull request may do to them: add, replace or withdraw with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmml.core.files import human_bytes, sha256_file
from birdmml.errors import ResultError
from birdmml.leaderboard.submission import checking, form
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.expected import Expected
from birdmml.leaderboard.submission.form import MAX_BYTES
from birdmml.leaderboard.submission.model import HEAD, CheckReport, Entry, Problem, Submission, at
from birdmml.leaderboard.submission.reading import look, name_of, read, spelled
from birdmml.schema import Figure, Result

# The root of a folder of submissions: a folder each, changes.json, and the maintainer's own files.
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
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed[:MAX_ENTRIES]:
            if problem := _wrong(entry):
                problems.append(Problem(entry.name, problem, "leave it out"))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.name != CHANGES:
                files[entry.name] = sha256_file(Path(entry.path))
    except OSError as e:
        raise ResultError(f"{path} cannot be read ({e.strerror or e}): see that you may read it") from e
    if len(listed) > MAX_ENTRIES:
        problems.append(Problem(".", f"{len(listed):,} entries, more than {MAX_ENTRIES:,}", "propose fewer"))
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


# changes.json: which accepted submissions were replaced or withdrawn, and why; entries are only ever added.
SPELL = f"run `python -m json.tool --no-ensure-ascii --indent 2 {CHANGES} {CHANGES}`"
_RULE: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["changes"],
    "properties": {
        "changes": {
            "type": "array",
            "maxItems": 10_000,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["slug", "before", "after", "reason", "date"],
                "properties": {
                    "slug": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
                    "before": {"$ref": "#/$defs/sha256"},
                    "after": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
                    "reason": {"type": "string", "minLength": 10, "maxLength": 1000, "pattern": r"^\S.*\S$"},
                    "date": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Change:
    """An accepted submission that is gone: its slug and digest, the digest of what replaces it or None, and why."""

    slug: str
    before: str
    after: str | None
    reason: str
    date: str


def read_changes(root: Path) -> tuple[Change, ...] | None:
    """The entries of changes.json, None where there is no such file; raises ResultError with all that is wrong."""
    path = root / CHANGES
    if not path.exists() and not path.is_symlink():
        return None
    if path.is_symlink() or not path.is_file():
        raise ResultError(f"{CHANGES} is no file: leave it as it was")
    value = form.load(path, CHANGES)
    wrong = [f"{place or 'it'} {problem}" for place, problem in form.problems(value, _RULE)]
    if wrong:
        raise ResultError(f"{CHANGES}: {'; '.join(wrong[:3])}: see benchmarks/ACCEPTING.md for its form")
    changes = tuple(Change(**entry) for entry in value["changes"])
    for change in changes:
        if not checking.is_date(change.date):
            raise ResultError(f"{CHANGES}: {change.date!r} is no date: give YYYY-MM-DD")
    if path.read_bytes() != spelled(value):  # One spelling, so that what a pull request shows is what changed.
        raise ResultError(f"{CHANGES} says what it should in another spelling: {SPELL}")
    return changes


def added(before: Sequence[Change] | None, after: Sequence[Change] | None) -> tuple[tuple[Change, ...], list[Problem]]:
    """(entries that are new, what is wrong): earlier ones stay as they were, and first."""
    old, new = tuple(before or ()), tuple(after or ())
    if new[: len(old)] != old or (before is not None and after is None):
        gone = Problem(CHANGES, "earlier entries are changed or gone", "put them back, and add yours at the end")
        return (), [gone]
    return new[len(old) :], []


def problems(new: Sequence[Change], removed: Mapping[str, str], present: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong between new entries and the folders: `removed` and `present` are slug -> digest.

    Each removed submission has one entry that names its digest; each entry is of a removed one, and what replaces it
    is there.
    """
    seen: set[str] = set()
    for change in new:
        if change.slug in seen:
            yield Problem(CHANGES, f"{change.slug} has two new entries", "leave one")
        elif removed.get(change.slug) != change.before:
            wrong = f"{change.slug} of digest {change.before[:12]} is no accepted submission that this takes away"
            yield Problem(CHANGES, wrong, "remove the entry, or mend its slug and `before`")
        if change.after is not None and change.after not in present.values():
            wrong = f"{change.slug} is to be replaced by {change.after[:12]}, which is not there"
            yield Problem(CHANGES, wrong, "add that submission, or set `after` to null to withdraw")
        seen.add(change.slug)
    for slug in sorted(set(removed) - seen):
        yield Problem(slug, "accepted, and gone", f"put it back, or say why in {CHANGES}")


# A submission that is another one under a new name.
def copies(proposal: Submission, others: Sequence[Submission]) -> Iterator[tuple[str, str]]:
    """(result of `made`, what it is a copy of): a line for each pair.

    A copy has every figure of another's results, value by value, whatever it calls its method, models and seeds; or
    it measures a model of theirs (by SHA-256 of its weights) by the same protocol, on the same data, for the same
    figures.
    """
    for other in others:
        theirs = {figure for entry in other.entries for figure in _measured(entry.result)}
        for entry in proposal.entries:
            if _measured(entry.result) <= theirs:
                yield name_of(entry), f"every figure of it is, digit by digit, one of {other.slug}"
            elif any(_same_models(entry, rival) for rival in other.entries):
                yield (name_of(entry), f"a model of {other.slug}, measured by the same protocol for the same figures")


def _measured(result: Result) -> set[tuple[Any, ...]]:
    return {(*_name(f), f.n, *f.per_seed) for f in result.figures}


def _name(figure: Figure) -> tuple[str, str, str, str]:
    return figure.suite, figure.evalset, figure.task, figure.metric


def _same_models(one: Entry, other: Entry) -> bool:
    a, b = one.result, other.result
    return (
        bool(_weights(a) & _weights(b))
        and at(a.settings, "protocol", "digest") == at(b.settings, "protocol", "digest")
        and a.dataset.get("digest") == b.dataset.get("digest")
        and bool({_name(f) for f in a.figures} & {_name(f) for f in b.figures})
    )


def _weights(result: Result) -> set[str]:
    return {str(model["weights_sha256"]) for model in result.models if at(model, "weights_sha256")}


# Two folders of submissions compared: what is accepted, and what a pull request would make of it.
EDITED = f"leave it as it was; a better one goes beside it, with an entry in {CHANGES}"


@dataclass(frozen=True)
class Proposed:
    """A new submission: its folder at the root, and what `check` found; None where there was nothing to check."""

    folder: str
    report: CheckReport | None


@dataclass(frozen=True)
class Review:
    """What a pull request would do. `problems` refuse it; `notes` are what a maintainer must look at."""

    accepted: Mapping[str, Submission]
    proposed: tuple[Proposed, ...]
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing refuses it."""
        return not self.problems


@dataclass
class _Head:
    """The proposed folder, as far as it was read."""

    root: Root
    accepted: Mapping[str, Submission]
    proposed: list[Proposed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def gone(self) -> dict[str, Submission]:
        return {name: one for name, one in self.accepted.items() if name not in self.root.folders}

    @property
    def new(self) -> list[Submission]:
        """The new submissions that are sound by themselves."""
        sound = [p.report for p in self.proposed if p.report is not None and p.report.sound]
        return [report.submission for report in sound if report.submission is not None]


def review(base: Path, head: Path, data: Expected | None = None) -> Review:
    """Compare `head`, a folder of submissions that somebody proposes, with `base`, the accepted one.

    An accepted submission stays byte for byte, or is gone with an entry in changes.json; a new one must be sound by
    `check`, lie in a folder named by its slug, and be no copy. Raises ResultError where `base` is not sound, or there
    is no folder.
    """
    accepted, earlier, before = _base(base)
    seen = _Head(scan(head), accepted)
    seen.problems += seen.root.problems
    seen.problems += _files(before, seen.root)
    try:
        new, wrong = added(earlier, read_changes(head))
    except ResultError as e:
        new, wrong = (), [_problem(CHANGES, e)]
    seen.problems += wrong
    for name in seen.root.folders:
        if name in accepted:
            seen.problems += _edited(name, base, head)
        else:
            _propose(seen, name, data)
    # Where the list itself is refused, nothing can be said of what it should say.
    if not wrong:
        seen.problems += problems(new, _digests(seen.gone.values()), _digests(_present(seen)))
    seen.problems += _copied(seen, (*(earlier or ()), *new), new)
    return Review(accepted, tuple(seen.proposed), new, tuple(seen.problems), tuple(_notes(seen, new)))


def _base(base: Path) -> tuple[dict[str, Submission], tuple[Change, ...] | None, Root]:
    """What is accepted, by slug; raises ResultError where it is not as it was accepted."""
    root = scan(base)
    try:
        for problem in root.problems:
            raise ResultError(problem.line)
        accepted = {name: read(base / name) for name in root.folders}
        for name, one in accepted.items():
            if one.slug != name:
                raise ResultError(f"{name}: its slug is {one.slug}: rename the folder")
        return accepted, read_changes(base), root
    except ResultError as e:
        raise ResultError(f"what is accepted in {base} is not sound; mend it first: {e}") from e


def _files(before: Root, after: Root) -> Iterator[Problem]:
    """Files at the root are the maintainer's."""
    for name in sorted({*before.files, *after.files}):
        if name not in before.files:
            yield Problem(name, "no part of a submission", "leave it out")
        elif after.files.get(name) != before.files[name]:
            yield Problem(name, "the maintainer's own file, changed or gone", "put it back")


def _edited(name: str, base: Path, head: Path) -> Iterator[Problem]:
    """Where an accepted submission is not byte for byte what it was."""
    try:
        reading = look(head / name)
        same = (base / name / HEAD).read_bytes() == (head / name / HEAD).read_bytes()
    except (ResultError, OSError) as e:
        yield Problem(name, f"accepted, and no longer to be read ({_problem(name, e).wrong})", EDITED)
        return
    if not same:
        yield Problem(f"{name}/{HEAD}", "differs from what was accepted", EDITED)
    for problem in reading.problems:  # Its files are not those that it lists.
        yield Problem(f"{name}/{problem.file}", problem.wrong, EDITED)


def _propose(seen: _Head, name: str, data: Expected | None) -> None:
    """Check a new submission by itself."""
    try:
        report = check(seen.root.path / name, data)
    except ResultError as e:
        seen.proposed.append(Proposed(name, None))
        seen.problems.append(_problem(name, e))
        return
    seen.proposed.append(Proposed(name, report))
    seen.problems += [Problem(f"{name}/{p.file}", p.wrong, p.step) for p in report.problems]
    if report.submission is not None and report.submission.slug != name:
        wrong = "its folder is not named by its slug"
        seen.problems.append(Problem(name, wrong, f"rename it {report.submission.slug}"))


def _present(seen: _Head) -> list[Submission]:
    return [*(one for name, one in seen.accepted.items() if name not in seen.gone), *seen.new]


def _digests(those: Iterable[Submission]) -> dict[str, str]:
    return {one.slug: str(one.about["digest"]) for one in those}


def _copied(seen: _Head, changes: Sequence[Change], new: Sequence[Change]) -> Iterator[Problem]:
    """New submissions that are others under another name, or were withdrawn before."""
    replaces = {(change.slug, change.after) for change in new}
    before = {change.before: change for change in changes}
    others = list(seen.accepted.values())
    for proposal in seen.new:
        digest = str(proposal.about["digest"])
        if old := before.get(digest):
            wrong = f"is what was taken away on {old.date} ({old.reason})"
            yield Problem(proposal.folder.name, wrong, "submit anew, with what was wrong put right")
        rivals = [other for other in others if (other.slug, digest) not in replaces]
        for result, wrong in copies(proposal, rivals):
            step = f"leave it out, or replace the other by an entry in {CHANGES}"
            yield Problem(f"{proposal.folder.name}/{result}", wrong, step)
        others.append(proposal)  # Two new ones may be copies of each other.


def _notes(seen: _Head, new: Sequence[Change]) -> Iterator[str]:
    """What only a person can judge."""
    by_digest = {str(one.about["digest"]): one for one in _present(seen)}
    for change in new:
        if (old := seen.accepted.get(change.slug)) is None:
            continue
        ask = f"ask {old.about['contact']} before you merge, unless they opened this"
        follower = by_digest.get(change.after or "")
        if follower is None:
            yield f"{change.slug} would be withdrawn: {ask}"
        elif follower.about["contact"] != old.about["contact"]:
            yield f"{change.slug} would be replaced by {follower.slug}, of another contact: {ask}"
        else:
            yield f"{change.slug} would be replaced by {follower.slug}, of the same contact"
    for one in seen.new:
        yield from (f"{one.slug} is labelled {label!r}" for label in one.about["labels"])
    for proposed in seen.proposed:
        if proposed.report is not None:
            yield from (f"{proposed.folder}: {note}" for note in proposed.report.notes)


def _problem(name: str, error: Exception) -> Problem:
    """An error as a problem of a file or folder at the root, without the reviewer's own folders."""
    wrong, _, step = str(error).removeprefix(f"{name}: ").rpartition(": ")
    return Problem(name, wrong or str(error), step if wrong else "submit again with `birdmml submit`")
