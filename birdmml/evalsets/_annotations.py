"""What an evaluation set's own tables say, checked row by row: values that `birdmml.evalsets.prepare` works from."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmml.errors import EvalsetError
from birdmml.schema import Reject

FAKE_MARK = "birdmml-fake.txt"  # Lies beside files made for tests, so that what is made of them says so.
_LONGEST_FIELD = 1 << 20


@dataclass(frozen=True)
class Collection:
    """Media of one kind ("videos", "images", "audio") that lie below `folder` of the set's layout."""

    name: str
    kind: str
    folder: str


@dataclass(frozen=True)
class TableRow:
    """One row of a table before any check. `label` is None where it is no class; `file` is a path of the layout.

    An id that could not be a file's name has no file.
    """

    where: str
    id: str
    label: int | None
    label_text: str
    split: str
    file: str


@dataclass(frozen=True)
class AnnotatedItem:
    """One item of a collection: its label counts from 0, its file is there."""

    id: str
    label: int
    split: str
    file: str


@dataclass(frozen=True)
class Annotations:
    """A whole set: class names in label order, items in table order, and what is wrong or unlike the published set.

    `claimed` counts the rows of the tables by collection and split; `named` are all files that some row names.
    """

    classes: tuple[str, ...]
    entries: Mapping[str, tuple[AnnotatedItem, ...]]
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()
    taxa: tuple[Mapping[str, Any], ...] = ()
    claimed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    named: frozenset[str] = frozenset()


def text(name: str, tables: Mapping[str, bytes]) -> str:
    """A table as text; raises EvalsetError if it is missing or not UTF-8."""
    if name not in tables:
        raise EvalsetError(f"{name} is missing: give --from the whole archive, or the folder unpacked from it")
    try:
        return tables[name].decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise EvalsetError(f"{name}: byte {e.start:,} is not UTF-8, so the table is damaged: get it again") from e


def rows(
    name: str, tables: Mapping[str, bytes], needed: Sequence[str], documented: Sequence[str] = ()
) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of a CSV table, and a note for each documented column that it lacks.

    Raises EvalsetError where a needed column is missing, the CSV is broken, or there is no row.
    """
    reader = csv.DictReader(io.StringIO(text(name, tables), newline=""), strict=True)
    try:
        names = [n.strip() for n in reader.fieldnames or ()]
        reader.fieldnames = names
        if missing := [c for c in needed if c not in names]:
            raise EvalsetError(
                f"{name} has no column {', '.join(missing)} (it has {', '.join(names)[:200] or 'none'}): "
                "this is another version of the table; get the published one"
            )
        records = [{k: (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in reader]
    except csv.Error as e:
        raise EvalsetError(f"{name}, line {reader.line_num}: no CSV ({e}): get the table again") from e
    if not records:
        raise EvalsetError(f"{name} has no rows: get the table again")
    lacks = [c for c in documented if c not in names]
    return records, [f"{name} has no column {c}, which the published table has (it is not used)" for c in lacks]


def lines(name: str, tables: Mapping[str, bytes]) -> Iterator[tuple[str, str, str]]:
    """(where, first, second) of a table of two values a line, cut at the last white space; blank lines are passed over.

    Raises EvalsetError for a line of another form, and for a table without lines.
    """
    empty = True
    for number, line in enumerate(text(name, tables).splitlines(), 1):
        if not line.strip():
            continue
        parts = line.strip().rsplit(None, 1)
        if len(parts) != 2 or len(line) > _LONGEST_FIELD:
            raise EvalsetError(
                f"{name}, line {number}: two values are expected, found {line.strip()[:60]!r}: get the table again"
            )
        empty = False
        yield f"{name}:{number}", parts[0], parts[1]
    if empty:
        raise EvalsetError(f"{name} has no lines: get the table again")


def whole_number(value: str) -> int | None:
    """A whole number from 0 on as tables write it; None for anything else."""
    # isdecimal alone takes the digits of every script.
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None


def settle(
    claims: Iterable[TableRow], classes: int, splits: Many[str], files: Many[str]
) -> tuple[tuple[AnnotatedItem, ...], tuple[Reject, ...]]:
    """The claims that hold, in their order, and a Reject for each of the others.

    An id that stands twice counts once if both rows say the same, and not at all if they differ: which is right
    cannot be known.
    """
    claims = list(claims)
    statements: dict[str, set[tuple[int | None, str, str]]] = {}
    for claim in claims:
        statements.setdefault(claim.id, set()).add((claim.label, claim.split, claim.file))
    seen = Counter[str]()
    entries, rejects = list[AnnotatedItem](), list[Reject]()
    for claim in claims:
        seen[claim.id] += 1
        reason, detail = _fault(claim, len(statements[claim.id]) > 1, seen[claim.id] > 1, classes, splits, files)
        if reason or claim.label is None:
            rejects.append(Reject(claim.file or claim.id, reason, f"{claim.where}: {detail}"))
        else:
            entries.append(AnnotatedItem(claim.id, claim.label, claim.split, claim.file))
    return tuple(entries), tuple(rejects)


def _fault(
    claim: TableRow, differ: bool, again: bool, classes: int, splits: Many[str], files: Many[str]
) -> tuple[str, str]:
    """Reason and detail of what is wrong with one row; empty if nothing is."""
    if not claim.id or not claim.file or "\0" in claim.id or ".." in claim.id.split("/") or claim.id.startswith("/"):
        return "bad_id", f"{claim.id!r} is not a plain name"
    if differ or again:
        how = "rows that differ" if differ else "the same row, which counts once"
        return "duplicate_id", f"id {claim.id} stands there more than once ({how})"
    if claim.label is None or claim.label >= classes:
        return "label_unknown", f"label {claim.label_text!r} is none of the {classes} classes"
    if claim.split not in splits:
        return "split_unknown", f"split {claim.split!r} is none of {', '.join(splits)}"
    if claim.file not in files:
        return "file_missing", f"{claim.file} is not there"
    return "", ""


def count(claims: Iterable[TableRow]) -> dict[str, int]:
    """Rows by split."""
    return dict(sorted(Counter(c.split for c in claims).items()))


@dataclass(frozen=True)
class Download:
    """What to get, and from where; `size` in words, `md5` "" where none is published."""

    file: str
    size: str
    md5: str
    url: str
    licence: str

    @property
    def argument(self) -> str:
        """What `--from` is given: the file, or where there are several the folder that they lie in."""
        return "FOLDER" if " " in self.file else self.file

    def words(self) -> str:
        """One line for who does not have it yet."""
        md5 = f", md5 {self.md5}" if self.md5 else ""
        return f"download {self.file} ({self.size}{md5}; {self.licence}) from {self.url}"


def is_fake(source: Path) -> bool:
    """Whether the file or folder bears the mark of files made for tests."""
    return ((source if source.is_dir() else source.parent) / FAKE_MARK).is_file()
