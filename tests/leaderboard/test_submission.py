"""Results become a submission that is whole, says what it is, and is the same whenever it is made."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Ran, submitted, tree
from helpers.submitted import ABOUT, IDS

from birdmml.errors import BirdmmlError, ResultError, UsageError
from birdmml.leaderboard.submission import making
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.making import make
from birdmml.leaderboard.submission.model import About
from birdmml.leaderboard.submission.reading import read

Cli = Callable[..., Ran]
RECORDED = Path(__file__).parents[2] / "benchmarks" / "submissions" / "demo" / "results"


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return submitted.result_in(tmp_path / "runs" / "small-1")


def test_a_submission_holds_the_result_as_it_was_and_says_what_it_is(result: Path, tmp_path: Path) -> None:
    (result / "figures").mkdir()
    (result / "figures" / "overview.png").write_bytes(b"a picture")
    (result / "run.log").write_text("a log")
    made = make([result], replace(ABOUT, energy_kwh=1.5), tmp_path / "submission")
    told = made.about
    assert (told["name"], told["contact"], told["license"]) == ("Small birds", "someone@example.org", "CC0-1.0")
    assert told["training_data"] == {"declaration": "Twelve made-up birds.", "digests": [submitted.DIGEST]}
    assert (told["energy_kwh"], told["created"], told["labels"]) == (1.5, "2026-01-02", ["no protocol"])
    (one,) = told["results"]
    assert (one["method"], one["variant"], one["seeds"]) == ("confu", "paper", [0, 1])
    assert [m["weights_sha256"] for m in one["models"]] == list(submitted.WEIGHTS)
    assert one["code"] == {"commit": "c" * 40, "dirty": False, "digest": "d" * 64}
    ids = hashlib.sha256("\n".join(sorted(IDS)).encode()).hexdigest()
    assert {tuple(v.items()) for v in one["items"].values()} == {(("n", 12), ("sha256", ids))}
    copied = tree(tmp_path / "submission" / "results" / "small-1")
    assert copied == {k: v for k, v in tree(result).items() if k.endswith((".json", ".parquet"))}
    listed = {f["path"].removeprefix("results/small-1/"): f["sha256"] for f in told["files"]}
    assert listed == copied
    assert made == read(tmp_path / "submission")


def test_a_sound_submission_passes_and_says_what_it_compared_with_nothing(result: Path, tmp_path: Path) -> None:
    make([result], ABOUT, tmp_path / "submission")
    report = check(tmp_path / "submission")
    assert report.problems == ()
    assert report.figures == 10
    assert "compared with no list" in report.notes[0]


def test_the_same_results_and_words_give_the_same_bytes_and_the_same_place_twice(result: Path, tmp_path: Path) -> None:
    first = make([result], ABOUT, tmp_path / "a")
    second = make([result], ABOUT, tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert first.slug == second.slug
    assert make([result], ABOUT, tmp_path / "a") == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "runs"]  # No part is left behind.


@pytest.mark.parametrize("name", ["Small birds", "☃", "../../x", "A" * 100, "<script>alert(1)</script>", "-"])
def test_a_slug_is_a_safe_file_name_and_differs_for_other_content(result: Path, tmp_path: Path, name: str) -> None:
    made = make([result], replace(ABOUT, name=name), tmp_path / "a")
    other = make([result], replace(ABOUT, name=name, energy_kwh=2.0), tmp_path / "b")
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", made.slug)
    assert made.slug.endswith(made.about["digest"][:8])
    assert made.slug != other.slug


@pytest.mark.parametrize(
    ("changes", "options", "label", "option"),
    [
        ({"demo": True}, {"allow_demo": True}, "demo", "--allow-demo"),
        ({"settings": {"limit": 12}}, {"allow_limited": True}, "limited", "--allow-limited"),
        ({"provenance": {"code": {"commit": "c", "dirty": True}, "created_utc": "2026-01-02"}},
         {"allow_dirty": True}, "dirty", "--allow-dirty"),
    ],
)  # fmt: skip
def test_demo_limited_and_dirty_results_are_refused_unless_asked_for_and_then_labelled(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, bool], label: str, option: str
) -> None:
    folder = submitted.result_in(tmp_path / "small-1", **changes)
    with pytest.raises(ResultError, match=option):
        make([folder], ABOUT, tmp_path / "submission")
    assert not (tmp_path / "submission").exists()
    made = make([folder], ABOUT, tmp_path / "submission", **options)
    assert label in made.about["labels"]
    assert check(tmp_path / "submission").sound


def test_one_seed_no_commit_no_models_and_departures_are_said(tmp_path: Path) -> None:
    (real,) = RECORDED.glob("symile-tiny-demo-????????")
    shutil.copytree(real, tmp_path / "real")
    submitted.edit_json(tmp_path / "real" / "result.json", lambda v: v.update(models=[]))
    made = make([tmp_path / "real"], ABOUT, tmp_path / "a", True)
    assert made.about["labels"] == ["demo", "no protocol", "models unknown"]
    told = {"name": "own-protocol", "digest": "e" * 64, "departures": ["2 of 3 seeds"]}
    settings = {"protocol": told, "evalsets": {"dataset": submitted.DIGEST}, "limit": None}
    source = {"created_utc": "2026-01-02"}
    labels = submitted.submission_in(tmp_path, settings=settings, provenance=source).about["labels"]
    assert labels == ["code unknown", "departs from protocol"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "--name"), ({"name": "a\nb"}, r"U\+000A"), ({"name": "x" * 101}, "101 characters"),
        ({"name": "a\u202eb"}, r"U\+202E"), ({"name": "  "}, "--name"), ({"contact": ""}, "--contact"),
        ({"license": ""}, "--license"), ({"license": "MIT licence"}, "--license"),
        ({"training_data": " "}, "--training-data"), ({"training_data": "x" * 2001}, "--training-data"),
        ({"energy_kwh": -1.0}, "--energy-kwh"), ({"energy_kwh": float("nan")}, "--energy-kwh"),
        ({"created": "2026-02-30"}, "--date"), ({"created": "yesterday"}, "--date"),
    ],
)  # fmt: skip
def test_words_that_will_not_do_are_refused_by_the_option_that_gave_them(
    result: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make([result], replace(ABOUT, **changes), tmp_path / "submission")
    assert not (tmp_path / "submission").exists()


def test_a_result_that_does_not_follow_is_refused_with_the_figure(result: Path, tmp_path: Path) -> None:
    submitted.edit_json(result / "result.json", lambda v: v["figures"][4].update(value=0.99))
    with pytest.raises(ResultError, match="zero-shot test-split A accuracy") as caught:
        make([result], ABOUT, tmp_path / "submission")
    assert str(tmp_path) not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def test_a_folder_with_something_else_in_it_is_left_as_it_was(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        make([result], ABOUT, out)
    assert tree(out) == {"thesis.tex": hashlib.sha256(b"years of work").hexdigest()}
    make([result], ABOUT, tmp_path / "sub")
    before = tree(tmp_path / "sub")
    with pytest.raises(UsageError, match="another submission"):
        make([result], replace(ABOUT, name="Other"), tmp_path / "sub")
    assert tree(tmp_path / "sub") == before
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no folder"):
        make([result], ABOUT, tmp_path / "link")


def test_several_results_stand_side_by_side_and_one_twice_is_refused(result: Path, tmp_path: Path) -> None:
    submitted.result_in(tmp_path / "runs" / "small-2", seed=1)
    made = make([tmp_path / "runs"], ABOUT, tmp_path / "both")
    assert [e.folder.name for e in made.entries] == ["small-1", "small-2"]
    shutil.copytree(result, tmp_path / "runs" / "small-3")
    with pytest.raises(ResultError, match="submit it once"):
        make([tmp_path / "runs"], ABOUT, tmp_path / "three")
    shutil.copytree(result, tmp_path / "more" / "Small-1")
    with pytest.raises(UsageError, match="one name"):
        make([result, tmp_path / "more"], ABOUT, tmp_path / "four")
    with pytest.raises(UsageError, match="rename"):
        make([submitted.result_in(tmp_path / "a b")], ABOUT, tmp_path / "five")


def test_nothing_found_and_another_schema_are_one_line(result: Path, tmp_path: Path) -> None:
    for sources in ([tmp_path / "nothing"], [tmp_path / "runs" / "small-1" / "predictions"]):
        with pytest.raises(ResultError):
            make(sources, ABOUT, tmp_path / "submission")
    submitted.edit_json(result / "result.json", lambda v: v.update(schema_version=2))
    with pytest.raises(ResultError, match="schema version"):
        make([result], ABOUT, tmp_path / "submission")


def test_an_earlier_submission_among_the_results_is_passed_over(tmp_path: Path) -> None:
    submitted.result_in(tmp_path / "small-1")
    first = make([tmp_path], ABOUT, tmp_path / "submission")
    assert make([tmp_path], ABOUT, tmp_path / "submission") == first
    with pytest.raises(ResultError, match="all that was found"):
        make([tmp_path / "submission"], ABOUT, tmp_path / "submission")


def test_a_failure_while_copying_leaves_nothing(result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making.shutil, "copyfileobj", full)
    with pytest.raises(ResultError, match="No space left"):
        make([result], ABOUT, tmp_path / "submission")
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


WORDS = ["--name", "Small birds", "--contact", "a@example.org", "--license", "CC0-1.0", "--training-data", "birds"]


def test_the_commands_make_and_verify(cli: Cli, result: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission"
    tried = cli("submit", result, *WORDS, "--out", out, "--dry-run")
    assert tried.code == 0, tried.err
    assert "nothing was written" in tried.out
    assert not out.exists()
    assert cli("submit", result, *WORDS, "--out", out).code == 0
    sound = cli("verify", out)
    assert sound.code == 0, sound.err
    assert "10 figures follow" in sound.out
    told = json.loads(cli("verify", out, "--json").out)
    assert (told["sound"], told["problems"], told["labels"]) == (True, [], ["no protocol"])
    assert json.loads(cli("submit", result, *WORDS, "--out", out, "--json").out)["digest"] == told["digest"]


def test_verify_prints_every_problem_on_a_line_of_its_own(cli: Cli, result: Path, tmp_path: Path) -> None:
    out = make([result], ABOUT, tmp_path / "submission").folder
    submitted.edit_json(
        out / "results" / "small-1" / "result.json",
        lambda v: (v["figures"][0].update(value=0.9), v["figures"][4].update(n=13)),
    )
    (out / "extra.txt").write_text("x")
    ran = cli("verify", out)
    assert ran.code == 1
    lines = [line for line in ran.out.splitlines() if not line.startswith("note")]
    for words in ("changed after", "value is given as 0.9", "recall@1 is above", "n is 13", "never has"):
        assert [line for line in lines if words in line], words
    assert all(line.count(": ") >= 2 for line in lines)
    assert f"{len(lines)} things are wrong" in ran.err
    assert json.loads(cli("verify", out, "--json").out)["sound"] is False


@pytest.mark.parametrize(
    "words",
    [["--rerun"], ["--checkpoint", "x"], ["--evalsets", "x"], ["--rerun", "--data", "x"], ["--data", "nowhere"]],
)
def test_options_that_make_no_sense_are_one_line(cli: Cli, result: Path, tmp_path: Path, words: list[str]) -> None:
    out = make([result], ABOUT, tmp_path / "submission").folder
    ran = cli("verify", out, *words)
    assert ran.code in (1, 2)
    assert len(ran.err.splitlines()) == 1
    assert cli("verify", tmp_path).code == 1
    with pytest.raises(BirdmmlError):
        make([result], About("x", "", "CC0-1.0", "x"), tmp_path / "z")
