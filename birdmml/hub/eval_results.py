"""`.eval_results/`: a model's figures as the Hub's benchmark datasets collect them.

The format is https://huggingface.co/docs/hub/eval-results: `dataset.id` is a dataset that the Hub lists as a benchmark,
and `dataset.task_id` a task of its eval.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from birdmml.errors import ResultError
from birdmml.leaderboard.submission.model import at
from birdmml.leaderboard.submission.stated import is_date
from birdmml.schema import Figure

if TYPE_CHECKING:
    from birdmml.hub.card import Shelf

FILE = ".eval_results/birdmml.yaml"


def render(repo: str, benchmark: str, shelves: Sequence[Shelf]) -> str:
    """One entry a figure, of this very model; JSON, which YAML readers read.

    Raises ResultError for figures of the demo or of --limit, which nobody can compare, for two figures of one task,
    and where there is none.
    """
    entries: dict[str, dict[str, Any]] = {}
    for shelf in shelves:
        result = shelf.scored.result
        if result.demo or result.settings.get("limit"):
            why = "of the demo" if result.demo else "limited to some rows"
            raise ResultError(
                f"{shelf.scored.folder} is {why}, which no benchmark takes: leave out --benchmark"
            )
        for entry in _entries(repo, benchmark, shelf):
            task = entry["dataset"]["task_id"]
            if task in entries:
                raise ResultError(f"two results give {task}: give --benchmark with one of them")
            entries[task] = entry
    if not entries:
        raise ResultError("--benchmark has nothing to tell: add --results")
    return json.dumps(list(entries.values()), indent=2, allow_nan=False) + "\n"


def task_id(figure: Figure) -> str:
    """ "zero-shot.test-split.a-v.accuracy": what the benchmark's eval.yaml must call the task."""
    parts = (figure.suite, figure.evalset, figure.task, figure.metric)
    return ".".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


def _entries(repo: str, benchmark: str, shelf: Shelf) -> Iterator[dict[str, Any]]:
    result, place = shelf.scored.result, shelf.scored.at
    date = str(at(result.provenance, "created_utc", other=""))[:10]
    source = {
        "url": f"https://huggingface.co/{repo}/tree/main/{shelf.folder}",
        "name": "Outcomes, item by item",
    }
    for f in result.figures:
        yield {
            "dataset": {"id": benchmark, "task_id": task_id(f)},
            "value": f.per_seed[place],
            **({"date": date} if is_date(date) else {}),
            "source": source,
            "notes": _notes(f, result.seeds, place),
        }


def _notes(f: Figure, seeds: Sequence[int], place: int) -> str:
    """What is needed to judge the value, as the card says it."""
    mean = f"mean of {len(seeds)} seeds {f.value:.6g}, " if len(seeds) > 1 else ""
    return f"seed {seeds[place]}, n {f.n}, chance {f.chance:.6g}, {mean}95 % {f.low:.6g} to {f.high:.6g}"
