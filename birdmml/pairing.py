"""Which item lends its picture or sound to which: seeded, each item once, never within a class. numpy only."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import EvalsetError, UsageError

Ints = NDArray[np.int64]

KINDS = ("audio", "image")
_SWEEPS = 5
_TEXT = re.compile(rf"swap:({'|'.join(KINDS)}):(\d{{1,9}})")


@dataclass(frozen=True)
class Swap:
    """Every item with the `kind` ("audio", "image") of another one; written "swap:audio:3"."""

    kind: str
    seed: int

    def __str__(self) -> str:
        return f"swap:{self.kind}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Swap:
        """The swap that a `Request.pairing` names; raises UsageError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise UsageError(
                f"pairing {text!r} is none: write swap:KIND:SEED, KIND one of {', '.join(KINDS)}"
            )
        return cls(match[1], int(match[2]))


def lenders(labels: Ints, among: Ints, seed: int) -> Ints:
    """[N] -> [N]: whose medium each item gets; those not `among` [K] keep their own.

    Within `among` it is a permutation without an item that stays in its class. Raises EvalsetError where one class
    has more than half of the items, for then there is none.
    """
    lender = np.arange(len(labels), dtype=np.int64)
    lender[among] = among[_deranged(labels[among], np.random.default_rng(seed))]
    return lender


def _deranged(labels: Ints, rng: np.random.Generator) -> Ints:
    """A start that is right, then exchanges that keep it right, so that any such permutation can come out."""
    n = len(labels)
    most = int(np.unique(labels, return_counts=True)[1].max(initial=0))
    if n < 2 or 2 * most > n:
        raise EvalsetError(
            f"{most} of {n} items are of one class: they cannot all be given another class's picture or sound; "
            "leave swapping out with --set competition.draws=0"
        )
    mixed = rng.permutation(n)
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    start = np.empty(n, dtype=np.int64)
    # Sorted by class, the item `most` places before is of another one: no class is longer, and two such fit.
    start[order] = np.roll(order, most)
    places, own = start.tolist(), labels.tolist()
    for drawn in rng.integers(0, n, (_SWEEPS * n, 3)).tolist():
        # Two alone would never leave a ring of three classes, each lending to the next.
        for ring in (drawn[:2], drawn):
            shifted = [places[i] for i in (*ring[1:], ring[0])]
            fits = all(own[i] != own[lender] for i, lender in zip(ring, shifted, strict=True))
            if fits and len(set(ring)) == len(ring):
                for i, lender in zip(ring, shifted, strict=True):
                    places[i] = lender
    return np.asarray(places, dtype=np.int64)
