"""How a build tells how far it is: (stage, done, total), to whoever listens."""

from __future__ import annotations

import itertools
from collections.abc import Callable

Tell = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def counter(tell: Tell, stage: str, total: int) -> Callable[[int, object], None]:
    """What a pool calls as each task ends."""
    seen = itertools.count(1)

    def done(index: int, result: object) -> None:
        tell(stage, next(seen), total)

    tell(stage, 0, total)
    return done
