"""`birdmml score`: embeddings of the user's own, benchmarked without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdmml.cli.bench import needs_data, writable
from birdmml.errors import UsageError


def score(
    embeddings: Annotated[
        list[str],
        typer.Option(
            help="A Parquet file: id, and vectors named image, audio, text, image+audio. SPLIT=FILE for more.",
            show_default=False,
        ),
    ],
    suite: Annotated[str, typer.Option(help="What to measure, separated by commas.")] = "retrieval",
    prompts: Annotated[
        Path | None, typer.Option(help="Class prompts, a Parquet file: class_name, and the vector text.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The dataset embedded; its ids must all be there, and no others.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="What the result calls it.", show_default="the first file's name")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where results go, a folder each.")] = Path("results"),
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="A suite's setting: zero-shot.split=validation.")
    ] = None,
    every_metric: Annotated[bool, typer.Option("--all", help="Print every metric.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Score embeddings made elsewhere: cosine of vectors brought to length 1; results as `birdmml bench` writes them.

    A fused query is the vector image+audio where the file has one, else the sum of the two cosines. A null is a
    vector that is not there.

    \b
    birdmml score --embeddings test.parquet --data ./data
    birdmml score --embeddings test=a.parquet --prompts classes.parquet --suite retrieval,zero-shot
    birdmml score --embeddings train=a.parquet,test=b.parquet --suite few-shot --data ./data
    """
    paths = _paths(embeddings)
    if data is not None:
        needs_data(data)
    from birdmml import scoring
    from birdmml.cli._bench import show, told
    from birdmml.passes import passes_of

    asked, rest = passes_of(suite.split(","), assign or [])
    if rest:
        raise UsageError(
            f"--set {rest[0]}: nothing is trained here, give a suite's setting, as zero-shot.split=test"
        )
    what = scoring.given(paths, prompts, data, name)
    writable(out)
    with told(out):
        result, folder = scoring.run(what, asked, out)
    if not as_json:
        typer.echo(f"{what.name}: {scoring.SCORE}")
    show(result, folder, every_metric, as_json)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(score)


def _paths(words: list[str]) -> dict[str, Path]:
    """split -> file, from "test=a.parquet", several with commas or options; a bare file is the test split."""
    from birdmml.schema import SPLITS

    found: dict[str, Path] = {}
    for word in (w.strip() for text in words for w in text.split(",") if w.strip()):
        split, sign, path = word.partition("=")
        if not sign or split not in SPLITS:
            split, path = "test", word
        if split in found:
            raise UsageError(
                f"--embeddings {word}: {split} has {found[split]} already: give SPLIT=FILE for more"
            )
        found[split] = Path(path)
    if not found:
        raise UsageError("--embeddings is empty: give a Parquet file")
    return found
