"""What `birdmml bench` prints of one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdmml.cli._show import DEMO_BANNER
from birdmml.core import discover
from birdmml.schema import Figure, Result, headline, shown

if TYPE_CHECKING:
    from birdmml.bench.plan import BenchPlan

# Under so many items a bootstrap interval covers less than it says.
FEW = 30


def banner(plan: BenchPlan) -> list[str]:
    """What must be known of any run: demo data, the protocol, a limit."""
    lines = [DEMO_BANNER] if plan.demo else []
    if plan.protocol is not None:
        lines.append(f"protocol {plan.protocol['name']}, digest {plan.protocol['digest'][:12]}")
        lines += [f"  DEPARTS from it: {words}" for words in plan.protocol["departures"]]
    if plan.recipe.limit:
        lines.append(f"LIMITED to {plan.recipe.limit} rows a split: these figures compare with nothing else")
    return lines


def opening(plan: BenchPlan) -> list[str]:
    """What is about to be done."""
    work = "scoring a checkpoint of" if plan.checkpoint else "training and scoring"
    seeds = ", ".join(map(str, plan.seeds))
    of = f"{plan.method}, preset {plan.recipe.preset_name}, seed {seeds}, on {plan.built.root}"
    return [*banner(plan), f"{work} {of}"]


def closing(result: Result, folder: Path, every_metric: bool) -> list[str]:
    """Notes, times and where things lie."""
    short = _chosen(result, every_metric)
    hidden = {} if every_metric else dict.fromkeys(f.metric for f in result.figures if f not in short)
    lines = [f"{', '.join(hidden)}: --all, or result.json"] if hidden else []
    # What the figures' notes say, once each, with the suites that they hold for.
    suites: dict[str, set[str]] = {}
    for figure in result.figures:
        for note in filter(None, figure.note.split("; ")):
            suites.setdefault(note, set()).add(figure.suite)
    lines += [f"{', '.join(sorted(of))}: {note}" for note, of in suites.items()]
    # What each figure shown says and does not, of suites that have words for theirs.
    words = {s: getattr(discover.load("suite", s), "WORDS", {}) for s in {f.suite for f in result.figures}}
    shown = dict.fromkeys((f.suite, f.metric) for f in short)
    lines += [f"{metric}: {words[suite][metric]}" for suite, metric in shown if metric in words[suite]]
    fewest = min(f.n for f in result.figures)
    if fewest < FEW:
        lines.append(f"only {fewest} items: intervals over so few are too narrow, build with more test rows")
    spent = result.seconds
    lines += [
        f"time      {spent['total']:.0f} s: training {spent['train']:.0f} s,"
        f" embedding and scoring {spent['embed_and_score']:.0f} s",
        f"result    {folder / 'result.json'}",
        f"items     {folder / 'predictions'}",
    ]
    lines += [f"picture   {path}" for path in sorted((folder / "figures").glob("*.png"))]
    models = folder.parent / "models"
    return [*lines, f"models    {models}"] if result.settings.get("trained_here") else lines


def table(result: Result, every_metric: bool) -> str:
    """One block a suite and evaluation set: value beside chance, with its interval."""
    from birdmml.results.tables import aligned, column_widths

    columns, figures = _columns(result), _chosen(result, every_metric)
    head = [name for name, _ in columns]
    groups = sorted({(f.suite, f.evalset) for f in result.figures}, reverse=True)
    rows = {g: [[words(f) for _, words in columns] for f in figures if (f.suite, f.evalset) == g] for g in groups}
    widths = column_widths([head, *(row for group in rows.values() for row in group)])
    lines: list[str] = []
    for (suite, evalset), group in rows.items():
        lines += ["", f"{suite}, {evalset}", *aligned([head, *group], left=2, widths=widths)]
    return "\n".join([*lines, ""])


def _columns(result: Result) -> list[tuple[str, Callable[[Figure], str]]]:
    """Names, and how a figure reads below each."""

    def number(figure: Figure, name: str) -> str:
        value = getattr(figure, name)
        return "-" if value is None else shown(figure.metric, value, " %")

    columns: list[tuple[str, Callable[[Figure], str]]] = [
        ("task", lambda f: f.task),
        ("metric", lambda f: f.metric),
        ("value", lambda f: number(f, "value")),
    ]
    if len(result.seeds) > 1:
        columns.append(("sd", lambda f: number(f, "sd")))
    columns.append(("95 %", lambda f: f"{number(f, 'low')} to {number(f, 'high')}"))
    columns.append(("chance", lambda f: number(f, "chance")))
    if any(f.ceiling is not None for f in result.figures):
        columns.append(("best possible", lambda f: number(f, "ceiling")))
    return [*columns, ("n", lambda f: str(f.n))]


def _chosen(result: Result, every_metric: bool) -> Sequence[Figure]:
    return result.figures if every_metric else headline(result.figures)


def facts(about: dict[str, Any]) -> str:
    """Names and values in two columns."""
    width = max(map(len, about))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in about.items())
