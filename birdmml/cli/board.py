"""`birdmml leaderboard build`: submissions become a static site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdmml.site.build import BuiltSite


def build(
    submissions: Annotated[Path, typer.Option(help="A folder that holds submissions, at any depth.")],
    out: Annotated[Path, typer.Option(help="Where the site goes; replaced as a whole.")],
    media: Annotated[
        Path | None, typer.Option(help="A built dataset: show photos and sounds of its items.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that check submissions; one a core by default.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if a submission was refused.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and count everything, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Check submissions, and write them as a static site: tables, a page a result, items side by side, exports.

    It works from a file, a server or a Space, and asks nobody for anything. Equal submissions give equal bytes.
    """
    import os

    from birdmml.site.build import build as build_site

    made = build_site(submissions, out, media, dry_run, workers or os.cpu_count() or 1)
    if as_json:
        _json(made, dry_run)
    else:
        typer.echo("\n".join(_lines(made, dry_run)))
    if strict and made.refused:
        raise typer.Exit(1)


def _lines(made: BuiltSite, dry_run: bool) -> list[str]:
    from birdmml.files import human_bytes

    verb = "would write" if dry_run else "wrote"
    counted = f"{made.results:,} results in {made.tables:,} tables"
    lines = [f"{made.submissions:,} submissions, {len(made.refused):,} refused: {counted}"]
    lines += [f"  refused     {r.name}: {'; '.join(r.reasons)}" for r in made.refused]
    lines += [f"  note        {note}" for note in made.notes]
    lines.append(f"  {verb:<12}{made.files:,} files, {human_bytes(made.bytes)}: {made.out / 'index.html'}")
    return lines


def _json(made: BuiltSite, dry_run: bool) -> None:
    import json

    told = {
        "out": str(made.out),
        "dry_run": dry_run,
        "submissions": made.submissions,
        "results": made.results,
        "tables": made.tables,
        "files": made.files,
        "bytes": made.bytes,
        "refused": [{"name": r.name, "reasons": list(r.reasons)} for r in made.refused],
        "notes": list(made.notes),
    }
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False))


def register(group: typer.Typer) -> None:
    """Add the command to `birdmml leaderboard`."""
    group.command()(build)
