"""`birdmml info` and `birdmml validate`: look at a built dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path | None, typer.Argument(help="A dataset folder; without one, the newest build.")]


def info(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Summarise a built dataset."""
    from birdmml import load, manifest
    from birdmml.cli._show import dataset_lines
    from birdmml.errors import DatasetError

    root = folder or load.find()
    told = manifest.read(root)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    path = root / "report" / "validation.json"
    try:
        validation = json.loads(path.read_bytes())
        lines = dataset_lines(root, told, validation)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DatasetError(f"{path} cannot be read ({e}): build the dataset again") from e
    lines += [f"  digest      {told['digest']}", f"  report      {root / 'report' / 'index.html'}"]
    typer.echo("\n".join(lines))


def validate(
    folder: Folder = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Re-read a built dataset and compare it with its manifest.

    Checks hashes, schema, counts, every image and clip, and that nothing lies in two splits. Exit 1 if
    anything is wrong.
    """
    from dataclasses import asdict

    from birdmml import load
    from birdmml.build.validate import validate as check
    from birdmml.cli._show import progress_bar

    root = folder or load.find()
    with progress_bar(quiet=as_json) as progress:
        findings = check(root, workers, progress)
    if as_json:
        typer.echo(json.dumps({**asdict(findings), "sound": not findings.problems}, indent=2))
    else:
        for problem in findings.problems[:50]:
            typer.echo(f"{problem.check}: {problem.where}: {problem.detail}", err=True)
        if len(findings.problems) > 50:
            typer.echo(f"... and {len(findings.problems) - 50} more (--json lists all)", err=True)
        verdict = "sound" if not findings.problems else f"{len(findings.problems)} problems: build it again"
        typer.echo(f"{root}: {findings.rows:,} rows in {findings.shards} shards re-read: {verdict}")
    if findings.problems:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(info)
    app.command()(validate)
