"""Retrieval: one or two modalities ask for a third, the whole test split answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdmml.errors import EvalsetError
from birdmml.schema import Card
from birdmml.suites._material import Material, Request, Scored, Scorer, Subject, place, scored

CARD = Card(
    summary="recall@1, 5, 10 and median rank of each row's own match, for every pair that the method scores",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331), here on Bird-MML's own test split",
    url="https://arxiv.org/abs/2511.21331",
)
METRICS = ("recall@1", "recall@5", "recall@10", "median rank")


@dataclass(frozen=True)
class Options:
    """`split` is what is ranked."""

    split: str = "test"


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The split of a subject with captions; evaluation sets of videos have none to retrieve."""
    return (Request(subject.name, options.split),) if subject.captions else ()


def score(found: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Scored, ...]:
    """One task a (query, target) pair, named "image->text" or "image+audio->text".

    Items without one of the three modalities are left out of query and gallery. Raises EvalsetError
    where fewer than two remain.
    """
    del options
    return tuple(_pair(found[0], scorer, query, target) for query, target in scorer.pairs)


def _pair(material: Material, scorer: Scorer, query: str, target: str) -> Scored:
    rows = material.having(query, target)
    if len(rows) < 2:
        raise EvalsetError(
            f"{material.evalset} has {len(rows)} items with {query} and {target}: retrieval needs two at least"
        )
    arrays = {name: array[rows] for name, array in material.arrays.items()}
    ids = tuple(material.ids[i] for i in rows)
    own = np.arange(len(rows))
    ranks = place(scorer, query, target, arrays, arrays, own)
    return scored(f"{query}->{target}", query, METRICS, ids, ids, own, ranks, len(material.ids) - len(rows))
