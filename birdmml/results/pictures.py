"""A result as PNG: bars of what was measured; curves over shots, noise and time beside chance and the best possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdmml.core.files import atomic_write
from birdmml.results import curves
from birdmml.results.curves import Line, Panel, panels_of
from birdmml.results.paper import claim
from birdmml.results.tasks import frame_of
from birdmml.schema import PLAIN_METRICS, Figure, Result, headline

INK, BAR, BEST = "#1f2933", "#8cb8d0", "#c0480f"
SHOT_COLOURS = {"A": "#c0480f", "V": "#2f7ea8", "A+V": INK}
NOISE_STYLES = {"A": ("#c0480f", "s"), "V": ("#2c6e8f", "o"), "A+V": ("#5b3f8c", "D")}
FRAME_STYLES = {"V": ("#2c6e8f", "o"), "A+V": ("#5b3f8c", "D")}
# Suites whose figures are curves: a bar for each shot or condition would hide the rest.
CURVES = ("few-shot", "noise")
# Curves stand beside each other by this share of the range of levels: one must not hide another.
BESIDE = 0.02
FEWER = "Videos that end before a time are missing from its point; the horizontal lines are over all videos."


def draw_all(result: Result, folder: Path) -> None:
    """Write overview.png, and few-shot.png, noise.png and zero-shot.sweep.png where there are such curves."""
    overview(result, folder / "overview.png")
    sweep(result, folder / "zero-shot.sweep.png")
    few_shot(result, folder / "few-shot.png")
    noise(result, folder / "noise.png")


def blank(width: float, height: float, constrained: bool = True) -> Any:
    """An empty picture, in inches; `constrained` makes room for all words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(canvas)
    return canvas


def save(canvas: Any, path: Path, dpi: int = 150) -> None:
    """Write it as PNG, the same bytes whenever it is drawn."""
    with atomic_write(path) as f:
        canvas.savefig(f, format="png", dpi=dpi, metadata={"Software": None})  # Else Matplotlib's version stands in it.


def caption(result: Result) -> str:
    """What was measured on what, in one line or two; the demo is named as such."""
    seeds = f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"
    first = f"{result.method}, {result.preset}, {result.dataset.get('name', '')}, {seeds}"
    if result.settings.get("limit"):
        first += f", LIMITED to {result.settings['limit']} rows"
    return first + ("\nDEMO DATA, procedurally generated: not Bird-MML" if result.demo else "")


def frame(axis: Any, title: str, x: str = "", y: str = "") -> None:
    """A panel's title, the names of its axes, and no line above or to the right."""
    axis.set_title(title, loc="left", fontsize=9, color=INK)
    if x:
        axis.set_xlabel(x, color=INK, fontsize=8)
    if y:
        axis.set_ylabel(y, color=INK, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def legend(canvas: Any, axes: Sequence[Any], place: str, columns: int) -> None:
    """One legend of all panels, outside of them; each label once."""
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    canvas.legend(handles.values(), handles.keys(), loc=place, ncols=columns, frameon=False, fontsize=8)


def spread(figures: Sequence[Figure], scale: float = 100) -> list[list[float]]:
    """How far the 95 % intervals reach below and above the values [2, N]; in percent."""
    return [[scale * (f.value - f.low) for f in figures], [scale * (f.high - f.value) for f in figures]]


def _percent(figures: Sequence[Figure]) -> list[float]:
    return [100 * f.value for f in figures]


def _band(axis: Any, line: Line, colour: str, marker: str, label: str) -> None:
    """A line with a band of 95 %."""
    figures = line.figures
    axis.plot(line.xs, _percent(figures), marker=marker, color=colour, ms=3.5, lw=1.3, label=label)
    low, high = [100 * f.low for f in figures], [100 * f.high for f in figures]
    axis.fill_between(line.xs, low, high, color=colour, alpha=0.18, lw=0)


def _finish(canvas: Any, result: Result, path: Path, size: float = 10) -> None:
    canvas.suptitle(caption(result), x=0.01, ha="left", fontsize=size, color=INK)
    save(canvas, path)


def overview(result: Result, path: Path) -> None:
    """Write a PNG with one panel a suite and evaluation set, horizontal bars with 95 % intervals."""
    panels = _bars(result)
    rows = [len(p) for p in panels.values()]
    canvas = blank(7.5, 1.3 + 0.34 * sum(rows) + 0.75 * len(rows))
    axes = canvas.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axis, (title, figures) in zip(axes, panels.items(), strict=True):
        _bar_panel(axis, title, figures)
    axes[-1].set_xlabel("percent", color=INK, fontsize=8)
    legend(canvas, axes, "outside lower right", 3)
    _finish(canvas, result, path)


def _bars(result: Result) -> dict[str, list[Figure]]:
    panels: dict[str, list[Figure]] = {}
    chosen = headline(result.figures)
    # A bar for each shot, condition or single frame would hide the rest.
    chosen = [f for f in chosen if f.suite not in CURVES and frame_of(f.task) is None] or chosen
    for figure in sorted(chosen, key=lambda f: f.suite, reverse=True):
        if figure.metric not in PLAIN_METRICS:  # The axis is in percent.
            title = f"{figure.suite}, {figure.evalset}: {figure.metric}, n = {figure.n}"
            panels.setdefault(title, []).append(figure)
    return panels


def _bar_panel(axis: Any, title: str, figures: Sequence[Figure]) -> None:
    at, values = list(range(len(figures))), _percent(figures)
    axis.barh(at, values, color=BAR, height=0.62, label="measured, 95 % interval")
    axis.errorbar(values, at, xerr=spread(figures), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axis.plot([100 * f.chance for f in figures], at, "|", color=INK, ms=13, mew=2, label="chance")
    best = [(100 * f.ceiling, i) for i, f in enumerate(figures) if f.ceiling is not None]
    if best:
        axis.plot(*zip(*best, strict=True), "|", color=BEST, ms=13, mew=2, label="best possible")
    for i, value in enumerate(values):
        axis.text(104, i, f"{value:.1f}", va="center", fontsize=8, color=INK)
    axis.set_yticks(at, [f.task.replace("->", " → ") for f in figures], fontsize=8)
    lowest = min(f.low for f in figures)
    axis.set_xlim(100 * lowest - 2 if lowest < 0 else 0, 102)
    axis.tick_params(axis="x", labelsize=8)
    axis.invert_yaxis()
    frame(axis, title)


def few_shot(result: Result, path: Path) -> bool:
    """Write a PNG of accuracy over shots, a panel an evaluation set; the axis is logarithmic, chance dashed.

    False, and nothing written, where there is nothing to draw.
    """
    panels = panels_of(result, curves.shot)
    if not panels:
        return False
    canvas = blank(max(4.5, 3.8 * len(panels)), 3.6)
    axes = canvas.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _shot_panel(axis, panel)
    axes[0].set_ylabel("accuracy, percent", color=INK, fontsize=8)
    axes[0].legend(frameon=False, fontsize=8)
    _finish(canvas, result, path, size=9)
    return True


def _shot_panel(axis: Any, panel: Panel) -> None:
    for line in panel.lines:
        _band(axis, line, SHOT_COLOURS.get(line.name, INK), "o", line.name)
    # Fewer classes have many shots, so chance may rise along the axis.
    chance = {p.x: 100 * p.figure.chance for line in panel.lines for p in line.points}
    axis.plot(panel.xs, [chance[x] for x in panel.xs], "--", color=INK, lw=0.9, label="chance")
    axis.set_xscale("log")
    axis.set_xticks(panel.xs, [f"{x:g}" for x in panel.xs], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_ylim(0, 102)  # A line at 100 is seen whole.
    axis.tick_params(axis="y", labelsize=8)
    frame(axis, panel.evalset, panel.x)


def noise(result: Result, path: Path) -> bool:
    """Write a PNG of accuracy over noise: a row an evaluation set, a column a kind, a curve a task with 95 % intervals.

    False, and nothing written, where there are no levels.
    """
    panels = panels_of(result, curves.noise)
    if not panels:
        return False
    evalsets, kinds = ([*dict.fromkeys(names)] for names in zip(*((p.evalset, p.kind) for p in panels), strict=True))
    canvas = blank(1.2 + 3.4 * len(kinds), 1.0 + 2.8 * len(evalsets))
    grid = canvas.subplots(len(evalsets), len(kinds), squeeze=False, sharey=True)
    for axis in grid.flat:
        axis.set_visible(False)
    for panel in panels:
        _noise_panel(grid[evalsets.index(panel.evalset), kinds.index(panel.kind)], panel)
    for axis in grid[:, 0]:
        axis.set_ylabel("accuracy, percent", color=INK, fontsize=8)
    grid[0, 0].set_ylim(0, 102)
    legend(canvas, list(grid.flat), "outside lower center", 5)
    _finish(canvas, result, path)
    return True


def _noise_panel(axis: Any, panel: Panel) -> None:
    axis.set_visible(True)
    levels = panel.xs
    span = levels[-1] - levels[0] or 1.0
    axis.set_xlim(levels[0] - span / 8, levels[-1] + span / 8)
    for i, line in enumerate(panel.lines):
        colour, marker = NOISE_STYLES[line.name]
        axis.errorbar(
            [x + (i - 1) * BESIDE * span for x in line.xs], _percent(line.figures), yerr=spread(line.figures),
            color=colour, marker=marker, ms=4, lw=1.5, elinewidth=1, capsize=2, label=line.name,
        )  # fmt: skip
        if line.level is not None:
            axis.axhline(100 * line.level.value, color=colour, lw=1, ls=":")
    axis.set_xticks(levels, [f"{level:g}" for level in levels], fontsize=8)
    first = panel.figures[0]
    axis.axhline(100 * first.chance, color=INK, lw=1, ls="--", label="chance")
    axis.plot([], [], color=INK, lw=1, ls=":", label="clean")
    frame(axis, f"{panel.evalset}: {panel.kind}, n = {first.n}", panel.x)
    axis.tick_params(axis="y", labelsize=8)


def sweep(result: Result, path: Path) -> bool:
    """Write a PNG of single frames over their time beside the mean of eight. False: no frames, nothing written."""
    panels = panels_of(result, curves.frame)
    if not panels:
        return False
    zero_shot = [f for f in result.figures if (f.suite, f.metric) == ("zero-shot", "accuracy")]
    means = {(f.evalset, f.task): f for f in zero_shot}
    canvas = blank(9.5, 0.9 + 3.2 * len(panels))
    axes = canvas.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _frame_panel(axis, panel, means, result.method)
    lines = [(line, means.get((panel.evalset, line.name))) for panel in panels for line in panel.lines]
    if any(mean is not None and f.n != mean.n for line, mean in lines for f in line.figures):
        canvas.supxlabel(FEWER, x=0.01, ha="left", fontsize=7, color=INK)
    _finish(canvas, result, path)
    return True


def _frame_panel(axis: Any, panel: Panel, means: Mapping[tuple[str, str], Figure], method: str) -> None:
    for line in panel.lines:
        colour, marker = FRAME_STYLES.get(line.name, (INK, "s"))
        _band(axis, line, colour, marker, f"{line.name}, one frame, 95 % band")
        mean = means.get((panel.evalset, line.name))
        if mean is None:
            continue
        # The line of eight frames, and the paper's where it has one for these items that nothing contradicts.
        label = f"{mean.task}, mean of 8 frames, {100 * mean.value:.1f}, n = {mean.n:,}"
        axis.axhline(100 * mean.value, color=colour, lw=1.1, ls="--", label=label)
        paper = claim(mean, method)
        if paper is not None and not paper.mark:
            label = f"{mean.task}, 8 frames, paper, {100 * paper.share:.1f}"
            axis.axhline(100 * paper.share, color=colour, lw=1.1, ls=(0, (6, 2, 1, 2)), alpha=0.6, label=label)
    chance = 100 * panel.figures[0].chance
    axis.axhline(chance, color=INK, lw=1, ls=":", label=f"chance, {chance:.1f}")
    items = [{p.x: str(p.figure.n) for p in line.points} for line in panel.lines]
    counts = [[n.get(x, "-") for n in items] for x in panel.xs]
    apart = any(len(set(n)) > 1 for n in counts)  # Some videos have no sound.
    words = [f"{x:g}\n" + ("\n".join(n) if apart else n[0]) for x, n in zip(panel.xs, counts, strict=True)]
    axis.set_xticks(panel.xs, words, fontsize=6.5)
    axis.tick_params(axis="y", labelsize=8)
    of = f" of {', of '.join(line.name for line in panel.lines)}" if apart else ""
    axis.set_ylim(0, 102)
    title = f"zero-shot, {panel.evalset}: one frame of each video"
    frame(axis, title, f"time of the frame in the video, s; below it n{of}", "accuracy, percent")
    axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
