"""Outcomes of every seed -> a result's folder: items, figures, picture, and result.json last of all."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from birdmml import passes, results
from birdmml.errors import UsageError
from birdmml.figures import figures_of
from birdmml.picture import draw_all
from birdmml.pictures import confusion
from birdmml.schema import Figure, Result
from birdmml.suites._material import Outcome

# (suite, evaluation set, query) -> the best possible value where it is known, and a note on the method's score
Remarks = Callable[[str, str, str], tuple[float | None, str]]


def record(
    folder: Path,
    head: Result,
    per_seed: Sequence[Mapping[tuple[str, str], tuple[Outcome, ...]]],
    remarks: Remarks = lambda suite, evalset, query: (None, ""),
) -> Result:
    """Write everything below `folder`; `head` is the result without its figures. Returns the whole.

    Raises UsageError where nothing could be scored.
    """
    for made in (
        "predictions",
        "figures",
    ):  # What an earlier run of other suites left would pass for this one's.
        shutil.rmtree(folder / made, ignore_errors=True)
    figures: list[Figure] = []
    for suite, evalset, runs in passes.tasks_of(per_seed):
        ceiling, note = remarks(suite, evalset, runs[0].query)
        figures += figures_of(suite, evalset, runs, head.seeds, head.demo, folder, ceiling, note)
    if not figures:
        asked = ", ".join(head.settings.get("suites", {}))
        raise UsageError(f"{head.method} defines no pair that {asked} asks for: choose another --suite")
    result = dataclasses.replace(head, figures=tuple(figures))
    draw_all(result, folder / "figures")
    confusion.draw(result, folder, folder / "figures")
    results.write_result(folder, result)
    return result


def opened(folder: Path) -> Path:
    """Make a result's folder; one without a result.json is an unfinished run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / results.FILE).unlink(missing_ok=True)
    return folder
