"""The files of a site: the same bytes each time, and nothing of a stranger's text does anything in them."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import boards
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core import text
from birdmml.leaderboard.site import exports, pages, svg, tables
from birdmml.leaderboard.site.items import ConfusionCounts
from birdmml.results import curves
from birdmml.schema import Figure, Result

# Elements and attributes that our templates write; anything else came from a text.
ALLOWED = set(
    """a aside b bdi body button caption circle code dd desc details div dl dt em figure footer form g h1 h2 h3 head
    header html i input label li line link main meta nav noscript option output p path polyline rect script section
    select small span strong summary svg table tbody td text tfoot th thead title tr ul""".split()
)


class Seen(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def seen(page: str) -> Seen:
    found = Seen()
    found.feed(page)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("site")
    made = [boards.submission(root, s, seed=i, hits=0.3 + i / 4) for i, s in enumerate("abc")]
    return boards.site_of(*made)


def test_the_same_submissions_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    made = [boards.submission(tmp_path, s, seed=i) for i, s in enumerate("abc")]
    assert boards.site_of(*made) == boards.site_of(*reversed(made))


def test_every_link_of_every_page_leads_to_a_file_of_the_site(site: dict[str, str]) -> None:
    checked = 0
    for name, page in site.items():
        if name.endswith(".html"):
            for link in seen(page).links:
                if link == "data:,":
                    continue
                target = link.partition("#")[0]
                place = (Path(name).parent / target).as_posix() if target else name
                parts: list[str] = []
                for part in place.split("/"):
                    parts = parts[:-1] if part == ".." else [*parts, part]
                assert "/".join(parts) in site, (name, link)
                checked += 1
    assert checked > 20


def test_every_page_names_its_policy_and_has_no_style_or_script_of_its_own(site: dict[str, str]) -> None:
    for name, page in site.items():
        if name.endswith(".html"):
            assert f'content="{pages.POLICY}"' in page, name
            assert "<style" not in page
            assert not re.search(r"<script(?! src=)", page)
            assert not {a for a in seen(page).attributes if a.startswith("on") or a == "style"}


def test_a_hostile_submission_adds_no_element_no_attribute_and_no_address(tmp_path: Path) -> None:
    made = boards.site_of(boards.hostile(tmp_path), boards.submission(tmp_path, "good"))
    for name, page in made.items():
        assert "\u202e" not in page, name
        assert "\x00" not in page, name
        assert "\x07" not in page, name
        if name.endswith(".html"):
            found = seen(page)
            assert found.tags <= ALLOWED, found.tags - ALLOWED
            assert not {a for a in found.attributes if a.startswith("on")}
            assert not [x for x in found.links if ":" in x and not x.startswith(("https://example.org/", "data:,"))]


def test_a_text_of_ten_megabytes_is_cut_and_says_so(tmp_path: Path) -> None:
    made = boards.site_of(boards.hostile(tmp_path, "x" * 10_000_000))
    assert max(len(page) for page in made.values()) < 400_000
    assert "… (cut, 10,000,000 characters)" in made["index.html"]


def test_exports_hold_the_values_of_the_page(site: dict[str, str]) -> None:
    lines = list(csv.DictReader(io.StringIO(site["board.csv"])))
    board = json.loads(site["board.json"])
    (table,) = board["tables"]
    known = {
        (row["page"], column["task"]): cell["value"]
        for row in table["rows"]
        for column, cell in zip(table["columns"], row["cells"], strict=True)
    }
    assert {(line["page"], line["task"]): float(line["value"]) for line in lines} == known
    assert len(known) == 6
    assert site[f"tables/{table['id']}.csv"] == site["board.csv"]
    assert json.loads(site[f"tables/{table['id']}.json"]) == table
    assert site["LEADERBOARD.md"].count("\n| confu") == 3


@given(st.lists(st.text(max_size=80), min_size=1, max_size=3))
def test_file_names_are_plain_and_differ_where_the_parts_do(parts: list[str]) -> None:
    name = text.file_name(*parts)
    assert re.fullmatch(r"[a-z0-9-]{1,80}", name)
    assert name != text.file_name(*parts, "more")


def figure(suite: str, task: str, value: float, chance: float = 0.25, ceiling: float | None = None) -> Figure:
    return Figure(suite, "ssw60-all", task, "accuracy", value, value - 0.1, value + 0.1, 9, chance, ceiling)


def test_curves_are_found_by_their_tasks() -> None:
    made = [
        *(figure("few-shot", f"A+V {k}-shot", k / 40) for k in (20, 1, 5)),
        figure("noise", "V | clean", 0.9),
        *(figure("noise", f"V | image gaussian {db} dB", db / 30) for db in (10, 20)),
        figure("noise", "V | image nonsense 5", 0.4),
        *(figure("zero-shot", f"V at {s} s", s / 10) for s in (0.5, 1.0)),
        *(figure("xor", f"a+c->b p={p}", p, 0.03, p) for p in (0.1, 0.5, 1)),
        figure("zero-shot", "V", 0.5),
    ]
    empty = Result(1, False, "confu", "tiny", (0,), {}, {}, {}, tuple(made))
    found = curves.panels(empty)
    told = {p.title: [(line.name, [q.x for q in line.points]) for line in p.lines] for p in found}
    assert told == {
        "few-shot on ssw60-all": [("A+V", [1, 5, 20])],
        "gaussian noise on the image, ssw60-all": [("V", [10, 20])],
        "single frames of ssw60-all": [("V", [0.5, 1.0])],
        "XOR": [("a+c->b", [0.1, 0.5, 1.0])],
    }
    assert found[1].lines[0].level == made[3]
    drawn = svg.curves(found[3], "c")
    assert drawn.count("<circle") == 3
    assert 'class="ceiling"' in drawn
    assert "a+c-&gt;b: 10.0 % at 0.1, 50.0 % at 0.5, 100.0 % at 1" in drawn


def test_a_matrix_counts_what_was_taken_for_what() -> None:
    import numpy as np

    found = ConfusionCounts(("Jay", "Wren"), np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([3, 2, 5]))
    assert svg.confused(found) == [("Jay", "Wren", 2)]
    drawn = svg.matrix(found, "m")
    assert "8 of 10 on the diagonal" in drawn
    assert drawn.count("<path") == 3  # A share of 3/5, of 2/5, of 1: each has its own shade.


def test_markdown_of_a_table_is_inert(tmp_path: Path) -> None:
    (table,), _ = tables.tables(tables.members([boards.hostile(tmp_path)]))
    made = exports.as_markdown([table])
    assert "<script" not in made
    assert len({line.count(" | ") for line in made.splitlines() if line.startswith("|") and "---" not in line}) == 1


def test_a_result_of_details_alone_has_a_page_and_no_table(tmp_path: Path) -> None:
    made = boards.site_of(boards.submission(tmp_path, "a", tasks=("V at 0.5 s", "V at 1.0 s")))
    assert '<section class="board"' not in made["index.html"]
    (page,) = (text for name, text in made.items() if name.startswith("entries/"))
    assert "single frames of test-split" in page


def test_a_row_over_fewer_items_says_so(tmp_path: Path) -> None:
    made = [boards.submission(tmp_path, s, seed=i) for i, s in enumerate("ab")]
    page = boards.site_of(*made, boards.submission(tmp_path, "c", n=36))["index.html"]
    assert page.count("<small>n = 36</small>") == 2
    assert "2 rows compared; scored on other items: 1" in page
