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
from birdmml.suites._material import RANKING, Material, Scored, scored

ONLY = "lengths only"
NOTE = "lengths only: candidates ordered by how near their number of steps is to the query's, nothing else is looked at"

Lengths = dict[str, NDArray[np.int32]]
Scores = NDArray[np.float32]


def score(query: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.float32]:
    """-|length of the query - length of the candidate|: [Q], [C] -> [Q, C].

    Candidates of one length are level; `metrics.rank` counts them as ties, so equal lengths give chance.
    """
    return -np.abs(query[:, None].astype(np.float32) - target[None, :].astype(np.float32))


def tasks(material: Material, pairs: Sequence[tuple[str, str]]) -> Iterator[Scored]:
    """ "image->audio, lengths only" of each pair whose modalities have lengths; two modalities ask with their sum."""
    for query, target in pairs:
        names = query.split("+")
        if not {*names, target} <= set(material.lengths):
            continue
        rows = material.having(query, target)
        found = {name: material.lengths[name][rows] for name in (*names, target)}

        def block(
            part: slice, names: list[str] = names, target: str = target, found: Lengths = found
        ) -> Scores:
            return np.sum(
                [score(found[name][part], found[target]) for name in names], axis=0, dtype=np.float32
            )

        own, ids = np.arange(len(rows)), tuple(material.ids[i] for i in rows)
        left_out = len(material.ids) - len(rows)
        task = scored(
            f"{query}->{target}, {ONLY}", query, RANKING, ids, ids, own, rank(block, own, len(rows)), left_out
        )
        yield replace(task, note=NOTE)
