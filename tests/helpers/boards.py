"""Small submissions with true figures, to build boards from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from birdmml.results import outcomes
from birdmml.results.metrics import summarise
from birdmml.results.result import write_result
from birdmml.schema import RESULT_SCHEMA_VERSION, Figure, Result

CLASSES = ("Wren", "Robin", "Jay", "Crow")


@dataclass(frozen=True)
class Entry:
    """As the reader's."""

    folder: Path
    result: Result


@dataclass(frozen=True)
class Submission:
    """As the reader's."""

    slug: str
    entries: tuple[Entry, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def result(
    folder: Path,
    method: str = "confu",
    hits: float = 0.5,
    seed: int = 0,
    seeds: Sequence[int] = (0, 1),
    n: int = 40,
    tasks: Sequence[str] = ("A", "A+V"),
    suite: str = "zero-shot",
    evalset: str = "test-split",
    ids: Sequence[str] | None = None,
    **changes: Any,
) -> Result:
    """A result in `folder` whose figures follow from its items: a share `hits` of them is right."""
    generator = np.random.default_rng(seed)
    names = tuple(ids) if ids is not None else tuple(f"item-{k:04d}" for k in range(n))
    targets = tuple(CLASSES[i % len(CLASSES)] for i in range(len(names)))
    figures = []
    for task in tasks:
        wrong = generator.random((len(seeds), len(names))) >= hits
        greater = np.where(wrong, generator.integers(1, len(CLASSES), wrong.shape), 0)
        said = tuple(tuple(CLASSES[(i + int(bad)) % len(CLASSES)] for i, bad in enumerate(row)) for row in wrong)
        items = outcomes.Predictions(tuple(seeds), len(CLASSES), names, targets, said, greater, np.zeros_like(greater))
        file = f"predictions/{len(figures)}.parquet"
        outcomes.write(folder / file, items)
        summary = summarise("accuracy", greater, items.ties, len(CLASSES))
        figures.append(Figure(suite, evalset, task, "accuracy", **vars(summary), predictions=file))
    made = Result(
        schema_version=RESULT_SCHEMA_VERSION,
        demo=False,
        method=method,
        preset="tiny",
        seeds=tuple(seeds),
        settings=changes.get("settings", {"limit": None}),
        dataset=changes.get("dataset", {"name": "birds", "digest": "0123456789abcdef"}),
        provenance=changes.get("provenance", {}),
        figures=tuple(figures),
        models=changes.get("models", ()),
    )
    write_result(folder, made)
    return made


def submission(root: Path, slug: str, **options: Any) -> Submission:
    """One submission of one result below `root`."""
    folder = root / slug / "results" / options.get("method", "confu")
    return Submission(slug, (Entry(folder, result(folder, **options)),), {"name": slug})


def site_of(*submissions: Submission) -> dict[str, str]:
    """The site's files by name, as text, without a check of the submissions."""
    from birdmml.leaderboard.site import site

    made, _ = site(submissions)
    return {name: content.decode() for name, content in made.files()}


def write(root: Path, files: Mapping[str, str]) -> Path:
    """The files below `root`; returns it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


OWNED = "document.title='owned'"
EVIL = f'<script>{OWNED}</script><img src=x onerror="{OWNED}">\u202e\x07\x00\'"&`${{1}}{{{{7*7}}}}'


def hostile(root: Path, text: str = EVIL) -> Submission:
    """A submission with `text` in every place where a text can stand."""
    from dataclasses import replace

    folder = root / "hostile" / "results" / "one"
    made = result(folder, tasks=("A", "A+V"), ids=[f"{text} {i}" for i in range(12)])
    items = outcomes.read(folder, made.figures[0].predictions)
    assert isinstance(items, outcomes.Predictions)
    names = {c: f"{c} {text}" for c in CLASSES}
    outcomes.write(
        folder / made.figures[0].predictions,
        replace(
            items,
            targets=tuple(names[t] for t in items.targets),
            predictions=tuple(tuple(names[t] for t in row) for row in items.predictions),
        ),
    )
    figures = tuple(replace(f, suite=text, evalset=text, task=f"{text} {f.task}", note=text) for f in made.figures)
    nested = {text: {text: [text, {"a": text}]}, "name": text, "digest": text}
    evil = replace(
        made, method=text, preset=text, figures=figures, dataset=nested,
        settings={**nested, "limit": text, "protocol": {**nested, "departures": [text, [text]]}},
        provenance={**nested, "code": nested, "url": "javascript:document.title='owned'"},
        models=({"seed": text, "weights_sha256": text},),
    )  # fmt: skip
    about = {"name": text, "contact": "javascript:document.title='owned'", text: text, "paper": "https://example.org/a"}
    return Submission("hostile", (Entry(folder, evil),), about)
