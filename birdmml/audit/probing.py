"""The probes of one dataset: what is sampled, what it is grouped by, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from birdmml.audit.features import TEXT_DIM, Vector, text_features
from birdmml.audit.groups import Codes, Grouping, choose
from birdmml.audit.media import DIMENSIONS, Measured
from birdmml.audit.model import Probe
from birdmml.audit.probe import SHUFFLES, Outcome, probe
from birdmml.audit.rows import Rows
from birdmml.build.pool import Pool

_BINS = 20
_IDS = {"image": "observation_id", "audio": "recording_id"}


@dataclass(frozen=True)
class Task:
    """One modality to probe: `at` [N] are its rows, with `features` [N, D], `labels` [N] and groups."""

    modality: str
    at: Codes
    features: NDArray[np.float32]
    labels: Codes
    grouping: Grouping
    seed: int


@dataclass(frozen=True)
class Probed:
    """One modality probed: `at` [N] are the sampled rows that have it."""

    at: Codes
    grouping: Grouping
    outcome: Outcome


def run(
    rows: Rows,
    media: Mapping[str, Measured],
    at: Codes,
    seed: int,
    pool: Pool,
    progress: Callable[[int, int], None],
) -> dict[str, Probed]:
    """Probe every modality that has a column over the sampled rows `at`, in worker processes."""
    if not (rows.has("label") or rows.has("species")):
        return {}
    tasks = [*_media_tasks(rows, media, at, seed), *_text_tasks(rows, at, seed)]
    progress(0, len(tasks))
    ended: list[int] = []

    def done(index: int, outcome: Outcome) -> None:
        ended.append(index)
        progress(len(ended), len(tasks))

    outcomes = pool.run(_probe, tasks, done)
    return {t.modality: Probed(t.at, t.grouping, o) for t, o in zip(tasks, outcomes, strict=True)}


def _probe(task: Task) -> Outcome:
    # Processes share the cores; threads inside each would only fight over them.
    with threadpool_limits(1):
        return probe(task.features, task.labels, task.grouping.groups, task.seed)


def _media_tasks(rows: Rows, media: Mapping[str, Measured], at: Codes, seed: int) -> Iterator[Task]:
    for kind, measured in media.items():
        mine = np.array([r for r in at.tolist() if r in measured.features], dtype=np.int64)
        features = [measured.features[r] for r in mine.tolist()]
        words = ("same bytes", "same " + _IDS[kind].removesuffix("_id"))
        grouping = choose(measured.codes()[mine], rows.codes(_IDS[kind])[mine], rows.label[mine], words)
        yield Task(kind, mine, _stack(features, DIMENSIONS[kind]), rows.label[mine], grouping, seed)


def _text_tasks(rows: Rows, at: Codes, seed: int) -> Iterator[Task]:
    for column, name in (("caption", "text"), ("caption_name_free", "caption_name_free")):
        content = rows.codes(column)
        if (content >= 0).any():
            mine = at[content[at] >= 0]
            features = [text_features(t) for t in rows.table.column(column).take(mine).to_pylist()]
            claimed = rows.codes("observation_id")[mine]
            grouping = choose(content[mine], claimed, rows.label[mine], ("same text", "same observation"))
            yield Task(name, mine, _stack(features, TEXT_DIM), rows.label[mine], grouping, seed)


def _stack(features: list[Vector], dimensions: int) -> NDArray[np.float32]:
    return np.array(features, dtype=np.float32).reshape(len(features), dimensions)


def line(modality: str, probed: Probed, ceiling: float | None) -> Probe:
    """What the audit says of one probe; `ceiling` is the best possible accuracy where it is known."""
    o = probed.outcome
    told_apart = len(o.shuffled) > 0
    low, high = (float(o.shuffled.min()), float(o.shuffled.max())) if told_apart else (0.0, 0.0)
    bars = np.histogram(o.shuffled, _BINS, (low, high))[0].tolist() if high > low + 1e-9 else []
    return Probe(
        modality=modality,
        verdict=o.verdict,
        why=o.why,
        rows=int(o.used.sum()),
        species=o.species,
        groups=o.groups,
        grouped_by=probed.grouping.by,
        accuracy=o.accuracy,
        low=o.low,
        high=o.high,
        chance=o.chance,
        shuffled_mean=float(o.shuffled.mean()) if told_apart else 0.0,
        shuffled_high=float(np.quantile(o.shuffled, 0.99)) if told_apart else 0.0,
        p=o.p,
        shuffles=SHUFFLES if told_apart else 0,
        ceiling=ceiling,
        histogram=tuple(bars),
        histogram_low=low,
        histogram_high=high,
    )
