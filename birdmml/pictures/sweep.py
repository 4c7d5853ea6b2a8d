"""Accuracy of single frames over their time in the video, beside that of the average of eight frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from birdmml.files import atomic_write
from birdmml.outcomes.tasks import frame_of
from birdmml.picture import INK, caption
from birdmml.reported import claim
from birdmml.schema import Figure, Result

SUITE, METRIC = "zero-shot", "accuracy"
STYLES = {"V": ("#2c6e8f", "o"), "A+V": ("#5b3f8c", "D")}
Curves = dict[str, dict[str, dict[float, Figure]]]
FEWER = "Videos that end before a time are missing from its point; the horizontal lines are over all videos."


def curves(result: Result) -> Curves:
    """{evaluation set: {"A+V": {time in s: its figure}}}, times ascending."""
    found: Curves = {}
    for figure in result.figures:
        single = frame_of(figure.task) if (figure.suite, figure.metric) == (SUITE, METRIC) else None
        if single is not None:
            task, at_s = single
            found.setdefault(figure.evalset, {}).setdefault(task, {})[at_s] = figure
    return {name: {t: dict(sorted(c.items())) for t, c in tasks.items()} for name, tasks in found.items()}


def averages(result: Result) -> dict[tuple[str, str], Figure]:
    """{(evaluation set, "A+V"): the figure of the average of eight frames}."""
    return {(f.evalset, f.task): f for f in result.figures if (f.suite, f.metric) == (SUITE, METRIC)}


def draw(result: Result, path: Path) -> bool:
    """Write a PNG with one panel an evaluation set, bands of 95 %. False: no single frames, nothing written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    panels, lines = curves(result), averages(result)
    if not panels:
        return False
    canvas = Canvas(figsize=(9.5, 0.9 + 3.2 * len(panels)), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, (evalset, tasks) in zip(axes, panels.items(), strict=True):
        means = {task: lines[evalset, task] for task in tasks if (evalset, task) in lines}
        _panel(axis, evalset, tasks, means, result.method)
    if any(f.n != whole.n for place, whole in lines.items() for f in _points(panels, *place)):
        canvas.supxlabel(FEWER, x=0.01, ha="left", fontsize=7, color=INK)
    canvas.suptitle(caption(result), x=0.01, ha="left", fontsize=10, color=INK)
    with atomic_write(path) as f:
        canvas.savefig(f, format="png", dpi=150, metadata={"Software": None})
    return True


def _points(panels: Curves, evalset: str, task: str) -> Iterable[Figure]:
    return panels.get(evalset, {}).get(task, {}).values()


def _panel(
    axis: Any, evalset: str, tasks: dict[str, dict[float, Figure]], means: dict[str, Figure], method: str
) -> None:
    for task, curve in tasks.items():
        colour, marker = STYLES.get(task, (INK, "s"))
        times, figures = list(curve), list(curve.values())
        axis.plot(
            times, [100 * f.value for f in figures], marker=marker, color=colour, ms=3.5, lw=1.3,
            label=f"{task}, one frame, 95 % band",
        )  # fmt: skip
        low, high = [100 * f.low for f in figures], [100 * f.high for f in figures]
        axis.fill_between(times, low, high, color=colour, alpha=0.18, lw=0)
        if task in means:
            _average(axis, task, means[task], colour, method)
    some = next(iter(next(iter(tasks.values())).values()))
    axis.axhline(100 * some.chance, color=INK, lw=1, ls=":", label=f"chance, {100 * some.chance:.1f}")
    _axes(axis, tasks)
    axis.set_title(f"{SUITE}, {evalset}: one frame of each video", loc="left", fontsize=9, color=INK)


def _average(axis: Any, task: str, mean: Figure, colour: str, method: str) -> None:
    """The line of eight frames, and the paper's where it has one for these items that nothing contradicts."""
    label = f"{task}, mean of 8 frames, {100 * mean.value:.1f}, n = {mean.n:,}"
    axis.axhline(100 * mean.value, color=colour, lw=1.1, ls="--", label=label)
    said = claim(mean, method)
    if said is not None and not said.mark:
        label = f"{task}, 8 frames, paper, {100 * said.share:.1f}"
        axis.axhline(100 * said.share, color=colour, lw=1.1, ls=(0, (6, 2, 1, 2)), alpha=0.6, label=label)


def _axes(axis: Any, tasks: dict[str, dict[float, Figure]]) -> None:
    times = sorted({at_s for curve in tasks.values() for at_s in curve})
    counts = [[str(c[at].n) if at in c else "-" for c in tasks.values()] for at in times]
    apart = any(len(set(n)) > 1 for n in counts)  # Some videos have no sound.
    words = [f"{at:g}\n" + ("\n".join(n) if apart else n[0]) for at, n in zip(times, counts, strict=True)]
    axis.set_xticks(times, words, fontsize=6.5)
    axis.tick_params(axis="y", labelsize=8)
    of = f" of {', of '.join(tasks)}" if apart else ""
    axis.set_xlabel(f"time of the frame in the video, s; below it n{of}", color=INK, fontsize=8)
    axis.set_ylabel("accuracy, percent", color=INK, fontsize=8)
    axis.set_ylim(0, 102)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
