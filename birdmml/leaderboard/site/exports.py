"""Tables as CSV, JSON and Markdown: the same values as on the pages, in shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from birdmml.core.files import canonical_json
from birdmml.core.text import LONGEST, csv_cell, plain
from birdmml.core.text import markdown as inert
from birdmml.leaderboard.site.model import Board, BoardCell, BoardColumn, BoardRow, BoardTable
from birdmml.results.tables import csv_text, interval, markdown_table, with_chance

COLUMNS = (
    "table", "protocol", "suite", "evalset", "dataset", "digest", "limit", "task", "metric", "method", "preset", "kind",
    "submission", "page", "seeds", "value", "low", "high", "sd", "n", "chance", "ceiling", "letters", "best", "mark",
    "verified", "labels", "note",
)  # fmt: skip
LEGEND = (
    "Percent; bootstrap 95 % interval over items. Rows of a column that share a letter are not shown to differ (paired"
    " bootstrap, Holm at 0.05). *Reported*: what the ConFu paper and poster print; `!` marks a value that other values"
    " contradict or that cannot be read with certainty."
)
DEMO = "Rows marked **demo** were measured on generated data: they say nothing about real birds."


def as_csv(tables: Iterable[BoardTable]) -> str:
    """One line a value; what is not there is empty, and no cell starts a formula."""
    return csv_text([COLUMNS, *([csv_cell(line[name], LONGEST) for name in COLUMNS] for line in _values(tables))])


def as_json(board: Board) -> str:
    """Everything as {"tables", "refused"}; a table has its columns, and its rows their cells in that order."""
    refused = [{"name": plain(r.name), "reasons": [plain(x, 300) for x in r.reasons]} for r in board.refused]
    return canonical_json({"tables": [_table(t) for t in board.tables], "refused": refused}) + "\n"


def table_json(table: BoardTable) -> str:
    """One table."""
    return canonical_json(_table(table)) + "\n"


def as_markdown(tables: Sequence[BoardTable]) -> str:
    """LEADERBOARD.md: one table each."""
    lines = ["# Bird-MML leaderboard", ""]
    if any(t.demo for t in tables):
        lines += [f"> {DEMO}", ""]
    for table in tables:
        lines += _markdown(table)
    return "\n".join([*lines, LEGEND]) + "\n"


def _values(tables: Iterable[BoardTable]) -> Iterator[dict[str, Any]]:
    for table in tables:
        place = _place(table)
        for row in table.rows:
            about = _row(row)
            about["labels"] = ", ".join(about["labels"])
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell is not None:
                    yield {"table": table.id, **place, **_column(column), **about, **_cell(cell)}


def _place(table: BoardTable) -> dict[str, Any]:
    names = ("protocol", "suite", "evalset", "dataset", "digest", "limit")
    return {name: getattr(table, name) for name in names}


def _table(table: BoardTable) -> dict[str, Any]:
    return {
        "id": table.id,
        **_place(table),
        "demo": table.demo,
        "columns": [{**_column(c), "n": c.n, "compared": c.compared} for c in table.columns],
        "rows": [{**_row(r), "cells": [None if c is None else _cell(c) for c in r.cells]} for r in table.rows],
    }


def _column(column: BoardColumn) -> dict[str, Any]:
    texts = {"task": plain(column.task), "metric": plain(column.metric)}
    return {**texts, "chance": column.chance, "ceiling": column.ceiling}


def _row(row: BoardRow) -> dict[str, Any]:
    member = row.member
    return {
        "method": row.name,
        "preset": plain(member.result.preset) if member else "",
        "kind": "measured" if member else "reported",
        "submission": member.title if member else "",
        "page": f"entries/{member.page}.html" if member else "",
        "seeds": len(member.result.seeds) if member else None,
        "verified": member is not None and member.verified,
        "labels": list(member.labels) if member else [],
    }


def _cell(cell: BoardCell) -> dict[str, Any]:
    names = ("value", "low", "high", "sd", "n", "letters", "best", "mark", "note")
    return {name: getattr(cell, name) for name in names}


def _markdown(table: BoardTable) -> list[str]:
    about = [f"protocol {table.protocol}"] if table.protocol else []
    about += [f"dataset {table.dataset} {table.digest}"]
    about += [f"limited to {table.limit} rows"] if table.limit else []
    columns = [(c.task, c.metric, c.chance) for c in table.columns]
    rows = [
        [*_named(row), *(_words(c, column.metric) for c, column in zip(row.cells, table.columns, strict=True))]
        for row in table.rows
    ]
    lines = markdown_table(with_chance(["method", "preset", "seeds"], columns, rows), lambda cell: inert(plain(cell)))
    return [f"## {inert(table.title)}", "", inert("; ".join(about)), "", *lines, ""]


def _named(row: BoardRow) -> list[str]:
    if row.member is None:
        return [f"{row.name}, reported", "", ""]
    marks = "".join(f", {label}" for label in row.member.labels)
    return [f"{row.name} ({row.member.title}){marks}", row.member.result.preset, str(len(row.member.result.seeds))]


def _words(cell: BoardCell | None, metric: str) -> str:
    if cell is None:
        return "-"
    words = interval(metric, cell.value, cell.low, cell.high, "!" if cell.mark else "")
    return f"{words} {cell.letters}".rstrip()
