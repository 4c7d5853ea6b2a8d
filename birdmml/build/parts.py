"""A build's work as parts, which may run on different machines: which part takes which key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from birdmml.errors import UsageError


@dataclass(frozen=True)
class Part:
    """Part `index` of `count`; `at_once` of them run at a time, and share what a service allows (0: all of them).

    Raises UsageError unless 0 <= index < count and 0 <= at_once <= count.
    """

    index: int = 0
    count: int = 1
    at_once: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"part {self.index} of {self.count}: give an index from 0 to {max(self.count - 1, 0)}"
            )
        if not 0 <= self.at_once <= self.count:
            raise UsageError(f"{self.at_once} parts at a time of {self.count}: give 0 (all) to {self.count}")

    @property
    def sharing(self) -> int:
        """How many parts share what a service allows."""
        return self.at_once or self.count

    def takes(self, key: str) -> bool:
        """Whether this part does the work named `key`; every key belongs to exactly one part."""
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % self.count == self.index
