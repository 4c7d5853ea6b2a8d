"""The one thing birdmml remembers between runs: where the last build went."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def _file() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "birdmml" / "last-build"


def last_build() -> Path | None:
    """The folder of the last successful `birdmml build`, if one is known."""
    try:
        text = _file().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError):
        return None  # No note, or no home: the caller looks elsewhere.
    return Path(text) if text else None


def remember_build(folder: Path) -> None:
    """Note where a build went; a home that cannot be written only costs the convenience."""
    with contextlib.suppress(OSError, RuntimeError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        _file().write_text(f"{folder}\n", encoding="utf-8")
