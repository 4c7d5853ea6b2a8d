"""A submission's model run again on the verifier's own data: what recomputation alone cannot find."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.bench import plan, run
from birdmml.bench.embed import EmbeddingCache
from birdmml.bench.plan import BenchPlan, check_limit
from birdmml.bench.score import Pass
from birdmml.core import discover, provenance, settings
from birdmml.core.device import pick_device
from birdmml.errors import ResultError, UnknownName, UsageError
from birdmml.leaderboard.submission.model import Entry, Problem, Submission
from birdmml.leaderboard.submission.reading import name_of
from birdmml.models import checkpoint
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.read import opened
from birdmml.models.recipe import Recipe
from birdmml.models.state import resolve
from birdmml.results import outcomes, result
from birdmml.results.outcomes import Floats, Ints, Measures, Outcomes, Predictions
from birdmml.schema import Result

CLOSE = 1e-6  # For measures; ranks that differ do so by more.
CAPTIONS = ("caption", "caption_name_free")
STEP = "ask the submitter, or allow a share of moved items with --tolerance"


@dataclass(frozen=True)
class Rerun:
    """What came of running models again: `moved` of `items` outcomes differ; `lines` say it by file."""

    problems: tuple[Problem, ...]
    lines: tuple[str, ...]
    items: int
    moved: int


def rerun(
    submission: Submission,
    models: Sequence[Path],
    data: Path,
    evalsets: Path | None = None,
    tolerance: float = 0.0,
    device: str = "auto",
    method: str | None = None,
) -> Rerun:
    """Embed and score with each checkpoint what its result says, and compare the outcomes item by item.

    A checkpoint is matched with a result by the SHA-256 of its weights. `tolerance` is the share of a file's items
    whose rank may have moved: 0 for the same packages on a CPU. `method` is the file of a method of the user's own.
    Raises CheckpointError, DatasetError, EvalsetError or UsageError where it cannot be done.
    """
    if not 0 <= tolerance <= 1:
        raise UsageError(f"--tolerance {tolerance} is no share: give 0 to 1")
    problems: list[Problem] = []
    lines: list[str] = []
    items = moved = 0
    for folder in map(resolve, models):
        ready = checkpoint.load(folder, method)
        for entry in _entries_of(submission, ready, folder):
            problems += [
                Problem(f"{name_of(entry)}/{result.FILE}", wrong, STEP)
                for wrong in _other_settings(entry.result, ready)
            ]
            for file, many, differ in _compared(entry, ready, data, evalsets, device, lines):
                items, moved = items + many, moved + differ
                lines.append(f"{name_of(entry)}/{file}: seed {ready.seed}: {differ} of {many} items differ")
                if differ > tolerance * many:
                    wrong = f"run again with seed {ready.seed}, {differ} of {many} items differ"
                    problems.append(Problem(f"{name_of(entry)}/{file}", wrong, STEP))
    return Rerun(tuple(problems), tuple(lines), items, moved)


def _entries_of(submission: Submission, ready: Checkpoint, folder: Path) -> list[Entry]:
    held = ready.seed, ready.weights_sha256
    entries = [
        entry
        for entry in submission.entries
        if any((m.get("seed"), m.get("weights_sha256")) == held for m in entry.result.models)
    ]
    if not entries:
        raise ResultError(
            f"{folder}: no result is of its weights ({ready.weights_sha256[:12]}, seed {ready.seed}): give a"
            " checkpoint that the submission names"
        )
    return entries


def _other_settings(result: Result, ready: Checkpoint) -> Iterator[str]:
    """Where the result says other things of the model than its checkpoint."""
    pairs = {
        "method": (result.method, discover.label(ready.method)),
        "settings.method": (result.settings.get("method"), settings.to_dict(ready.config)),
        "settings.preset": (result.settings.get("preset"), settings.to_dict(ready.preset)),
        "dataset.trained_on": (result.dataset.get("trained_on"), ready.dataset.get("digest")),
    }
    for name, (stated, held) in pairs.items():
        if stated != held:
            yield f"{name} is not that of the checkpoint"


def _compared(
    entry: Entry, ready: Checkpoint, data: Path, evalsets: Path | None, device: str, lines: list[str]
) -> Iterator[tuple[str, int, int]]:
    """(file, items, items that differ) of every predictions file."""
    plan = _plan(entry.result, ready, data, evalsets, device)
    if other := provenance.difference(entry.result.provenance, provenance.collect()):
        lines.append(f"{name_of(entry)}: other versions here of {', '.join(other)}: outcomes may move")
    with tempfile.TemporaryDirectory(prefix="birdmml-rerun-") as temporary:
        # Nothing from a cache: what was kept of these weights is what is in question.
        try:
            again, folder = run.run(plan, Path(temporary), quiet=True, cache=EmbeddingCache(None))
        except OSError as e:
            raise ResultError(f"{temporary} cannot be written ({e.strerror or e}): free space") from e
        except (ValueError, TypeError, LookupError, ArithmeticError) as e:
            # Options of a stranger: of the right types, and still such that no suite can use them.
            raise ResultError(f"{name_of(entry)} cannot be run again as it says ({e}): {STEP}") from e
        mine = {figure.predictions for figure in again.figures}
        for file in sorted({figure.predictions for figure in entry.result.figures}):
            stated = outcomes.read(entry.folder, file)
            if file not in mine:
                yield file, len(stated.ids), len(stated.ids)
            else:
                yield file, len(stated.ids), moved(stated, outcomes.read(folder, file), ready.seed)


def _plan(result: Result, ready: Checkpoint, data: Path, evalsets: Path | None, device: str) -> BenchPlan:
    """The plan that the result's settings describe, with the checkpoint in the place of a training."""
    caption, limit = result.dataset.get("caption", CAPTIONS[0]), result.settings.get("limit")
    if caption not in CAPTIONS or not (limit is None or isinstance(limit, int)):
        raise ResultError(f"{result.method}: caption {caption!r} or limit {limit!r} cannot be run again")
    check_limit(limit)
    built = dataclasses.replace(opened(data), caption=caption)
    if built.digest != result.dataset.get("digest"):
        raise ResultError(f"{data} is not the dataset of {result.method} ({built.digest[:12]}): give that one")
    suites = result.settings.get("suites")
    if not isinstance(suites, Mapping):
        raise ResultError(f"{result.method}: its suites are stated without options: it is too old to run again")
    passes = tuple(_pass(name, options) for name, options in suites.items())
    recipe = Recipe(built, ready.method, ready.config, result.preset, ready.preset, limit)
    only = list(result.settings.get("evalsets", {}))
    providers = plan.providers(recipe.built, evalsets, passes, only)
    return BenchPlan(recipe, passes, (ready.seed,), pick_device(device).type, ready, providers)


def _pass(name: str, options: Any) -> Pass:
    """The pass that `Pass.name` names: "zero-shot", or "zero-shot ssw60 all"."""
    suite, *rest = name.split(" ")
    try:
        values = settings.from_dict(discover.load("suite", suite).Options, options)
    except (UnknownName, TypeError, AttributeError) as e:
        raise ResultError(f"suite {name!r} with options {options!r} cannot be run again ({e})") from e
    return Pass(suite, values, rest[0] if rest else "")


def moved(stated: Outcomes, again: Outcomes, seed: int) -> int:
    """How many items have another outcome; all of them where the items are not the same."""
    n = len(stated.ids)
    if stated.ids != again.ids or type(stated) is not type(again) or seed not in stated.seeds:
        return n
    old, new = stated.seeds.index(seed), again.seeds.index(seed)
    differ = np.zeros(n, dtype=bool)
    for a, b in zip(_numbers(stated, old), _numbers(again, new), strict=True):
        differ |= np.abs(a - b) > CLOSE
    if not isinstance(stated, Measures) and not isinstance(again, Measures):
        names = zip(stated.predictions[old], again.predictions[new], strict=True)
        differ |= np.asarray([a != b for a, b in names])
    return int(differ.sum())


def _numbers(items: Outcomes, seed: int) -> list[Floats | Ints]:
    """What the figures are computed from, [N] each."""
    if isinstance(items, Measures):
        return [items.values[seed], items.weights[seed]]
    if isinstance(items, Predictions):
        return [items.greater[seed], items.ties[seed]]
    return [items.greater[seed], items.ties[seed], items.level[seed], items.average_precision[seed]]
