"""What the page that compares two rows item by item reads: one script a column, one digit an item and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from birdmml.errors import UnknownName
from birdmml.files import canonical_json
from birdmml.metrics import cutoff
from birdmml.site.items import Doubles, ItemOutcomes
from birdmml.site.model import BoardTable
from birdmml.site.significance import ColumnOutcomes
from birdmml.site.text import plain

# Of items in a file, and of digits: ten million are as much as a browser should be asked to read.
MOST_ITEMS, MOST_DIGITS = 100_000, 10_000_000
# Two digits to base 36.
MOST_NAMES = 36 * 36
_DIGITS = np.array(list("0123456789a"))


def browsable(table: BoardTable, tasks: Sequence[ColumnOutcomes]) -> list[ColumnOutcomes]:
    """The columns in which an item is right or wrong, and two rows at least can be compared."""
    return [
        t
        for t in tasks
        if len(t.rows) > 1 and len(t.items.ids) <= MOST_ITEMS and _rank(table.columns[t.column].metric)
    ]


def name(table: BoardTable, task: ColumnOutcomes) -> str:
    """The script's name, without its ending."""
    return f"{table.id}-{task.column + 1}"


def rule(table: BoardTable, tasks: Sequence[ColumnOutcomes]) -> str:
    """When an item counts as right, in words."""
    metrics = dict.fromkeys(table.columns[t.column].metric for t in tasks)
    rules = [
        "the right answer comes first" if (k := _rank(m)) == 1 else f"it is among the first {k} ({plain(m)})"
        for m in metrics
    ]
    return "; or ".join(rules)


def script(table: BoardTable, task: ColumnOutcomes) -> str:
    """The data of one column as a call, for a page opened as a file may read no other kind of file.

    Each row is its words, its page, a digit an item (how often it was right, in tenths), and where answers are classes
    two more an item: what it was taken for, by the place in `classes`, to base 36.
    """
    first = _places(task.items)
    rows = max(2, MOST_DIGITS // (3 * len(first)))  # The best ones.
    chosen = list(zip(task.rows, task.values, strict=True))[:rows]
    classes = sorted({n for _, items in chosen if items.confusion for n in items.confusion.names})
    place = {name: i for i, name in enumerate(classes)} if len(classes) <= MOST_NAMES else {}
    value: dict[str, Any] = {
        "ids": [plain(task.items.ids[i]) for i in first],
        "entries": [
            [
                *_about(table, row),
                _digits(_shares(items, table.columns[task.column].metric)),
                _names(items, first, place),
            ]
            for row, items in chosen
        ],
    }
    if task.items.targets is not None:
        value["targets"] = [plain(task.items.targets[i]) for i in first]
    if place:
        value["classes"] = [plain(name) for name in classes]
    return f'"use strict";birdmmlItems({canonical_json(name(table, task))},{canonical_json(value)});\n'


def _about(table: BoardTable, row: int) -> tuple[str, str]:
    """A row in words, and its page."""
    member = table.rows[row].member
    if member is None:
        return table.rows[row].name, ""
    return plain(f"{table.rows[row].name}, {member.result.preset}: {member.title}"), member.page


def _digits(shares: Doubles) -> str:
    return "".join(_DIGITS[np.floor(10 * shares + 0.5).astype(np.int64)])


def _names(items: ItemOutcomes, first: Sequence[int], place: Mapping[str, int]) -> str:
    """What each item was taken for; empty where that is no class, or several draws took it for several."""
    if not place or items.named is None or items.confusion is None or items.units is not None:
        return ""
    codes = [np.base_repr(place[name], 36).lower().rjust(2, "0") for name in items.confusion.names]
    return "".join(codes[items.named[i]] for i in first)


def _rank(metric: str) -> int:
    """The k of a metric that says right or wrong, else 0."""
    try:
        return cutoff(metric)
    except UnknownName:
        return 0


def _places(items: ItemOutcomes) -> list[int]:
    """The place of each different item; several draws of one stand together."""
    if items.units is None:
        return list(range(len(items.ids)))
    return [int(i) for i in np.unique(items.units, return_index=True)[1]]


def _shares(items: ItemOutcomes, metric: str) -> Doubles:
    """How often each different item was right, over seeds and draws."""
    values = items.values[metric]
    if items.units is None:
        return values
    return np.asarray(np.bincount(items.units, values) / np.bincount(items.units))
