"""`birdmml leaderboard push`: submissions and their site to the hub; a dry run unless told otherwise."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmml.cli._parcel import parcel_json, parcel_lines
from birdmml.errors import HubError, ResultError

if TYPE_CHECKING:
    from birdmml.hub.parcel import Parcel


def push(
    submissions: Annotated[Path, typer.Option(help="A folder that holds one for each submission.")],
    site: Annotated[Path, typer.Option(help="What `birdmml leaderboard build` made of them.")],
    repo: Annotated[
        str, typer.Option(help="Where on the Hub: user/board, a dataset and a Space of one name.")
    ],
    push: Annotated[bool, typer.Option("--push", help="Upload; without it nothing leaves.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the cards and the files here, to look at.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Repositories that only you see.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every submission, list what would be uploaded, and upload it with --push.

    \b
    birdmml leaderboard push --submissions submissions --site site --repo user/board
    birdmml leaderboard push --submissions submissions --site site --repo user/board --push

    The dataset user/board gets the submissions, their figures as one table, and a card; the static Space user/board
    gets the site. A submission that is not sound stops it.
    """
    from birdmml.hub.board import checked, stage_dataset, stage_space
    from birdmml.hub.parcel import check_repo
    from birdmml.hub.push import push as upload

    check_repo("--repo", repo)
    made, problems = checked(submissions)
    if problems:
        typer.echo("\n".join(problem.line for problem in problems), err=as_json)
        raise ResultError(
            f"{submissions} is not sound: {len(problems)} things are wrong, so nothing was uploaded"
        )
    with tempfile.TemporaryDirectory(prefix="birdmml-push-") as temporary:
        folder = out or Path(temporary)
        try:
            parcels = [
                stage_dataset(repo, submissions, made, folder / "dataset"),
                stage_space(repo, site, made, folder / "space"),
            ]
        except OSError as e:
            raise HubError(
                f"{folder} cannot be written ({e.strerror or e}): free space, or choose another --out"
            ) from e
        if not as_json:
            typer.echo("\n".join(_listed(parcels, out)))
        urls = upload(*parcels, private=private) if push else []
    if as_json:
        told = [parcel_json(p, urls[i] if urls else None) for i, p in enumerate(parcels)]
        typer.echo(json.dumps({"uploaded": bool(urls), "repositories": told}, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(f"uploaded  {url}" for url in urls) or "nothing was uploaded: add --push")


def register(group: typer.Typer) -> None:
    """Add the command to `birdmml leaderboard`."""
    group.command()(push)


def _listed(parcels: list[Parcel], out: Path | None) -> list[str]:
    lines = [line for parcel in parcels for line in parcel_lines(parcel)]
    return [*lines, f"look at   {out or 'the cards and the files: add --out FOLDER'}"]
