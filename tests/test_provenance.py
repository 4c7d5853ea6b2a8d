from __future__ import annotations

import json
import subprocess
from pathlib import Path

from birdmml import provenance


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_commit_is_read_and_changes_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "provenance.py"
    file.write_text("a")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    clean = provenance.commit(tmp_path)
    assert len(str(clean["commit"])) == 40
    assert clean["dirty"] is False
    file.write_text("b")
    assert provenance.commit(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_a_package_inside_somebody_elses_repository_reports_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "other.py").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "provenance.py").write_text("a")
    assert provenance.commit(tmp_path / "site-packages") == {"commit": None, "dirty": None}


def test_provenance_is_json_and_names_no_host_user_or_folder() -> None:
    found = provenance.collect("cpu")
    text = json.dumps(found)
    assert found["packages"]["torch"]
    assert found["hardware"]["cores"] >= 1
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_difference_names_changed_and_missing_packages() -> None:
    a = {"packages": {"numpy": "1", "torch": "2"}}
    assert provenance.difference(a, {"packages": {"numpy": "1", "torch": "3", "av": "1"}}) == ("av", "torch")
