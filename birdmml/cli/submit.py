"""`birdmml submit` and `birdmml verify`: results that anyone can score again, and the scoring again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdmml.errors import ResultError, UsageError

if TYPE_CHECKING:
    from birdmml.leaderboard.submission import Report, Submission
    from birdmml.leaderboard.submission.rerun import Rerun


def submit(
    results: Annotated[list[Path], typer.Argument(help="Result folders, or folders that hold some.")],
    name: Annotated[str, typer.Option(help="What a board calls the submission.")],
    contact: Annotated[str, typer.Option(help="An e-mail address, or a page where you can be asked.")] = "",
    license_id: Annotated[
        str, typer.Option("--license", help="SPDX id of the submission's own files: CC0-1.0.")
    ] = "",
    training_data: Annotated[
        str, typer.Option(help="In words, what the models learned from, pretrained weights included.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Where the submission goes.")] = Path("submission"),
    energy_kwh: Annotated[
        float | None, typer.Option(help="Energy of training and scoring, if measured.")
    ] = None,
    date: Annotated[str, typer.Option(help="YYYY-MM-DD. [default: the newest result's]")] = "",
    allow_demo: Annotated[bool, typer.Option("--allow-demo", help="Take demo results, so labelled.")] = False,
    allow_limited: Annotated[
        bool, typer.Option("--allow-limited", help="Take results of --limit, so labelled.")
    ] = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Take results of code in no commit, so labelled.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and show what would be written.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put results into one folder with all that is needed to score them again, and check it.

    \b
    birdmml submit results/confu-paper-0a1b2c3d --name "ConFu, ResNet-50" --contact me@example.org
        --license CC0-1.0 --training-data "Bird-MML 1.0, train split" --out submission/

    Results whose figures do not follow from their items are refused; what a reader must know becomes a label.
    """
    from birdmml.leaderboard.submission import About
    from birdmml.leaderboard.submission.making import make, tried

    about = About(name, contact, license_id, training_data, energy_kwh, date)
    chosen = tried if dry_run else make
    made = chosen(
        results, about, out, allow_demo, allow_limited=allow_limited, allow_dirty=allow_dirty
    )  # fmt: skip
    if as_json:
        told: dict[str, Any] = {"folder": str(out), "written": not dry_run, "slug": made.slug}
        typer.echo(json.dumps(told | dict(made.about), indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join(_written(made)))
    typer.echo("nothing was written: leave out --dry-run" if dry_run else f"written   {out}")


def verify(
    submission: Annotated[Path, typer.Argument(help="A folder that `birdmml submit` wrote.")],
    data: Annotated[
        Path | None, typer.Option(help="Your copy of the dataset: item ids are compared with it.")
    ] = None,
    evalsets: Annotated[Path | None, typer.Option(help="Your prepared evaluation sets, likewise.")] = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Score again with --checkpoint on --data, and compare.")
    ] = False,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A model that the submission names; again for more.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Share of items whose outcome may move in a rerun; 0: none.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="For --rerun: auto, cpu, cuda or mps.")] = "auto",
    method: Annotated[
        str | None, typer.Option(help="For --rerun: the file of a method of the submitter's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compute every figure of a submission again, and look for whatever cannot be; exit 1 with all that is wrong.

    \b
    birdmml verify ./submission
    birdmml verify ./submission --data ./data --evalsets ./evalsets
    birdmml verify ./submission --rerun --checkpoint ./model --data ./data

    Outcomes that were made up, but fit together, are found by --rerun alone.
    """
    from birdmml.cli._expected import expected
    from birdmml.leaderboard.submission import check

    if rerun and (not checkpoint or data is None):
        raise UsageError("--rerun needs --checkpoint, a model, and --data, your copy of the dataset")
    if not rerun and (checkpoint or tolerance or method):
        raise UsageError("--checkpoint, --tolerance and --method are for --rerun: add it")
    report = check(submission, expected(data, evalsets))
    again = None
    if rerun and data is not None and report.submission is not None and report.sound:
        from birdmml.leaderboard.submission.rerun import rerun as run

        again = run(report.submission, checkpoint or [], data, evalsets, tolerance, device, method)
    _told(submission, report, again, rerun, as_json)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(submit)
    app.command()(verify)


def _written(made: Submission) -> list[str]:
    from birdmml.cli._show import DEMO_BANNER
    from birdmml.files import human_bytes
    from birdmml.leaderboard.submission.model import plain

    files = made.about["files"]
    width = max(len(f["path"]) for f in files)
    return [
        *([DEMO_BANNER] if "demo" in made.about["labels"] else []),
        f"{plain(made.about['name'])}: {len(made.entries)} results, {len(files)} files and submission.json,"
        f" {human_bytes(sum(f['bytes'] for f in files))}",
        *(f"  {f['path'].ljust(width)}  {human_bytes(f['bytes']):>10}" for f in files),
        f"labels    {', '.join(made.about['labels']) or 'none'}",
        f"digest    {made.about['digest']}",
        f"slug      {made.slug}",
    ]


def _told(folder: Path, report: Report, again: Rerun | None, asked: bool, as_json: bool) -> None:
    """Print a report; exit 1, or raise ResultError, where something is wrong."""
    problems = [*report.problems, *(again.problems if again is not None else ())]
    if as_json:
        typer.echo(json.dumps(_as_json(folder, report, again), indent=2, ensure_ascii=False))
        raise typer.Exit(1 if problems else 0)
    lines = [*(again.lines if again is not None else ()), *(f"note      {note}" for note in report.notes)]
    typer.echo("\n".join([*lines, *(p.line for p in problems)]))
    if asked and again is None:
        typer.echo("note      nothing was run again: first the rest must be sound")
    if problems:
        raise ResultError(f"{folder} is not sound: {len(problems)} things are wrong with it, a line each")
    labels = report.submission.about["labels"] if report.submission is not None else []
    typer.echo(
        f"sound     {folder}: {report.figures} figures follow from their items, {report.files} files are as listed"
    )
    typer.echo(f"labels    {', '.join(labels) or 'none'}")


def _as_json(folder: Path, report: Report, again: Rerun | None) -> dict[str, Any]:
    problems = [*report.problems, *(again.problems if again is not None else ())]
    made = report.submission
    return {
        "folder": str(folder),
        "sound": not problems,
        "problems": [{"file": p.file, "found": p.found, "next": p.step} for p in problems],
        "notes": list(report.notes),
        "figures": report.figures,
        "files": report.files,
        "labels": None if made is None else made.about["labels"],
        "digest": None if made is None else made.about["digest"],
        "rerun": None
        if again is None
        else {"items": again.items, "moved": again.moved, "by_file": again.lines},
    }
