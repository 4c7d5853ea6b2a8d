"""A result as a picture: what was measured, beside chance and (where known) the best possible."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birdmml import pictures
from birdmml.files import atomic_write
from birdmml.outcomes.tasks import frame_of
from birdmml.schema import PLAIN_METRICS, Figure, Result, headline

INK, BAR, BEST, CHANCE = "#1f2933", "#8cb8d0", "#c0480f", "#1f2933"


def draw_all(result: Result, folder: Path, items: Path | None = None) -> None:
    """Write overview.png, and one more for each suite that has a file in birdmml/pictures/: few-shot.png.

    Single frames have one of their own; so have confusions, where the figures' items lie below `items`.
    """
    from birdmml.pictures import confusion, sweep

    draw(result, folder / "overview.png")
    sweep.draw(result, folder / "zero-shot.sweep.png")
    if items is not None:
        confusion.draw(result, items, folder)
    for suite in dict.fromkeys(f.suite for f in result.figures):
        if suite in _own():
            name = suite.replace("-", "_")
            importlib.import_module(f"birdmml.pictures.{name}").draw(result, folder / f"{suite}.png")


def _own() -> set[str]:
    """The suites that have a picture of their own."""
    return {module.name.replace("_", "-") for module in pkgutil.iter_modules(pictures.__path__)}


def draw(result: Result, path: Path) -> None:
    """Write a PNG with one panel a suite and evaluation set, horizontal bars with 95 % intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    panels = _panels(result)
    rows = [len(p) for p in panels.values()]
    canvas = Canvas(figsize=(7.5, 1.3 + 0.34 * sum(rows) + 0.75 * len(rows)), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axis, (title, figures) in zip(axes, panels.items(), strict=True):
        _panel(axis, title, figures)
    axes[-1].set_xlabel("percent", color=INK, fontsize=8)
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    canvas.legend(
        handles.values(), handles.keys(), loc="outside lower right", ncols=3, frameon=False, fontsize=8
    )
    canvas.suptitle(caption(result), x=0.01, ha="left", fontsize=10, color=INK)
    with atomic_write(path) as f:
        canvas.savefig(f, format="png", dpi=150, metadata={"Software": None})


def _panels(result: Result) -> dict[str, list[Figure]]:
    panels: dict[str, list[Figure]] = {}
    # A bar for each shot, condition or single frame would hide the rest.
    chosen = headline(result.figures)
    chosen = [f for f in chosen if f.suite not in _own() and frame_of(f.task) is None] or chosen
    for figure in sorted(chosen, key=lambda f: f.suite, reverse=True):
        if figure.metric not in PLAIN_METRICS:  # The axis is in percent.
            title = f"{figure.suite}, {figure.evalset}: {figure.metric}, n = {figure.n}"
            panels.setdefault(title, []).append(figure)
    return panels


def _panel(axis: Any, title: str, figures: Sequence[Figure]) -> None:
    at = list(range(len(figures)))
    values = [100 * f.value for f in figures]
    spread = [[100 * (f.value - f.low) for f in figures], [100 * (f.high - f.value) for f in figures]]
    axis.barh(at, values, color=BAR, height=0.62, label="measured, 95 % interval")
    axis.errorbar(values, at, xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axis.plot([100 * f.chance for f in figures], at, "|", color=CHANCE, ms=13, mew=2, label="chance")
    known = [(100 * f.ceiling, i) for i, f in enumerate(figures) if f.ceiling is not None]
    if known:
        axis.plot(*zip(*known, strict=True), "|", color=BEST, ms=13, mew=2, label="best possible")
    for i, f in enumerate(figures):
        axis.text(104, i, f"{100 * f.value:.1f}", va="center", fontsize=8, color=INK)
    axis.set_yticks(at, [f.task.replace("->", " → ") for f in figures], fontsize=8)
    lowest = min(f.low for f in figures)
    axis.set_xlim(100 * lowest - 2 if lowest < 0 else 0, 102)
    axis.tick_params(axis="x", labelsize=8)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=9, color=INK)
    axis.spines[["top", "right"]].set_visible(False)


def caption(result: Result) -> str:
    """What was measured on what, in one line or two; the demo is named as such."""
    seeds = f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"
    first = f"{result.method}, {result.preset}, {result.dataset.get('name', '')}, {seeds}"
    if result.settings.get("limit"):
        first += f", LIMITED to {result.settings['limit']} rows"
    return first + ("\nDEMO DATA, procedurally generated: not Bird-MML" if result.demo else "")
