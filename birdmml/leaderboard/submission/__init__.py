"""A submission: results with all that is needed to score them again, in one folder that anybody can check."""

from __future__ import annotations

from birdmml.leaderboard.submission.checking import check as check
from birdmml.leaderboard.submission.making import make as make
from birdmml.leaderboard.submission.reading import read as read
