"""A submission: results with all that is needed to score them again, in one folder that anybody can check."""

from __future__ import annotations

from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.making import make
from birdmml.leaderboard.submission.model import About, Entry, Problem, Report, Submission
from birdmml.leaderboard.submission.reading import read
from birdmml.leaderboard.submission.stated import labels_of

__all__ = ["About", "Entry", "Problem", "Report", "Submission", "check", "labels_of", "make", "read"]
