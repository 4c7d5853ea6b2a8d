"""What the user gets where, and the mark that what `fake` writes carries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FAKE_MARK = "birdmml-fake.txt"  # Lies in what `fake` writes, so that what is made of it says so.


@dataclass(frozen=True)
class Download:
    """What to get, and from where; `size` in words, `md5` "" where none is published."""

    file: str
    size: str
    md5: str
    url: str
    licence: str

    @property
    def argument(self) -> str:
        """What `--from` is given: the file, or where there are several the folder that they lie in."""
        return "FOLDER" if " " in self.file else self.file

    def words(self) -> str:
        """One line for who does not have it yet."""
        md5 = f", md5 {self.md5}" if self.md5 else ""
        return f"download {self.file} ({self.size}{md5}; {self.licence}) from {self.url}"


def mark(root: Path) -> None:
    """Say in `root` that its files are a fake."""
    root.mkdir(parents=True, exist_ok=True)
    (root / FAKE_MARK).write_text("written by birdmml for its tests: noise, no data\n", encoding="utf-8")


def is_fake(source: Path) -> bool:
    """Whether the file or folder lies in what `fake` has written."""
    return ((source if source.is_dir() else source.parent) / FAKE_MARK).is_file()
