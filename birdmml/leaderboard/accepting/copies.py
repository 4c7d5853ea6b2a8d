"""A submission that is another one under a new name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from birdmml.leaderboard.submission import Entry, Submission
from birdmml.leaderboard.submission.model import at
from birdmml.leaderboard.submission.reading import name_of
from birdmml.schema import Figure, Result


def copies(made: Submission, others: Sequence[Submission]) -> Iterator[tuple[str, str]]:
    """(result of `made`, what it is a copy of): a line for each pair.

    A copy has every figure of another's results, value by value, whatever it calls its method, models and seeds; or
    it measures a model of theirs (by SHA-256 of its weights) by the same protocol, on the same data, for the same
    figures.
    """
    for other in others:
        theirs = {figure for entry in other.entries for figure in _measured(entry.result)}
        for entry in made.entries:
            if _measured(entry.result) <= theirs:
                yield name_of(entry), f"every figure of it is, digit by digit, one of {other.slug}"
            elif any(_same_models(entry, known) for known in other.entries):
                yield (
                    name_of(entry),
                    f"a model of {other.slug}, measured by the same protocol for the same figures",
                )


def _measured(result: Result) -> set[tuple[Any, ...]]:
    return {(*_name(f), f.n, *f.per_seed) for f in result.figures}


def _name(figure: Figure) -> tuple[str, str, str, str]:
    return figure.suite, figure.evalset, figure.task, figure.metric


def _same_models(one: Entry, other: Entry) -> bool:
    a, b = one.result, other.result
    return (
        bool(_weights(a) & _weights(b))
        and at(a.settings, "protocol", "digest") == at(b.settings, "protocol", "digest")
        and a.dataset.get("digest") == b.dataset.get("digest")
        and bool({_name(f) for f in a.figures} & {_name(f) for f in b.figures})
    )


def _weights(result: Result) -> set[str]:
    return {str(model["weights_sha256"]) for model in result.models if at(model, "weights_sha256")}
