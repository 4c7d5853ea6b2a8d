"""Settings are frozen dataclasses; here they become JSON or TOML and back, are overridden and digested."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from birdmml.core import files
from birdmml.errors import UnknownName, UsageError

T = TypeVar("T")


def to_dict(settings: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values: tuples become lists, nested dataclasses become objects."""
    return dict(json.loads(json.dumps(dataclasses.asdict(settings), allow_nan=False)))


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """The dataclass `cls` from plain values, with every field's type checked.

    Raises UnknownName for a field that does not exist, UsageError for a wrong type or a missing value.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is a dataclass by contract
    for key in values:
        if key not in fields:
            raise UnknownName("setting", f"{where}{key}", [f"{where}{name}" for name in fields])
    hints = _hints(typing.cast(Any, cls))
    converted = {k: _convert(hints[k], v, f"{where}{k}") for k, v in values.items()}
    nothing = dataclasses.MISSING
    missing = [
        n for n, f in fields.items() if n not in converted and f.default is nothing and f.default_factory is nothing
    ]
    if missing:
        raise UsageError(f"setting {where}{missing[0]} has no value: add it")
    return cls(**converted)


def override(settings: T, assignments: Iterable[str], where: str = "") -> T:
    """`settings` with each "a.b=value" applied; values are TOML, bare words count as strings.

    `where` ("method.") is put before the names in messages. Raises UnknownName for a name that does not
    exist and UsageError for a value of another type.
    """
    values = to_dict(settings)
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise UsageError(f"--set {assignment!r} is not NAME=VALUE: write for example training.epochs=3")
        *path, last = name.strip().split(".")
        table: Any = values
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            raise UnknownName("setting", where + name.strip(), [where + n for n in _names(values)])
        try:
            table[last] = tomllib.loads(f"v = {text.strip()}")["v"]
        except tomllib.TOMLDecodeError:
            table[last] = text.strip()
    return from_dict(type(settings), values, where)


def digest(settings: Any) -> str:
    """Hex SHA-256 of a dataclass or a plain value; equal settings have equal digests."""
    return files.digest(to_dict(settings) if dataclasses.is_dataclass(settings) else settings)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, name)
    if origin is typing.Literal:
        if value not in args:
            raise UnknownName(f"value for {name}", str(value), map(str, args))
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(args[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast(type[Any], hint), value, f"{name}.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, origin or hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise UsageError(f"setting {name} is {value!r}: it must be of type {wanted}")


def _names(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in values.items():
        names += _names(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return names
