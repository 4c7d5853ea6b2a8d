"""Several results as one table: methods by headline figures, beside chance and beside what the paper reports.

A value is marked as best only where it differs from that of every other method on the same items: paired bootstrap,
Holm's correction over all pairs of all columns of a table (a suite on an evaluation set).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml import compare, outcomes, reported
from birdmml.errors import ResultError
from birdmml.metrics import BOOTSTRAP_SAMPLES, outcome
from birdmml.outcomes import Predictions
from birdmml.schema import Figure, Result, headline, shown

_DETAILS = {
    "single frames": re.compile(r" at [0-9.]+ s$"),
    "retrieval by species": re.compile(r" by species$"),
}
COLUMNS = (
    "suite", "evalset", "task", "metric", "method", "value", "low", "high", "sd", "n", "seeds", "chance", "best",
    "paper", "paper_mark", "demo",
)  # fmt: skip
LEGEND = (
    "Percent; bootstrap 95 % interval over items. `*`: differs from every other method of the column (paired"
    " bootstrap, Holm over the table at 0.05)."
)
PAPER_LEGEND = (
    "In brackets: what the ConFu paper reports; `!` marks a value that its other values contradict."
)

Place = tuple[str, str, str, str]  # suite, evalset, task, metric


@dataclass(frozen=True)
class Cell:
    """One method's figure; `reported` is the paper's share where it has one, `mark` what is wrong with that."""

    figure: Figure
    best: bool = False
    reported: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Standings:
    """`cells` by place and method, in the order in which they came; `notes` say what was not compared, or not shown."""

    methods: tuple[str, ...]
    seeds: Mapping[str, int]
    cells: Mapping[Place, Mapping[str, Cell]]
    demo: bool = False
    notes: tuple[str, ...] = ()


def standings(done: Sequence[tuple[Result, Path]]) -> Standings:
    """The table of results and the folders that hold their items. Raises ResultError for items that cannot be read."""
    places: dict[Place, dict[str, Cell]] = {}
    where: dict[str, Path] = {}
    for result, folder in done:
        name = label(result)
        where[name] = folder
        for figure in in_table(result):
            place = figure.suite, figure.evalset, figure.task, figure.metric
            said = reported.claim(figure, result.method)
            told = (None, "") if said is None else (said.share, said.mark)
            places.setdefault(place, {})[name] = Cell(figure, False, *told)
    notes: list[str] = []
    columns: dict[tuple[str, str], list[_Column]] = {}
    for place, cells in places.items():
        try:
            columns.setdefault(place[:2], []).extend(_column(place, cells, where))
        except ResultError as e:
            notes.append(f"{' '.join(place)}: not compared, {e}")
    for mine in columns.values():
        for place, best in _best(mine):
            cell = places[place][best]
            places[place][best] = Cell(cell.figure, True, cell.reported, cell.mark)
    notes += not_shown([result for result, _ in done])
    seeds = {label(result): len(result.seeds) for result, _ in done}
    return Standings(tuple(where), seeds, places, any(r.demo for r, _ in done), tuple(notes))


def label(result: Result) -> str:
    """The method, with its variant unless that is the paper's."""
    method = result.settings.get("method")
    variant = method.get("variant", "paper") if isinstance(method, Mapping) else "paper"
    return result.method if variant == "paper" else f"{result.method} ({variant})"


def text(table: Standings) -> str:
    """Aligned columns for a terminal."""
    lines: list[str] = []
    for title, rows in _grids(table):
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += [title, *("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows), ""]
    return "\n".join([*lines, *_legend(table)])


def markdown(table: Standings) -> str:
    """One table a suite and evaluation set."""
    lines = (
        ["**DEMO DATA, procedurally generated: says nothing about real birds.**", ""] if table.demo else []
    )
    for title, (head, *rows) in _grids(table):
        lines += [f"## {title}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
    return "\n".join([*lines, *_legend(table)]) + "\n"


def as_csv(table: Standings) -> str:
    """One row a figure, in shares; what is not there is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, cells in table.cells.items():
        for name, cell in cells.items():
            f = cell.figure
            values = (
                f.value,
                f.low,
                f.high,
                f.sd,
                f.n,
                table.seeds[name],
                f.chance,
                cell.best,
                cell.reported,
            )
            writer.writerow([*place, name, *("" if v is None else v for v in values), cell.mark, table.demo])
    return out.getvalue()


def in_table(result: Result) -> list[Figure]:
    """The figures of each suite that count first; all of a suite that has none of those.

    Single frames of a sweep and retrieval by species would make a column each: a note says where they are.
    """
    return [f for f in headline(result.figures) if not any(d.search(f.task) for d in _DETAILS.values())]


def not_shown(results: Sequence[Result]) -> list[str]:
    """A line for what `in_table` leaves out."""
    found = {(f.suite, f.evalset, f.task, f.metric) for r in results for f in headline(r.figures)}
    counts = {what: sum(1 for place in found if d.search(place[2])) for what, d in _DETAILS.items()}
    words = ", ".join(f"{what} ({n} column{'s' if n > 1 else ''})" for what, n in counts.items() if n)
    return [f"Not shown here, but in each result.json: {words}."] if words else []


@dataclass(frozen=True)
class _Column:
    """A place where methods can be compared: their outcomes over the same items, the highest first of all."""

    place: Place
    top: str
    scored: Sequence[compare.Outcomes]
    clusters: NDArray[np.int64] | None

    @property
    def pairs(self) -> int:
        return len(self.scored) * (len(self.scored) - 1) // 2


def _column(place: Place, cells: Mapping[str, Cell], where: Mapping[str, Path]) -> Iterator[_Column]:
    """The column, if it can be compared: figures that are means over items, of two methods or more.

    Raises ResultError where the methods were not scored on the same items.
    """
    metric = place[3]
    if len(cells) < 2 or not metric.startswith(("accuracy", "recall@")):
        return
    items = {name: outcomes.read(where[name], cell.figure.predictions) for name, cell in cells.items()}
    placed = {name: found for name, found in items.items() if isinstance(found, Predictions)}
    if len(placed) < len(items):
        return
    scored = [
        compare.Outcomes(name, _keys(found), outcome(metric, found.greater, found.ties))
        for name, found in placed.items()
    ]
    compare.check_same(scored)
    first = next(iter(placed.values()))
    clusters = None if first.draws is None else np.unique(np.asarray(first.ids), return_inverse=True)[1]
    yield _Column(place, max(cells, key=lambda name: cells[name].figure.value), scored, clusters)


def _best(columns: Sequence[_Column]) -> Iterator[tuple[Place, str]]:
    """Of one table, the places whose highest method differs from each of the others: all pairs are one family."""
    if not columns:
        return
    samples = max(BOOTSTRAP_SAMPLES, compare.fewest_samples(sum(c.pairs for c in columns)))
    found = [compare.compare_all(c.scored, c.clusters, samples) for c in columns]
    family = iter(compare.adjust([one for comparisons in found for one in comparisons]))
    for column in columns:
        apart = compare.differs([next(family) for _ in range(column.pairs)])
        if len(apart[column.top]) == len(column.scored) - 1:
            yield column.place, column.top


def _keys(items: Predictions) -> tuple[str, ...]:
    """Ids; where items were drawn several times, ids that differ from draw to draw."""
    if items.draws is None:
        return items.ids
    return tuple(f"{draw} {item}" for draw, item in zip(items.draws.tolist(), items.ids, strict=True))


def _grids(table: Standings) -> list[tuple[str, list[list[str]]]]:
    """(title, head and rows of words) a suite and evaluation set; a figure that a method lacks is "-"."""
    found = []
    for suite, evalset in dict.fromkeys(place[:2] for place in table.cells):
        places = [p for p in table.cells if p[:2] == (suite, evalset)]
        n = max(c.figure.n for p in places for c in table.cells[p].values())
        rows = [["method", *(f"{task} {metric}" for _, _, task, metric in places)]]
        rows += [[name, *(_words(table.cells[p].get(name)) for p in places)] for name in table.methods]
        chance = [next(iter(table.cells[p].values())).figure for p in places]
        rows.append(["chance", *(shown(f.metric, f.chance) for f in chance)])
        found.append((f"{suite}, {evalset}, n = {n}", rows))
    return found


def _words(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    f = cell.figure
    said = f"{shown(f.metric, f.value)}{'*' if cell.best else ''} ({shown(f.metric, f.low)}-{shown(f.metric, f.high)})"
    if cell.reported is None:
        return said
    mark = "!" if cell.mark == "slip" else f", {cell.mark}" if cell.mark else ""
    return f"{said} [{shown(f.metric, cell.reported)}{mark}]"


def _legend(table: Standings) -> list[str]:
    lines = [LEGEND, *table.notes]
    told = any(c.reported is not None for cells in table.cells.values() for c in cells.values())
    return [*lines, PAPER_LEGEND] if told else lines


def _line(cells: Sequence[str]) -> str:
    # A pipe in a name would open another column; a star would open bold text.
    plain = [c.replace("|", "\\|").replace("*", "\\*").replace("\n", " ") for c in cells]
    return "| " + " | ".join(plain) + " |"
