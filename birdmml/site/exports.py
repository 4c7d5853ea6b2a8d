"""Tables as CSV, JSON and Markdown: the same values as on the pages, in shares."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from birdmml.build.report_text import markdown as inert
from birdmml.files import canonical_json
from birdmml.schema import shown
from birdmml.site.model import Board, BoardCell, BoardColumn, BoardRow, BoardTable
from birdmml.site.text import csv_cell, plain

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
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in _values(tables):
        writer.writerow([csv_cell(line[name]) for name in COLUMNS])
    return out.getvalue()


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
        place = {
            name: getattr(table, name)
            for name in ("protocol", "suite", "evalset", "dataset", "digest", "limit")
        }
        for row in table.rows:
            about = _row(row)
            about["labels"] = ", ".join(about["labels"])
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell is not None:
                    yield {"table": table.id, **place, **_column(column), **about, **_cell(cell)}


def _table(table: BoardTable) -> dict[str, Any]:
    return {
        "id": table.id,
        "protocol": table.protocol,
        "suite": table.suite,
        "evalset": table.evalset,
        "dataset": table.dataset,
        "digest": table.digest,
        "limit": table.limit,
        "demo": table.demo,
        "columns": [{**_column(c), "n": c.n, "compared": c.compared} for c in table.columns],
        "rows": [
            {**_row(r), "cells": [None if c is None else _cell(c) for c in r.cells]} for r in table.rows
        ],
    }


def _column(column: BoardColumn) -> dict[str, Any]:
    return {
        "task": plain(column.task),
        "metric": plain(column.metric),
        "chance": column.chance,
        "ceiling": column.ceiling,
    }


def _row(row: BoardRow) -> dict[str, Any]:
    member = row.member
    if member is None:
        return {
            "method": row.name, "preset": "", "kind": "reported", "submission": "", "page": "", "seeds": None,
            "verified": False, "labels": [],
        }  # fmt: skip
    return {
        "method": row.name,
        "preset": plain(member.result.preset),
        "kind": "measured",
        "submission": member.title,
        "page": f"entries/{member.page}.html",
        "seeds": len(member.result.seeds),
        "verified": member.verified,
        "labels": list(member.labels),
    }


def _cell(cell: BoardCell) -> dict[str, Any]:
    names = ("value", "low", "high", "sd", "n", "letters", "best", "mark", "note")
    return {name: getattr(cell, name) for name in names}


def _markdown(table: BoardTable) -> list[str]:
    about = [f"protocol {table.protocol}"] if table.protocol else []
    about += [f"dataset {table.dataset} {table.digest}"]
    about += [f"limited to {table.limit} rows"] if table.limit else []
    head = ["method", "preset", "seeds", *(f"{c.task} {c.metric}" for c in table.columns)]
    rows = [
        [
            *_named(row),
            *(_words(c, column) for c, column in zip(row.cells, table.columns, strict=True)),
        ]
        for row in table.rows
    ]
    chance = ["chance", "", "", *(shown(c.metric, c.chance) for c in table.columns)]
    lines = [_line(head), "|" + " --- |" * len(head), *map(_line, rows), _line(chance)]
    return [f"## {inert(table.title)}", "", inert("; ".join(about)), "", *lines, ""]


def _named(row: BoardRow) -> list[str]:
    if row.member is None:
        return [f"{row.name}, reported", "", ""]
    marks = "".join(f", {label}" for label in row.member.labels)
    return [
        f"{row.name} ({row.member.title}){marks}",
        row.member.result.preset,
        str(len(row.member.result.seeds)),
    ]


def _words(cell: BoardCell | None, column: BoardColumn) -> str:
    if cell is None:
        return "-"
    said = shown(column.metric, cell.value) + ("!" if cell.mark else "")
    if cell.low is not None and cell.high is not None:
        said += f" ({shown(column.metric, cell.low)}-{shown(column.metric, cell.high)})"
    return f"{said} {cell.letters}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(inert(plain(c)) for c in cells) + " |"
