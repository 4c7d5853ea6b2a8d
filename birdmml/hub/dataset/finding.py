"""One thing that was found wrong with a dataset before it is published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A stable slug, where, what was found, and the next step. `stops` tells what must not be published."""

    check: str
    where: str
    found: str
    step: str
    stops: bool = True

    @property
    def line(self) -> str:
        """All of it on one line."""
        return f"{self.check}: {self.where}: {self.found}; {self.step}"
