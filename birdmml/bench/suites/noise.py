"""Noise: zero-shot again with one modality made worse at a time, at an exact level, all else bit for bit the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdmml.bench.suites._contract import Material, Request, Scorer, Subject, named
from birdmml.bench.suites.zero_shot import TASKS
from birdmml.errors import EvalsetError, ResultError, UsageError
from birdmml.media.corruption import Corruption, parse
from birdmml.results.tasks import BETWEEN, CLEAN, Scored, condition_words
from birdmml.schema import Card

CARD = Card(
    summary="accuracy of A, V and A+V with noise on the sound or on the picture, beside the clean one",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331): Gaussian noise at 10, 15 and 20 dB. "
    "All other kinds: this project's own extension",
    url="https://arxiv.org/abs/2511.21331",
)
METRICS = ("accuracy",)
# An SNR means nothing without the place where it holds: resampling and log-mel would change it.
WHERE = {"image": "added after the resize", "audio": "added before the log-mel, over what it reads"}
MAX_CONDITIONS = 100  # Each embeds the split again.


@dataclass(frozen=True)
class Options:
    """`audio` and `image` name the kinds of damage (`birdmml.corrupt.KINDS`): the paper's are Gaussian.

    Noise comes at each of `snr_db`; blur, JPEG and occlusion at levels of their own (sigma in px of a picture of
    224 px, quality, share of the area); "missing" takes the modality away. `seed` is the noise's. `templates` and
    `split` as for zero-shot. Raises UsageError or UnknownName for what does not exist or comes twice.
    """

    snr_db: tuple[float, ...] = (10.0, 15.0, 20.0)
    audio: tuple[str, ...] = ("gaussian",)
    image: tuple[str, ...] = ("gaussian",)
    blur_px: tuple[float, ...] = (1.0, 2.0, 4.0)
    jpeg_quality: tuple[float, ...] = (50.0, 20.0, 5.0)
    occlusion_share: tuple[float, ...] = (0.1, 0.25, 0.5)
    seed: int = 0
    templates: tuple[str, ...] = ("{common_name}",)
    split: str = "test"

    def __post_init__(self) -> None:
        levels = conditions(self)
        if not 1 <= len(levels) <= MAX_CONDITIONS:
            raise UsageError(f"noise has {len(levels)} conditions: ask for 1 to {MAX_CONDITIONS} of them")
        if doubled := next((c for i, c in enumerate(levels) if c in levels[:i]), None):
            raise UsageError(f"noise has {doubled.name} twice: leave one out")


def conditions(options: Options) -> tuple[Corruption, ...]:
    """What is done, one modality at a time: sound first, kinds and levels in the order given."""
    own = {
        "blur": options.blur_px,
        "jpeg": options.jpeg_quality,
        "occlusion": options.occlusion_share,
        "missing": (0.0,),
    }
    kinds = [("audio", kind) for kind in options.audio] + [("image", kind) for kind in options.image]
    return tuple(
        Corruption(modality, kind, level, options.seed)
        for modality, kind in kinds
        for level in own.get(kind, options.snr_db)
    )


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The clean split, then one request a condition, of every subject with classes and media.

    Features and spectrograms are neither waveforms nor pixels: of those there is nothing to say.
    """
    if subject.kind == "arrays" or subject.classes < 2:
        return ()
    clean = Request(subject.name, options.split, options.templates)
    worse = [replace(clean, corruption=c.text) for c in conditions(options) if c.modality in subject.modalities]
    return (clean, *worse) if worse else ()


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Scored, ...]:
    """Tasks "A+V | clean", "A+V | audio gaussian 10 dB" and so on, for each of A, V, A+V that the method scores.

    A task that reads a missing modality is undefined and gives no figure; "A+V, audio missing -> V" is what is left
    to ask with. Raises ResultError unless tasks that do not read the degraded modality are equal to the clean ones,
    EvalsetError where nothing can be scored.
    """
    clean, *worse = materials
    tasks = {
        task: query
        for task, query in TASKS.items()
        if (query, "text") in scorer.pairs and set(query.split("+")) <= set(clean.present)
    }
    gone = [c.modality for c in conditions(options) if c.kind == "missing"]
    reference: dict[str, Scored] = {}
    for task, query in tasks.items():
        undefined = " or ".join(m for m in gone if m in query.split("+"))
        note = f"undefined with {undefined} missing" if undefined else ""
        reference[task] = _task(clean, scorer, f"{task}{BETWEEN}{CLEAN}", query, clean.having(query), note)
    out = list(reference.values())
    for material in worse:
        out += _condition(material, clean, scorer, tasks, reference)
    return tuple(out)


def _condition(
    material: Material, clean: Material, scorer: Scorer, tasks: Mapping[str, str], reference: Mapping[str, Scored]
) -> Iterator[Scored]:
    """All tasks of one condition."""
    corruption = parse(material.corruption)
    for task, query in tasks.items():
        read = corruption.modality in query.split("+")
        if read and corruption.kind == "missing":
            continue
        rows = material.having(query)
        note = _note(corruption, read, len(reference[task].ids) - len(rows))
        outcome = _task(material, scorer, f"{task}{BETWEEN}{condition_words(corruption)}", query, rows, note)
        if not read:  # A free test of the whole path: nothing may leak from one modality into another.
            _check_same(outcome, reference[task])
        yield outcome
    if corruption.kind == "missing":
        yield from _fallback(material, clean, scorer, tasks, corruption.modality)


def _fallback(
    material: Material, clean: Material, scorer: Scorer, tasks: Mapping[str, str], missing: str
) -> Iterator[Scored]:
    """The other modality alone, on the items of A+V; nothing where the method does not score it alone."""
    for rest, query in tasks.items():
        if query == missing or "+" in query or "A+V" not in tasks:
            continue
        note = f"A+V is undefined without {missing}: this is the {query} query alone, on the items of A+V"
        rows = clean.having(tasks["A+V"])  # The same items, or the two accuracies would not compare.
        yield _task(material, scorer, f"A+V, {missing} missing -> {rest}", query, rows, note)


def _task(material: Material, scorer: Scorer, name: str, query: str, rows: NDArray[np.int64], note: str) -> Scored:
    if len(material.class_names) < 2:
        raise EvalsetError(f"{material.evalset} has {len(material.class_names)} classes: noise needs two")
    return replace(named(material, scorer, name, query, METRICS, rows), note=note)


def _note(corruption: Corruption, read: bool, lost: int) -> str:
    """The corruption, its seed and its domain; what became of the task."""
    where = "" if corruption.kind == "missing" else f"; {WHERE[corruption.modality]}"
    note = f"{corruption.name}, seed {corruption.seed}: {corruption.domain}{where}"
    if not read:
        note += f"; {corruption.modality} is not read: equal to clean, item by item"
    if lost:
        note += f"; {lost} items have no signal to measure noise by: left out here, not of clean"
    return note


def _check_same(outcome: Scored, clean: Scored) -> None:
    same = outcome.ids == clean.ids and outcome.predictions == clean.predictions
    if not (same and np.array_equal(outcome.greater, clean.greater) and np.array_equal(outcome.ties, clean.ties)):
        raise ResultError(
            f"{outcome.task} differs from {clean.task}, though it does not read what was made worse: the embeddings "
            "were not made alike; score again with BIRDMML_CACHE= (empty)"
        )
