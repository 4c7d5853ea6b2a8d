"""`birdmml leaderboard push`: exactly the listed files, in a dataset and a static Space, and nothing unasked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import markdown_it
import pyarrow.parquet as pq
import pytest
from helpers import Ran, submitted, tree
from helpers.accepted import entry, put, write_changes
from helpers.hub_server import REPO, TOKEN, Hub
from huggingface_hub import DatasetCard, SpaceCard

from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.model import Submission

Cli = Callable[..., Ran]
HOSTILE = "<b>Best</b> | ![i](//evil.example/i) [a](http://evil.example) `x` {{ 7*7 }}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two submissions, changes.json with one that is gone, and a README.md of the maintainer."""
    root = tmp_path_factory.mktemp("board") / "submissions"
    gone = put(root, 3)
    shutil.rmtree(gone.folder)
    put(root, 1)
    put(root, 2, name=HOSTILE, license="CC-BY-4.0")
    write_changes(root, entry(gone))
    (root / "README.md").write_text("Ours\n")
    return root


@pytest.fixture
def shelf(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "submissions"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site" / "entries").mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text("<!doctype html><title>Board</title>")
    (tmp_path / "site" / "entries" / "one.html").write_text("<!doctype html>")
    return tmp_path / "site"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub().serving(monkeypatch) as running:
        yield running


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)


def submissions_of(root: Path) -> list[Submission]:
    found = [check(p).submission for p in sorted(root.iterdir()) if p.is_dir()]
    return [one for one in found if one is not None]


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_lists_every_file_and_asks_no_hub(cli: Cli, shelf: Path, site: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--out", out)
    found = cli(*args, "--json")
    assert found.code == 0, found.err
    dataset, space = json.loads(found.out)["repositories"]
    assert (dataset["kind"], space["kind"], dataset["uploaded"], space["url"]) == ("dataset", "space", False, None)
    assert {f["path"]: f["sha256"] for f in dataset["files"]} == tree(out / "dataset")
    assert {f["path"]: f["sha256"] for f in space["files"]} == tree(out / "space")
    kept = {k: v for k, v in tree(shelf).items() if k != "README.md"}
    assert {f"submissions/{k}": v for k, v in kept.items()}.items() <= tree(out / "dataset").items()
    assert tree(out / "dataset").keys() - {f"submissions/{k}" for k in kept} == {"README.md", "figures.parquet"}
    assert tree(out / "space").keys() == {"README.md", "index.html", "entries/one.html"}
    assert "README.md is not part of the board and stays here" in dataset["notes"]
    again = tree(out)
    shown = cli(*args)
    assert tree(out) == again
    assert shown.out.splitlines()[-1] == "nothing was uploaded: add --push"
    digest = hashlib.sha256((site / "index.html").read_bytes()).hexdigest()
    assert re.search(rf"index\.html +\d+ B +{digest}", shown.out)


def test_the_cards_say_what_it_is_to_the_hub_and_what_strangers_wrote_is_inert(
    cli: Cli, shelf: Path, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        cli(
            "leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--out", out
        ).code
        == 0
    )  # fmt: skip
    space = SpaceCard.load(out / "space" / "README.md").data
    assert (space.sdk, space.app_file, space.title, space.datasets) == ("static", "index.html", "birds", [REPO])
    card = DatasetCard.load(out / "dataset" / "README.md")
    assert card.data.license == ["cc-by-4.0", "cc0-1.0"]
    (config,) = card.data.to_dict()["configs"]
    assert (config["config_name"], config["data_files"]) == ("figures", "figures.parquet")
    assert "2 submissions of 2 results with 20 figures" in card.text
    assert "| CC-BY-4.0 | 1 |" in card.text
    for one in submissions_of(shelf):
        assert f"| `{one.slug}` |" in card.text
    assert "Its test split was not the test split." in card.text
    parsed = markdown_it.MarkdownIt("commonmark").enable("table").parse(card.text)
    inner = [t for block in parsed for t in (block.children or [])]
    assert not {"html_inline", "image", "link_open"} & {t.type for t in inner}
    # Digests may hold these digits, too.
    assert "49" not in re.sub(r"-[0-9a-f]{8}\b", "", card.text)


def test_a_site_with_a_card_keeps_it(cli: Cli, shelf: Path, site: Path, tmp_path: Path) -> None:
    card = "---\ntitle: Mine\nsdk: static\napp_file: index.html\n---\n\nMine.\n"
    (site / "README.md").write_text(card)
    out = tmp_path / "out"
    found = cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--out", out)
    assert (found.code, (out / "space" / "README.md").read_text()) == (0, card)


def test_each_row_of_the_table_is_a_figure_of_a_submission(cli: Cli, shelf: Path, site: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--out", out)
    rows = pq.read_table(out / "dataset" / "figures.parquet").to_pylist()
    told = {(r["submission"], r["suite"], r["task"], r["metric"]): (r["value"], r["n"]) for r in rows}
    wanted = {
        (one.slug, f.suite, f.task, f.metric): (f.value, f.n)
        for one in submissions_of(shelf)
        for e in one.entries
        for f in e.result.figures
    }
    assert told == wanted
    assert len(rows) == len(wanted)


def test_push_sends_exactly_the_listed_files_to_both_and_removes_what_is_stale(
    cli: Cli, hub: Hub, shelf: Path, site: Path
) -> None:
    hub.kinds["datasets"] = {"submissions/old/submission.json": b"x", "notes.md": b"x", ".gitattributes": b""}
    hub.kinds["spaces"] = {"old.html": b"x", "README.md": b"x"}
    found = cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--push", "--json")
    assert found.code == 0, found.err
    told = json.loads(found.out)
    assert told["uploaded"] is True
    for values, kind in zip(told["repositories"], ("datasets", "spaces"), strict=True):
        sent = {path: hashlib.sha256(content).hexdigest() for path, content in hub.kinds[kind].items()}
        listed = {f["path"]: f["sha256"] for f in values["files"]}
        assert sent.items() >= listed.items()
        assert sent.keys() - listed.keys() == ({"notes.md", ".gitattributes"} if kind == "datasets" else set())
    assert sorted(hub.removed) == ["old.html", "submissions/old/submission.json"]
    assert [(m["type"], m.get("sdk")) for m in hub.made] == [("dataset", None), ("space", "static")]
    assert hub.kinds["models"] == {}
    assert TOKEN not in found.out + found.err


def test_nothing_leaves_where_one_repository_is_public_and_a_refusal_is_one_line(
    cli: Cli, hub: Hub, shelf: Path, site: Path
) -> None:
    args = ("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--push")
    found = cli(*args, "--private")
    assert (found.code, hub.files) == (1, {})
    assert "is public, so nothing was uploaded" in found.err
    hub.status = 403
    found = cli(*args)
    assert (found.code, hub.files, found.err.count("\n")) == (1, {}, 1)
    assert "hf auth login" in found.err
    assert TOKEN not in found.err


@pytest.mark.usefixtures("no_network")
def test_a_submission_that_is_not_sound_stops_it_with_all_that_is_wrong(cli: Cli, shelf: Path, site: Path) -> None:
    one, two = submissions_of(shelf)
    submitted.edit_json(
        one.folder / "results" / "small-1" / "result.json", lambda r: r["figures"][0].update(value=0.99)
    )
    (two.folder / "evil.py").write_text("x")
    found = cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--push")
    assert found.code == 1
    assert "is given as 0.99" in found.out
    assert "evil.py: a file that a submission never has" in found.out
    assert found.err.startswith("birdmml: ")
    assert found.err.count("\n") == 1


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda site: (site / "index.html").unlink(), "has no index.html"),
        (lambda site: (site / "README.md").write_text("x"), "no card of a static Space"),
        (lambda site: (site / "README.md").write_text("---\nsdk: docker\n---\n"), "no card of a static Space"),
        (lambda site: (site / ".env").write_text("HF_TOKEN=x"), "'.env', a link or an odd name"),
        (lambda site: (site / "secret.txt").symlink_to("/etc/passwd"), "'secret.txt', a link"),
        (lambda site: (site / "out").symlink_to("/etc"), "'out', a link"),
        (lambda site: os.mkfifo(site / "pipe"), "'pipe', a link"),
        (lambda site: (site / "*").write_text("x"), "'*', a link or an odd name"),
        (lambda site: shutil.rmtree(site), "is no folder"),
        (lambda site: (site.rename(site.with_name("s")), site.symlink_to(site.with_name("s"))), "is no folder"),
    ],
)
def test_a_site_that_is_none_or_holds_odd_files_is_refused(
    cli: Cli, shelf: Path, site: Path, odd: Callable[[Path], object], words: str
) -> None:
    odd(site)
    found = cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO, "--push")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert words in found.err


@pytest.mark.usefixtures("no_network")
def test_no_submission_twice_and_no_name_that_the_hub_would_not_take(
    cli: Cli, shelf: Path, site: Path, tmp_path: Path
) -> None:
    shutil.copytree(submissions_of(shelf)[0].folder, shelf / "again")
    found = cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", REPO)
    assert (found.code, "the same as again: leave one" in found.out) == (1, True)
    assert cli("leaderboard", "push", "--submissions", shelf, "--site", site, "--repo", "birds").code == 2
    (tmp_path / "none").mkdir()
    found = cli("leaderboard", "push", "--submissions", tmp_path / "none", "--site", site, "--repo", REPO)
    assert (found.code, "holds no submission" in found.err) == (1, True)
