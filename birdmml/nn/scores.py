"""Scores of query against candidate embeddings, as blocks [Q, C] from matrix products."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations

from torch import Tensor

from birdmml.errors import UsageError

JOINT = "+"


def fused_name(*modalities: str) -> str:
    """("image", "audio") -> "image+audio"."""
    return JOINT.join(modalities)


def parts(name: str) -> tuple[str, ...]:
    """ "image+audio" -> ("image", "audio")."""
    return tuple(name.split(JOINT))


def single_pairs(modalities: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Every directed 1->1 pair (query, target)."""
    return tuple(permutations(modalities, 2))


def joint_pairs(modalities: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Every 2->1 pair (query, target): two modalities ask for a third."""
    return tuple(
        (fused_name(*two), one) for two in combinations(modalities, 2) for one in modalities if one not in two
    )


def cosine(
    query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
) -> Tensor:
    """Dot products [Q, C] of the unit vectors named `query` and `target`."""
    return queries[query] @ candidates[target].T


def summed_cosine(
    query: str, target: str, queries: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
) -> Tensor:
    """The sum over the query's modalities of their cosine with the target, [Q, C].

    Symile's CLIP baseline (arXiv 2411.01053). The sum of the parts first: one matrix product.
    """
    names = parts(query)
    total = queries[names[0]]
    for name in names[1:]:
        total = total + queries[name]
    return total @ candidates[target].T


def check_pair(query: str, target: str, defined: tuple[tuple[str, str], ...], method: str) -> None:
    """Raise UsageError for a pair that the method does not define."""
    if (query, target) not in defined:
        raise UsageError(f"{method} defines no score {query}->{target}")
