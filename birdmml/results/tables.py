"""Tables of figures and their writers; several results as one table, beside chance and what the paper reports.

A value is marked as best only where it differs from that of every other method on the same items: paired bootstrap,
Holm's correction over all pairs of all columns of a table (a suite on an evaluation set).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import ResultError
from birdmml.results import compare, outcomes, paper
from birdmml.results.metrics import BOOTSTRAP_SAMPLES, outcome
from birdmml.results.outcomes import Predictions
from birdmml.schema import Figure, Result, headline, shown

_DETAILS = {"single frames": re.compile(r" at [0-9.]+ s$"), "retrieval by species": re.compile(r" by species$")}
COLUMNS = (
    "suite", "evalset", "task", "metric", "method", "value", "low", "high", "sd", "n", "seeds", "chance", "best",
    "paper", "paper_mark", "demo",
)  # fmt: skip
LEGEND = (
    "Percent; bootstrap 95 % interval over items. `*`: differs from every other method of the column (paired"
    " bootstrap, Holm over the table at 0.05)."
)
PAPER_LEGEND = "In brackets: what the ConFu paper reports; `!` marks a value that its other values contradict."

DEMO_NOTE = (
    "Rows marked **demo** were measured on procedurally generated data: they show that the software works, and"
    " say nothing about real birds."
)

Place = tuple[str, str, str, str]  # suite, evalset, task, metric


def with_chance(
    head: Sequence[str], columns: Iterable[tuple[str, str, float]], rows: Iterable[Sequence[str]]
) -> list[Sequence[str]]:
    """The head, the rows of words, and a last row of chance; `columns` are (task, metric, chance), after `head`'s."""
    columns = list(columns)
    names = [*head, *(f"{task} {metric}" for task, metric, _ in columns)]
    blank = [""] * (len(head) - 1)
    return [names, *rows, ["chance", *blank, *(shown(metric, chance) for _, metric, chance in columns)]]


def interval(metric: str, value: float, low: float | None, high: float | None, mark: str = "") -> str:
    """ "71.4* (68.0-74.9)": a value with its `mark`, and its interval where there is one."""
    words = f"{shown(metric, value)}{mark}"
    return words if low is None or high is None else f"{words} ({shown(metric, low)}-{shown(metric, high)})"


def one_line(cell: str) -> str:
    """A cell as Markdown that opens no other column."""
    return cell.replace("|", "\\|").replace("\n", " ")


def markdown_table(rows: Sequence[Sequence[str]], clean: Callable[[str], str] = one_line) -> list[str]:
    """Lines of Markdown; the first row is the head, `clean` makes each cell harmless."""
    lines = ["| " + " | ".join(map(clean, row)) + " |" for row in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def aligned(rows: Sequence[Sequence[str]], left: int, widths: Sequence[int] | None = None) -> list[str]:
    """Lines for a terminal: the first `left` columns to the left, numbers to the right."""
    sides = [str.ljust if i < left else str.rjust for i in range(len(rows[0]))]
    widths = column_widths(rows) if widths is None else widths
    return [
        "  " + "  ".join(put(cell, n) for put, cell, n in zip(sides, row, widths, strict=True)).rstrip() for row in rows
    ]


def column_widths(rows: Iterable[Sequence[str]]) -> list[int]:
    """The longest cell of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """CSV; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


@dataclass(frozen=True)
class Standing:
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
    cells: Mapping[Place, Mapping[str, Standing]]
    demo: bool = False
    notes: tuple[str, ...] = ()


def standings(done: Sequence[tuple[Result, Path]]) -> Standings:
    """The table of results and the folders that hold their items. Raises ResultError for items that cannot be read."""
    places: dict[Place, dict[str, Standing]] = {}
    where: dict[str, Path] = {}
    for result, folder in done:
        name = label(result)
        where[name] = folder
        for figure in in_table(result):
            place = figure.suite, figure.evalset, figure.task, figure.metric
            claim = paper.claim(figure, result.method)
            share, mark = (None, "") if claim is None else (claim.share, claim.mark)
            places.setdefault(place, {})[name] = Standing(figure, reported=share, mark=mark)
    notes: list[str] = []
    columns: dict[tuple[str, str], list[_Column]] = {}
    for place, cells in places.items():
        try:
            columns.setdefault(place[:2], []).extend(_column(place, cells, where))
        except ResultError as e:
            notes.append(f"{' '.join(place)}: not compared, {e}")
    for family in columns.values():
        for place, best in _best(family):
            places[place][best] = replace(places[place][best], best=True)
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
        lines += [title, *aligned(rows, left=len(rows[0])), ""]
    return "\n".join([*lines, *_legend(table)])


def standings_markdown(table: Standings) -> str:
    """One table a suite and evaluation set."""
    lines = ["**DEMO DATA, procedurally generated: says nothing about real birds.**", ""] if table.demo else []
    for title, rows in _grids(table):
        # A star would open bold text.
        lines += [f"## {title}", "", *markdown_table(rows, lambda c: one_line(c).replace("*", "\\*")), ""]
    return "\n".join([*lines, *_legend(table)]) + "\n"


def as_csv(table: Standings) -> str:
    """One row a figure, in shares; what is not there is empty."""
    rows: list[Sequence[object]] = [COLUMNS]
    for place, cells in table.cells.items():
        for name, cell in cells.items():
            f = cell.figure
            measured = (f.value, f.low, f.high, f.sd, f.n, table.seeds[name], f.chance)
            rows.append([*place, name, *measured, cell.best, cell.reported, cell.mark, table.demo])
    return csv_text(rows)


def in_table(result: Result) -> list[Figure]:
    """The figures of each suite that count first; all of a suite that has none of those.

    Single frames of a sweep and retrieval by species would make a column each: a note says where they are.
    """
    return [f for f in headline(result.figures) if not any(d.search(f.task) for d in _DETAILS.values())]


def not_shown(results: Sequence[Result]) -> list[str]:
    """A line for what `in_table` leaves out."""
    places = {(f.suite, f.evalset, f.task, f.metric) for r in results for f in headline(r.figures)}
    counts = {what: sum(1 for place in places if d.search(place[2])) for what, d in _DETAILS.items()}
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


def _column(place: Place, cells: Mapping[str, Standing], where: Mapping[str, Path]) -> Iterator[_Column]:
    """The column, if it can be compared: figures that are means over items, of two methods or more.

    Raises ResultError where the methods were not scored on the same items.
    """
    metric = place[3]
    if len(cells) < 2 or not metric.startswith(("accuracy", "recall@")):
        return
    items = {name: outcomes.read(where[name], cell.figure.predictions) for name, cell in cells.items()}
    placed = {name: answers for name, answers in items.items() if isinstance(answers, Predictions)}
    if len(placed) < len(items):
        return
    scored = []
    for name, answers in placed.items():
        ids = answers.ids
        if answers.draws is not None:  # Items may be drawn several times: their ids must differ from draw to draw.
            ids = tuple(f"{draw} {item}" for draw, item in zip(answers.draws.tolist(), ids, strict=True))
        scored.append(compare.Outcomes(name, ids, outcome(metric, answers.greater, answers.ties)))
    compare.aligned(scored)  # Here, so that the note of a mismatch names the place.
    first = next(iter(placed.values()))
    clusters = None if first.draws is None else np.unique(np.asarray(first.ids), return_inverse=True)[1]
    yield _Column(place, max(cells, key=lambda name: cells[name].figure.value), scored, clusters)


def _best(columns: Sequence[_Column]) -> Iterator[tuple[Place, str]]:
    """Of one table, the places whose highest method differs from each of the others: all pairs are one family."""
    if not columns:
        return
    # Fewer could show no difference.
    samples = max(BOOTSTRAP_SAMPLES, compare.fewest_samples(sum(c.pairs for c in columns)))
    compared = [compare.compare_all(c.scored, c.clusters, samples) for c in columns]
    family = iter(compare.adjust([pair for pairs in compared for pair in pairs]))
    for column in columns:
        apart = compare.differs([next(family) for _ in range(column.pairs)])
        if len(apart[column.top]) == len(column.scored) - 1:
            yield column.place, column.top


def _grids(table: Standings) -> list[tuple[str, list[Sequence[str]]]]:
    """(title, rows of words) a suite and evaluation set; a figure that a method lacks is "-"."""
    grids = []
    for suite, evalset in dict.fromkeys(place[:2] for place in table.cells):
        columns = {p: cells for p, cells in table.cells.items() if p[:2] == (suite, evalset)}
        n = max(c.figure.n for cells in columns.values() for c in cells.values())
        heads = [(*p[2:], next(iter(cells.values())).figure.chance) for p, cells in columns.items()]
        rows = [[name, *(_words(cells.get(name)) for cells in columns.values())] for name in table.methods]
        grids.append((f"{suite}, {evalset}, n = {n}", with_chance(["method"], heads, rows)))
    return grids


def _words(cell: Standing | None) -> str:
    if cell is None:
        return "-"
    f = cell.figure
    words = interval(f.metric, f.value, f.low, f.high, "*" if cell.best else "")
    if cell.reported is None:
        return words
    mark = "!" if cell.mark == "slip" else f", {cell.mark}" if cell.mark else ""
    return f"{words} [{shown(f.metric, cell.reported)}{mark}]"


def _legend(table: Standings) -> list[str]:
    lines = [LEGEND, *table.notes]
    reported_too = any(c.reported is not None for cells in table.cells.values() for c in cells.values())
    return [*lines, PAPER_LEGEND] if reported_too else lines


def leaderboard(results: Sequence[Result]) -> str:
    """Markdown: a table for each suite, evaluation set and dataset; a figure that a method lacks is "-"."""
    lines = ["# Bird-MML leaderboard", ""]
    if any(r.demo for r in results):
        lines += [f"> {DEMO_NOTE}", ""]
    # Other data, or other rows of it, have another chance: never in one table.
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        dataset = f"{result.dataset.get('name', '?')} `{str(result.dataset.get('digest', ''))[:8]}`"
        if limit := result.settings.get("limit"):
            dataset += f", limited to {limit} rows"
        for suite, evalset in dict.fromkeys((f.suite, f.evalset) for f in result.figures):
            groups.setdefault((suite, evalset, dataset), []).append(result)
    for (suite, evalset, dataset), members in sorted(groups.items(), key=lambda item: item[0]):
        rows = _board_rows(members, suite, evalset)
        lines += [f"## {suite}, {evalset} of {dataset}", "", *markdown_table(rows), ""]
    lines += not_shown(results)
    lines.append("Percent, mean over seeds (± their standard deviation), bootstrap 95 % interval over items.")
    return "\n".join(lines) + "\n"


def _board_rows(results: Sequence[Result], suite: str, evalset: str) -> list[Sequence[str]]:
    figures = [
        {(f.task, f.metric): f for f in in_table(r) if (f.suite, f.evalset) == (suite, evalset)} for r in results
    ]
    columns = {key: f.chance for row in figures for key, f in row.items()}
    rows = []
    for result, row in zip(results, figures, strict=True):
        name = label(result) + (" **demo**" if result.demo else "")
        name += " **limited**" if result.settings.get("limit") else ""
        rows.append([name, result.preset, str(len(result.seeds)), *(_with_spread(row.get(key)) for key in columns)])
    return with_chance(["method", "preset", "seeds"], ((*key, c) for key, c in columns.items()), rows)


def _with_spread(f: Figure | None) -> str:
    if f is None:
        return "-"
    return interval(f.metric, f.value, f.low, f.high, "" if f.sd is None else f" ± {shown(f.metric, f.sd)}")
