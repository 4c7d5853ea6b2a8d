"""submission.schema.json enforced: the part of JSON Schema (draft 2020-12) that it uses, and no more."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from birdmml.core.files import human_bytes
from birdmml.core.text import UNSEEN
from birdmml.errors import ResultError

SCHEMA = Path(__file__).parents[1] / "submission.schema.json"
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
}
_WORDS = {"$schema", "$id", "$defs", "title", "description"}


@functools.cache
def schema() -> dict[str, Any]:
    """The schema that other tools can use as well."""
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


def problems(value: Any, rule: Mapping[str, Any] | None = None, where: str = "") -> Iterator[tuple[str, str]]:
    """(place, what is wrong) of everything that the schema forbids, or one `rule` of it."""
    rule = schema() if rule is None else rule
    if "$ref" in rule:
        yield from problems(value, schema()["$defs"][rule["$ref"].removeprefix("#/$defs/")], where)
        return
    types = rule.get("type", ())
    types = (types,) if isinstance(types, str) else types
    if types and not any(_TYPES[t](value) for t in types):
        yield where, f"is {_shown(value)}, not {' or '.join(types)}"
        return
    for word, allowed in rule.items():
        if word in _RULES:
            if told := _RULES[word](value, allowed):
                yield where, told
        elif word not in _WORDS | {"type", "required", "properties", "additionalProperties", "items"}:
            raise NotImplementedError(f"{SCHEMA.name} uses {word}, which nothing here enforces")
    if isinstance(value, dict):
        yield from _object(value, rule, where)
    elif isinstance(value, list) and "items" in rule:
        for i, item in enumerate(value):
            yield from problems(item, rule["items"], f"{where}[{i}]")


def part(name: str) -> Mapping[str, Any]:
    """One named rule: "result"."""
    found: Mapping[str, Any] = schema()["$defs"][name]
    return found


def _object(value: Mapping[str, Any], rule: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
    for name in rule.get("required", ()):
        if name not in value:
            yield where, f"lacks {name!r}"
    for name, inner in value.items():
        place = f"{where}.{name[:60]}".lstrip(".")
        if name in known:
            yield from problems(inner, known[name], place)
        elif others is False:
            yield place, "is no part of a submission"
        elif isinstance(others, dict):
            yield from problems(inner, others, place)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."


def _pattern(value: Any, pattern: str) -> str:
    # Python's $ also stands before a last newline, JSON Schema's does not: "$(?!\n)" says the same in both.
    good = not isinstance(value, str) or re.search(pattern, value)
    return "" if good else f"is {_shown(value)}, not of the form {pattern}"


def _unique(value: Any, wanted: bool) -> str:
    if not wanted or not isinstance(value, list):
        return ""
    texts = [json.dumps(v, sort_keys=True) for v in value]
    return "lists something twice" if len(set(texts)) < len(texts) else ""


def _bound(length: bool, least: bool, kind: type | tuple[type, ...]) -> Callable[[Any, Any], str]:
    """minLength, maxItems, minimum and their like."""

    def found(value: Any, limit: float) -> str:
        if not isinstance(value, kind) or isinstance(value, bool):
            return ""
        size: Any = len(value) if length else value  # type: ignore[arg-type]  # `kind` says it
        if (size >= limit) if least else (size <= limit):
            return ""
        of = f"has {size} {'characters' if kind is str else 'entries'}" if length else f"is {size}"
        return f"{of}, {'fewer' if least else 'more'} than {limit}"

    return found


_RULES: Mapping[str, Callable[[Any, Any], str]] = {
    "const": lambda v, only: "" if v == only and type(v) is type(only) else f"is {_shown(v)}, not {only}",
    "enum": lambda v, those: "" if v in those else f"is {_shown(v)}, not one of {', '.join(map(str, those))}",
    "pattern": _pattern,
    "uniqueItems": _unique,
    "minLength": _bound(True, True, str),
    "maxLength": _bound(True, False, str),
    "minItems": _bound(True, True, list),
    "maxItems": _bound(True, False, list),
    "maxProperties": _bound(True, False, dict),
    "minimum": _bound(False, True, (int, float)),
    "maximum": _bound(False, False, (int, float)),
}


# ---- JSON of strangers: size, depth, length of texts, numbers and characters are bounded before anything is believed.


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
