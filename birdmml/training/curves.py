"""A training's journal as a picture: loss terms, validation, learning rate and speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdmml.picture import blank, frame, save
from birdmml.training import journal

FILE = "curves.png"
NOT_TERMS = {"kind", "step", "epoch", "rate", "gradient", "rows_per_second", "memory_bytes", "eta_s"}


def draw(folder: Path) -> Path | None:
    """Write curves.png beside train.jsonl and return its path; None where no epoch was finished."""
    lines = journal.read(folder) if (folder / journal.FILE).is_file() else []
    epochs = [line for line in lines if line["kind"] == "epoch"]
    if not epochs:
        return None
    panels = _panels(epochs)
    canvas = blank(4.2 * len(panels), 3.2)
    axes = canvas.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        _panel(axis, title, names, epochs)
    path = folder / FILE
    save(canvas, path, dpi=120)
    return path


def _panels(epochs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    names = list(epochs[-1])
    panels = {
        "loss": [n for n in names if n in ("loss", "validation loss")],
        "terms": [n for n in names if n not in NOT_TERMS and n != "loss" and not n.startswith("validation")],
        "validation recall": [n for n in names if n.startswith("validation recall")],
        "rows a second": ["rows_per_second"],
    }
    return {title: picked for title, picked in panels.items() if picked}


def _panel(axis: Any, title: str, names: Sequence[str], epochs: Sequence[Mapping[str, Any]]) -> None:
    at = [line["epoch"] for line in epochs]
    for name in names:
        axis.plot(at, [line.get(name) for line in epochs], marker=".", lw=1.2, ms=4, label=name)
    frame(axis, title, "epoch")
    axis.tick_params(labelsize=8)
    axis.set_ylim(bottom=0)
    if len(names) > 1:
        axis.legend(frameon=False, fontsize=7)
