"""JSON of strangers: bounded before anything is believed, then judged by submission.schema.json."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # ships no types
from jsonschema import ValidationError

from birdmml.core.files import human_bytes
from birdmml.core.text import UNSEEN
from birdmml.errors import ResultError

SCHEMA = Path(__file__).parents[1] / "submission.schema.json"
# Of one file: a hostile one can have a million, and nobody reads on after so many.
MOST_PROBLEMS = 100
_WORDS = {"$schema", "$id", "$defs", "title", "description"}


@functools.cache
def schema() -> dict[str, Any]:
    """The schema that other tools can use as well."""
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


def part(name: str) -> Mapping[str, Any]:
    """One named rule: "result"."""
    return dict(schema()["$defs"][name])


def problems(value: Any, rule: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """(place, what is wrong) of what the schema forbids, or one `rule` of it; the first MOST_PROBLEMS."""
    rule = schema() if rule is None else {**rule, "$defs": schema()["$defs"]}
    return islice(_problems(_Validator(rule).iter_errors(value)), MOST_PROBLEMS)


def _problems(errors: Iterator[ValidationError]) -> Iterator[tuple[str, str]]:
    refused = None
    for error in errors:
        # What else a value of the wrong type breaks is not worth a sentence; "type" stands first in every rule.
        if error.absolute_path == refused:
            continue
        where = ""
        for step in error.absolute_path:
            where = _inside(where, step)
        if error.validator == "type":
            refused = error.absolute_path
            types = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
            yield where, f"is {_shown(error.instance)}, not {' or '.join(types)}"
        elif error.validator == "required":  # The library names the part in its sentence alone.
            yield where, f"lacks {error.message.split()[0]}"
        elif error.validator == "additionalProperties":
            for name in error.instance:
                if name not in error.schema["properties"]:
                    yield _inside(where, name), "is no part of a submission"
        else:
            yield where, _RULES[error.validator](error.instance, error.validator_value)


def _inside(where: str, step: str | int) -> str:
    return f"{where}[{step}]" if isinstance(step, int) else f"{where}.{step[:60]}".lstrip(".")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."


def _length(comparison: str) -> Callable[[Any, Any], str]:
    """minLength, maxItems and their like."""
    return lambda value, limit: (
        f"has {len(value)} {'characters' if isinstance(value, str) else 'entries'}, {comparison} than {limit}"
    )


# Each word of the schema as a sentence: of the value and of what the word allows.
_RULES: Mapping[str, Callable[[Any, Any], str]] = {
    "const": lambda value, only: f"is {_shown(value)}, not {only}",
    "enum": lambda value, those: f"is {_shown(value)}, not one of {', '.join(map(str, those))}",
    # Python's $ also stands before a last newline, JSON Schema's does not: "$(?!\n)" says the same in both.
    "pattern": lambda value, pattern: f"is {_shown(value)}, not of the form {pattern}",
    "uniqueItems": lambda value, _: "lists something twice",
    **dict.fromkeys(("minLength", "minItems"), _length("fewer")),
    **dict.fromkeys(("maxLength", "maxItems", "maxProperties"), _length("more")),
    "minimum": lambda value, limit: f"is {value}, fewer than {limit}",
    "maximum": lambda value, limit: f"is {value}, more than {limit}",
}


def _const(_: Any, only: Any, value: Any, __: Any) -> Iterator[ValidationError]:
    if value != only or type(value) is not type(only):
        yield ValidationError("another value")


def _minimum(validator: Any, least: float, value: Any, _: Any) -> Iterator[ValidationError]:
    # The library asks whether it is less, which "not a number" (of an option; JSON has none here) never is.
    if validator.is_type(value, "number") and not value >= least:
        yield ValidationError("less")


def _if_short(word: str, limit: str) -> Callable[..., Iterator[ValidationError]]:
    """The library's rule, for what is no longer than it may be: a longer one is refused, and could take hours."""
    rule_of = jsonschema.Draft7Validator.VALIDATORS[word]

    def bounded(validator: Any, allowed: Any, value: Any, rule: Mapping[str, Any]) -> Iterator[ValidationError]:
        if not isinstance(value, list | dict) or len(value) <= rule.get(limit, len(value)):
            yield from rule_of(validator, allowed, value, rule) or ()

    return bounded


# To JSON Schema since draft 6, 1.0 is an integer and equals 1; a seed or a version is written as one here.
_Validator = jsonschema.validators.extend(
    jsonschema.Draft7Validator,
    {
        "const": _const,
        "minimum": _minimum,
        "items": _if_short("items", "maxItems"),
        "uniqueItems": _if_short("uniqueItems", "maxItems"),
        "additionalProperties": _if_short("additionalProperties", "maxProperties"),
    },
    type_checker=jsonschema.Draft4Validator.TYPE_CHECKER,
)


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
