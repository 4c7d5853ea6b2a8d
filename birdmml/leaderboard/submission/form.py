"""submission.schema.json enforced: the part of JSON Schema (draft 2020-12) that it uses, and no more."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

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
