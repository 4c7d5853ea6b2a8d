"""changes.json: which accepted submissions were replaced or withdrawn, and why; entries are added, never taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.errors import ResultError
from birdmml.leaderboard.accepting.root import CHANGES
from birdmml.leaderboard.submission import form, stated, strict
from birdmml.leaderboard.submission.model import Problem
from birdmml.leaderboard.submission.reading import spelled

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


def read(root: Path) -> tuple[Change, ...] | None:
    """The entries of changes.json, None where there is no such file; raises ResultError with all that is wrong."""
    path = root / CHANGES
    if not path.exists() and not path.is_symlink():
        return None
    if path.is_symlink() or not path.is_file():
        raise ResultError(f"{CHANGES} is no file: leave it as it was")
    value = strict.load(path, CHANGES)
    wrong = [f"{place or 'it'} {told}" for place, told in form.problems(value, _RULE)]
    if wrong:
        raise ResultError(f"{CHANGES}: {'; '.join(wrong[:3])}: see benchmarks/ACCEPTING.md for its form")
    found = tuple(Change(**entry) for entry in value["changes"])
    for change in found:
        if not stated.is_date(change.date):
            raise ResultError(f"{CHANGES}: {change.date!r} is no date: give YYYY-MM-DD")
    if path.read_bytes() != spelled(
        value
    ):  # One spelling, so that what a pull request shows is what changed.
        raise ResultError(f"{CHANGES} says what it should in another spelling: {SPELL}")
    return found


def added(
    before: Sequence[Change] | None, after: Sequence[Change] | None
) -> tuple[tuple[Change, ...], list[Problem]]:
    """(entries that are new, what is wrong): earlier ones stay as they were, and first."""
    old, new = tuple(before or ()), tuple(after or ())
    if new[: len(old)] != old or (before is not None and after is None):
        gone = Problem(
            CHANGES, "earlier entries are changed or gone", "put them back, and add yours at the end"
        )
        return (), [gone]
    return new[len(old) :], []


def problems(
    new: Sequence[Change], removed: Mapping[str, str], present: Mapping[str, str]
) -> Iterator[Problem]:
    """What is wrong between new entries and the folders: `removed` and `present` are slug -> digest.

    Each removed submission has one entry that names its digest; each entry is of a removed one, and what replaces it
    is there.
    """
    seen: set[str] = set()
    for change in new:
        if change.slug in seen:
            yield Problem(CHANGES, f"{change.slug} has two new entries", "leave one")
        elif removed.get(change.slug) != change.before:
            told = (
                f"{change.slug} of digest {change.before[:12]} is no accepted submission that this takes away"
            )
            yield Problem(CHANGES, told, "remove the entry, or mend its slug and `before`")
        if change.after is not None and change.after not in present.values():
            told = f"{change.slug} is to be replaced by {change.after[:12]}, which is not there"
            yield Problem(CHANGES, told, "add that submission, or set `after` to null to withdraw")
        seen.add(change.slug)
    for slug in sorted(set(removed) - seen):
        yield Problem(slug, "accepted, and gone", f"put it back, or say why in {CHANGES}")
