"""Two folders of submissions compared: what is accepted, and what a pull request would make of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from birdmml.errors import ResultError
from birdmml.leaderboard.accepting import changes
from birdmml.leaderboard.accepting.changes import Change
from birdmml.leaderboard.accepting.copies import copies
from birdmml.leaderboard.accepting.root import CHANGES, Root, scan
from birdmml.leaderboard.submission import Problem, Report, Submission, check, read
from birdmml.leaderboard.submission.expected import Expected
from birdmml.leaderboard.submission.model import HEAD
from birdmml.leaderboard.submission.reading import look

EDITED = f"leave it as it was; a better one goes beside it, with an entry in {CHANGES}"


@dataclass(frozen=True)
class Proposed:
    """A new submission: its folder at the root, and what `check` found; None where there was nothing to check."""

    folder: str
    report: Report | None


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
        found = [p.report for p in self.proposed if p.report is not None and p.report.sound]
        return [report.submission for report in found if report.submission is not None]


def review(base: Path, head: Path, data: Expected | None = None) -> Review:
    """Compare `head`, a folder of submissions that somebody proposes, with `base`, the accepted one.

    An accepted submission stays byte for byte, or is gone with an entry in changes.json; a new one must be sound by
    `check`, lie in a folder named by its slug, and be no copy. Raises ResultError where `base` is not sound, or there
    is no folder.
    """
    accepted, known, before = _base(base)
    seen = _Head(scan(head), accepted)
    seen.problems += seen.root.problems
    seen.problems += _files(before, seen.root)
    try:
        new, wrong = changes.added(known, changes.read(head))
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
        seen.problems += changes.problems(new, _digests(seen.gone.values()), _digests(_present(seen)))
    seen.problems += _copied(seen, (*(known or ()), *new), new)
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
        return accepted, changes.read(base), root
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
        found = look(head / name)
        same = (base / name / HEAD).read_bytes() == (head / name / HEAD).read_bytes()
    except (ResultError, OSError) as e:
        yield Problem(name, f"accepted, and no longer to be read ({_problem(name, e).found})", EDITED)
        return
    if not same:
        yield Problem(f"{name}/{HEAD}", "differs from what was accepted", EDITED)
    for problem in found.problems:  # Its files are not those that it lists.
        yield Problem(f"{name}/{problem.file}", problem.found, EDITED)


def _propose(seen: _Head, name: str, data: Expected | None) -> None:
    """Check a new submission by itself."""
    try:
        report = check(seen.root.path / name, data)
    except ResultError as e:
        seen.proposed.append(Proposed(name, None))
        seen.problems.append(_problem(name, e))
        return
    seen.proposed.append(Proposed(name, report))
    seen.problems += [Problem(f"{name}/{p.file}", p.found, p.step) for p in report.problems]
    if report.submission is not None and report.submission.slug != name:
        told = "its folder is not named by its slug"
        seen.problems.append(Problem(name, told, f"rename it {report.submission.slug}"))


def _present(seen: _Head) -> list[Submission]:
    return [*(one for name, one in seen.accepted.items() if name not in seen.gone), *seen.new]


def _digests(those: Iterable[Submission]) -> dict[str, str]:
    return {one.slug: str(one.about["digest"]) for one in those}


def _copied(seen: _Head, known: Sequence[Change], new: Sequence[Change]) -> Iterator[Problem]:
    """New submissions that are others under another name, or were withdrawn before."""
    replaces = {(change.slug, change.after) for change in new}
    before = {change.before: change for change in known}
    others = list(seen.accepted.values())
    for made in seen.new:
        digest = str(made.about["digest"])
        if old := before.get(digest):
            told = f"is what was taken away on {old.date} ({old.reason})"
            yield Problem(made.folder.name, told, "submit anew, with what was wrong put right")
        rivals = [other for other in others if (other.slug, digest) not in replaces]
        for result, told in copies(made, rivals):
            step = f"leave it out, or replace the other by an entry in {CHANGES}"
            yield Problem(f"{made.folder.name}/{result}", told, step)
        others.append(made)


def _notes(seen: _Head, new: Sequence[Change]) -> Iterator[str]:
    """What only a person can judge."""
    by_digest = {str(one.about["digest"]): one for one in _present(seen)}
    for change in new:
        if (old := seen.accepted.get(change.slug)) is None:
            continue
        asked = f"ask {old.about['contact']} before you merge, unless they opened this"
        follower = by_digest.get(change.after or "")
        if follower is None:
            yield f"{change.slug} would be withdrawn: {asked}"
        elif follower.about["contact"] != old.about["contact"]:
            yield f"{change.slug} would be replaced by {follower.slug}, of another contact: {asked}"
        else:
            yield f"{change.slug} would be replaced by {follower.slug}, of the same contact"
    for one in seen.new:
        yield from (f"{one.slug} is labelled {label!r}" for label in one.about["labels"])
    for proposed in seen.proposed:
        if proposed.report is not None:
            yield from (f"{proposed.folder}: {note}" for note in proposed.report.notes)


def _problem(name: str, error: Exception) -> Problem:
    """An error as a problem of a file or folder at the root, without the reviewer's own folders."""
    found, _, step = str(error).removeprefix(f"{name}: ").rpartition(": ")
    return Problem(name, found or str(error), step if found else "submit again with `birdmml submit`")
