"""`birdmml info`, `validate`, `embed` and `list`: look at a dataset or evaluation set, and at what can be named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from birdmml.cli._show import dataset_lines, evalset_lines, needs_data, print_json, progress_bar
from birdmml.core import discover
from birdmml.errors import DatasetError, EvalsetError, ResultError

Folder = Annotated[
    Path | None, typer.Argument(help="A dataset or a prepared evaluation set; without one, the newest build.")
]


def info(
    folder: Folder = None, as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False
) -> None:
    """Summarise a built dataset or a prepared evaluation set."""
    from birdmml import load
    from birdmml.dataset import format
    from birdmml.evalsets import read

    root = folder or load.find()
    is_evalset = read.claims(root)
    value = read.read_manifest(root) if is_evalset else format.read(root)
    if as_json:
        print_json(value)
        return
    if is_evalset:
        try:
            lines = list(evalset_lines(root, value))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise EvalsetError(f"{root / 'manifest.json'} lacks or garbles {e}: prepare the set again") from e
        pages = (root / "report" / name for name in ("index.html", "report.md"))
        typer.echo("\n".join([*lines, *(f"  report      {page}" for page in pages if page.is_file())]))
        return
    path = root / "report" / "validation.json"
    try:
        validation = json.loads(path.read_bytes())
        lines = dataset_lines(root, value, validation)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DatasetError(f"{path} cannot be read ({e}): build the dataset again") from e
    lines += [f"  digest      {value['digest']}", f"  report      {root / 'report' / 'index.html'}"]
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
    from birdmml import load
    from birdmml.dataset.validate import validate as check
    from birdmml.evalsets import read
    from birdmml.evalsets.check import check as check_evalset

    root = folder or load.find()
    is_evalset = read.claims(root)
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
    needs_data(data)  # Before torch is imported, as in `birdmml train`.
    from birdmml.bench.subjects import embed_to_file

    try:
        rows, names, width = embed_to_file(checkpoint, data, split, out, device, limit)
    except OSError as e:
        raise ResultError(f"{out} cannot be written ({e.strerror or e}): choose another --out") from e
    typer.echo(f"{out}: {rows:,} rows, {width}-d unit vectors of {', '.join(names)}")


def list_all(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """List sources, methods, suites, evaluation sets and protocols, a line each."""
    from birdmml.bench import protocol

    # As options and results write it: suites and methods take hyphens too, results of suites show them.
    kinds = {
        kind: {
            name.replace("_", "-") if kind == "suite" else name: discover.summary(kind, name)
            for name in discover.names(kind)
        }
        for kind in discover.FOLDERS
    }
    kinds["protocol"] = {name: protocol.load(name).summary for name in protocol.names()}
    if as_json:
        print_json(kinds)
        return
    width = max(len(name) for names in kinds.values() for name in names)
    for kind, names in kinds.items():
        typer.echo(f"{kind}s")
        for name, summary in names.items():
            typer.echo(f"  {name.ljust(width)}  {summary}")
