"""Accuracy against the level of noise: one panel for what is made worse, one curve a task, the clean value beside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdmml.corrupt import KINDS
from birdmml.files import atomic_write
from birdmml.outcomes.tasks import condition_of
from birdmml.picture import CHANCE, INK, caption
from birdmml.schema import Figure, Result

STYLES = {"A": ("#c0480f", "s"), "V": ("#2c6e8f", "o"), "A+V": ("#5b3f8c", "D")}
# Curves stand beside each other by this share of the range of levels: one must not hide another.
BESIDE = 0.02
Panel = tuple[str, str, str]  # evaluation set, modality, kind
Curves = dict[str, list[tuple[float, Figure]]]


def draw(result: Result, path: Path) -> bool:
    """Write a PNG of the suite's accuracies in percent, with 95 % intervals. False: no levels, nothing written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    panels, clean = _sorted(result)
    if not panels:
        return False
    rows, columns = ([*dict.fromkeys(part)] for part in ([p[0] for p in panels], [p[1:] for p in panels]))
    canvas = Canvas(figsize=(1.2 + 3.4 * len(columns), 1.0 + 2.8 * len(rows)), layout="constrained")
    FigureCanvasAgg(canvas)
    grid = canvas.subplots(len(rows), len(columns), squeeze=False, sharey=True)
    for axis in grid.flat:
        axis.set_visible(False)
    for panel, curves in panels.items():
        _panel(grid[rows.index(panel[0]), columns.index(panel[1:])], panel, curves, clean)
    for axis in grid[:, 0]:
        axis.set_ylabel("accuracy, percent", color=INK, fontsize=8)
    grid[0, 0].set_ylim(0, 102)
    axes = list(grid.flat)
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    canvas.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False, fontsize=8
    )
    canvas.suptitle(caption(result), x=0.01, ha="left", fontsize=10, color=INK)
    with atomic_write(path) as f:
        canvas.savefig(f, format="png", dpi=150, metadata={"Software": None})
    return True


def _sorted(result: Result) -> tuple[dict[Panel, Curves], dict[tuple[str, str], Figure]]:
    """The figures of each panel and curve by their level, and the clean ones by evaluation set and task."""
    panels: dict[Panel, Curves] = {}
    clean: dict[tuple[str, str], Figure] = {}
    for figure in result.figures:
        found = condition_of(figure.task) if figure.suite == "noise" else None
        if found is None:
            continue
        task, worse = found
        if worse is None:
            clean[figure.evalset, task] = figure
        elif worse.kind != "missing":
            curves = panels.setdefault((figure.evalset, worse.modality, worse.kind), defaultdict(list))
            curves[task].append((worse.level, figure))
    return panels, clean


def _panel(axis: Any, panel: Panel, curves: Curves, clean: Mapping[tuple[str, str], Figure]) -> None:
    evalset, modality, kind = panel
    axis.set_visible(True)
    levels = sorted({level for points in curves.values() for level, _ in points})
    span = levels[-1] - levels[0] or 1.0
    axis.set_xlim(levels[0] - span / 8, levels[-1] + span / 8)
    for i, (task, points) in enumerate(curves.items()):
        colour, marker = STYLES[task]
        points.sort(key=lambda point: point[0])
        at, figures = (
            [level + (i - 1) * BESIDE * span for level, _ in points],
            [figure for _, figure in points],
        )
        values = [100 * f.value for f in figures]
        spread = [[100 * (f.value - f.low) for f in figures], [100 * (f.high - f.value) for f in figures]]
        axis.errorbar(
            at, values, yerr=spread, color=colour, marker=marker, ms=4, lw=1.5, elinewidth=1, capsize=2,
            label=task,
        )  # fmt: skip
        axis.axhline(100 * clean[evalset, task].value, color=colour, lw=1, ls=":")
    axis.set_xticks(levels, [f"{level:g}" for level in levels], fontsize=8)
    some = next(iter(curves.values()))[0][1]
    axis.axhline(100 * some.chance, color=CHANCE, lw=1, ls="--", label="chance")
    axis.plot([], [], color=INK, lw=1, ls=":", label="clean")
    axis.set_xlabel(KINDS[modality][kind].measure, color=INK, fontsize=8)
    axis.set_title(f"{evalset}: {modality} {kind}, n = {some.n}", loc="left", fontsize=9, color=INK)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
