"""What the user gets where, and the mark of files that were made for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FAKE_MARK = "birdmml-fake.txt"  # Lies beside files made for tests, so that what is made of them says so.


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


def is_fake(source: Path) -> bool:
    """Whether the file or folder bears the mark of files made for tests."""
    return ((source if source.is_dir() else source.parent) / FAKE_MARK).is_file()
