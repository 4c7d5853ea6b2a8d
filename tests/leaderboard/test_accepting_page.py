"""benchmarks/ACCEPTING.md: its workflow holds no secret, and its commands do what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.accepted import put

PAGE = Path(__file__).parents[2] / "benchmarks" / "ACCEPTING.md"
WORKFLOW = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
# YAML 1.1 reads `on` as a truth value.
PLAN: dict[Any, Any] = yaml.safe_load(WORKFLOW)


def steps() -> list[dict[str, Any]]:
    return list(PLAN["jobs"]["review"]["steps"])


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One accepted submission on main."""
    root = tmp_path_factory.mktemp("work") / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    put(root / "submissions", 1)
    (root / "constraints.txt").write_text("")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    return root


def run(repository: Path, at: Path) -> tuple[int, str]:
    """What the `run:` steps do with the merge of the branch `proposed`, but for the installation; code and summary."""
    git(repository, "checkout", "-q", "-B", "merged", "main")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "proposed")
    git(at, "clone", "-q", "--depth", "2", f"file://{repository}", "head")
    summary = at / "summary.md"
    bin_ = at / "bin"
    bin_.mkdir()
    (bin_ / "birdmml").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m birdmml "$@"\n')
    (bin_ / "birdmml").chmod(0o755)
    env = os.environ | {
        "GITHUB_STEP_SUMMARY": str(summary),
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PYTHONPATH": str(PAGE.parents[1]),
    }
    for step in steps():
        if "run" in step and "pip install" not in step["run"]:
            where = at / step.get("working-directory", ".")
            done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=where, env=env, capture_output=True)
            if done.returncode:
                return done.returncode, summary.read_text() if summary.exists() else ""
    return 0, summary.read_text()


def branch(repository: Path, message: str) -> None:
    git(repository, "checkout", "-q", "-B", "proposed")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", message)


def test_the_workflow_reads_only_and_the_accepted_side_judges() -> None:
    assert PLAN["permissions"] == {"contents": "read"}
    assert set(PLAN[True]) == {"pull_request"}
    assert not re.search(r"secrets\.|pull_request_target:|write", WORKFLOW)
    assert "github.event" not in WORKFLOW  # No text of the submitter's gets into a shell.
    assert [s["run"] for s in steps() if "pip" in s.get("run", "")] == ["pip install -c base/constraints.txt ./base"]
    assert all(s["with"]["persist-credentials"] is False for s in steps() if "checkout" in s.get("uses", ""))


def test_its_steps_take_a_sound_pull_request_and_refuse_a_removal(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "main")
    made = put(repository / "submissions", 2)
    branch(repository, "another")
    (tmp_path / "one").mkdir()
    code, summary = run(repository, tmp_path / "one")
    assert (code, made.slug in summary) == (0, True)
    git(repository, "checkout", "-q", "main")
    (gone,) = (repository / "submissions").iterdir()
    put(repository / "submissions", 3)
    shutil.rmtree(gone)
    branch(repository, "mine instead")
    (tmp_path / "two").mkdir()
    code, summary = run(repository, tmp_path / "two")
    assert (code, f"{gone.name}: accepted, and gone" in summary) == (1, True)


def test_its_steps_refuse_what_touches_more_than_submissions(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "main")
    put(repository / "submissions", 4)
    (repository / "constraints.txt").write_text("birdmml @ file:///evil")
    branch(repository, "and a little more")
    assert run(repository, tmp_path) == (1, "")
