"""What models have said survives, or says that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdmml.dataset.captioners.hf import STORE, CaptionStore
from birdmml.errors import BuildError


def test_what_was_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    with CaptionStore(tmp_path) as store:
        store.put({"a": "one", "b": ""}, 3)
        store.put({"a": "two"}, 4)
    with CaptionStore(tmp_path) as store:
        assert store.get(["a", "b", "c"]) == {"a": ("two", 4), "b": ("", 3)}


def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / STORE).write_bytes(b"no database" * 1000)
    before = (tmp_path / STORE).read_bytes()
    with pytest.raises(BuildError, match=rf"{STORE} is damaged.*delete it"):
        CaptionStore(tmp_path)
    assert (tmp_path / STORE).read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="file.*cannot be"):
        CaptionStore(tmp_path / "file")
