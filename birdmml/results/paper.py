"""What the ConFu paper and poster report, as values (benchmarks/paper/), and where they contradict themselves."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Literal

from birdmml.core import discover, files
from birdmml.schema import Figure

Mark = Literal["", "slip", "ambiguous", "unconfirmed"]
MARKS: tuple[Mark, ...] = ("slip", "ambiguous", "unconfirmed")
COLUMNS = ("suite", "evalset", "task", "method", "metric", "condition", "value", "unit", "note", "source")
# Half a unit of the last digit, once for the parts and once for their mean; XOR's figure was read to +-0.005.
ROUNDING, READING = 0.1 + 1e-9, 0.005 + 1e-9


@dataclass(frozen=True)
class Reported:
    """One number as it stands there; `value` is in `unit` ("%" or "share"), `condition` "p=0.5" or the like.

    Names are this project's. Of retrieval `condition` is the poster's column. A `note` may begin with a mark:
    "slip" (it contradicts other values, and says the corrected one), "ambiguous" or "unconfirmed".
    """

    suite: str
    evalset: str
    task: str
    method: str
    metric: str
    condition: str
    value: float
    unit: Literal["%", "share"]
    note: str
    source: str
    table: str

    @property
    def share(self) -> float:
        """The value in [0, 1], as results have it."""
        return self.value / 100 if self.unit == "%" else self.value

    @property
    def conditions(self) -> dict[str, str]:
        """`condition` taken apart: {"degraded": "A", "snr_db": "10"}."""
        return dict(pair.split("=", 1) for pair in self.condition.split())

    @property
    def mark(self) -> Mark:
        """The first word of the note where it is a mark, else ""."""
        return next((mark for mark in MARKS if self.note.startswith(f"{mark}:")), "")


@dataclass(frozen=True)
class Slip:
    """A reported value that other reported values contradict, and what they say it is, in its own unit."""

    row: Reported
    expected: float
    reason: str


def tables() -> tuple[str, ...]:
    """The tables at hand, by the names of their files, sorted."""
    return tuple(sorted(path.stem for path in files.folder("paper").glob("*.csv")))


def reported(suite: str | None = None, evalset: str | None = None, method: str | None = None) -> tuple[Reported, ...]:
    """The values of a suite, an evaluation set and a method; None is any. What is not reported is an empty tuple.

    Case, dashes and underscores do not matter ("Tri-CLIP", "ur-funny"), and VE100 is VB100.
    """
    wanted = (suite, evalset, method)
    return tuple(
        row
        for row in _paper_rows()
        if all(
            ask is None or _key(ask) == _key(has)
            for ask, has in zip(wanted, (row.suite, row.evalset, row.method), strict=True)
        )
    )


def slips(rows: Sequence[Reported] | None = None) -> tuple[Slip, ...]:
    """Everything that can be worked out from other values and does not agree; of `rows`, or of all tables.

    A column's mean is that of its cells; noise on a modality that a score does not use changes nothing; XOR has
    a ceiling; a share lies in 0 to 1.
    """
    rows = _paper_rows() if rows is None else rows
    return (*_wrong_means(rows), *_heard_noise(rows), *_impossible(rows))


def _wrong_means(rows: Sequence[Reported]) -> Iterator[Slip]:
    for row in rows:
        if row.task not in ("mean 1->1", "mean 2->1"):
            continue
        width = 3 if row.task == "mean 1->1" else 4  # "1>2" is an ordered pair, "1>23" holds three modalities
        parts = [
            other.value
            for other in rows
            if (other.table, other.evalset, other.method) == (row.table, row.evalset, row.method)
            and len(other.conditions["column"]) == width
        ]
        expected = mean(parts)
        if abs(row.value - expected) > ROUNDING:
            yield Slip(row, expected, f"its {len(parts)} values average {expected:.1f}")


def _heard_noise(rows: Sequence[Reported]) -> Iterator[Slip]:
    clean = {(r.evalset, r.method, r.task): r.value for r in rows if r.suite == "zero-shot"}
    for row in rows:
        if row.suite != "noise" or row.conditions["degraded"] in row.task.split("+"):
            continue
        expected = clean.get((row.evalset, row.method, row.task))
        if expected is not None and row.value != expected:
            noisy = row.conditions["degraded"]
            yield Slip(row, expected, f"{row.task} does not use the degraded {noisy}: without noise {expected}")


def _impossible(rows: Sequence[Reported]) -> Iterator[Slip]:
    for row in rows:
        if row.suite == "xor":
            p = float(row.conditions["p"])
            ceiling = p + (1 - p) / 32  # of 5 bits
            if row.value > ceiling + READING:
                yield Slip(row, ceiling, f"no method can pass {ceiling:.3f} at p = {p:g}")
    for row in rows:
        most = 100.0 if row.unit == "%" else 1.0
        if not 0 <= row.value <= most:
            yield Slip(row, min(max(row.value, 0.0), most), f"it must lie in 0 to {most:g}")


def _key(name: str) -> str:
    key = name.strip().casefold().replace("-", "_")
    return discover.ALIASES["evaluation set"].get(key, key)


@cache
def _paper_rows() -> tuple[Reported, ...]:
    return tuple(row for name in tables() for row in _read_paper(files.folder("paper") / f"{name}.csv"))


def _read_paper(path: Path) -> Iterator[Reported]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    table = csv.DictReader(lines, strict=True)
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{path.name}: its columns must be {', '.join(COLUMNS)}")
    for row in table:
        unit = row["unit"]
        if unit not in ("%", "share") or None in row or None in row.values():
            raise ValueError(f"{path.name}, row {table.line_num}: a cell too many or too few, or unit {unit!r}")
        yield Reported(**{**row, "value": float(row["value"])}, table=path.stem)  # type: ignore[arg-type]  # checked


# The paper scores every video of these, those of the training split too.
FULL_SETS = ("ssw60", "vb100")
_MODALITIES = {"A": "audio", "V": "image"}
# A suite of this project that has the rows of another one of the paper.
_SUITES = {"affect": "retrieval"}


@dataclass(frozen=True)
class ReportedValue:
    """One reported value as a share; `mark` is "slip", "ambiguous", "unconfirmed" or ""."""

    method: str
    share: float
    mark: str
    note: str
    source: str


def claims(suite: str, evalset: str, task: str, metric: str) -> list[ReportedValue]:
    """Every method's reported value of a task, named as results name it.

    The paper scores every video of SSW60 and VB100: only the set "all" of those has reported rows.
    """
    name, _, split = evalset.partition("-")
    if name in FULL_SETS and not split.endswith("all"):
        return []
    return [
        claim for row_task, row_metric, claim in _claim_rows(_SUITES.get(suite, suite), name)
        if (row_task, row_metric) == (task, metric)
    ]  # fmt: skip


def claim(figure: Figure, method: str) -> ReportedValue | None:
    """What is reported of a method for the figure's set, task and metric, if anything."""
    key = method.casefold().replace("-", "_")
    claims_here = claims(figure.suite, figure.evalset, figure.task, figure.metric)
    return next((one for one in claims_here if one.method == key), None)


@cache
def _claim_rows(suite: str, name: str) -> tuple[tuple[str, str, ReportedValue], ...]:
    """(task, metric, value) of a suite and set; what contradicts other values is a slip, whatever its note says."""
    reasons = {slip.row: slip.reason for slip in slips()}
    claim_rows = []
    for row in reported(suite, name):
        mark = "slip" if row in reasons else row.mark
        # Rounded: 69.4 / 100 is not 0.694 in binary.
        value = ReportedValue(row.method, round(row.share, 6), mark, reasons.get(row, row.note), row.source)
        task, conditions = row.task, row.conditions
        if "degraded" in conditions:
            task += f" | {_MODALITIES[conditions['degraded']]} gaussian {conditions['snr_db']} dB"
        elif "p" in conditions:
            task += f" p={conditions['p']}"
        claim_rows.append((task, row.metric, value))
    return tuple(claim_rows)
