"""JSON of strangers: size, depth, length of texts, numbers and characters are bounded before anything is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birdmml.errors import ResultError
from birdmml.files import human_bytes
from birdmml.text import UNSEEN

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 32
MAX_TEXT = 10_000
MAX_NUMBER = 2**53  # Beyond it JSON readers do not agree on a number.


def load(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file; `name` is what messages call it. Raises ResultError, one line."""
    try:
        with path.open("rb") as f:
            content = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise ResultError(f"{name} cannot be read ({e.strerror or e}): submit again") from e
    if len(content) > MAX_BYTES:
        raise ResultError(f"{name} is larger than {human_bytes(MAX_BYTES)}: submit again")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_never)
    except (ValueError, RecursionError) as e:
        raise ResultError(f"{name} is no JSON in UTF-8 ({e}): submit again") from e
    if not isinstance(value, dict):
        raise ResultError(f"{name} holds no object: submit again")
    for where, wrong in _wrong(value):
        raise ResultError(f"{name}: {where or 'a name'} {wrong}: submit again")
    return value


def bad_text(text: str) -> str:
    """What is wrong with a text, or "": too long, control characters, marks that turn the direction of writing."""
    if len(text) > MAX_TEXT:
        return f"has {len(text):,} characters, more than {MAX_TEXT:,}"
    character = UNSEEN.search(text)
    return f"holds the character U+{ord(character[0]):04X}" if character else ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name comes twice in one object")
    return values


def _never(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _wrong(value: Any) -> Iterator[tuple[str, str]]:
    """(place, what is wrong) of everything inside; without recursion, since depth is what is checked."""
    todo: list[tuple[str, Any, int]] = [("", value, 0)]
    while todo:
        where, one, depth = todo.pop()
        if depth > MAX_DEPTH:
            yield where[:80], f"is nested deeper than {MAX_DEPTH}"
        elif isinstance(one, dict):
            for key, inner in one.items():
                if wrong := bad_text(key):
                    yield where, wrong
                todo.append((f"{where}.{key[:40]}".lstrip("."), inner, depth + 1))
        elif isinstance(one, list):
            todo += [(f"{where}[{i}]", inner, depth + 1) for i, inner in enumerate(one)]
        elif isinstance(one, str):
            if wrong := bad_text(one):
                yield where, wrong
        elif isinstance(one, int | float) and not abs(one) <= MAX_NUMBER:
            yield where, "is a number beyond what JSON readers agree on"
