"""Texts of strangers, cut to a length that a page can hold and made harmless for each format."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from birdmml.text import LONGEST
from birdmml.text import plain as plain

MOST_FACTS, DEEPEST = 400, 12


def number(value: float) -> str:
    """A coordinate with two decimals at most: the same text everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"


def file_name(*parts: str, read: int = 2) -> str:
    """A name that every file system and address takes: the first `read` of `parts`, and a digest of them all."""
    content = "\0".join(parts).encode("utf-8", "surrogatepass")
    shown = "-".join(p[:60] for p in parts[:read]).lower()
    read_as = re.sub(r"[^a-z0-9]+", "-", shown).strip("-")[:60].strip("-")
    return f"{read_as or 'x'}-{hashlib.sha256(content).hexdigest()[:16]}"


def facts(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, words), at most MOST_FACTS; the last says that there are more."""
    leaves = list(islice(_leaves(value, "", 0), MOST_FACTS + 1))
    return leaves if len(leaves) <= MOST_FACTS else [*leaves[:MOST_FACTS], ("…", "more is in the submission")]


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value and depth < DEEPEST:
        for key in sorted(value, key=str):
            yield from _leaves(value[key], f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield plain(name), words(value)


def words(value: Any) -> str:
    """A JSON value as it is read: lists by commas, none as a dash."""
    if value is None or value == {} or value == [] or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and not any(isinstance(v, Mapping | list | tuple) for v in value):
        return plain(", ".join(str(v)[:LONGEST] for v in value[:LONGEST]))
    return plain(value)
