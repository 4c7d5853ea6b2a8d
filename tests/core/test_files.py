"""A folder in the place of another: the old one or the new one, whenever the run dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from birdmml.core.files import replace_folder, restore_folder


def folder_of(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_folder_takes_the_place_of_another_or_of_none(tmp_path: Path) -> None:
    out, old = tmp_path / "out", tmp_path / "old"
    for text in ("first", "second"):
        replace_folder(folder_of(tmp_path / "new", text), out, old)
        assert (out / "file").read_text() == text
        assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_stops_between_the_two_renames_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    out, old, new = folder_of(tmp_path / "out", "old"), tmp_path / "old", folder_of(tmp_path / "new", "new")
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        if self == new:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(error):
        replace_folder(new, out, old)
    assert (out / "file").read_text() == "old"
    assert new.is_dir() and not old.exists()


def test_after_a_death_between_the_two_renames_the_old_one_comes_back(tmp_path: Path) -> None:
    out, old = tmp_path / "out", folder_of(tmp_path / "old", "old")
    restore_folder(out, old)
    assert (out / "file").read_text() == "old"
    assert not old.exists()


def test_after_a_death_behind_the_two_renames_the_new_one_stays(tmp_path: Path) -> None:
    out, old = folder_of(tmp_path / "out", "new"), folder_of(tmp_path / "old", "old")
    restore_folder(out, old)
    assert (out / "file").read_text() == "new"
    assert not old.exists()
