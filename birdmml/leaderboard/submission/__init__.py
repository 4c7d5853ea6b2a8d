"""A submission: results with all that is needed to score them again, in one folder that anybody can check."""

from __future__ import annotations

from birdmml.leaderboard.submission.checking import check as check
from birdmml.leaderboard.submission.checking import labels_of as labels_of
from birdmml.leaderboard.submission.making import make as make
from birdmml.leaderboard.submission.model import About as About
from birdmml.leaderboard.submission.model import CheckReport as CheckReport
from birdmml.leaderboard.submission.model import Entry as Entry
from birdmml.leaderboard.submission.model import Problem as Problem
from birdmml.leaderboard.submission.model import Submission as Submission
from birdmml.leaderboard.submission.reading import read as read
