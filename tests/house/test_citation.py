import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import birdmml

ROOT = Path(birdmml.__file__).parents[1]
CITATION = ROOT / "CITATION.cff"

pytestmark = pytest.mark.skipif(not CITATION.exists(), reason="runs in a checkout")


def _cffconvert(*options: str) -> str:
    command = [sys.executable, "-c", "from cffconvert.cli.cli import cli; cli()", "-i", str(CITATION), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_citation_file_is_valid_and_follows_the_version():
    _cffconvert("--validate")
    zenodo = json.loads(_cffconvert("-f", "zenodo"))
    assert zenodo["version"] == birdmml.__version__
    assert zenodo["license"]["id"] == "Apache-2.0"
    assert "birdmml" in _cffconvert("-f", "bibtex")


def test_the_confu_paper_is_a_companion_reference():
    loaded = yaml.safe_load(CITATION.read_text(encoding="utf-8"))
    assert loaded["preferred-citation"]["title"].startswith("birdmml")
    assert loaded["preferred-citation"]["version"] == birdmml.__version__
    (paper,) = loaded["references"]
    assert [a["family-names"] for a in paper["authors"]] == [
        "Koutoupis",
        "Zervou",
        "Kontras",
        "De Vos",
        "Tsakalides",
        "Tsagkatakis",
    ]
    assert paper["url"] == "https://arxiv.org/abs/2511.21331"


def test_the_licence_is_the_full_apache_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
