"""`birdmml push-model`: a model card with the results, and the upload; a dry run unless told otherwise."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmml.cli._parcel import parcel_json, parcel_lines
from birdmml.errors import HubError

if TYPE_CHECKING:
    from birdmml.hub.stage import ModelParcel


def push_model(
    checkpoint: Annotated[Path, typer.Argument(help="A folder that `birdmml train` or `bench` wrote.")],
    repo: Annotated[str, typer.Option(help="Where on the Hub: user/name.")],
    results: Annotated[
        list[Path] | None, typer.Option(help="A result of this model; may be given several times.")
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Upload; without it nothing leaves.")] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the card and the files here, to look at.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that only you see.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="The dataset of the training: its licences go on the card.")
    ] = None,
    license_id: Annotated[
        str, typer.Option("--license", help="The weights' licence, an id of the Hub: cc-by-nc-4.0.")
    ] = "unknown",
    dataset: Annotated[
        str, typer.Option(help="The training data's name on the Hub, if they are there.")
    ] = "",
    benchmark: Annotated[
        str, typer.Option(help="A benchmark dataset of the Hub: the figures go into .eval_results for it.")
    ] = "",
    method: Annotated[
        str | None, typer.Option(help="Your own method's file, if the model was trained with one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a model card with checked results, list what would be uploaded, and upload it with --push.

    \b
    birdmml push-model ./model --results results/confu-tiny-0a1b2c3d --repo user/name
    birdmml push-model ./model --results results/confu-tiny-0a1b2c3d --repo user/name --push

    A result is refused unless its figures follow from its items and it is of this very model.
    """
    from birdmml.hub.card import About
    from birdmml.hub.push import push as upload
    from birdmml.hub.stage import check_names, stage

    license_id = license_id.strip().lower()
    check_names(repo, license_id, dataset, benchmark)
    with tempfile.TemporaryDirectory(prefix="birdmml-push-") as temporary:
        folder = out or Path(temporary)
        try:
            about = About(repo, license_id, dataset, benchmark=benchmark)
            parcel = stage(checkpoint, results or (), about, folder, method, data)
        except OSError as e:
            raise HubError(
                f"{folder} cannot be written ({e.strerror or e}): free space, or choose another --out"
            ) from e
        if not as_json:
            typer.echo("\n".join(_listed(parcel, out)))
        url = upload(parcel, private=private)[0] if push else None
    typer.echo(_as_json(parcel, out, url) if as_json else _closing(url))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(push_model)


def _listed(parcel: ModelParcel, out: Path | None) -> list[str]:
    return [
        *parcel_lines(parcel),
        f"look at   {out / 'README.md'}" if out else "look at   the card and the files: add --out FOLDER",
    ]


def _closing(url: str | None) -> str:
    return "nothing was uploaded: add --push" if url is None else f"uploaded  {url}"


def _as_json(parcel: ModelParcel, out: Path | None, url: str | None) -> str:
    found = parcel_json(parcel, url) | {
        "folder": str(out) if out else None,
        "results": [{"folder": str(s.folder), "not_compared": list(s.unknown)} for s in parcel.results],
    }
    return json.dumps(found, indent=2, ensure_ascii=False)
