"""The length-only baseline: what retrieval finds that looks at nothing but how many steps a sample has.

A padding length that the modalities share can name the pair by itself, so figures on sets of steps need this one
beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from birdmml.metrics import rank
from birdmml.outcomes.tasks import Scored
from birdmml.suites._material import RANKING, Material, scored

ONLY = "lengths only"
NOTE = "lengths only: candidates ordered by how near their number of steps is to the query's, nothing else is looked at"


def score(query: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.float32]:
    """-|length of the query - length of the candidate|: [Q], [C] -> [Q, C].

    Candidates of one length are level; `metrics.rank` counts them as ties, so equal lengths give chance.
    """
    return -np.abs(query[:, None].astype(np.float32) - target[None, :].astype(np.float32))


def tasks(material: Material, pairs: Sequence[tuple[str, str]]) -> Iterator[Scored]:
    """ "image->audio, lengths only" of each pair whose modalities have lengths; two modalities ask with their sum."""
    for query, target in pairs:
        if {*query.split("+"), target} <= set(material.lengths):
            yield replace(_task(material, query, target), note=NOTE)


def _task(material: Material, query: str, target: str) -> Scored:
    rows = material.having(query, target)
    asking = [material.lengths[name][rows] for name in query.split("+")]
    query_lengths = material.lengths[target][rows]

    def block(part: slice) -> NDArray[np.float32]:
        return np.asarray(sum(score(lengths[part], query_lengths) for lengths in asking))

    own, ids = np.arange(len(rows)), tuple(material.ids[i] for i in rows)
    left_out = len(material.ids) - len(rows)
    ranks = rank(block, own, len(rows))
    return scored(f"{query}->{target}, {ONLY}", query, RANKING, ids, ids, own, ranks, left_out)
