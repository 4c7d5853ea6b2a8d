"""Pages as HTML: every text of strangers is escaped, cut and stripped of what readers obey unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from birdmml.core.text import facts, plain, templates, web_address, words
from birdmml.leaderboard.site import svg
from birdmml.leaderboard.site.items import ConfusionCounts
from birdmml.leaderboard.site.model import Board, BoardMember, BoardTable
from birdmml.leaderboard.site.significance import MOST
from birdmml.leaderboard.site.tables import protocol_of
from birdmml.results.curves import Panel, panels
from birdmml.schema import PLAIN_METRICS, Figure, shown

TEMPLATES = Path(__file__).with_name("templates")
ASSETS = ("site.css", "board.js", "items.js")
# Nothing but the site's own scripts runs, even if somewhere an escape were missing.
POLICY = Markup(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' data:; "
    "base-uri 'none'; form-action 'none'"
)
MOST_FIGURES, LONGEST = 1000, 300


def index(board: Board, browsers: Mapping[str, object]) -> str:
    """The page of all tables; `browsers` are the tables that have a page of items."""
    methods = {key(r.method): r.name.partition(" (")[0] for t in board.tables for r in t.rows}
    return _render(
        "index.html.j2",
        "birdmml leaderboard",
        board=board,
        browsers=browsers,
        demo=any(t.demo for t in board.tables),
        methods=sorted(methods.items()),
        measured=len({key(m.result.method) for m in board.members}),
        protocols=sorted({t.protocol for t in board.tables}),
        most=MOST,
    )


def entry(member: BoardMember, confusions: Sequence[tuple[str, ConfusionCounts]]) -> str:
    """One result's own page."""
    result = member.result
    figures = sorted(result.figures[:MOST_FIGURES], key=lambda f: (f.suite, f.evalset))
    protocol = result.settings.get("protocol")
    departures = protocol.get("departures") if isinstance(protocol, Mapping) else None
    about = {k: v for k, v in member.about.items() if k not in ("files", "results")}
    return _render(
        "entry.html.j2",
        f"{member.name}: birdmml leaderboard",
        root="../",
        m=member,
        dataset=words(result.dataset.get("name")),
        protocol=protocol_of(result),
        departures=list(map(words, departures[:50])) if isinstance(departures, list | tuple) else [],
        groups=[
            (f"{suite} on {evalset}", list(mine))
            for (suite, evalset), mine in groupby(figures, lambda f: (f.suite, f.evalset))
        ],
        cut=len(result.figures) - len(figures),
        panels=panels(result),
        losses=svg.losses(result),
        confusions=[(title, counts, svg.confused(counts)) for title, counts in confusions],
        most_cells=svg.MOST_CELLS,
        about=facts(about),
        provenance=facts(result.provenance),
        data=facts(
            {
                "dataset": result.dataset,
                "seeds": result.seeds,
                "seconds": result.seconds,
                "weights_sha256": {str(m.get("seed")): m.get("weights_sha256") for m in result.models},
            }
        ),
        settings=facts({k: v for k, v in result.settings.items() if k != "protocol"}),
    )


def items(table: BoardTable, tasks: Sequence[tuple[str, str]], rule: str, media: str) -> str:
    """The page that compares two rows of a table; `tasks` are (script, words), `media` a script or ""."""
    title = f"{table.title}, item by item"
    return _render("items.html.j2", title, root="../", t=table, tasks=tasks, rule=rule, media=media)


def asset(name: str) -> str:
    """A file that pages share."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def key(method: str) -> str:
    """A method's name for filters: case, dashes and underscores do not matter."""
    return plain(method, 60).casefold().replace("_", "-")


def figure(value: float, metric: str) -> str:
    """A value in percent without its sign, or a plain number."""
    return shown(metric, value).replace("-", "−")


def arrows(task: str) -> str:
    """A task as it is read: "image->text" with an arrow."""
    return task.replace("->", "→")


def _grid(panel: Panel) -> list[tuple[str, list[Figure | None]]]:
    """A panel as rows: x, and each line's figure there."""
    lines = [{p.x: p.figure for p in line.points} for line in panel.lines]
    return [(f"{x:g}", [line.get(x) for line in lines]) for x in panel.xs]


def _linked(text: str) -> Markup:
    """An http(s) address as a link that tells nothing of where it was followed; anything else as text."""
    if web_address(text) is None:
        return escape(text)
    return Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(text, text)


def _render(name: str, title: str, root: str = "", **values: Any) -> str:
    return _environment().get_template(name).render(title=title, root=root, csp=POLICY, **values)


@cache
def _environment() -> jinja2.Environment:
    environment = templates(lambda text: plain(text, LONGEST), TEMPLATES)
    # A mapping that lacks a key (a submission without a name) is empty there, and no error.
    environment.undefined = jinja2.ChainableUndefined
    environment.filters["bar"] = lambda f: Markup() if f.metric in PLAIN_METRICS else svg.interval(f)
    environment.filters |= {
        "figure": figure, "key": key, "grid": _grid, "linked": _linked,
        "arrows": arrows, "curves": svg.curves, "legend": svg.legend, "matrix": svg.matrix,
        "loss_chart": svg.loss_chart, "loss_legend": svg.loss_legend, "loss_ends": svg.loss_ends,
    }  # fmt: skip
    return environment
