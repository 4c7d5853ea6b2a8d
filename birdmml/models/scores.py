"""Scores of query against candidate embeddings, as blocks [Q, C] from matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations

import torch
from torch import Tensor

from birdmml.errors import UsageError

JOINT = "+"


def fused_name(*modalities: str) -> str:
    """("image", "audio") -> "image+audio"."""
    return JOINT.join(modalities)


def parts(name: str) -> tuple[str, ...]:
    """ "image+audio" -> ("image", "audio")."""
    return tuple(name.split(JOINT))


def subsets(modalities: Sequence[str], order: int | None = None) -> tuple[tuple[str, ...], ...]:
    """Every subset of 2 to `order` modalities that leaves one to ask for (M - 1 at most), small ones first."""
    largest = len(modalities) - 1 if order is None else min(order, len(modalities) - 1)
    return tuple(s for size in range(2, largest + 1) for s in combinations(modalities, size))


def single_pairs(modalities: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every directed 1->1 pair (query, target)."""
    return tuple(permutations(modalities, 2))


def joint_pairs(modalities: Sequence[str], order: int | None = None) -> tuple[tuple[str, str], ...]:
    """Every pair (query, target) in which several modalities, `order` at most, ask for another one."""
    return tuple(
        (fused_name(*query), one) for query in subsets(modalities, order) for one in modalities if one not in query
    )


def cosine(query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
    """Dot products [Q, C] of the unit vectors named `query` and `target`."""
    return queries[query] @ candidates[target].T


def summed_cosine(query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Tensor:
    """The sum over the query's modalities of their cosine with the target, [Q, C].

    Symile's CLIP baseline (arXiv 2411.01053). The sum of the parts first: one matrix product.
    """
    names = parts(query)
    total = queries[names[0]]  # Summed in this order: floats do not add up the same in another.
    for name in names[1:]:
        total = total + queries[name]
    return total @ candidates[target].T


def inner_products(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gram matrix of the vectors (rows_1[q], ..., columns_1[c], ...) for every q and c, entry by entry.

    `rows` are [Q, D], `columns` [C, D]; an entry is [Q, 1] between rows, [1, C] between columns and [Q, C]
    across, one matrix product each: nothing of size Q x C x D is made. In float64, except where the device
    has none (mps): differences of such products lose half of their digits.
    """
    exact = torch.float32 if rows[0].device.type == "mps" else torch.float64
    a, b = [r.to(exact) for r in rows], [c.to(exact) for c in columns]
    cross = [[x @ y.T for y in b] for x in a]
    upper = [[(x * y).sum(-1)[:, None] for y in a] + cross[i] for i, x in enumerate(a)]
    lower = [[cross[i][j] for i in range(len(a))] + [(x * y).sum(-1)[None, :] for y in b] for j, x in enumerate(b)]
    return upper + lower


def check_pair(query: str, target: str, defined: tuple[tuple[str, str], ...], method: str) -> None:
    """Raise UsageError for a pair that the method does not define."""
    if (query, target) not in defined:
        raise UsageError(f"{method} defines no score {query}->{target}")
