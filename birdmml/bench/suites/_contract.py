"""What goes into a suite and what comes out: named arrays in, per-item outcomes out. numpy only.

A suite is one file with `CARD`, and

- `Options`, a frozen dataclass whose fields all have defaults (`--set few-shot.draws=3`);
- `requests(subject, options) -> tuple[Request, ...]`: what to embed of one subject; none: the suite has nothing to
  say of it;
- `score(materials, scorer, options) -> tuple[Outcome, ...]` from the materials of those requests, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import EvalsetError
from birdmml.results.gallery import rank_both
from birdmml.results.metrics import Ranks, rank
from birdmml.results.tasks import Scored

Arrays = Mapping[str, NDArray[np.float32]]
# score(query, target, query embeddings [Q, D], candidate embeddings [C, D]) -> [Q, C]
Score = Callable[[str, str, Arrays, Arrays], NDArray[np.floating]]

# Scores closer than this are level: one caption twice in a gallery gets the same score up to rounding.
LEVEL = 1e-6
BARE = "{common_name}"
RANKING = ("recall@1", "recall@5", "recall@10", "median rank")


@dataclass(frozen=True)
class Subject:
    """What can be scored: the dataset itself ("dataset"), or an evaluation set by its name.

    `label` names it in results ("test-split", "demo-videos") and `kind` says what an item is: "rows" (photo, sound
    and caption), "videos", "images", "audio" or "arrays" (features or spectrograms, with all modalities).
    `sweep` are the times at which videos have a single frame each, in s ("0.5"). `prompt` is what a class is asked for
    with unless a run says otherwise; empty: its texts are features, and nothing can be asked for by name.
    """

    name: str
    label: str
    kind: str
    splits: tuple[str, ...]
    modalities: tuple[str, ...]
    classes: int = 0
    captions: bool = False
    sweep: tuple[str, ...] = ()
    prompt: str = BARE

    def label_of(self, request: Request) -> str:
        """What results call the items of a request: "test-split", "demo-videos", "ssw60-videos-all"."""
        return split_label(self.label, request.split)


def subject_label(name: str, kind: str, collection: str = "") -> str:
    """`Subject.label` of what bears a name; `collection` is the part of a prepared set that is meant."""
    if kind == "rows":
        return "{split}-split"
    return f"{name}-{{split}}" if kind == "arrays" else f"{name}-{collection or kind}"


def split_label(label: str, split: str) -> str:
    """The label of one split; "test" is not named where the label does not do so itself."""
    named = label.format(split=split)
    return named if named != label or split == "test" else f"{label}-{split}"


@dataclass(frozen=True)
class Request:
    """What a suite wants embedded: a split of "dataset" or of an evaluation set.

    `templates` are the class prompts' ("{common_name}"), several are averaged; none: no prompts. `frames` of videos:
    "mean" of the 8 middles, or single ones at "0.5", "1.0", ... s. `corruption` is what `birdmml.media.corrupt` parses,
    with its seed: "audio:gaussian:10:0"; empty: clean. `pairing` is what `birdmml.media.corruption` parses:
    "swap:audio:3" gives every item the sound of another class's.
    """

    evalset: str
    split: str
    templates: tuple[str, ...] = ()
    frames: str = "mean"
    corruption: str = ""
    pairing: str = ""


@dataclass(frozen=True)
class Scorer:
    """A method's score, and the (query, target) pairs that it defines."""

    score: Score
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Material:
    """N embedded items. `arrays` [N, D] by name; `present` [N] by modality says where it exists.

    For classification: `labels` [N] index into `class_names`, whose prompts are embedded in `prompts` [C, D].
    `corruption` is the request's. `lengths` [N] by modality: an item's real steps, where items are steps.
    """

    evalset: str
    ids: tuple[str, ...]
    arrays: Arrays
    present: Mapping[str, NDArray[np.bool_]]
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    prompts: Arrays = field(default_factory=dict)
    frames: str = "mean"
    corruption: str = ""
    lengths: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)

    def having(self, *names: str) -> NDArray[np.int64]:
        """The items that have every modality of the names ("image", "image+audio")."""
        keep = np.ones(len(self.ids), dtype=bool)
        for modality in {m for name in names for m in name.split("+")}:
            keep &= self.present.get(modality, np.zeros(len(self.ids), dtype=bool))
        return np.flatnonzero(keep)

    def at(self, rows: NDArray[np.int64]) -> Arrays:
        """The vectors of some items, in ascending order."""
        if len(rows) == len(self.ids):
            return self.arrays  # No copy: a large gallery is held once.
        return {name: array[rows] for name, array in self.arrays.items()}


def place(
    scorer: Scorer, query: str, target: str, queries: Arrays, candidates: Arrays, targets: NDArray[np.int64]
) -> Ranks:
    """Where the targets [Q] land when `queries` [Q, D] ask for `candidates` [C, D]; block by block."""

    def block(part: slice) -> NDArray[np.floating]:
        return scorer.score(query, target, {k: v[part] for k, v in queries.items()}, candidates)

    return rank(block, targets, len(candidates[target]), LEVEL)


def place_both(scorer: Scorer, one: str, other: str, arrays: Arrays) -> tuple[Ranks, Ranks]:
    """Both directions between two modalities of the same items, from one pass over the scores.

    For scores that mean the same both ways, as all 1->1 scores here do.
    """

    def block(q: slice, t: slice) -> NDArray[np.floating]:
        # All of them: a method may score a pair by vectors of its own ("text@audio").
        return scorer.score(one, other, {k: v[q] for k, v in arrays.items()}, {k: v[t] for k, v in arrays.items()})

    return rank_both(block, len(arrays[one]), LEVEL)


def named(
    material: Material, scorer: Scorer, task: str, query: str, metrics: tuple[str, ...], rows: NDArray[np.int64]
) -> Scored:
    """The outcome of naming the classes of `rows` by the nearest class prompt. Raises EvalsetError without any."""
    if material.labels is None or len(rows) == 0:
        raise EvalsetError(f"{material.evalset} has no labelled item with {query}: {task} cannot be scored")
    labels = material.labels[rows]
    ranks = place(scorer, query, "text", material.at(rows), material.prompts, labels)
    return scored(task, query, metrics, material, rows, material.class_names, labels, ranks)


def scored(
    task: str,
    query: str,
    metrics: tuple[str, ...],
    material: Material,
    rows: NDArray[np.int64],
    names: tuple[str, ...],
    targets: NDArray[np.int64],
    ranks: Ranks,
) -> Scored:
    """The outcome of one task over `rows` of the material, the others are left out; `names` [C] are the candidates'."""
    return Scored(
        task,
        query,
        metrics,
        len(names),
        tuple(material.ids[i] for i in rows),
        tuple(names[i] for i in targets),
        tuple(names[i] for i in ranks.best),
        ranks.greater,
        ranks.ties,
        len(material.ids) - len(rows),
    )
