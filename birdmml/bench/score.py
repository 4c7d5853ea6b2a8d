"""What is scored of what: suites with their options over subjects, each request embedded once. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from birdmml.bench.suites._contract import Material, Request, Scorer, Subject
from birdmml.core import discover, settings
from birdmml.errors import UsageError
from birdmml.results.tasks import Outcome, SeedOutcomes


class HasSubject(Protocol):
    """Anything that can say what it is."""

    @property
    def subject(self) -> Subject:
        """What can be scored."""


P = TypeVar("P", bound=HasSubject)


@dataclass(frozen=True)
class Pass:
    """A suite ("zero-shot") with its Options, over one subject by its name ("dataset", "ssw60"), or "" for all."""

    suite: str
    options: Any
    evalset: str = ""

    @property
    def name(self) -> str:
        """ "zero-shot", or "zero-shot ssw60 all": how settings name it."""
        split = getattr(self.options, "split", "")
        return " ".join(filter(None, (self.suite, self.evalset, split if self.evalset else "")))

    def requests(self, subject: Subject) -> tuple[Request, ...]:
        """What the suite wants embedded of a subject; nothing of one that is not meant."""
        if self.evalset not in ("", subject.name):
            return ()
        return tuple(discover.load("suite", self.suite).requests(subject, self.options))


def passes_of(suites: Sequence[str], overrides: Sequence[str] = ()) -> tuple[tuple[Pass, ...], list[str]]:
    """The suites by name over every subject, with "zero-shot.split=all" applied; and the overrides of no suite.

    Raises UsageError without any suite, UnknownName.
    """
    chosen = dict.fromkeys(discover.canonical("suite", s) for s in suites if s.strip())
    if not chosen:
        raise UsageError(f"no suite given: choose from {', '.join(discover.names('suite'))}")
    options, rest = suite_options(overrides)
    labels = [suite.replace("_", "-") for suite in chosen]
    return tuple(Pass(label, options[label]) for label in labels), rest


def suite_options(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Each suite's Options by name, with "zero-shot.split=all" applied; and the overrides that are no suite's."""
    rest: list[str] = []
    mine: dict[str, list[str]] = {name: [] for name in discover.names("suite")}
    for word in overrides:
        # Only the first part decides: "method.x" and "training.x" are left to whoever knows them.
        head, dot, tail = word.partition(".")
        key = head.strip().casefold().replace("-", "_")
        if dot and key in mine:
            mine[key].append(tail)
        else:
            rest.append(word)
    options = {
        name.replace("_", "-"): settings.override(
            discover.load("suite", name).Options(), words, f"{name.replace('_', '-')}."
        )
        for name, words in mine.items()
    }
    return options, rest


def stated(passes: Sequence[Pass]) -> dict[str, Any]:
    """Passes as the JSON values that a result records."""
    return {p.name: settings.to_dict(p.options) for p in passes}


def wanted(passes: Sequence[Pass], providers: Sequence[P]) -> tuple[P, ...]:
    """The providers that some pass asks something of."""
    return tuple(p for p in providers if any(one.requests(p.subject) for one in passes))


def score(
    passes: Sequence[Pass], providers: Sequence[P], get: Callable[[P, Request], Material], scorer: Scorer
) -> SeedOutcomes:
    """Score every pass for one model. `get` embeds what is asked for; it is called once for each request.

    Raises UsageError where a suite has nothing to say of the one subject that it was given.
    """
    held: dict[tuple[str, Request], Material] = {}
    outcomes: dict[tuple[str, str], tuple[Outcome, ...]] = {}
    for one in passes:
        scored = False
        suite = discover.load("suite", one.suite)
        for provider in providers:
            keys = [(provider.subject.label, request) for request in one.requests(provider.subject)]
            for key in keys:
                if key not in held:
                    held[key] = get(provider, key[1])
            if keys:
                materials = [held[key] for key in keys]
                outcomes[one.suite, materials[0].evalset] = tuple(suite.score(materials, scorer, one.options))
                scored = True
        if one.evalset and not scored:
            raise UsageError(f"{one.suite} has nothing to say of {one.evalset}: leave it out")
        # Clean embeddings serve the next suite; the many corrupted or swapped ones would fill the memory.
        held = {key: m for key, m in held.items() if not (key[1].corruption or key[1].pairing)}
    return outcomes
