"""What a row must have to be published: a licence that `birdmml.licenses` takes for each of its parts."""

from __future__ import annotations

from collections.abc import Mapping

from birdmml.errors import UsageError
from birdmml.licenses import Policy, policy

PARTS = ("image", "audio", "caption")

__all__ = ["PARTS", "Policy", "parse", "reasons"]


def parse(text: str) -> Policy:
    """The policy of --licenses, which may not be empty here; raises UsageError for what is no licence."""
    if not text.replace(",", "").strip():
        raise UsageError("--licenses is empty: name licences, as in CC0,CC-BY,CC-BY-SA-4.0, or leave it out")
    return policy(text)


def reasons(policy: Policy, row: Mapping[str, str]) -> dict[str, str]:
    """{part: why} for the parts of a row, {part: licence}, that may not be published; empty if all may."""
    return {part: why for part in PARTS if (why := policy.why_not(row[part]))}
