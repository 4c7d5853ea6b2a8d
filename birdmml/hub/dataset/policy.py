"""Which licences a publisher takes: families and SPDX ids, and what a row must have to pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from birdmml.errors import UsageError
from birdmml.licenses import normalise
from birdmml.schema import UNKNOWN_LICENSE

PARTS = ("image", "audio", "caption")
DEFAULT = "default"
_FAMILY = re.compile(r"CC0|CC-BY(?:-NC)?(?:-SA|-ND)?", re.IGNORECASE)


@dataclass(frozen=True)
class Policy:
    """Licences that may be published. Empty: all but those that forbid derivatives, and unknown ones.

    A clip is cut, resampled and re-encoded, a photo scaled, a caption rewritten without names: each is a derivative,
    which an ND licence does not allow to be passed on. A rights holder's own permission is told by naming the licence.
    """

    families: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """As it would be given to --licenses."""
        return ",".join(sorted(self.families | self.ids)) or DEFAULT

    def why_not(self, spdx: str) -> str:
        """Why a licence, as a row names it, may not be published; "" where it may."""
        if normalise(spdx) == UNKNOWN_LICENSE or normalise(spdx) != spdx:
            return "unknown licence"
        if not self.families and not self.ids:
            return "forbids derivatives" if "-ND-" in spdx else ""
        return "" if spdx in self.ids or _family(spdx) in self.families else "not among --licenses"


def parse(text: str) -> Policy:
    """A policy from "CC0,CC-BY,CC-BY-SA-4.0" or "default"; raises UsageError for what is no licence."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError("--licenses is empty: name licences, as in CC0,CC-BY,CC-BY-SA-4.0, or leave it out")
    if [w.casefold() for w in words] == [DEFAULT]:
        return Policy()
    families, ids = set(), set()
    for word in words:
        if _FAMILY.fullmatch(word):
            families.add(word.upper())
        elif word.casefold() == UNKNOWN_LICENSE:
            raise UsageError(
                "--licenses unknown: nobody has allowed such media to be passed on; ask their authors"
            )
        elif (spdx := normalise(word)) != UNKNOWN_LICENSE:
            ids.add(spdx)
        else:
            raise UsageError(
                f"--licenses {word!r} is no Creative Commons licence: give families (CC-BY-NC) or SPDX ids (CC0-1.0)"
            )
    return Policy(frozenset(families), frozenset(ids))


def reasons(policy: Policy, row: Mapping[str, str]) -> dict[str, str]:
    """{part: why} for the parts of a row, {part: licence}, that may not be published; empty if all may."""
    return {part: why for part in PARTS if (why := policy.why_not(row[part]))}


def _family(spdx: str) -> str:
    return spdx.rpartition("-")[0]
