"""Accepted submissions, and what a pull request may do to them: add, replace or withdraw with a reason."""

from __future__ import annotations

from birdmml.leaderboard.accepting.changes import Change
from birdmml.leaderboard.accepting.review import Proposed, Review, review

__all__ = ["Change", "Proposed", "Review", "review"]
