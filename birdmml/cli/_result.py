"""What `birdmml bench` prints of one result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birdmml.plans import BenchPlan
    from birdmml.schema import Figure, Result

FEW = 30


def banner(plan: BenchPlan) -> list[str]:
    """What must be known of any run: demo data, the protocol, a limit."""
    from birdmml.cli._show import DEMO_BANNER

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
    from birdmml.schema import headline

    short = headline(result.figures)
    hidden = {} if every_metric else dict.fromkeys(f.metric for f in result.figures if f not in short)
    lines = [f"{', '.join(hidden)}: --all, or result.json"] if hidden else []
    lines += _notes(result)
    lines += _explained(result, every_metric)
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


def _notes(result: Result) -> list[str]:
    """What the figures' notes say, once each, with the suite where others do not say it."""
    suites: dict[str, set[str]] = {}
    for figure in result.figures:
        for words in filter(None, figure.note.split("; ")):
            suites.setdefault(words, set()).add(figure.suite)
    return [f"{', '.join(sorted(of))}: {words}" for words, of in suites.items()]


def table(result: Result, every_metric: bool) -> str:
    """One block a suite and evaluation set: value beside chance, with its interval."""
    head = ["task", "metric", "value", "95 %", "chance", "n"]
    ceilings = any(f.ceiling is not None for f in result.figures)
    head[5:5] = ["best possible"] if ceilings else []
    head[3:3] = ["sd"] if len(result.seeds) > 1 else []
    lines: list[str] = []
    groups = sorted({(f.suite, f.evalset) for f in result.figures}, reverse=True)
    rows = {
        g: [_row(f, ceilings, len(result.seeds) > 1) for f in _shown(result, g, every_metric)] for g in groups
    }
    widths = [
        max(map(len, column)) for column in zip(head, *(r for g in rows.values() for r in g), strict=True)
    ]
    for (suite, evalset), cells in rows.items():
        lines += ["", f"{suite}, {evalset}", *(_aligned(r, widths) for r in (head, *cells))]
    return "\n".join([*lines, ""])


def _shown(result: Result, group: tuple[str, str], every_metric: bool) -> list[Figure]:
    from birdmml.schema import headline

    chosen = result.figures if every_metric else headline(result.figures)
    return [f for f in chosen if (f.suite, f.evalset) == group]


def _explained(result: Result, every_metric: bool) -> list[str]:
    """What each figure shown says and does not, of suites that have words for theirs."""
    from birdmml import discover
    from birdmml.schema import headline

    words = {s: getattr(discover.load("suite", s), "WORDS", {}) for s in {f.suite for f in result.figures}}
    chosen = result.figures if every_metric else headline(result.figures)
    pairs = dict.fromkeys((f.suite, f.metric) for f in chosen)
    return [f"{metric}: {words[suite][metric]}" for suite, metric in pairs if metric in words[suite]]


def _row(figure: Figure, ceilings: bool, spread: bool) -> list[str]:
    from birdmml.schema import shown

    def number(value: float | None) -> str:
        if value is None:
            return "-"
        return shown(figure.metric, value, " %")

    cells = [figure.task, figure.metric, number(figure.value)]
    cells += [number(figure.sd)] if spread else []
    cells += [f"{number(figure.low)} to {number(figure.high)}", number(figure.chance)]
    cells += [number(figure.ceiling)] if ceilings else []
    return [*cells, str(figure.n)]


def _aligned(row: list[str], widths: list[int]) -> str:
    """The first two columns to the left, numbers to the right."""
    cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
    return "  " + "  ".join(cells).rstrip()


def facts(about: dict[str, Any]) -> str:
    """Names and values in two columns."""
    width = max(map(len, about))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in about.items())
