"""A result is accepted if every figure follows from its per-item outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from birdmml.errors import ResultError
from birdmml.results import outcomes
from birdmml.results.result import FILE, figure_key, read_result
from birdmml.schema import Figure, Result

TOLERANCE = 1e-6  # Another order of summation moves the last digits.


def find(paths: Sequence[Path]) -> list[Path]:
    """Every result folder at or below the paths, sorted; raises ResultError if there is none."""
    folders: set[Path] = set()
    for path in paths:
        if path.is_file():
            folders.add(path.parent)
        elif path.is_dir():
            folders |= {p.parent for p in path.rglob(FILE)}
        else:
            raise ResultError(f"{path} not found: give folders that `birdmml bench` wrote")
    if not folders:
        raise ResultError(f"no {FILE} in {', '.join(map(str, paths))}: run `birdmml bench --method confu`")
    return sorted(folders)


def load(folders: Sequence[Path], allow_demo: bool) -> list[Result]:
    """The verified results; raises ResultError for one that does not follow, or for the demo unless allowed."""
    verified = [verify(folder) for folder in folders]
    demo = [folder for folder, result in zip(folders, verified, strict=True) if result.demo]
    if demo and not allow_demo:
        raise ResultError(
            f"{len(demo)} of {len(verified)} results are of the demo ({demo[0]}), which is no benchmark:"
            " leave them out, or pass --allow-demo to see them marked"
        )
    return verified


def verify(path: Path) -> Result:
    """Read a result and compute every figure again from its parquet files.

    Raises ResultError naming the figure and both values where they differ by more than 1e-6.
    """
    result = read_result(path)
    folder = path if path.is_dir() else path.parent
    if not result.figures:
        raise ResultError(f"{path} holds no figure: score again")
    cache: dict[str, outcomes.Outcomes] = {}  # Many figures are over the items of one file.
    for figure in result.figures:
        if figure.predictions not in cache:
            cache[figure.predictions] = outcomes.read(folder, figure.predictions)
        for difference in differences(result, figure, cache[figure.predictions]):
            raise ResultError(f"{path}: {difference}: score again")
    return result


def differences(result: Result, figure: Figure, items: outcomes.Outcomes) -> Iterator[str]:
    """What of a figure does not follow from its items, a line each; raises ResultError where none can be computed."""
    name = figure_key(figure)
    if items.seeds != tuple(result.seeds):
        yield f"{name} was scored with seeds {items.seeds}, the result says {result.seeds}"
    if items.demo != result.demo:
        yield f"{name}: the result and its items do not agree on being the demo"
    summary = items.summary(figure.metric)
    fields = ("value", "low", "high", "n", "chance", "sd")
    pairs = [(field, getattr(figure, field), getattr(summary, field)) for field in fields]
    pairs += [("number of seeds", len(figure.per_seed), len(summary.per_seed))]
    pairs += [(f"seed {i + 1}", a, b) for i, (a, b) in enumerate(zip(figure.per_seed, summary.per_seed, strict=False))]
    for field, claimed, counted in pairs:
        if claimed is None or counted is None:
            same = claimed is counted  # Where one of them has no value, the other may have none.
        else:
            same = math.isfinite(claimed) and abs(claimed - counted) <= TOLERANCE
        if not same:
            yield f"{name}: {field} is given as {claimed}, its items give {counted}"
