"""The commands that the README and the guides show are run, in the order shown, in a folder like the reader's.

A few of each guide with the other tests; every one with `make drill`, and at the end of CI.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fakes
import pytest
from helpers import SPECIES, Ran, bird_folder
from helpers.licensed import build_folder, licensed_folder
from helpers.small import OPTIONS

ROOT = Path(__file__).parents[2]
# By guide, the commands that are run with the other tests: quick ones, which need none of the rest before them.
GUIDES = {
    "README.md": r"build --source (release --dry-run|folder)|prepare ",
    "docs/guide-methods.md": r"bench --method (gram|my_method.py) ",
    "docs/guide-data.md": r"build --source folder .*--out \./birds|info \./birds|species |validate |push \./licensed",
    "docs/guide-boards.md": r"bench |submit |verify submissions/confu$|leaderboard table",
    "docs/evalsets.md": r"prepare (ssw60|cub200)|info |validate ",
}
SMALL_DEMO = shlex.split("--species 6 --per-species 10 --image-size 48 --clip-seconds 2")
TINY = [word for option in OPTIONS for word in ("--set", option)]
# What is shown with the sizes of real work is run with those of a test. Nothing else is changed but placeholders.
SMALLER: list[tuple[str, list[str]]] = [
    (r"build --out", SMALL_DEMO),
    (r"build --source release", ["--from", "release", "--max-rejects", "0.5"]),
    (r"build --source folder", ["--max-rejects", "0.5"]),
    (r"bench --suite xor", []),
    (r"bench --all-methods", [*TINY, "--seeds", "1"]),
    (r"bench .*--protocol", ["--dry-run"]),
    # The fakes of evaluation sets are marked as demo, and so would be a result on them.
    (r"bench --checkpoint", ["--evalset", "dataset"]),
    (r"(bench|train) ", TINY),
]
# A modality of so few rows is told to be at chance, or not to be judged; a demo of ten rows a species is refused.
MAY_FAIL = re.compile(r"birdmml audit ")
BRACKETS = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")


def commands(text: str) -> list[list[str]]:
    """The words of each line that begins with `birdmml`, indented as code; `\\` goes on in the next line."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"^    birdmml (.+)$", joined, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def smaller(words: list[str]) -> list[str]:
    line = " ".join(words)
    for pattern, more in SMALLER:
        if re.match(pattern, line):
            return [*words, *more]
    return words


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: ~/birds, archives of evaluation sets, a release, a method and embeddings of their own."""
    home = tmp_path_factory.mktemp("desk")
    bird_folder(home / "birds")
    (home / "my-species.txt").write_text("".join(f"{name}\n" for name in (*SPECIES, "Turdus merula")))
    fakes.source("release", home / "release-whole", 0)
    (home / "release-whole" / "files").rename(home / "release")
    for name in ("ssw60", "vb100", "cub200", "av_mnist"):
        fakes.evalset(name, home / "fakes" / name, 0)
    with tarfile.open(home / "ssw60.tar.gz", "w:gz") as archive:
        archive.add(home / "fakes" / "ssw60", arcname="ssw60")
    with tarfile.open(home / "CUB_200_2011.tgz", "w:gz") as archive:
        archive.add(home / "fakes" / "cub200", arcname="CUB_200_2011")
    shutil.copytree(home / "fakes" / "vb100", home / "vb100")
    build_folder(licensed_folder(home / "licensed-birds"), home / "licensed")
    code = re.findall(r"```python\n(.+?)```", (ROOT / "docs/method.md").read_text(), flags=re.DOTALL)
    (home / "my_method.py").write_text(max(code, key=len))
    return home


@pytest.fixture
def here(desk: Path, tmp_path: Path, small_demo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOME", str(desk))
    monkeypatch.setenv("BIRDMML_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    for name in ("ssw60.tar.gz", "CUB_200_2011.tgz", "my_method.py", "my-species.txt", "release"):
        (work / name).symlink_to(desk / name)
    shutil.copytree(small_demo, work / "data")
    shutil.copytree(desk / "licensed", work / "licensed")
    monkeypatch.chdir(work)
    yield work


def filled(words: list[str], work: Path, cli: Callable[..., Ran]) -> list[str]:
    """NAME and other things that only the reader's own run knows; what a command takes and none before it made."""
    if "--embeddings" in words and not (work / "test.parquet").exists():
        cli("embed", "--checkpoint", _newest(work, "results/models/*/seed-0"), "--out", "test.parquet")
    if "./evalsets/av_mnist" in words and not (work / "evalsets/av_mnist").exists():
        source = Path(os.environ["HOME"]) / "fakes" / "av_mnist"
        assert cli("prepare", "av_mnist", "--from", source, "--out", "evalsets/av_mnist").code == 0
    for name in ("ssw60", "vb100", "cub200") if "birdmml-v1" in words or "./evalsets" in words else ():
        if not (work / "evalsets" / name).exists():
            source = Path(os.environ["HOME"]) / "fakes" / name
            cli("prepare", name, "--from", source, "--out", f"evalsets/{name}", "--max-rejects", "1")
    made = []
    for word in words:
        if word.endswith("/NAME"):
            word = str(_newest(work, f"{word.removesuffix('NAME')}*/result.json").parent)
        elif "/NAME/" in word:
            word = str(_newest(work, word.replace("NAME", "*")))
        made.append(word)
    return made


def _newest(work: Path, pattern: str) -> Path:
    return max(work.glob(pattern), key=lambda p: p.stat().st_mtime).relative_to(work)


@pytest.mark.drill
@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_of_a_guide_does_what_it_says(guide: str, here: Path, cli: Callable[..., Ran]) -> None:
    run_shown(guide, "", here, cli)


@pytest.mark.parametrize("guide", GUIDES)
def test_some_commands_of_a_guide_do_what_they_say(guide: str, here: Path, cli: Callable[..., Ran]) -> None:
    run_shown(guide, GUIDES[guide], here, cli)


def run_shown(guide: str, pattern: str, here: Path, cli: Callable[..., Ran]) -> None:
    """Run what the guide shows and `pattern` matches."""
    shown = commands((ROOT / guide).read_text(encoding="utf-8"))
    shown = [words for words in shown if re.match(pattern, " ".join(words))]
    assert len(shown) > 1
    for words in shown:
        if "--out" in words and words[:1] == ["build"]:
            shutil.rmtree(here / words[words.index("--out") + 1], ignore_errors=True)
        ran = cli(*filled(smaller(words), here, cli))
        told = f"{guide}: birdmml {shlex.join(words)}\n{ran.out[-2000:]}\n{ran.err[-2000:]}"
        assert "Traceback" not in ran.err, told
        assert ran.code == 0 or (ran.code == 1 and MAY_FAIL.match("birdmml " + " ".join(words))), told


def test_the_reference_is_made_from_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_reference.py"])
    made = runpy.run_path(str(ROOT / "docs/make_reference.py"))["page"]()
    assert made == (ROOT / "docs/reference.md").read_text(encoding="utf-8"), "run python docs/make_reference.py"


@pytest.mark.parametrize("page", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [t for t, _ in BRACKETS.findall(text) if not t.startswith(("http:", "https:", "mailto:"))]
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


def test_the_readme_leads_to_every_guide() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert "docs/README.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert {p.name for p in ROOT.glob("docs/*.md")} - {"README.md"} <= set(re.findall(r"\(([\w-]+\.md)\)", index))
