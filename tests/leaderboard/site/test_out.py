"""Where a site goes: it takes the place of a site, and of nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Ran, boards, tree

from birdmml.errors import ResultError, UsageError
from birdmml.leaderboard.site import build, gather, place
from birdmml.leaderboard.submission.making import make
from birdmml.leaderboard.submission.model import About
from birdmml.results import outcomes

Cli = Callable[..., Ran]
ABOUT = About("Our runs", "team@example.org", "CC0-1.0", "the birds of the release", created="2026-11-01")


def submitted(root: Path, name: str, **options: Any) -> Path:
    """A true submission in a folder."""
    boards.result(root / "made" / name, **options)
    allowed = dict.fromkeys(("allow_demo", "allow_limited", "allow_dirty"), True)
    make([root / "made" / name], ABOUT, root / "submissions" / name, **allowed)
    return root / "submissions"


@pytest.fixture
def submissions(tmp_path: Path) -> Path:
    submitted(tmp_path, "one", hits=0.9)
    return submitted(tmp_path, "two", method="clip", seed=1)


def spoil(submissions: Path, name: str) -> None:
    file = next((submissions / name).rglob("result.json"))
    file.write_text(file.read_text().replace('"value": 0.', '"value": 0.9'))


def test_a_site_is_built_and_built_anew_in_its_place_byte_for_byte(submissions: Path, tmp_path: Path) -> None:
    made = build(submissions, tmp_path / "site")
    first = tree(tmp_path / "site")
    assert (made.results, made.tables, made.refused, made.files) == (2, 1, (), len(first))
    assert build(submissions, tmp_path / "site") == made
    assert tree(tmp_path / "site") == first
    listed = json.loads((tmp_path / "site" / "site.json").read_text())["files"]
    assert {*listed, "site.json"} == {str(name) for name in first}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "site", "submissions"]


def test_several_processes_give_the_same_site(
    submissions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdmml.leaderboard.site.ENOUGH", 1)
    build(submissions, tmp_path / "a")
    build(submissions, tmp_path / "b", workers=2)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_submission_that_fails_the_check_is_listed_and_none_of_its_values_shown(
    submissions: Path, tmp_path: Path
) -> None:
    spoil(submissions, "two")
    made = build(submissions, tmp_path / "site")
    assert [r.name for r in made.refused] == ["two"]
    page = (tmp_path / "site" / "index.html").read_text()
    assert '<h2 id="refused">Refused</h2>' in page
    assert made.results == 1
    assert "clip" not in page.partition('id="refused"')[0]
    assert str(tmp_path) not in page


def test_a_second_copy_of_a_submission_is_refused(submissions: Path, tmp_path: Path) -> None:
    shutil.copytree(submissions / "one", submissions / "zwei")
    made = build(submissions, tmp_path / "site")
    assert made.results == 2
    assert [(r.name, r.reasons) for r in made.refused] == [("zwei", ("the same as one",))]


def test_hostile_folders_are_refused_with_a_line_each(submissions: Path, tmp_path: Path) -> None:
    for name, content in {
        "huge": '{"name": "' + "x" * (17 * 2**20) + '"}',
        "script<b>": '{"name": "<script>"}',
        "deep": "[" * 100_000,
        "binary": "\x00\x01",
    }.items():
        (submissions / name).mkdir()
        (submissions / name / "submission.json").write_text(content)
    (submissions / "link").symlink_to(submissions / "one")
    made = build(submissions, tmp_path / "site")
    assert [r.name for r in made.refused] == ["binary", "deep", "huge", "script<b>"]
    assert all(len(reason) < 400 for r in made.refused for reason in r.reasons)
    page = (tmp_path / "site" / "index.html").read_text()
    assert "<b><bdi>script&lt;b&gt;</bdi></b>" in page


def test_a_board_of_refused_submissions_alone_has_a_page_too(submissions: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        spoil(submissions, name)
    assert build(submissions, tmp_path / "site").tables == 0
    assert "There is no result to show yet" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize("stranger", ["notes.txt", "assets/mine.css", ".git", "empty/"])
def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_was(
    submissions: Path, tmp_path: Path, stranger: str
) -> None:
    out = tmp_path / "site"
    build(submissions, out)
    path = out / stranger
    if stranger.endswith("/"):
        path.mkdir()
    else:
        path.write_text("mine")
    before = tree(out)
    with pytest.raises(UsageError, match="nothing was changed"):
        build(submissions, out)
    assert tree(out) == before


@pytest.mark.parametrize(
    "mark", ["{}", "[1]", '{"made_by": "birdmml leaderboard build", "files": 3}', "\x00", "[" * 99999]
)
def test_a_list_that_is_none_owns_nothing(tmp_path: Path, mark: str) -> None:
    (tmp_path / "site.json").write_text(mark)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="nothing was changed"):
        place.check(tmp_path)


def test_links_and_files_are_no_place_for_a_site(submissions: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="is no folder"):
            build(submissions, tmp_path / name)


def test_a_build_that_fails_leaves_the_old_site_and_no_trace(
    submissions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    build(submissions, out)
    before = tree(out)

    def broken(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("birdmml.leaderboard.site.pages.entry", broken)
    with pytest.raises(ResultError, match="No space left on device.*is as it was"):
        build(submissions, out)
    assert tree(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "site", "submissions"]


def test_a_folder_without_submissions_is_one_line(tmp_path: Path) -> None:
    for folder, said in ((tmp_path, "no submission.json below"), (tmp_path / "none", "is no folder")):
        with pytest.raises(ResultError, match=said):
            gather(folder)


def test_the_command_says_what_it_made_and_strict_what_was_refused(cli: Cli, submissions: Path, tmp_path: Path) -> None:
    options = ("leaderboard", "build", "--submissions", submissions, "--out", tmp_path / "site")
    dry = cli(*options, "--dry-run")
    assert dry.code == 0
    assert "would write" in dry.out
    assert not (tmp_path / "site").exists()
    spoil(submissions, "two")
    ran = cli(*options, "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert (told["submissions"], told["results"], [r["name"] for r in told["refused"]]) == (2, 1, ["two"])
    strict = cli(*options, "--strict")
    assert strict.code == 1
    assert "2 submissions, 1 refused: 1 results in 1 tables" in strict.out


def test_outcomes_that_cannot_be_paired_are_shown_without_letters(tmp_path: Path) -> None:
    """Figures that are no mean over items: the table has them, nothing is compared."""
    import numpy as np

    from birdmml.schema import Figure

    one = boards.submission(tmp_path, "a", tasks=("A",))
    entry = one.entries[0]
    items = outcomes.Measures(
        (0, 1), "effective rank", ("x", "y"), np.ones((2, 2)), np.ones((2, 2)), statistic=outcomes.EXP_MEAN
    )
    outcomes.write(entry.folder / "m.parquet", items)
    summary = vars(items.summary("effective rank"))
    figures = (Figure("competition", "test-split", "A", "effective rank", **summary, predictions="m.parquet"),)
    result = entry.result.__class__(**{**vars(entry.result), "figures": figures})
    made = boards.site_of(boards.Submission("a", (boards.Entry(entry.folder, result),)))
    assert "effective rank" in made["index.html"]
    assert not [name for name in made if name.startswith("items/")]


def test_media_are_shown_with_their_credit_where_their_licence_allows_it(
    small_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdmml.leaderboard.site import site
    from birdmml.load import Built

    data = Built.open(small_demo)
    ids = data.split("test").column("id")
    made = [
        boards.submission(tmp_path, s, seed=i, ids=ids, dataset={"name": "demo", "digest": data.digest})
        for i, s in enumerate("ab")
    ]
    shown, notes = site(made, data=small_demo)
    files = dict(shown.files())
    assert notes == []
    media = [name for name in files if name.startswith("items/media/")]
    assert len(media) == 3 * len(ids)
    script = files["items/media.js"].decode()
    assert "photo: birdmml demo generator, CC0-1.0" in script
    assert files[media[0]][:2] == b"\xff\xd8"
    monkeypatch.setattr("birdmml.leaderboard.site.browser.may_be_shown", lambda _: False)
    closed, notes = site(made, data=small_demo)
    assert not [name for name in dict(closed.files()) if name.startswith("items/media/")]
    assert notes == [f"no {p} of {len(ids)} items: their licence does not allow it" for p in ("audio", "image")]


@pytest.mark.parametrize(
    ("license_id", "may"),
    [
        ("CC0-1.0", True),
        ("cc-by-nc-sa", True),
        ("CC-BY-ND-4.0", False),
        ("unknown", False),
        (None, False),
        ("MIT", False),
    ],
)
def test_a_licence_must_let_a_changed_copy_be_passed_on(license_id: str | None, may: bool) -> None:
    from birdmml.leaderboard.site.browser import may_be_shown

    assert may_be_shown(license_id) == may


@pytest.mark.drill
def test_five_hundred_submissions_are_built_within_half_a_minute(tmp_path: Path) -> None:
    for i in range(500):
        submitted(tmp_path, f"team-{i:03d}", seed=i, hits=0.3 + i / 1000, tasks=("A", "V", "A+V"), n=60)
    started = time.perf_counter()
    made = build(tmp_path / "submissions", tmp_path / "site", workers=os.cpu_count() or 1)
    assert time.perf_counter() - started < 30
    assert (made.results, made.tables, made.refused) == (500, 1, ())
