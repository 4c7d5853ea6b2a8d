"""Training curves on a result's page."""

from __future__ import annotations

import math
import re
from pathlib import Path

from helpers import boards

from birdmml.leaderboard.site.svg import MOST_POINTS, losses

SHA = "0" * 64


def models(*told: object) -> tuple[dict[str, object], ...]:
    return tuple({"seed": k, "weights_sha256": SHA, "loss_by_epoch": one} for k, one in enumerate(told))


def test_a_page_draws_the_loss_of_each_seed_where_it_is_known(tmp_path: Path) -> None:
    files = boards.site_of(
        boards.submission(tmp_path, "with", models=models([4.0, 2.0, 1.0], [3.0, 2.0, 2.0])),
        boards.submission(tmp_path, "without", method="clip"),
    )
    pages = {name: text for name, text in files.items() if name.startswith("entries/")}
    (page,) = [text for text in pages.values() if 'id="training"' in text]
    assert len(pages) == 2
    lines = re.findall(r'<polyline class="trace" points="([^"]+)"', page[page.index('id="training"') :])
    heights = [[float(p.split(",")[1]) for p in line.split()] for line in lines]
    assert [len(h) for h in heights] == [3, 3]
    # The highest loss lies at the top, the lowest at the bottom, 2.0 a third of the way up from 1.0 to 4.0.
    top, bottom = heights[0][0], heights[0][2]
    assert top < bottom
    assert math.isclose(heights[0][1], bottom - (bottom - top) / 3, abs_tol=0.2)
    assert heights[1][1] == heights[1][2] == heights[0][1]
    assert "seed 0: from 4 to 1" in page


def test_what_is_no_number_is_not_drawn(tmp_path: Path) -> None:
    odd = models(["<script>", None, True, 1e300], "12", [5.0], {"a": 1})
    assert losses(boards.result(tmp_path / "a", models=odd)) == {}
    mixed = models([5.0, "x", 3.0])
    assert losses(boards.result(tmp_path / "b", models=mixed)) == {0: [(1, 5.0), (3, 3.0)]}
    long = losses(boards.result(tmp_path / "c", models=models([float(i) for i in range(5000)])))[0]
    assert len(long) <= MOST_POINTS + 1
    assert long[0] == (1, 0.0)
    assert long[-1] == (5000, 4999.0)
