"""What must not leave this machine in a text: its paths, and keys of services."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from birdmml.hub.dataset.finding import Finding

TEXTS = (".md", ".json", ".csv", ".html", ".svg", ".cff")
MAX_TOLD = 5
_ROOTS = "home|Users|root|tmp|mnt|media|var|opt|private|scratch|srv|Volumes|workspace"
# The first finds lines worth a look, in the dialect of RE2; the second says what it is.
CANDIDATE = (
    rf"/(?:{_ROOTS})/|[A-Za-z]:\\|file:/|hf_[A-Za-z0-9]{{20}}|gh[pousr]_[A-Za-z0-9]{{30}}|AKIA[0-9A-Z]{{16}}"
    r"|PRIVATE KEY|[?&](?:key|token|api_key|access_token)="
)
_PATH = re.compile(
    rf"(?<![\w/.:%-])/(?:{_ROOTS})/[^\s\"'<>|,;)]+|(?<!\w)[A-Za-z]:\\+\w[^\s\"'<>|]*|file:/+[^\s\"'<>]+"
)
_SECRET = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|[?&](?:key|token|api_key|access_token)=[A-Za-z0-9_.-]{8,}"
)
_ENVIRONMENT = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|_KEY$")
_STEP_PATH = "take it out, or build again with names instead of paths"
_STEP_SECRET = "take it out, and withdraw the key where it was issued"  # noqa: S105  # words for a reader


class Private:
    """Looks for paths of this machine and for keys; what it finds of a key is never repeated."""

    def __init__(self, root: Path) -> None:
        here = {str(p) for p in (root.resolve(), Path.cwd(), Path.home()) if len(p.parts) > 2}
        self.paths = sorted(here, key=len, reverse=True)
        # As a path of its own, not as a part of an address or of a longer name.
        self._here = re.compile(
            "|".join(rf"(?<![\w/.:%-]){re.escape(p)}(?![\w-])" for p in self.paths) or "(?!)"
        )
        values = {v for k, v in os.environ.items() if _ENVIRONMENT.search(k.upper()) and len(v) >= 12}
        self.secrets = sorted(v for v in values if not v.isalpha() and "/" not in v)

    @property
    def words(self) -> list[str]:
        """What is looked for literally."""
        return [*self.paths, *self.secrets]

    def kind(self, text: str) -> tuple[str, str] | None:
        """(what, next step) of the first thing in a text that must stay here; None where there is none."""
        if _SECRET.search(text) or any(s in text for s in self.secrets):
            return "a key of a service (not shown)", _STEP_SECRET
        found = _PATH.search(text) or self._here.search(text)
        return (f"a path of one machine, {found[0][:60]!r}", _STEP_PATH) if found else None


def in_files(root: Path, paths: Iterable[str], private: Private) -> Iterator[Finding]:
    """Findings in the texts among `paths`, up to MAX_TOLD a file."""
    for path in paths:
        if not path.endswith(TEXTS):
            continue
        told = 0
        with (root / path).open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if told < MAX_TOLD and (found := private.kind(line)):
                    told += 1
                    yield Finding("private", f"{path} line {number}", *found)
