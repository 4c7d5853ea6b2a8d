"""What can go wrong: a class for each thing that a user can cause or mend, with the exit status it ends a command with.

Every message says what is wrong, where, and the next step. A command ends with 1 where no class below says otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BirdmmlError(Exception):
    """Base of every error that a user can cause or mend; the command line prints it as one line."""

    exit_code = 1


class UsageError(BirdmmlError):
    """Options that are wrong by themselves or together."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that nothing answers to; `nearest` holds up to three that are close."""

    def __init__(self, kind: str, name: str, names: Iterable[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        self.nearest = nearest(name, names)
        near = f": nearest are {', '.join(self.nearest)}" if self.nearest else ""
        super().__init__(f"unknown {kind} {name!r}{near}{'; ' + hint if hint else ''}")


class MediaError(BirdmmlError):
    """One photo, recording or video that cannot be used. `reason` is a short stable slug for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        # Exceptions are rebuilt from their args across processes; ours takes two.
        return MediaError, (self.reason, self.detail)


class SourceError(BirdmmlError):
    """The input of a build as a whole cannot be used."""


class BuildError(BirdmmlError):
    """A build cannot go on, or its result is not accepted."""


class DatasetError(BirdmmlError):
    """A built dataset is missing, incomplete or damaged."""


class EvalsetError(BirdmmlError):
    """An evaluation set is missing, incomplete or damaged."""


class CheckpointError(BirdmmlError):
    """A checkpoint is missing, damaged or of another model."""


class TrainingError(BirdmmlError):
    """Training cannot start, or diverged."""


class ResultError(BirdmmlError):
    """A result cannot be read, or its figures do not follow from its items."""


class HubError(BirdmmlError):
    """A hub cannot be reached, or does not take what is sent."""


class Interrupted(BirdmmlError):
    """Ctrl-C or SIGTERM; what was there is left as it was."""

    exit_code = 130


def nearest(name: str, names: Iterable[str], n: int = 3) -> tuple[str, ...]:
    """The up to `n` known names closest to `name`, closest first, ignoring case."""
    by_key = {k.casefold(): k for k in sorted(names)}
    return tuple(by_key[k] for k in difflib.get_close_matches(name.casefold(), by_key, n=n, cutoff=0.0))
