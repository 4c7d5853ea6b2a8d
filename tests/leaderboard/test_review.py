"""A pull request may add submissions, and replace or withdraw one with a reason; everything else is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import markdown_it
import pytest
from helpers import Ran, accepted, submitted
from helpers.accepted import add_change, entry, put, write_changes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdmml.errors import ResultError
from birdmml.leaderboard.review import Review, review
from birdmml.leaderboard.submission.reading import read, spelled

Cli = Callable[..., Ran]
# Everything that a schema takes, and that a page might act upon.
HOSTILE = (
    "<script>alert(1)</script> ![i](//evil.example/i) [a](http://evil.example) @all ##[error] | `x` {{ 7*7 }} www.evil"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accepted submissions, two that are gone, and the maintainer's README.md."""
    root = tmp_path_factory.mktemp("accepted") / "submissions"
    gone = [put(root, number) for number in (8, 9)]
    for one in gone:
        shutil.rmtree(one.folder)
    put(root, 1)
    put(root, 2)
    write_changes(root, *(entry(one) for one in gone))
    (root / "README.md").write_text("One folder a submission.\n")
    return root


@pytest.fixture
def head(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "head"))


def told(found: Review) -> str:
    return "\n".join(problem.line for problem in found.problems)


def first(root: Path) -> Path:
    return next(p for p in sorted(root.iterdir()) if p.name.startswith("birds-1"))


def test_nothing_changed_is_sound_and_a_new_submission_is_welcome(base: Path, head: Path) -> None:
    same = review(base, head)
    assert (same.sound, len(same.accepted), same.proposed, same.changes) == (True, 2, (), ())
    new = put(head, 3)
    found = review(base, head)
    assert told(found) == ""
    assert [one.folder for one in found.proposed] == [new.slug]
    assert found.proposed[0].report is not None
    assert found.proposed[0].report.figures == 10
    assert f"{new.slug} is labelled 'no protocol'" in found.notes


ALTERATIONS = ("delete", "byte", "append", "rename", "folder", "entry", "link", "extra", "swap", "forge")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(ALTERATIONS), where=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_whatever_is_altered_in_what_is_accepted_is_refused(
    base: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, where: int, bit: int
) -> None:
    work = tmp_path_factory.mktemp("altered")
    head = Path(shutil.copytree(base, work / "head"))
    alter(head, kind, where, bit)
    assert not review(base, head).sound
    shutil.rmtree(work)


def alter(head: Path, kind: str, where: int, bit: int) -> None:
    """One alteration of what is accepted: a file, a folder, or an entry of changes.json."""
    paths = sorted(p for p in head.rglob("*") if p.is_file())
    path = paths[where % len(paths)]
    content = path.read_bytes()
    folders = sorted(p for p in head.iterdir() if p.is_dir())
    folder = folders[where % len(folders)]
    if kind == "delete":
        path.unlink()
    elif kind == "byte":
        at = where % len(content)
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
    elif kind == "append":
        path.write_bytes(content + b"\n")
    elif kind == "rename":
        path.rename(path.with_name(f"x{path.name}"))
    elif kind == "folder":
        folder.rename(head / f"{folder.name[:-1]}{bit}x") if where % 2 else shutil.rmtree(folder)
    elif kind == "entry":
        entries = json.loads((head / "changes.json").read_text())["changes"]
        kept = [entries[1], entries[0]] if where % 3 == 2 else [entries[where % 2]]
        write_changes(head, *kept)
    elif kind == "link":
        path.rename(head.parent / "elsewhere")
        path.symlink_to(head.parent / "elsewhere")
    elif kind == "extra":
        (path.parent / f"extra-{bit}.json").write_bytes(content)
    elif kind == "swap":
        folders[0].rename(head.parent / "kept")
        folders[1].rename(folders[0])
        (head.parent / "kept").rename(folders[1])
    elif kind == "forge":  # With every digest made anew.
        submitted.relist(folder, labels={"contact": "forger@example.org"})


def test_a_submission_is_replaced_by_a_better_one_with_a_reason(base: Path, head: Path) -> None:
    old = read(first(head))
    shutil.rmtree(old.folder)
    assert "accepted, and gone: put it back, or say why" in told(review(base, head))
    new = put(head, 4, models=1)  # The same models, scored again.
    add_change(head, entry(old, new))
    found = review(base, head)
    assert told(found) == ""
    assert [c.slug for c in found.changes] == [old.slug]
    assert f"{old.slug} would be replaced by {new.slug}, of the same contact" in found.notes


def test_a_replacement_by_somebody_else_and_a_withdrawal_name_whom_to_ask(base: Path, head: Path) -> None:
    old = read(first(head))
    shutil.rmtree(old.folder)
    add_change(head, entry(old))
    assert any("withdrawn: ask someone@example.org" in note for note in review(base, head).notes)
    new = put(head, 4, models=1, contact="rival@example.org")
    write_changes(head, *json.loads((base / "changes.json").read_text())["changes"], entry(old, new))
    found = review(base, head)
    assert found.sound
    assert any("of another contact: ask someone@example.org" in note for note in found.notes)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"before": "0" * 64}, "no accepted submission that this takes away"),
        ({"slug": "birds-7-00000000"}, "accepted, and gone"),
        ({"after": "0" * 64}, "which is not there"),
        ({"reason": "because"}, "fewer than 10"),
        ({"reason": " " * 20}, "not of the form"),
        ({"reason": "a reason\u202ereversed"}, "U+202E"),
        ({"date": "2026-02-30"}, "is no date"),
        ({"date": 1}, "not string"),
        ({"more": 1}, "no part of"),
        ({"after": ""}, "not of the form"),
    ],
)
def test_an_entry_that_is_not_one_is_refused(base: Path, head: Path, other: dict[str, object], words: str) -> None:
    old = read(first(head))
    shutil.rmtree(old.folder)
    add_change(head, entry(old) | other)
    assert words in told(review(base, head))


def test_an_entry_for_what_stays_and_two_for_one_are_refused(base: Path, head: Path) -> None:
    old = read(first(head))
    add_change(head, entry(old))
    assert "no accepted submission that this takes away" in told(review(base, head))
    shutil.rmtree(old.folder)
    add_change(head, entry(old))
    assert "has two new entries" in told(review(base, head))


def test_what_was_withdrawn_does_not_come_back_in_silence(base: Path, head: Path) -> None:
    put(head, 9)
    assert f"is what was taken away on 2026-03-04 ({accepted.REASON})" in told(review(base, head))


def test_copies_are_found_under_any_name(base: Path, head: Path) -> None:
    old = read(first(head))
    by_name = put(head, 1, name="My own idea")
    by_weights = put(head, 1, name="Weights made up", models=77)
    by_models = put(head, 5, name="Scored anew", models=1)
    lines = told(review(base, head)).splitlines()
    for made, words in (
        (by_name, f"every figure of it is, digit by digit, one of {old.slug}"),
        (by_weights, f"every figure of it is, digit by digit, one of {old.slug}"),
        (by_models, f"a model of {old.slug}, measured by the same protocol"),
    ):
        assert any(line.startswith(made.slug) and words in line for line in lines)


def test_the_same_models_on_other_data_are_no_copy(base: Path, head: Path) -> None:
    made = put(head, 5, models=1, digest="ef" * 32)
    found = review(base, head)
    assert told(found) == ""
    assert [one.folder for one in found.proposed] == [made.slug]


def test_two_copies_in_one_pull_request_are_found(base: Path, head: Path) -> None:
    put(head, 6)
    put(head, 6, name="Once more")
    assert told(review(base, head)).count("every figure of it") == 1


def test_a_withdrawal_does_not_hide_a_copy(base: Path, head: Path) -> None:
    old = read(first(head))
    shutil.rmtree(old.folder)
    put(head, 1, name="Not that one", models=77)
    add_change(head, entry(old))
    assert "digit by digit" in told(review(base, head))


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda head: (head / "notes.txt").write_text("x"), "notes.txt: no part of a submission"),
        (lambda head: (head / ".github").mkdir(), "holds no submission.json"),
        (lambda head: (head / "birds-9-x").symlink_to("/etc"), "birds-9-x: a link"),
        (lambda head: (head / "README.md").write_text("Vote for me"), "changed or gone"),
        (lambda head: (head / "README.md").unlink(), "changed or gone"),
        (lambda head: put(head, 3).folder.rename(head / "mine"), "rename it birds-3-"),
        (lambda head: (head / "changes.json").unlink(), "earlier entries are changed or gone"),
        (lambda head: (head / "changes.json").write_text("[]"), "holds no object"),
        (lambda head: (head / "changes.json").write_text("[" * 10**5), "no JSON"),
        (lambda head: (head / "changes.json").write_text('{"changes": [NaN]}'), "no number of JSON"),
        (lambda head: (head / "changes.json").write_text('{"changes":[],"changes":[]}'), "comes twice"),
        (lambda head: (head / "changes.json").write_text('{"changes":[]}'), "another spelling"),
    ],
)
def test_odd_things_at_the_root_are_refused(base: Path, head: Path, odd: Callable[[Path], object], words: str) -> None:
    odd(head)
    assert words in told(review(base, head))


def test_a_new_submission_that_is_not_sound_is_refused_with_all_that_is_wrong(base: Path, head: Path) -> None:
    made = put(head, 3)
    submitted.edit_json(
        made.folder / "results" / "small-1" / "result.json", lambda r: r["figures"][0].update(value=0.99)
    )
    submitted.relist(made.folder)
    text = told(review(base, head))
    assert f"{made.slug}/results/small-1/result.json" in text
    assert "is given as 0.99" in text


def test_an_accepted_folder_that_is_not_sound_stops_everything_with_one_line(base: Path, head: Path) -> None:
    (first(head) / "submission.json").unlink()
    with pytest.raises(ResultError, match="what is accepted in .* is not sound; mend it first") as stop:
        review(head, base)
    assert "\n" not in str(stop.value)
    with pytest.raises(ResultError, match="is itself a submission"):
        review(base, sorted(p for p in base.iterdir() if p.is_dir())[0])
    link = head.parent / "link"
    link.symlink_to(base)
    with pytest.raises(ResultError, match="is no folder"):
        review(base, link)


def test_the_report_is_inert_and_says_all(cli: Cli, base: Path, head: Path) -> None:
    made = put(head, 3, name=HOSTILE[:90], training_data=HOSTILE, contact=HOSTILE)
    (head / "<img src=x>\n::error::x").mkdir()
    (head / os.fsdecode(b"no text \xff")).mkdir()
    found = cli("leaderboard", "review", "--base", base, "--head", head)
    assert found.code == 1
    assert found.err == f"birdmml: {head} is refused: 2 problems, a line each in the report\n"
    parsed = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(found.out)
    kinds = {t.type for block in parsed for t in [block, *(block.children or [])]}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "code_inline", "table_open", "fence"}
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in found.out.splitlines())
    assert "@" not in found.out
    assert made.slug in found.out
    told = json.loads(cli("leaderboard", "review", "--base", base, "--head", head, "--json").out)
    assert len(told["problems"]) == 2


def test_the_command_exits_0_and_tells_programs_the_same(cli: Cli, base: Path, head: Path) -> None:
    made = put(head, 3)
    out = head.parent / "report.md"
    found = cli("leaderboard", "review", "--base", base, "--head", head, "--out", out)
    assert (found.code, found.out, found.err) == (0, "", "")
    assert out.read_text().startswith("## Submissions: nothing refuses it\n")
    assert "1 new, 0 replaced or withdrawn, 2 accepted and unchanged." in out.read_text()
    values = json.loads(cli("leaderboard", "review", "--base", base, "--head", head, "--json").out)
    assert values["sound"] is True
    assert [one["folder"] for one in values["proposed"]] == [made.slug]
    (head / "x.txt").write_text("x")
    broken = cli("leaderboard", "review", "--base", base, "--head", head, "--json")
    assert (broken.code, json.loads(broken.out)["problems"][0]["file"]) == (1, "x.txt")


def test_one_spelling_is_what_json_tool_writes(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "changes.json"
    path.write_text('{"changes": [{"reason": "für Vögel"}]}')
    command = [sys.executable, "-m", "json.tool", "--no-ensure-ascii", "--indent", "2", str(path), str(path)]
    subprocess.run(command, check=True)
    assert path.read_bytes() == spelled({"changes": [{"reason": "für Vögel"}]})
