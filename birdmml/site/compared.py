"""Tables with letters: which rows of a column are not shown to differ, and what was compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from birdmml.site.items import Items
from birdmml.site.model import Member, Row, Table
from birdmml.site.significance import MOST, Family, letters

Reader = Callable[[Member, str], Items | None]


@dataclass(frozen=True)
class Task:
    """One column's outcomes over the items that most of its rows share: what comparisons and the browser read."""

    column: int
    items: Items
    rows: tuple[int, ...]
    values: tuple[Items, ...]


def compared(table: Table, read: Reader) -> tuple[Table, tuple[Task, ...]]:
    """The table with letters, and the outcomes behind each column that has some; rows best first."""
    tasks = [t for i in range(len(table.columns)) if (t := _task(table, i, read)) is not None]
    columns, rows = list(table.columns), [list(r.cells) for r in table.rows]
    for key in dict.fromkeys(t.items.key for t in tasks):
        mine = [t for t in tasks if t.items.key == key]
        best = [t.rows[:MOST] for t in mine]
        families = [
            Family(np.stack([v.values[columns[t.column].metric] for v in t.values[:MOST]])) for t in mine
        ]
        for task, places, found in zip(mine, best, letters(families, mine[0].items.units), strict=True):
            columns[task.column] = replace(columns[task.column], compared=_words(table, task, found))
            for place, letter in zip(places, found or [], strict=False):
                cell = rows[place][task.column]
                if cell is not None:
                    rows[place][task.column] = replace(cell, letters=letter, best="a" in letter)
    made = tuple(Row(r.name, r.method, tuple(c), r.member) for r, c in zip(table.rows, rows, strict=True))
    return replace(table, columns=tuple(columns), rows=made), tuple(tasks)


def _task(table: Table, column: int, read: Reader) -> Task | None:
    about = table.columns[column]
    found: list[tuple[float, int, Items]] = []
    for place, row in enumerate(table.rows):
        cell = row.cells[column]
        if row.member is None or cell is None:
            continue
        items = read(row.member, cell.predictions)
        if items is not None and about.metric in items.values:
            found.append((-cell.value, place, items))
    if not found:
        return None
    # Ties go to the items of the best row.
    shared = Counter(items.key for _, _, items in sorted(found, key=lambda f: f[:2])).most_common(1)[0][0]
    mine = sorted((f for f in found if f[2].key == shared), key=lambda f: f[:2])
    return Task(column, mine[0][2], tuple(f[1] for f in mine), tuple(f[2] for f in mine))


def _words(table: Table, task: Task, found: Sequence[str] | None) -> str:
    same = len(task.rows)
    most = min(MOST, same)
    if most < 2:
        return "nothing to compare with"
    said = f"{most} rows compared" if most == same else f"the best {most} of {same} rows compared"
    others = sum(1 for r in table.rows if r.member and r.cells[task.column] is not None) - same
    if others:
        said += f"; scored on other items: {others}"
    return said if found is not None else f"{said}; the groups are too many for letters"
