"""`birdmml embed`: rows of a dataset as unit vectors in a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdmml.cli.bench import needs_data
from birdmml.errors import ResultError


def embed(
    checkpoint: Annotated[Path, typer.Option(help="A folder that `birdmml train` or `bench` wrote.")],
    data: Annotated[Path, typer.Option(help="A dataset that `birdmml build` made.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")] = Path("embeddings.parquet"),
    split: Annotated[str, typer.Option(help="Which rows.")] = "test",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    limit: Annotated[int | None, typer.Option(help="At most N rows.")] = None,
) -> None:
    """Embed a split with a trained model: id, species, and one vector column a modality and fused pair.

    \b
    birdmml embed --checkpoint ./model --out test.parquet
    """
    needs_data(data)
    from birdmml.materials import embed_to_file

    try:
        rows, names, width = embed_to_file(checkpoint, data, split, out, device, limit)
    except OSError as e:
        raise ResultError(f"{out} cannot be written ({e.strerror or e}): choose another --out") from e
    typer.echo(f"{out}: {rows:,} rows, {width}-d unit vectors of {', '.join(names)}")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(embed)
