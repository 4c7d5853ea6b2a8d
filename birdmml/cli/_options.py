"""Commands as frozen dataclasses: a field is an option, with its default, its help and its bounds."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

KEY = "parameter"


def option(default: Any, text: str, *names: str, **more: Any) -> Any:
    """A field that is an option. `text` is its help, `names` its names where they are not the field's own.

    A `default` of `...` means that it must be given, one of `[]` that it may be given again for more. `more` is
    as typer has it: min, max, show_default.
    """
    return _field(default, typer.Option(*names, help=text, **more))


def flag(name: str, text: str) -> Any:
    """A field that is False until the option `name` is given; there is no --no-NAME."""
    return option(False, text, name)


def argument(default: Any, text: str, **more: Any) -> Any:
    """A field that is an argument; otherwise like `option`."""
    return _field(default, typer.Argument(help=text, **more))


def typed_names() -> Any:
    """A field for the names of those fields whose options were typed, be it with their defaults."""
    return _field(frozenset(), None)


def command(cls: type) -> Callable[..., None]:
    """A command as typer takes it, from a dataclass: its docstring is the help, each field a parameter.

    Filled with what was typed, its method `_run` does the work. A field that is a dataclass of options
    itself stands for its own fields, at its place in the order.
    """

    def run(**values: Any) -> None:
        _filled(cls, values)._run()

    run.__doc__ = cls.__doc__
    run.__signature__ = inspect.Signature(list(_parameters(cls)))  # type: ignore[attr-defined]  # as functools does
    run.__annotations__ = {}  # The signature has them.
    return run


def values_of(options: Any) -> dict[str, Any]:
    """The values of one dataclass of options that were given: None stands for what was not."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def spelled(options: Any, name: str) -> str:
    """The option of a field, as it is typed: `--caption-batch`."""
    (field,) = (f for f in dataclasses.fields(options) if f.name == name)  # A name that is no field is a bug.
    first = field.metadata[KEY].default  # Until typer makes a command of it, the option's first name.
    return f"--{name.replace('_', '-')}" if first is ... else str(first)


def _field(default: Any, parameter: Any) -> Any:
    metadata = {KEY: parameter}
    if default is ...:
        return dataclasses.field(metadata=metadata)
    if default == []:  # Dataclasses refuse lists as defaults: all instances would share one.
        return dataclasses.field(default_factory=list, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _parameters(cls: type) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint: Any = hints[field.name]
        if KEY not in field.metadata:
            yield from _parameters(hint)
            continue
        default: Any = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        if field.default_factory is list:
            # Help must not say that the default is an empty list.
            hint, default = hint | None, None
        parameter = field.metadata[KEY]
        annotation = typer.Context if parameter is None else Annotated[hint, parameter]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _filled(cls: type, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    filled = {}
    for field in dataclasses.fields(cls):
        name = field.name
        if KEY not in field.metadata:
            filled[name] = _filled(hints[name], values)
        elif field.metadata[KEY] is None:
            context = values[name]
            origins = {n: context.get_parameter_source(n) for n in context.params}
            filled[name] = frozenset(n for n, origin in origins.items() if origin and origin.name == "COMMANDLINE")
        else:
            filled[name] = values[name] or [] if field.default_factory is list else values[name]
    return cls(**filled)
