"""`birdmml info` and `birdmml validate`: look at a built dataset, or at a prepared evaluation set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Folder = Annotated[
    Path | None, typer.Argument(help="A dataset or a prepared evaluation set; without one, the newest build.")
]


def info(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Summarise a built dataset or a prepared evaluation set."""
    from birdmml import load, manifest, prepared
    from birdmml.cli._show import dataset_lines
    from birdmml.errors import DatasetError

    root = folder or load.find()
    is_evalset = prepared.claims(root)
    told = prepared.read_manifest(root) if is_evalset else manifest.read(root)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    if is_evalset:
        typer.echo("\n".join(_evalset(root, told)))
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
    """Re-read a built dataset or a prepared evaluation set and compare it with its manifest.

    Checks hashes, schema, counts, every image and clip, and that nothing of a dataset lies in two splits. Exit 1 if
    anything is wrong.
    """
    from dataclasses import asdict

    from birdmml import load, prepared
    from birdmml.build.validate import validate as check
    from birdmml.cli._show import progress_bar
    from birdmml.prepare.check import check as check_evalset

    root = folder or load.find()
    is_evalset = prepared.claims(root)
    with progress_bar(quiet=as_json) as progress:
        findings = (check_evalset if is_evalset else check)(root, workers, progress)
    if as_json:
        typer.echo(json.dumps({**asdict(findings), "sound": not findings.problems}, indent=2))
    else:
        for problem in findings.problems[:50]:
            typer.echo(f"{problem.check}: {problem.where}: {problem.detail}", err=True)
        if len(findings.problems) > 50:
            typer.echo(f"... and {len(findings.problems) - 50} more (--json lists all)", err=True)
        again = f"{len(findings.problems)} problems: {'prepare' if is_evalset else 'build'} it again"
        verdict = again if findings.problems else "sound"
        typer.echo(f"{root}: {findings.rows:,} rows in {findings.shards} shards re-read: {verdict}")
    if findings.problems:
        raise typer.Exit(1)


def _evalset(root: Path, told: dict[str, Any]) -> list[str]:
    """A prepared set in a few lines; raises EvalsetError where its manifest garbles them."""
    from birdmml.cli._evalset import lines
    from birdmml.errors import EvalsetError

    try:
        found = list(lines(root, told))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise EvalsetError(f"{root / 'manifest.json'} lacks or garbles {e}: prepare the set again") from e
    pages = [p for p in ("index.html", "report.md") if (root / "report" / p).is_file()]
    return [*found, *(f"  report      {root / 'report' / p}" for p in pages)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(info)
    app.command()(validate)
