"""Zero-shot: name the species from image, audio or both, by the nearest class prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from birdmml.errors import EvalsetError
from birdmml.schema import Card
from birdmml.suites._material import Material, Request, Scored, Scorer, Subject, place, scored

CARD = Card(
    summary="accuracy of A, V and A+V against one prompt a species: the bare common name",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)
METRICS = ("accuracy",)
TASKS = {"A": "audio", "V": "image", "A+V": "image+audio"}


@dataclass(frozen=True)
class Options:
    """`templates` of the class prompts (several: an ensemble), and the split."""

    templates: tuple[str, ...] = ("{common_name}",)
    split: str = "test"


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The split of every subject that has classes and a picture or a sound."""
    if subject.classes < 2 or not {"image", "audio"} & set(subject.modalities):
        return ()
    return (Request(subject.name, options.split, options.templates),)


def score(found: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Scored, ...]:
    """One task for each of A, V, A+V that the method scores against text.

    Items without a needed modality are left out of that task. Raises EvalsetError for fewer than two
    classes, or for no item at all.
    """
    del options
    material = found[0]
    if len(material.class_names) < 2:
        raise EvalsetError(f"{material.evalset} has {len(material.class_names)} classes: zero-shot needs two")
    return tuple(
        _task(material, scorer, task, query)
        for task, query in TASKS.items()
        if (query, "text") in scorer.pairs
    )


def _task(material: Material, scorer: Scorer, task: str, query: str) -> Scored:
    rows = material.having(query)
    if material.labels is None or len(rows) == 0:
        raise EvalsetError(f"{material.evalset} has no labelled item with {query}: {task} cannot be scored")
    labels = material.labels[rows]
    arrays = {name: array[rows] for name, array in material.arrays.items()}
    ranks = place(scorer, query, "text", arrays, material.prompts, labels)
    ids = tuple(material.ids[i] for i in rows)
    return scored(
        task, query, METRICS, ids, material.class_names, labels, ranks, len(material.ids) - len(rows)
    )
