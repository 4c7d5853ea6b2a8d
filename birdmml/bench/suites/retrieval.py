"""Retrieval: one or two modalities ask for a third, the whole test split answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from birdmml.bench.suites._contract import (
    LEVEL,
    RANKING,
    Arrays,
    Material,
    Request,
    Scorer,
    Subject,
    place,
    place_both,
    scored,
)
from birdmml.errors import EvalsetError, UsageError
from birdmml.results.gallery import answerable, ranks_of_species
from birdmml.results.metrics import Ranks, rank
from birdmml.results.tasks import Outcome, Scored, SpeciesScored
from birdmml.schema import Card

ONLY = "lengths only"
NOTE = "lengths only: candidates ordered by how near their number of steps is to the query's, nothing else is looked at"


CARD = Card(
    summary="recall@1, 5, 10 and median rank of each row's own match, and of its species (with mAP), for every pair",
    license="protocol, no licence",
    citation="Protocol of Koutoupis et al., CVPR 2026 (arXiv 2511.21331), here on Bird-MML's own test split",
    url="https://arxiv.org/abs/2511.21331",
)
METRICS = RANKING
SPECIES_METRICS = (*METRICS, "mAP")
INSTANCE, SPECIES = "instance", "species"
SAMPLE = 16


@dataclass(frozen=True)
class Options:
    """`split` is what is ranked. `by` "instance": the row's own match is right; "species": any row of its species."""

    split: str = "test"
    by: tuple[str, ...] = (INSTANCE, SPECIES)

    def __post_init__(self) -> None:
        if not self.by or set(self.by) - {INSTANCE, SPECIES}:
            raise UsageError(f"retrieval.by is {list(self.by)}: give instance, species, or both")


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The split of a subject with captions; evaluation sets of videos have none to retrieve."""
    return (Request(subject.name, options.split),) if subject.captions else ()


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Outcome, ...]:
    """One task a (query, target) pair, named "image->text" or "image+audio->text", and "... by species".

    Items without one of the modalities are left out of query and gallery. Raises EvalsetError where fewer than two
    remain. Items of steps also get "image->audio, lengths only": what is found by their lengths alone.
    """
    material, done = materials[0], list[Outcome]()
    if INSTANCE in options.by:
        done += _instances(material, scorer)
    done += tasks(material, scorer.pairs)
    if SPECIES in options.by and material.labels is not None:
        done += [task for pair in scorer.pairs for task in _species(material, scorer, *pair)]
    return tuple(done)


def length_scores(query: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.float32]:
    """-|length of the query - length of the candidate|: [Q], [C] -> [Q, C].

    Candidates of one length are level; `metrics.rank` counts them as ties, so equal lengths give chance.
    """
    return -np.abs(query[:, None].astype(np.float32) - target[None, :].astype(np.float32))


def tasks(material: Material, pairs: Sequence[tuple[str, str]]) -> Iterator[Scored]:
    """ "image->audio, lengths only" of each pair whose modalities have lengths; two modalities ask with their sum."""
    # A padding length that the modalities share can name the pair by itself, so figures on sets of steps need this
    # baseline beside them.
    for query, target in pairs:
        if {*query.split("+"), target} <= set(material.lengths):
            rows = material.having(query, target)
            asking = [material.lengths[name][rows] for name in query.split("+")]
            ranks = rank(
                partial(_length_block, asking, material.lengths[target][rows]), np.arange(len(rows)), len(rows)
            )
            yield replace(_own_match(f"{query}->{target}, {ONLY}", query, material, rows, ranks), note=NOTE)


def _length_block(asking: Sequence[NDArray[np.int32]], target: NDArray[np.int32], part: slice) -> NDArray[np.float32]:
    return np.asarray(sum(length_scores(lengths[part], target) for lengths in asking))


def _own_match(task: str, query: str, material: Material, rows: NDArray[np.int64], ranks: Ranks) -> Scored:
    """The outcome of a task in which every item asks for its own match among all."""
    ids = tuple(material.ids[i] for i in rows)
    return scored(task, query, METRICS, material, rows, ids, np.arange(len(rows)), ranks)


def _instances(material: Material, scorer: Scorer) -> Iterator[Outcome]:
    """Every pair; the way back of a 1->1 pair comes with the way there."""
    ranks: dict[tuple[str, str], Ranks] = {}
    for query, target in scorer.pairs:
        rows, arrays = _rows(material, query, target)
        if (query, target) not in ranks:
            if (target, query) in scorer.pairs and _symmetric(scorer, query, target, arrays):
                ranks[query, target], ranks[target, query] = place_both(scorer, query, target, arrays)
            else:
                ranks[query, target] = place(scorer, query, target, arrays, arrays, np.arange(len(rows)))
        yield _own_match(f"{query}->{target}", query, material, rows, ranks[query, target])


def _species(material: Material, scorer: Scorer, query: str, target: str) -> Iterator[SpeciesScored]:
    """Every row of the query's species is right, but its own: that is the other task.

    Rows that are alone of their species are left out.
    """
    rows, arrays = _rows(material, query, target)
    labels = np.asarray(material.labels)[rows]
    own = np.arange(len(rows))
    able = np.flatnonzero(answerable(labels, labels, own))
    if len(able) == 0:
        return
    queries = {name: array[able] for name, array in arrays.items()}

    def block(part: slice) -> NDArray[np.floating]:
        return scorer.score(query, target, {k: v[part] for k, v in queries.items()}, arrays)

    ranks = ranks_of_species(block, labels[able], labels, LEVEL, leave_out=able)
    names = material.class_names
    yield SpeciesScored(
        f"{query}->{target} by species",
        query,
        SPECIES_METRICS,
        tuple(material.ids[i] for i in rows[able]),
        tuple(names[i] for i in labels[able]),
        tuple(names[i] for i in labels[ranks.best]),
        ranks,
        len(material.ids) - len(able),
    )


def _rows(material: Material, query: str, target: str) -> tuple[NDArray[np.int64], Arrays]:
    rows = material.having(query, target)
    if len(rows) < 2:
        raise EvalsetError(
            f"{material.evalset} has {len(rows)} items with {query} and {target}: retrieval needs two at least"
        )
    return rows, material.at(rows)


def _symmetric(scorer: Scorer, query: str, target: str, arrays: Arrays) -> bool:
    """Whether both directions have the same scores, by a few of them; a method of the user's own may differ."""
    few = {name: array[:SAMPLE] for name, array in arrays.items()}
    there, back = scorer.score(query, target, few, few), scorer.score(target, query, few, few)
    return there.shape == back.T.shape and bool(np.allclose(there, back.T, rtol=0.0, atol=LEVEL))
