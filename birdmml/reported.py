"""What the paper reports for a column of a table, with what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from birdmml import paper
from birdmml.schema import Figure

# The paper scores every video of these, those of the training split too.
WHOLE = ("ssw60", "vb100")
_MODALITIES = {"A": "audio", "V": "image"}
# A suite of this project that has the rows of another one of the paper.
_SUITES = {"affect": "retrieval"}


@dataclass(frozen=True)
class Claim:
    """One reported value as a share; `mark` is "slip", "ambiguous", "unconfirmed" or ""."""

    method: str
    share: float
    mark: str
    note: str
    source: str


def claims(suite: str, evalset: str, task: str, metric: str) -> list[Claim]:
    """Every method's reported value of a task, named as results name it.

    The paper scores every video of SSW60 and VB100: only the set "all" of those has reported rows.
    """
    name, _, split = evalset.partition("-")
    if name in WHOLE and not split.endswith("all"):
        return []
    return [
        claim for row_task, row_metric, claim in _rows(_SUITES.get(suite, suite), name)
        if (row_task, row_metric) == (task, metric)
    ]  # fmt: skip


def claim(figure: Figure, method: str) -> Claim | None:
    """What is reported of a method for the figure's set, task and metric, if anything."""
    key = method.casefold().replace("-", "_")
    claims_here = claims(figure.suite, figure.evalset, figure.task, figure.metric)
    return next((one for one in claims_here if one.method == key), None)


@cache
def _rows(suite: str, name: str) -> tuple[tuple[str, str, Claim], ...]:
    return tuple(_read(suite, name))


def _read(suite: str, name: str) -> Iterator[tuple[str, str, Claim]]:
    reasons = {slip.row: slip.reason for slip in paper.slips()}
    for row in paper.reported(suite, name):
        mark = "slip" if row in reasons else row.mark
        note = reasons.get(row, row.note)
        yield _task(row), row.metric, Claim(row.method, round(row.share, 6), mark, note, row.source)


def _task(row: paper.Reported) -> str:
    conditions = row.conditions
    if "degraded" in conditions:
        return f"{row.task} | {_MODALITIES[conditions['degraded']]} gaussian {conditions['snr_db']} dB"
    return f"{row.task} p={conditions['p']}" if "p" in conditions else row.task
