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
    found = claims(figure.suite, figure.evalset, figure.task, figure.metric)
    return next((one for one in found if one.method == key), None)


@cache
def _rows(suite: str, name: str) -> tuple[tuple[str, str, Claim], ...]:
    return tuple(_read(suite, name))


def _read(suite: str, name: str) -> Iterator[tuple[str, str, Claim]]:
    slips = {slip.row: slip.reason for slip in paper.slips()}
    for row in paper.reported(suite, name):
        mark = "slip" if row in slips else row.mark
        note = slips.get(row, row.note)
        yield _task(row), row.metric, Claim(row.method, round(row.share, 6), mark, note, row.source)


def _task(row: paper.Reported) -> str:
    said = row.conditions
    if "degraded" in said:
        return f"{row.task} | {_MODALITIES[said['degraded']]} gaussian {said['snr_db']} dB"
    return f"{row.task} p={said['p']}" if "p" in said else row.task
