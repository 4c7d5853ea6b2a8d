"""Submissions -> tables: one a protocol, suite, evaluation set and dataset, measured rows beside reported ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from birdmml.core import discover
from birdmml.core.text import file_name, plain
from birdmml.leaderboard.site.model import BoardCell, BoardColumn, BoardMember, BoardRow, BoardTable, headlines
from birdmml.leaderboard.submission.model import Submission
from birdmml.results.paper import ReportedValue, claims
from birdmml.results.tables import label
from birdmml.schema import Figure, Result

# Suites whose columns are steps of one thing: they keep their order.
SWEEPS = ("xor", "noise", "few-shot")
# What a reader can take in, and what nobody can fill a page with.
MOST_COLUMNS, MOST_TABLES = 100, 500

Key = tuple[str, str, str, str, str, str]
Place = tuple[str, str, float]  # task, metric, chance: another chance is another gallery


def members(submissions: Sequence[Submission], verified: bool = True) -> tuple[BoardMember, ...]:
    """Every result of every submission, by their short names; two with one name keep pages of their own."""
    rows = []
    for submission in submissions:
        for entry in submission.entries:
            result = entry.result
            # A slug can be made to look like another's; the digest of the whole cannot.
            page = file_name(submission.slug, entry.folder.name, str(submission.about.get("digest", "")))
            about, name = submission.about, shown_method(label(result))
            rows.append(BoardMember(name, page, submission.slug, about, entry.folder, result, labels(result), verified))
    return tuple(sorted(rows, key=lambda m: (m.slug, m.page)))


def shown_method(name: str) -> str:
    """A method's name as it is typed: older results have "tri_clip"."""
    first, space, rest = plain(name).partition(" ")
    is_method = first.replace("-", "_") in discover.names("method")
    return (first.replace("_", "-") if is_method else first) + space + rest


def labels(result: Result) -> tuple[str, ...]:
    """What limits what a result says: demo, a single seed, fewer rows, changed code, departures from its protocol."""
    code = result.provenance.get("code")
    protocol = result.settings.get("protocol")
    limits = {
        "demo": result.demo,
        "single seed": len(result.seeds) == 1,
        "limited": bool(result.settings.get("limit")),
        "dirty": isinstance(code, Mapping) and bool(code.get("dirty")),
        "departs from protocol": isinstance(protocol, Mapping) and bool(protocol.get("departures")),
    }
    return tuple(name for name, true in limits.items() if true)


def tables(results: Sequence[BoardMember]) -> tuple[tuple[BoardTable, ...], int]:
    """The tables of all results, sorted by what they are of, and how many were too many.

    Values are not compared yet.
    """
    groups: dict[Key, list[BoardMember]] = {}
    for member in results:
        result = member.result
        for suite, evalset in dict.fromkeys((f.suite, f.evalset) for f in headlines(result)):
            groups.setdefault(_key(result, suite, evalset), []).append(member)
    kept = sorted(groups, key=lambda key: (-len(groups[key]), key))[:MOST_TABLES]
    return tuple(_table(key, groups[key]) for key in sorted(kept)), len(groups) - len(kept)


def _key(result: Result, suite: str, evalset: str) -> Key:
    limit = result.settings.get("limit")
    return (
        protocol_of(result),
        suite,
        evalset,
        str(result.dataset.get("name", "?")),
        str(result.dataset.get("digest", "")),
        str(limit) if limit else "",
    )


def protocol_of(result: Result) -> str:
    """ "paper-birds 1a2b3c4d", or "" where a result follows none."""
    protocol = result.settings.get("protocol")
    if not isinstance(protocol, Mapping):
        return ""
    return f"{protocol.get('name', '?')} {str(protocol.get('digest', ''))[:8]}".strip()


def _table(key: Key, results: Sequence[BoardMember]) -> BoardTable:
    protocol, suite, evalset, dataset, digest, limit = key
    by_place: dict[Place, list[Figure]] = {}
    figures = {m.page: _placed(m.result, suite, evalset) for m in results}
    # Columns come in the order of the result that has most of them; what uses more modalities comes first.
    for placed in sorted(figures.values(), key=len, reverse=True):
        for place, figure in placed.items():
            by_place.setdefault(place, []).append(figure)
    if suite not in SWEEPS:
        by_place = dict(sorted(by_place.items(), key=lambda item: -item[0][0].count("+")))
    left_out = max(0, len(by_place) - MOST_COLUMNS)
    by_place = dict(islice(by_place.items(), MOST_COLUMNS))
    columns = tuple(_column(place, by_place[place]) for place in by_place)
    rows = [
        BoardRow(m.name, m.result.method, tuple(_cell(figures[m.page].get(place)) for place in by_place), m)
        for m in results
    ]
    rows += _reported_rows(suite, evalset, columns)
    table = BoardTable(
        id=file_name(suite, evalset, *key),
        protocol=plain(protocol),
        suite=plain(suite),
        evalset=plain(evalset),
        dataset=plain(dataset),
        digest=plain(digest[:12]),
        limit=plain(limit),
        demo=any(m.result.demo for m in results),
        columns=columns,
        rows=tuple(rows),
        lead=_lead(suite, columns, rows),
        left_out=left_out,
    )
    return _sorted(table)


def _placed(result: Result, suite: str, evalset: str) -> dict[Place, Figure]:
    return {
        (f.task, f.metric, round(f.chance, 9)): f for f in headlines(result) if (f.suite, f.evalset) == (suite, evalset)
    }


def _column(place: Place, figures: Sequence[Figure]) -> BoardColumn:
    # The number of items that most results have; the page says where a row has another.
    n = Counter(f.n for f in figures).most_common(1)[0][0]
    ceilings = Counter(f.ceiling for f in figures if f.ceiling is not None and 0 <= f.ceiling <= 1)
    return BoardColumn(place[0], place[1], figures[0].chance, ceilings.most_common(1)[0][0] if ceilings else None, n)


def _cell(figure: Figure | None) -> BoardCell | None:
    if figure is None or not math.isfinite(figure.value):
        return None
    low, high, sd = (v if v is not None and math.isfinite(v) else None for v in (figure.low, figure.high, figure.sd))
    return BoardCell(figure.value, low, high, sd, figure.n, note=plain(figure.note), predictions=figure.predictions)


def _reported_rows(suite: str, evalset: str, columns: Sequence[BoardColumn]) -> list[BoardRow]:
    """What the paper reports in these columns, a row a method."""
    by_method: dict[str, dict[int, ReportedValue]] = {}
    for i, column in enumerate(columns):
        for claim in claims(suite, evalset, column.task, column.metric):
            by_method.setdefault(claim.method, {})[i] = claim
    return [
        BoardRow(
            shown_method(method),
            method,
            tuple(
                BoardCell(cells[i].share, mark=cells[i].mark, note=cells[i].note) if i in cells else None
                for i in range(len(columns))
            ),
        )
        for method, cells in sorted(by_method.items())
    ]


def _lead(suite: str, columns: Sequence[BoardColumn], rows: Sequence[BoardRow]) -> int:
    """The column to sort by: of those with most measured values the first, of a sweep the last."""
    if not columns:
        return 0
    filled = [sum(r.cells[i] is not None for r in rows if r.member) for i in range(len(columns))]
    best = [i for i, n in enumerate(filled) if n == max(filled)]
    return best[-1] if suite in SWEEPS else best[0]


def _sorted(table: BoardTable) -> BoardTable:
    sign = 1 if table.columns and table.columns[table.lead].plain else -1

    def order(row: BoardRow) -> tuple[bool, float, bool, str, str]:
        cell = row.cells[table.lead]
        page = row.member.page if row.member else ""
        return cell is None, sign * cell.value if cell else 0.0, row.member is None, row.name, page

    return replace(table, rows=tuple(sorted(table.rows, key=order)))
