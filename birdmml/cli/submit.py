"""`birdmml submit` and `birdmml verify`: results that anyone can score again, and the scoring again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdmml.cli._options import argument, flag, option
from birdmml.cli._show import DEMO_BANNER, expected, print_json
from birdmml.core.files import human_bytes
from birdmml.errors import ResultError, UsageError

if TYPE_CHECKING:
    from birdmml.leaderboard.submission.model import CheckReport, Submission
    from birdmml.leaderboard.submission.rerun import Rerun


@dataclass(frozen=True, kw_only=True)
class SubmitCommand:
    """Put results into one folder with all that is needed to score them again, and check it.

    \b
    birdmml submit results/confu-paper-0a1b2c3d --name "ConFu, ResNet-50" --contact me@example.org
        --license CC0-1.0 --training-data "Bird-MML 1.0, train split" --out submission/

    Results whose figures do not follow from their items are refused; what a reader must know becomes a label.
    """

    results: list[Path] = argument(..., "Result folders, or folders that hold some.")
    name: str = option(..., "What a board calls the submission.")
    contact: str = option("", "An e-mail address, or a page where you can be asked.")
    license_id: str = option("", "SPDX id of the submission's own files: CC0-1.0.", "--license")
    training_data: str = option("", "In words, what the models learned from, pretrained weights included.")
    out: Path = option(Path("submission"), "Where the submission goes.")
    energy_kwh: float | None = option(None, "Energy of training and scoring, if measured.")
    date: str = option("", "YYYY-MM-DD. [default: the newest result's]")
    allow_demo: bool = flag("--allow-demo", "Take demo results, so labelled.")
    allow_limited: bool = flag("--allow-limited", "Take results of --limit, so labelled.")
    allow_dirty: bool = flag("--allow-dirty", "Take results of code in no commit, so labelled.")
    dry_run: bool = flag("--dry-run", "Check, and show what would be written.")
    as_json: bool = flag("--json", "Print JSON.")

    def _run(self) -> None:
        from birdmml.leaderboard.submission.making import make, tried
        from birdmml.leaderboard.submission.model import About

        about = About(self.name, self.contact, self.license_id, self.training_data, self.energy_kwh, self.date)
        submission = (tried if self.dry_run else make)(
            self.results,
            about,
            self.out,
            self.allow_demo,
            allow_limited=self.allow_limited,
            allow_dirty=self.allow_dirty,
        )
        if self.as_json:
            facts: dict[str, Any] = {"folder": str(self.out), "written": not self.dry_run, "slug": submission.slug}
            print_json(facts | dict(submission.about))
            return
        typer.echo("\n".join(_written(submission)))
        typer.echo("nothing was written: leave out --dry-run" if self.dry_run else f"written   {self.out}")


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Compute every figure of a submission again, and look for whatever cannot be; exit 1 with all that is wrong.

    \b
    birdmml verify ./submission
    birdmml verify ./submission --data ./data --evalsets ./evalsets
    birdmml verify ./submission --rerun --checkpoint ./model --data ./data

    Outcomes that were made up, but fit together, are found by --rerun alone.
    """

    submission: Path = argument(..., "A folder that `birdmml submit` wrote.")
    data: Path | None = option(None, "Your copy of the dataset: item ids are compared with it.")
    evalsets: Path | None = option(None, "Your prepared evaluation sets, likewise.")
    rerun: bool = flag("--rerun", "Score again with --checkpoint on --data, and compare.")
    checkpoint: list[Path] = option([], "A model that the submission names; again for more.")
    tolerance: float = option(0.0, "Share of items whose outcome may move in a rerun; 0: none.")
    device: str = option("auto", "For --rerun: auto, cpu, cuda or mps.")
    method: str | None = option(None, "For --rerun: the file of a method of the submitter's own.")
    as_json: bool = flag("--json", "Print the report as JSON.")

    def _run(self) -> None:
        from birdmml.leaderboard.submission.checking import check
        from birdmml.leaderboard.submission.rerun import rerun

        if self.rerun and (not self.checkpoint or self.data is None):
            raise UsageError("--rerun needs --checkpoint, a model, and --data, your copy of the dataset")
        if not self.rerun and (self.checkpoint or self.tolerance or self.method):
            raise UsageError("--checkpoint, --tolerance and --method are for --rerun: add it")
        report = check(self.submission, expected(self.data, self.evalsets))
        again = None
        if self.rerun and self.data is not None and report.submission is not None and report.sound:
            again = rerun(
                report.submission, self.checkpoint, self.data, self.evalsets, self.tolerance, self.device, self.method
            )
        self._print(report, again)

    def _print(self, report: CheckReport, again: Rerun | None) -> None:
        problems = [*report.problems, *(again.problems if again is not None else ())]
        about: Mapping[str, Any] = {} if report.submission is None else report.submission.about
        if self.as_json:
            rerun = None if again is None else {"items": again.items, "moved": again.moved, "by_file": again.lines}
            value = {
                "folder": str(self.submission),
                "sound": not problems,
                "problems": [{"file": p.file, "found": p.wrong, "next": p.step} for p in problems],
                "notes": list(report.notes),
                "figures": report.figures,
                "files": report.files,
                "labels": about.get("labels"),
                "digest": about.get("digest"),
                "rerun": rerun,
            }
            print_json(value)
            raise typer.Exit(1 if problems else 0)  # No words beside JSON: the report says what is wrong.
        lines = [*(again.lines if again is not None else ()), *(f"note      {note}" for note in report.notes)]
        typer.echo("\n".join([*lines, *(p.line for p in problems)]))
        if self.rerun and again is None:
            typer.echo("note      nothing was run again: first the rest must be sound")
        if problems:
            raise ResultError(f"{self.submission} is not sound: {len(problems)} things are wrong with it, a line each")
        counted = f"{report.figures} figures follow from their items, {report.files} files are as listed"
        typer.echo(f"sound     {self.submission}: {counted}")
        typer.echo(f"labels    {', '.join(about.get('labels', ())) or 'none'}")


def _written(submission: Submission) -> list[str]:
    from birdmml.leaderboard.submission.model import plain

    files = submission.about["files"]
    width = max(len(f["path"]) for f in files)
    return [
        *([DEMO_BANNER] if "demo" in submission.about["labels"] else []),
        f"{plain(submission.about['name'])}: {len(submission.entries)} results, {len(files)} files and submission.json,"
        f" {human_bytes(sum(f['bytes'] for f in files))}",
        *(f"  {f['path'].ljust(width)}  {human_bytes(f['bytes']):>10}" for f in files),
        f"labels    {', '.join(submission.about['labels']) or 'none'}",
        f"digest    {submission.about['digest']}",
        f"slug      {submission.slug}",
    ]
