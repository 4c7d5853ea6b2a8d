from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from birdmml.core import provenance


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_commit_is_read_and_changes_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "__init__.py"
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
    (tmp_path / "site-packages" / "__init__.py").write_text("a")
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


def digests(package: Path) -> tuple[str, str]:
    provenance._digest.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "PACKAGE", package)
        return provenance.code_digest(), provenance.figures_digest()


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "birdmml"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    yield copy
    provenance._digest.cache_clear()


def test_a_copy_of_the_code_has_the_same_digests(package: Path) -> None:
    assert digests(package) == digests(provenance.PACKAGE)


@pytest.mark.parametrize(
    "place", ["cli", "hub", "leaderboard", "dataset/templates", "dataset/report.py", "core/text.py", "fetch", "sources"]
)
def test_words_that_decide_no_number_leave_both_digests(package: Path, place: str) -> None:
    before = digests(package)
    for path in [package / place, *(package / place).rglob("*")]:
        if path.is_file():
            path.write_bytes(path.read_bytes() + b"\n# another word\n")
    assert digests(package) == before


@pytest.mark.parametrize("place", provenance.VECTORS)
def test_code_that_decides_vectors_changes_both_digests(package: Path, place: str) -> None:
    before = digests(package)
    path = package / place if place.endswith(".py") else max((package / place).rglob("*.py"))
    path.write_bytes(path.read_bytes() + b"\nX = 1\n")
    after = digests(package)
    assert after[0] != before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("place", provenance.FIGURES)
def test_code_that_decides_figures_alone_keeps_models_and_embeddings(package: Path, place: str) -> None:
    before = digests(package)
    path = package / place if place.endswith(".py") else max((package / place).rglob("*.py"))
    path.write_bytes(path.read_bytes() + b"\nX = 1\n")
    after = digests(package)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_code_that_is_named_and_gone_is_no_silent_nothing(package: Path) -> None:
    (package / "core/settings.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"settings\.py"):
        digests(package)
