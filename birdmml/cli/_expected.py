"""--data and --evalsets of commands that check submissions: what items there must be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.leaderboard.submission.expected import Expected


def expected(data: Path | None, evalsets: Path | None) -> Expected | None:
    """What the verifier's own copy holds; None without one. Raises UsageError for sets without the dataset."""
    from birdmml.leaderboard.submission.expected import of_data

    if evalsets is not None and data is None:
        raise UsageError("--evalsets goes with --data: give your copy of the dataset, too")
    return None if data is None else of_data(data, evalsets)
