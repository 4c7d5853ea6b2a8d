"""Zero-shot: name the species from image, audio or both, by the nearest class prompt."""

from __future__ import annotations

from collections.abc import Sequence

from birdmml.errors import EvalsetError
from birdmml.schema import Card
from birdmml.suites._material import Material, Request, Scored, Scorer, place, scored

CARD = Card(
    summary="accuracy of A, V and A+V against one prompt a species: the bare common name",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)
METRICS = ("accuracy",)
TASKS = {"A": "audio", "V": "image", "A+V": "image+audio"}


def requests(evalsets: Sequence[str]) -> tuple[Request, ...]:
    """The dataset's own test split, and the test split of every evaluation set at hand."""
    return tuple(Request(name, "test", prompts=True) for name in ("dataset", *evalsets))


def score(material: Material, scorer: Scorer) -> tuple[Scored, ...]:
    """One task for each of A, V, A+V that the method scores against text.

    Items without a needed modality are left out of that task. Raises EvalsetError for fewer than two
    classes, or for no item at all.
    """
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
    return scored(task, query, ids, material.class_names, labels, ranks, len(material.ids) - len(rows))
