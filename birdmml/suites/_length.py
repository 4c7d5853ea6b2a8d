"""The length-only baseline: what retrieval finds that looks at nothing but how many steps a sample has.

A padding length that the modalities share can name the pair by itself, so figures on sets of steps need this one
beside them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def score(query: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.float32]:
    """-|length of the query - length of the candidate|: [Q], [C] -> [Q, C].

    Candidates of one length are level; `metrics.rank` counts them as ties, so equal lengths give chance.
    """
    return -np.abs(query[:, None].astype(np.float32) - target[None, :].astype(np.float32))
