"""What the page that compares two rows item by item reads: one script a column, one digit an item and row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from birdmml.errors import UnknownName
from birdmml.files import canonical_json
from birdmml.metrics import cutoff
from birdmml.site.compared import Task
from birdmml.site.items import Doubles, Items
from birdmml.site.model import Table
from birdmml.site.text import plain

# Of items in a file, and of digits: ten million are as much as a browser should be asked to read.
MOST_ITEMS, MOST_DIGITS = 100_000, 10_000_000
_DIGITS = np.array(list("0123456789a"))


def browsable(table: Table, tasks: Sequence[Task]) -> list[Task]:
    """The columns in which an item is right or wrong, and two rows at least can be compared."""
    return [
        t
        for t in tasks
        if len(t.rows) > 1 and len(t.items.ids) <= MOST_ITEMS and _rank(table.columns[t.column].metric)
    ]


def name(table: Table, task: Task) -> str:
    """The script's name, without its ending."""
    return f"{table.id}-{task.column + 1}"


def rule(table: Table, tasks: Sequence[Task]) -> str:
    """When an item counts as right, in words."""
    metrics = dict.fromkeys(table.columns[t.column].metric for t in tasks)
    said = [
        "the right answer comes first" if (k := _rank(m)) == 1 else f"it is among the first {k} ({plain(m)})"
        for m in metrics
    ]
    return "; or ".join(said)


def script(table: Table, task: Task) -> str:
    """The data of one column as a call, for a page opened as a file may read no other kind of file."""
    metric = table.columns[task.column].metric
    first = _places(task.items)
    rows = max(2, MOST_DIGITS // len(first))  # The best ones.
    value: dict[str, Any] = {
        "ids": [plain(task.items.ids[i]) for i in first],
        "entries": [
            _entry(table, row, _shares(items, metric))
            for row, items in list(zip(task.rows, task.values, strict=True))[:rows]
        ],
    }
    if task.items.targets is not None:
        value["targets"] = [plain(task.items.targets[i]) for i in first]
    return f'"use strict";birdmmlItems({canonical_json(name(table, task))},{canonical_json(value)});\n'


def _entry(table: Table, row: int, shares: Doubles) -> list[str]:
    member = table.rows[row].member
    digits = "".join(_DIGITS[np.floor(10 * shares + 0.5).astype(np.int64)])
    if member is None:
        return [table.rows[row].name, "", digits]
    words = f"{table.rows[row].name}, {member.result.preset}: {member.title}"
    return [plain(words), member.page, digits]


def _rank(metric: str) -> int:
    """The k of a metric that says right or wrong, else 0."""
    try:
        return cutoff(metric)
    except UnknownName:
        return 0


def _places(items: Items) -> list[int]:
    """The place of each different item; several draws of one stand together."""
    if items.units is None:
        return list(range(len(items.ids)))
    return [int(i) for i in np.unique(items.units, return_index=True)[1]]


def _shares(items: Items, metric: str) -> Doubles:
    """How often each different item was right, over seeds and draws."""
    values = items.values[metric]
    if items.units is None:
        return values
    return np.asarray(np.bincount(items.units, values) / np.bincount(items.units))
