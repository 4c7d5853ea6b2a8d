"""The leaderboard: verified results as one Markdown table a suite and evaluation set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from birdmml.errors import ResultError
from birdmml.leaderboard.verify import verify
from birdmml.results import FILE
from birdmml.schema import Figure, Result, shown
from birdmml.standings import in_table, label, not_shown

DEMO_NOTE = (
    "Rows marked **demo** were measured on procedurally generated data: they show that the software works, and"
    " say nothing about real birds."
)


def find(paths: Sequence[Path]) -> list[Path]:
    """Every result folder at or below the paths, sorted; raises ResultError if there is none."""
    found: set[Path] = set()
    for path in paths:
        if path.is_file():
            found.add(path.parent)
        elif path.is_dir():
            found |= {p.parent for p in path.rglob(FILE)}
        else:
            raise ResultError(f"{path} not found: give folders that `birdmml bench` wrote")
    if not found:
        raise ResultError(f"no {FILE} in {', '.join(map(str, paths))}: run `birdmml bench --method confu`")
    return sorted(found)


def load(folders: Sequence[Path], allow_demo: bool) -> list[Result]:
    """The verified results; raises ResultError for one that does not follow, or for the demo unless allowed."""
    results = [verify(folder) for folder in folders]
    demo = [folder for folder, result in zip(folders, results, strict=True) if result.demo]
    if demo and not allow_demo:
        raise ResultError(
            f"{len(demo)} of {len(results)} results are of the demo ({demo[0]}), which is no benchmark:"
            " leave them out, or pass --allow-demo to see them marked"
        )
    return results


def markdown(results: Sequence[Result]) -> str:
    """One table for each suite, evaluation set and dataset; a figure that a method lacks is "-"."""
    lines = ["# Bird-MML leaderboard", ""]
    if any(r.demo for r in results):
        lines += [f"> {DEMO_NOTE}", ""]
    # Other data, or other rows of it, have another chance: never in one table.
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        for suite, evalset in dict.fromkeys((f.suite, f.evalset) for f in result.figures):
            groups.setdefault((suite, evalset, _dataset(result)), []).append(result)
    for (suite, evalset, dataset), members in sorted(groups.items(), key=lambda item: item[0]):
        lines += _table(members, suite, evalset, dataset)
    lines += not_shown(results)
    lines.append("Percent, mean over seeds (± their standard deviation), bootstrap 95 % interval over items.")
    return "\n".join(lines) + "\n"


def _dataset(result: Result) -> str:
    name = f"{result.dataset.get('name', '?')} `{str(result.dataset.get('digest', ''))[:8]}`"
    limit = result.settings.get("limit")
    return f"{name}, limited to {limit} rows" if limit else name


def _table(results: Sequence[Result], suite: str, evalset: str, dataset: str) -> list[str]:
    rows = [
        (r, {(f.task, f.metric): f for f in in_table(r) if (f.suite, f.evalset) == (suite, evalset)})
        for r in results
    ]
    known = {key: f for _, figures in rows for key, f in figures.items()}
    head = ["method", "preset", "seeds", *(f"{task} {metric}" for task, metric in known)]
    lines = [f"## {suite}, {evalset} of {dataset}", "", _line(head), _line(["---"] * len(head))]
    lines += [_line(_row(r, [figures.get(key) for key in known])) for r, figures in rows]
    lines.append(_line(["chance", "", "", *(shown(f.metric, f.chance) for f in known.values())]))
    return [*lines, ""]


def _row(result: Result, figures: Sequence[Figure | None]) -> list[str]:
    marks = " **demo**" if result.demo else ""
    marks += " **limited**" if result.settings.get("limit") else ""
    return [label(result) + marks, result.preset, str(len(result.seeds)), *map(_cell, figures)]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    value, low, high = (shown(figure.metric, v) for v in (figure.value, figure.low, figure.high))
    spread = "" if figure.sd is None else f" ± {shown(figure.metric, figure.sd)}"
    return f"{value}{spread} ({low}-{high})"


def _line(cells: Sequence[str]) -> str:
    # A pipe in a name would open another column.
    return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"
