"""`birdmml audit`: what a reviewer would ask of a dataset, on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdmml.errors import UsageError

if TYPE_CHECKING:
    from birdmml.audit.model import Audit, Finding

DEFAULT_SAMPLE = 6000
DEFAULT_RADIUS = 6


def audit(
    folder: Annotated[
        Path, typer.Argument(help="A folder of Parquet shards, built by birdmml or not.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page and the JSON.", show_default="FOLDER/report/audit"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
    sample: Annotated[
        int, typer.Option(min=1, help="Rows for the probes, as many of each species.")
    ] = DEFAULT_SAMPLE,
    seed: Annotated[int, typer.Option(min=0, help="Same dataset and seed: the same bytes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use; the bytes do not depend on it.")] = 2,
    evalset: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of an evaluation set to look for overlap with; again for more."),
    ] = None,
    near_duplicates: Annotated[
        int, typer.Option(min=-1, max=64, help="Photos alike: perceptual hashes up to N bits apart; -1: off.")
    ] = DEFAULT_RADIUS,
) -> None:
    """Audit a dataset: counts, licences, leaks, media, and a probe of every modality against shuffled labels.

    Writes index.html and audit.json; shards and manifest are only read. Exit 0 if nothing serious was found,
    1 if there is a serious finding or nothing can be read.
    """
    from birdmml.audit.page import write
    from birdmml.audit.run import Settings
    from birdmml.audit.run import audit as run
    from birdmml.cli._show import progress_bar

    # Here, not only at the end: a full audit takes a while.
    place = _writable(folder, out)
    settings = Settings(sample, seed, tuple(evalset or ()), near_duplicates)
    with progress_bar(quiet=as_json) as progress:
        found = run(folder, settings, workers, progress)
    try:
        page = write(found, place)
    except OSError as e:
        raise UsageError(f"{place} cannot be written ({e.strerror or e}): choose another --out") from e
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(folder, found, page)))
    if found.red:
        raise typer.Exit(1)


def _writable(folder: Path, out: Path | None) -> Path:
    """The folder for the results, made; raises UsageError where that cannot be, DatasetError without a dataset."""
    import tempfile

    from birdmml.audit.shards import find

    find(folder)
    place = out or folder / "report" / "audit"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as e:
        raise UsageError(
            f"{place} cannot be written ({e.strerror or e}): choose another folder with --out"
        ) from e
    return place


def _lines(folder: Path, found: Audit, page: Path) -> list[str]:
    from birdmml.cli._show import DEMO_BANNER

    lines = [DEMO_BANNER] if found.demo else []
    lines.append(f"{folder}: {found.count.rows:,} rows of {found.count.species:,} species: {found.verdict}")
    for finding in found.findings:
        lines += _finding(finding)
    for p in found.probes:
        figures = (
            f"{100 * p.accuracy:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}], shuffled {100 * p.shuffled_mean:.1f} %"
            if p.shuffles
            else p.why
        )
        lines.append(f"  probe       {p.modality}: {p.verdict}: {figures}")
    lines += [f"  not checked {s.check}: {s.why}" for s in found.skipped]
    lines.append(f"  look at it  {page}")
    return lines


def _finding(finding: Finding) -> list[str]:
    word = "SERIOUS" if finding.severity == "red" else "note   "
    shown = ", ".join(finding.where[:3]) + (", ..." if finding.count > 3 and len(finding.where) > 3 else "")
    lines = [f"  {word}     {_plain(finding.words)} ({finding.slug})"]
    return lines + ([f"              {_plain(shown)}"] if shown else [])


def _plain(text: str) -> str:
    """Text of strangers without the controls that a terminal obeys."""
    return "".join(c if c.isprintable() else " " for c in text)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="audit")(audit)
