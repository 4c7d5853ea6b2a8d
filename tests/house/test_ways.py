"""A value goes through few files: what ways.py lists, and a bound for the longest way."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import ways


def test_what_is_followed_is_seen_within_other_values() -> None:
    def wanted(value: object) -> bool:
        return value == "confu"

    assert ways.holds("confu", wanted)
    assert ways.holds({"plan": [("a", "confu")]}, wanted)
    assert not ways.holds({"plan": [("a", "clip")]}, wanted)
    assert not ways.holds(SimpleNamespace(method="confu"), wanted)
    assert not ways.holds([[[["confu"]]]], wanted)  # Deeper than DEPTH: what a file cannot know of.


@pytest.mark.drill
@pytest.mark.parametrize("name, most", [("method", 20), ("photo", 12), ("batch", 12), ("vector", 26)])
def test_each_way_goes_through_few_files(name: str, most: int, tmp_path: Path) -> None:
    files = ways.WAYS[name](tmp_path)
    assert 3 < len(files) <= most, files
