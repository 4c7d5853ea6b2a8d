"""What a site shows, as values: submissions, their results, tables, rows and cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.core.text import plain
from birdmml.results.tables import in_table
from birdmml.schema import PLAIN_METRICS, Figure, Result


@dataclass(frozen=True)
class BoardMember:
    """One result on the board: `page` is the file name of its page, `labels` what a reader must know first."""

    name: str
    page: str
    slug: str
    about: Mapping[str, Any]
    folder: Path
    result: Result
    labels: tuple[str, ...]
    verified: bool

    @property
    def title(self) -> str:
        """What its author calls the submission."""
        return plain(self.about.get("name") or self.slug)


@dataclass(frozen=True)
class BoardCell:
    """One value of a row. `letters`: groups that are not shown to differ; `best`: in the group of the best one.

    `mark` says what is wrong with a reported value; `note` what a reader must know of a measured one.
    """

    value: float
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    n: int | None = None
    letters: str = ""
    best: bool = False
    mark: str = ""
    note: str = ""
    predictions: str = ""


@dataclass(frozen=True)
class BoardRow:
    """A measured result, or (without a `member`) what the paper reports of a method."""

    name: str
    method: str
    cells: tuple[BoardCell | None, ...]
    member: BoardMember | None = None


@dataclass(frozen=True)
class BoardColumn:
    """One task and metric; `n` items, `chance` what luck gives. `compared` says which rows were compared."""

    task: str
    metric: str
    chance: float
    ceiling: float | None
    n: int
    compared: str = ""

    @property
    def plain(self) -> bool:
        """Whether values are plain numbers, not shares; then less is better."""
        return self.metric in PLAIN_METRICS


@dataclass(frozen=True)
class BoardTable:
    """Rows that may be compared: the same protocol, suite, evaluation set and dataset. Sorted by column `lead`.

    `left_out` columns more are on the results' own pages alone.
    """

    id: str
    protocol: str
    suite: str
    evalset: str
    dataset: str
    digest: str
    limit: str
    demo: bool
    columns: tuple[BoardColumn, ...]
    rows: tuple[BoardRow, ...]
    lead: int = 0
    left_out: int = 0

    @property
    def title(self) -> str:
        """ "zero-shot on ssw60"."""
        return f"{self.suite} on {self.evalset}"


@dataclass(frozen=True)
class Refused:
    """A submission that is not shown, and why."""

    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """Everything that the pages show; `left_out` tables of fewest results are on those results' own pages alone."""

    tables: tuple[BoardTable, ...]
    members: tuple[BoardMember, ...]
    refused: tuple[Refused, ...] = ()
    left_out: int = 0


def headlines(result: Result) -> list[Figure]:
    """The figures that a table shows; what would make a column a frame, or a species, is on the result's own page."""
    return [f for f in in_table(result) if math.isfinite(f.chance)]
