"""Which differences of a column are real: paired bootstrap over items, Holm over all pairs of the column, letters.

The draws and the p-values are those of `birdmml.results.compare.compare_all`; here one set of draws serves every column
over the same items, as a product of matrices, so that a table of hundreds of rows is compared in seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_lowercase

import numpy as np

from birdmml.leaderboard.site.items import Doubles, Ints, ItemOutcomes
from birdmml.leaderboard.site.model import BoardMember, BoardTable
from birdmml.results import compare
from birdmml.results.compare import Comparison, fewest_samples, holm
from birdmml.results.metrics import BLOCK_ELEMENTS, BOOTSTRAP_SAMPLES

Reader = Callable[[BoardMember, str], ItemOutcomes | None]

# 435 pairs; their maximal groups, which can be 3^(n/3), stay few enough to be found.
MOST = 30


@dataclass(frozen=True)
class ColumnOutcomes:
    """One column's outcomes over the items that most of its rows share: what comparisons and the browser read."""

    column: int
    items: ItemOutcomes
    rows: tuple[int, ...]
    values: tuple[ItemOutcomes, ...]


def compared(table: BoardTable, read: Reader) -> tuple[BoardTable, tuple[ColumnOutcomes, ...]]:
    """The table with letters, and the outcomes behind each column that has some; rows best first."""
    tasks = [t for i in range(len(table.columns)) if (t := _task(table, i, read)) is not None]
    columns, rows = list(table.columns), [list(r.cells) for r in table.rows]
    for key in dict.fromkeys(t.items.key for t in tasks):
        mine = [t for t in tasks if t.items.key == key]
        best = [t.rows[:MOST] for t in mine]
        families = [np.stack([v.values[columns[t.column].metric] for v in t.values[:MOST]]) for t in mine]
        for task, places, marks in zip(mine, best, letters(families, mine[0].items.units), strict=True):
            columns[task.column] = replace(columns[task.column], compared=_words(table, task, marks is not None))
            for place, letter in zip(places, marks or [], strict=False):
                cell = rows[place][task.column]
                if cell is not None:
                    rows[place][task.column] = replace(cell, letters=letter, best="a" in letter)
    lettered = tuple(replace(r, cells=tuple(cells)) for r, cells in zip(table.rows, rows, strict=True))
    return replace(table, columns=tuple(columns), rows=lettered), tuple(tasks)


def _task(table: BoardTable, column: int, read: Reader) -> ColumnOutcomes | None:
    about = table.columns[column]
    scored: list[tuple[float, int, ItemOutcomes]] = []
    for place, row in enumerate(table.rows):
        cell = row.cells[column]
        if row.member is None or cell is None:
            continue
        items = read(row.member, cell.predictions)
        if items is not None and about.metric in items.values:
            scored.append((-cell.value, place, items))
    if not scored:
        return None
    # Ties go to the items of the best row.
    shared = Counter(items.key for _, _, items in sorted(scored, key=lambda s: s[:2])).most_common(1)[0][0]
    _, rows, values = zip(*sorted((s for s in scored if s[2].key == shared), key=lambda s: s[:2]), strict=True)
    return ColumnOutcomes(column, values[0], rows, values)


def _words(table: BoardTable, task: ColumnOutcomes, lettered: bool) -> str:
    same = len(task.rows)
    most = min(MOST, same)
    if most < 2:
        return "nothing to compare with"
    words = f"{most} rows compared" if most == same else f"the best {most} of {same} rows compared"
    others = sum(1 for r in table.rows if r.member and r.cells[task.column] is not None) - same
    if others:
        words += f"; scored on other items: {others}"
    return words if lettered else f"{words}; the groups are too many for letters"


def letters(families: Sequence[Doubles], units: Ints | None) -> list[list[str] | None]:
    """For each family its rows' letters: rows that share one are not shown to differ (0.05, adjusted by Holm).

    A family is a column's values [M, N] of M rows, best first, on N items; all are over the same items, resampled in
    the same `units` [N]. None where a family has fewer than two
    rows or more groups than the alphabet has letters. At most MOST rows are compared; the caller says so.
    """
    sizes = [len(f) for f in families]
    if not families or max(sizes) < 2:
        return [None] * len(families)
    samples = max(BOOTSTRAP_SAMPLES, fewest_samples(max(n * (n - 1) // 2 for n in sizes)))
    sums, weights = _units(np.concatenate(families), units)
    drawn = _resample(sums, weights, samples)
    ends = np.cumsum(sizes)
    return [
        _letters(p_values(sums[end - n : end], drawn[end - n : end]), n) if n > 1 else None
        for n, end in zip(sizes, ends.tolist(), strict=True)
    ]


def p_values(sums: Doubles, drawn: Doubles) -> list[float]:
    """Two-sided p of every pair of rows, in the order of `itertools.combinations`, as `compare` has them."""
    p: list[float] = []
    for i in range(len(sums) - 1):
        gaps = drawn[i] - drawn[i + 1 :]
        low = (gaps <= compare.LEVEL).sum(axis=1)
        high = (gaps >= -compare.LEVEL).sum(axis=1)
        unequal = (np.abs(sums[i] - sums[i + 1 :]) > compare.LEVEL).sum(axis=1)
        # So few items that differ cannot say more, however many draws; 2**-1000 is as good as 0.
        least = 2.0 ** (1.0 - np.minimum(unequal, 1000))
        two_sided = np.maximum(2.0 * (np.minimum(low, high) + 1) / (drawn.shape[1] + 1), least)
        p += np.minimum(two_sided, 1.0).tolist()
    return p


def _letters(p: Sequence[float], rows: int) -> list[str] | None:
    pairs = list(combinations(range(rows), 2))
    family = [
        Comparison(f"{i:03d}", f"{j:03d}", 0.0, 0.0, 0.0, one, float(adjusted), 0)
        for (i, j), one, adjusted in zip(pairs, p, holm(p), strict=True)
    ]
    groups = sorted(sorted(map(int, g)) for g in compare.groups(family))
    if len(groups) > len(ascii_lowercase):
        return None
    return [
        "".join(c for c, group in zip(ascii_lowercase, groups, strict=False) if row in group) for row in range(rows)
    ]


def _units(values: Doubles, units: Ints | None) -> tuple[Doubles, Doubles]:
    """Sums [M, K] and sizes [K] of what is drawn together."""
    if units is None:
        return values, np.ones(values.shape[1])
    many = int(units.max()) + 1
    sums = np.stack([np.bincount(units, row, many) for row in values]).astype(np.float64)
    return sums, np.bincount(units, minlength=many).astype(np.float64)


def _resample(sums: Doubles, sizes: Doubles, samples: int) -> Doubles:
    """Means [M, B] of B draws of units with replacement: the numbers of times that each was drawn, times the sums."""
    return np.concatenate(
        [(times @ sums.T / (times @ sizes)[:, None]).T for times in _times(len(sizes), samples)], axis=1
    )


def _times(n: int, samples: int) -> Iterator[Doubles]:
    """How often each of n units was drawn [b, n], in blocks; the generator's order is that of `compare`."""
    generator = np.random.default_rng(0)
    step = max(1, BLOCK_ELEMENTS // 4 // n)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = generator.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
