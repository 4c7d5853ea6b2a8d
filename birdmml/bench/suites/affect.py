"""Affect: retrieval among three modalities of steps, what their lengths alone retrieve, and linear probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from birdmml.bench.suites import linear_probe, retrieval
from birdmml.bench.suites._contract import Material, Request, Scorer, Subject
from birdmml.results.tasks import Outcome
from birdmml.schema import Card

CARD = Card(
    summary="recall of each sample's own match for every pair, beside the length-only baseline, and linear probes",
    license="protocol, no licence",
    citation="Retrieval of Koutoupis et al., CVPR 2026 (arXiv 2511.21331), on MultiBench (arXiv 2107.07502)",
    url="https://arxiv.org/abs/2511.21331",
)


@dataclass(frozen=True)
class Options:
    """`split` is the gallery, and what the probes are asked; they learn from train, with C from validation."""

    split: str = "test"


def requests(subject: Subject, options: Options) -> tuple[Request, ...]:
    """The split, and the rows to learn from, of a subject of features with text; nothing of any other."""
    if subject.kind != "arrays" or not subject.captions:
        return ()
    return linear_probe.requests(subject, linear_probe.Options(split=options.split))


def score(materials: Sequence[Material], scorer: Scorer, options: Options) -> tuple[Outcome, ...]:
    """Tasks "image->audio", "image->audio, lengths only" and so on for every pair, then the probes "A", "V", "A+V".

    Raises EvalsetError as these suites do.
    """
    by_instance = retrieval.Options(options.split, (retrieval.INSTANCE,))
    probes = linear_probe.score(materials, scorer, linear_probe.Options(split=options.split))
    return (*retrieval.score(materials[:1], scorer, by_instance), *probes)
