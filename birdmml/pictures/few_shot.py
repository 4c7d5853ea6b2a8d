"""Accuracy over the number of shots, with 95 % bands: one panel an evaluation set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from birdmml.files import atomic_write
from birdmml.picture import INK, caption
from birdmml.schema import Figure, Result

SUITE, METRIC, SHOT = "few-shot", "accuracy", "-shot"
COLOURS = {"A": "#c0480f", "V": "#2f7ea8", "A+V": "#1f2933"}
Curves = dict[str, dict[str, dict[int, Figure]]]


def curves(result: Result) -> Curves:
    """{evaluation set: {"A+V": {shots: its figure}}}, shots ascending."""
    found: Curves = {}
    for figure in result.figures:
        if (figure.suite, figure.metric) == (SUITE, METRIC):
            task, shots = figure.task.removesuffix(SHOT).rsplit(" ", 1)
            found.setdefault(figure.evalset, {}).setdefault(task, {})[int(shots)] = figure
    return {name: {t: dict(sorted(c.items())) for t, c in tasks.items()} for name, tasks in found.items()}


def draw(result: Result, path: Path) -> None:
    """Write a PNG; the axis of shots is logarithmic, chance is dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    panels = curves(result)
    canvas = Canvas(figsize=(max(4.5, 3.8 * len(panels)), 3.6), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (evalset, tasks) in zip(axes, panels.items(), strict=True):
        _panel(axis, evalset, tasks)
    axes[0].set_ylabel("accuracy, percent", color=INK, fontsize=8)
    axes[0].legend(frameon=False, fontsize=8)
    canvas.suptitle(caption(result), x=0.01, ha="left", fontsize=9, color=INK)
    with atomic_write(path) as f:
        canvas.savefig(f, format="png", dpi=150, metadata={"Software": None})


def _panel(axis: Any, evalset: str, tasks: dict[str, dict[int, Figure]]) -> None:
    every = sorted({shots for curve in tasks.values() for shots in curve})
    chance: dict[int, float] = {}
    for task, curve in tasks.items():
        shots, figures = list(curve), list(curve.values())
        colour = COLOURS.get(task, INK)
        axis.plot(shots, [100 * f.value for f in figures], "o-", color=colour, ms=3.5, lw=1.3, label=task)
        low, high = [100 * f.low for f in figures], [100 * f.high for f in figures]
        axis.fill_between(shots, low, high, color=colour, alpha=0.18, lw=0)
        chance |= {number: 100 * f.chance for number, f in curve.items()}
    # Fewer classes have many shots, so chance may rise along the axis.
    axis.plot(every, [chance[number] for number in every], "--", color=INK, lw=0.9, label="chance")
    axis.set_xscale("log")
    axis.set_xticks(every, [str(number) for number in every], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_ylim(0, 102)  # A line at 100 is seen whole.
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel("labelled items a class", color=INK, fontsize=8)
    axis.set_title(evalset, loc="left", fontsize=9, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
