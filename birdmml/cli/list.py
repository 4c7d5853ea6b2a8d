"""`birdmml list`: the sources, methods, suites, evaluation sets and protocols there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List sources, methods, suites, evaluation sets and protocols, a line each."""
    from birdmml import discover, protocols

    found = {
        kind: {_spelled(kind, name): discover.summary(kind, name) for name in discover.names(kind)}
        for kind in discover.FOLDERS
    }
    found["protocol"] = {name: protocols.load(name).summary for name in protocols.names()}
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    width = max(len(name) for names in found.values() for name in names)
    for kind, names in found.items():
        typer.echo(f"{kind}s")
        for name, summary in names.items():
            typer.echo(f"  {name.ljust(width)}  {summary}")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("list")(list_all)


def _spelled(kind: str, name: str) -> str:
    """As options and results write it: suites and methods take hyphens too, results of suites show them."""
    return name.replace("_", "-") if kind == "suite" else name
