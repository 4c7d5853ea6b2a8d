"""Which figures of a result a table shows: those that count first, without the single frames of a sweep."""

from __future__ import annotations

import math
import re

from birdmml.schema import Figure, Result, headline

_DETAIL = re.compile(r" at [0-9.]+ s$| by species$")


def of(result: Result) -> list[Figure]:
    """The headline figures; what would make a column a frame, or a species, is on the result's own page."""
    return [f for f in headline(result.figures) if not _DETAIL.search(f.task) and math.isfinite(f.chance)]
