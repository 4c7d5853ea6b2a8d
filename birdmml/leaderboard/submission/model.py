"""What a submission is, as values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.core import files
from birdmml.errors import ResultError
from birdmml.schema import Result

HEAD, RESULTS = "submission.json", "results"
SCHEMA_VERSION = 1
SLUG_LENGTH, MARK_LENGTH = 64, 8


@dataclass(frozen=True)
class About:
    """What only the submitter knows. `license` is the SPDX id of the submission's own files.

    `training_data` says in words what the models learned from, weights that were not trained here included.
    `created` is a date, YYYY-MM-DD; empty: that of the newest result.
    """

    name: str
    contact: str
    license: str
    training_data: str
    energy_kwh: float | None = None
    created: str = ""


@dataclass(frozen=True)
class Entry:
    """One result of a submission; `folder` holds its result.json and its parquet files."""

    folder: Path
    result: Result


@dataclass(frozen=True)
class Submission:
    """A submission that was read: `about` is submission.json, checked against the schema."""

    folder: Path
    about: Mapping[str, Any]
    entries: tuple[Entry, ...]

    @property
    def slug(self) -> str:
        """A safe file name, [a-z0-9-]{1,64}: the submission's name and the first 8 digits of its digest."""
        plain = re.sub(r"[^a-z0-9]+", "-", str(self.about["name"]).lower()).strip("-")
        kept = plain[: SLUG_LENGTH - MARK_LENGTH - 1].strip("-") or "submission"
        # The name is for readers; the digest tells two of one name apart.
        return f"{kept}-{self.about['digest'][:MARK_LENGTH]}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file, what is wrong with it, and the next step."""

    file: str
    wrong: str
    step: str

    @property
    def line(self) -> str:
        """One line, whatever a hostile text holds."""
        return plain(f"{self.file}: {self.wrong}: {self.step}")


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `notes` say what was not compared, and why."""

    submission: Submission | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    figures: int = 0
    files: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def items_digest(ids: Iterable[str]) -> dict[str, Any]:
    """{"n", "sha256"} of the different ids: sorted by code point, joined by newlines, as UTF-8."""
    different = sorted(set(ids))
    return {"n": len(different), "sha256": files.sha256_bytes("\n".join(different).encode())}


def at(value: Any, *keys: str, other: Any = None) -> Any:
    """value[key][key]..., or `other` where something on the way is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return other if value is None else value


def plain(text: str) -> str:
    """The text with every character that a terminal or a page might act upon written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def raise_first(problems: Sequence[Problem]) -> None:
    """Raise ResultError with the first problem and the number of the others; nothing where there is none."""
    if problems:
        others = f" (and {len(problems) - 1} more: run `birdmml verify`)" if len(problems) > 1 else ""
        raise ResultError(problems[0].line + others)
