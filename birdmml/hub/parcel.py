"""What goes to the hub, for every kind of repository: a folder that holds exactly the listed files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from birdmml.errors import UsageError
from birdmml.files import sha256_file

CARD = "README.md"
TEMPLATES = Path(__file__).with_name("templates")
TAGS = ("birds", "bioacoustics", "biology", "multimodal", "contrastive-learning", "image", "audio", "text")
Kind = Literal["model", "dataset", "space"]
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class File:
    """One file to upload: its path in the repository, bytes and hash."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Parcel:
    """A staged repository: `files` are all files below `folder`, sorted.

    `replaces` is a pattern of paths: files of the repository that match it and are not in the parcel are removed.
    """

    repo: str
    kind: Kind
    folder: Path
    files: tuple[File, ...]
    demo: bool
    notes: tuple[str, ...]
    replaces: str = ""


def check_repo(option: str, name: str) -> None:
    """Raise UsageError for a repository that the Hub would not take.

    USER/NAME has at most 96 characters a part, no "--", no "..", no end in ".git".
    """
    whole = all(_PART.fullmatch(part) for part in name.split("/")) and name.count("/") == 1
    if not whole or "--" in name or ".." in name or name.endswith(".git"):
        raise UsageError(f"{option} {name!r} is no repository: give USER/NAME, of letters, digits, - _ .")


def clear(folder: Path, wanted: Iterable[str], what: str) -> None:
    """Make `folder`; raise UsageError where it holds anything but the wanted paths of `what`."""
    known = set(wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or (not path.is_dir() and name not in known):
                raise UsageError(
                    f"--out {folder} holds {name}, which is not part of this {what}: choose an empty folder"
                )
    except OSError as e:
        raise UsageError(f"--out {folder} cannot be used ({e.strerror or e}): choose another folder") from e


def listed(folder: Path, paths: Iterable[str]) -> tuple[File, ...]:
    """The staged files with their sizes and hashes, sorted by path."""
    return tuple(
        File(path, (folder / path).stat().st_size, sha256_file(folder / path)) for path in sorted(paths)
    )
