"""A build's work as parts, which may run on different machines: which part takes which key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from birdmml.errors import UsageError

MAX_PARTS = 99_999
FOLDER = "parts"
# The chunks of one part are fewer: their files have six digits.
CHUNKS = 1_000_000


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
        if self.count > MAX_PARTS:
            raise UsageError(f"{self.count} parts are more than {MAX_PARTS}: give fewer, larger ones")

    @property
    def sharing(self) -> int:
        """How many parts share what a service allows."""
        return self.at_once or self.count

    def takes(self, key: str) -> bool:
        """Whether this part does the work named `key`; every key belongs to exactly one part."""
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % self.count == self.index

    @property
    def name(self) -> str:
        """What the part's folder is called."""
        return f"{self.index:05d}-of-{self.count:05d}"


def numbered(chunk: int, part: Part) -> int:
    """The number that a part's chunk has among the chunks of all parts; `located` takes it apart again."""
    return ((part.count * (MAX_PARTS + 1) + part.index) * CHUNKS) + chunk


def located(chunk: int) -> tuple[Part | None, int]:
    """Which part a chunk belongs to (None: the build is not divided), and its number there."""
    where, number = divmod(chunk, CHUNKS)
    if not where:
        return None, number
    count, index = divmod(where, MAX_PARTS + 1)
    return Part(index, count), number
