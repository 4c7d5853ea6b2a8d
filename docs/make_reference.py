"""Write docs/reference.md from the code: every command with its options, every setting with its default.

python docs/make_reference.py            # writes docs/reference.md
python docs/make_reference.py --check    # exit 1 if it would change
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer

from birdmml.core import discover
from birdmml.models import presets

OUT = Path(__file__).with_name("reference.md")
WIDTH = 100
KINDS = ("source", "captioner", "method", "suite", "evaluation set")


def commands() -> Iterator[str]:
    """The help of each command, as the terminal shows it."""
    from birdmml.cli import app

    for words, command in walk(typer.main.get_command(app), ()):
        context = click.Context(
            command, info_name=" ".join(("birdmml", *words)), terminal_width=WIDTH, max_content_width=WIDTH
        )
        context.help_option_names = ["-h", "--help"]
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        yield f"### birdmml {' '.join(words)}\n\n```text\n{text.strip()}\n```\n"


def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its name; groups in their own order."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield words, command
    for name, one in inner.items():
        yield from walk(one, (*words, name))


def settings() -> Iterator[str]:
    """The fields of every settings class: name, type, default."""
    yield from fields("Front end: `--set front_end.NAME=VALUE`", presets.FrontEnd)
    yield from fields("Training: `--set training.NAME=VALUE`", presets.Training)
    for kind, option, attribute in (("method", "method", "Config"), ("suite", None, "Options")):
        for name in discover.names(kind):
            shown = name.replace("_", "-") if kind == "suite" else name
            made = getattr(discover.load(kind, name), attribute, None)
            if made is not None:
                head = f"`{shown}`: `--set {option or shown}.NAME=VALUE`"
                yield from fields(f"{kind.capitalize()} {head}", made)


def fields(title: str, made: type) -> Iterator[str]:
    """One table."""
    told = inspect.getdoc(made) or ""
    yield f"### {title}\n\n{told}\n\n| name | type | default |\n|---|---|---|\n" + "".join(
        f"| `{f.name}` | `{cell(f.type)}` | `{cell(default(f))}` |\n" for f in dataclasses.fields(made)
    )


def default(field: dataclasses.Field[Any]) -> object:
    """What it is without being set."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def cell(value: object) -> str:
    """A value in one cell of a table."""
    text = value if isinstance(value, str) and value != "" else repr(value)
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def plugins() -> Iterator[str]:
    """What `birdmml list` names, with licence and source."""
    for kind in KINDS:
        rows = []
        for name in discover.names(kind):
            card = discover.load(kind, name).CARD
            shown = name.replace("_", "-") if kind == "suite" else name
            rows.append(
                f"| `{shown}` | {cell(card.summary)} | {cell(card.license)} | {cell(card.citation)} |\n"
            )
        head = "| name | what | licence | source |\n|---|---|---|---|\n"
        yield f"### {kind.capitalize()}s\n\n{head}{''.join(rows)}"


def page() -> str:
    """The whole file."""
    head = (
        "# Reference\n\nMade from the code by `docs/make_reference.py`; a test makes it again and compares.\n"
    )
    parts = [
        head,
        "## Commands\n",
        *commands(),
        "## Settings\n",
        *settings(),
        "## What can be named\n",
        *plugins(),
    ]
    return "\n".join(parts)


def main() -> None:
    """Write, or compare."""
    made = page()
    if "--check" in sys.argv:
        sys.exit(OUT.read_text(encoding="utf-8") != made)
    OUT.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
