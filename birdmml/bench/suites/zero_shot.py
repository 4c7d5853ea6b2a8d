"""Zero-shot: name the species from image, audio or both, by the nearest class prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from birdmml.bench.suites._contract import BARE, Material, Request, Scorer, Subject, named
from birdmml.errors import EvalsetError, UsageError
from birdmml.results.tasks import Scored
from birdmml.schema import Card

CARD = Card(
    summary="accuracy of A, V and A+V against one prompt a species: the bare common name",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331)",
    url="https://arxiv.org/abs/2511.21331",
)
METRICS = ("accuracy", "top-5 accuracy", "class-mean accuracy")
TASKS = {"A": "audio", "V": "image", "A+V": "image+audio"}
MEAN = "mean"


@dataclass(frozen=True)
class Options:
    """`templates` of the class prompts (several: an ensemble) and the split ("all": as the paper scores).

    `sweep` adds the single frames of videos, one task a frame's time.
    """

    templates: tuple[str, ...] = (BARE,)
    split: str = "test"
    sweep: bool = False

    def __post_init__(self) -> None:
        if bad := [t for t in self.templates if not _fits(t)]:
            raise UsageError(f"template {bad[0]!r}: write it with {{common_name}}, and no other braces")
        if not self.templates:
            raise UsageError("zero-shot.templates is empty: give one, for example {common_name}")


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The split of every subject that has classes to ask for, and a picture or a sound.

    The bare name, the default, gives way to a subject's own prompt.
    """
    if subject.classes < 2 or not subject.prompt or not {"image", "audio"} & set(subject.modalities):
        return ()
    templates = (subject.prompt,) if options.templates == (BARE,) else options.templates
    frames = (MEAN, *subject.sweep) if options.sweep else (MEAN,)
    return tuple(Request(subject.name, options.split, templates, frames=f) for f in frames)


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Scored, ...]:
    """One task for each of A, V, A+V that the method scores against text, and for each single frame ("V at 0.5 s").

    Items without a needed modality are left out of that task. Raises EvalsetError for fewer than two
    classes, or for no item at all.
    """
    del options
    if len(materials[0].class_names) < 2:
        raise EvalsetError(f"{materials[0].evalset} has {len(materials[0].class_names)} classes: zero-shot needs two")
    return tuple(task for material in materials for task in _tasks(material, scorer))


def _tasks(material: Material, scorer: Scorer) -> Iterator[Scored]:
    single, there = material.frames != MEAN, set(material.arrays)
    # Photos alone have no A: a set without a modality is not asked for it.
    queries = {task: query for task, query in TASKS.items() if set(query.split("+")) <= there}
    # Among five classes or fewer the first five are always right.
    metrics = tuple(m for m in METRICS if m != "top-5 accuracy" or len(material.class_names) > 5)
    for task, query in (queries or TASKS).items():
        if (query, "text") in scorer.pairs and not (single and task == "A"):
            name = f"{task} at {material.frames} s" if single else task
            yield named(material, scorer, name, query, metrics, material.having(query))


def _fits(template: str) -> bool:
    try:
        return template.format(common_name="A") != template.format(common_name="B")
    except (KeyError, IndexError, ValueError):
        return False
