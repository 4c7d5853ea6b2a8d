"""`birdmml leaderboard`: check results, set them side by side, and publish them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdmml.cli._options import command, flag, option
from birdmml.cli._show import expected, parcel_json, print_either, send, uploaded
from birdmml.core.files import human_bytes, write_text
from birdmml.errors import ResultError

if TYPE_CHECKING:
    from birdmml.leaderboard.review import Proposed, Review

MAX_SHOWN, MAX_LENGTH = 50, 500  # Lines of each kind, and letters of each: a comment has room for 65,536.

group = typer.Typer(help="Check results and set them side by side.", no_args_is_help=True, rich_markup_mode=None)


@group.command()
def table(
    results: Annotated[list[Path], typer.Argument(help="Result folders, or folders that hold some.")],
    allow_demo: Annotated[bool, typer.Option("--allow-demo", help="Show demo results too, marked.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the Markdown here instead of printing it.")] = None,
) -> None:
    """Compute every figure again from its per-item predictions, then write one Markdown table.

    A result whose figures do not follow is refused, and so is the demo unless --allow-demo is given.
    """
    from birdmml.leaderboard.verify import find, load
    from birdmml.results.tables import leaderboard

    verified = load(find(results), allow_demo)
    text = leaderboard(verified)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    typer.echo(f"{len(verified)} results checked; table in {out}")


@dataclass(frozen=True, kw_only=True)
class SiteCommand:
    """Check submissions, and write them as a static site: tables, a page a result, items side by side, exports.

    It works from a file, a server or a Space, and asks nobody for anything. Equal submissions give equal bytes.
    """

    submissions: Path = option(..., "A folder that holds submissions, at any depth.")
    out: Path = option(..., "Where the site goes; replaced as a whole.")
    media: Path | None = option(None, "A built dataset: show photos and sounds of its items.")
    workers: int | None = option(None, "Processes that check submissions; one a core by default.", min=1)
    strict: bool = flag("--strict", "Exit 1 if a submission was refused.")
    dry_run: bool = flag("--dry-run", "Check and count everything, write nothing.")
    as_json: bool = flag("--json", "Print what was made as JSON.")

    def _run(self) -> None:
        from birdmml.leaderboard.site import build

        site = build(self.submissions, self.out, self.media, self.dry_run, self.workers or os.cpu_count() or 1)
        counts = ("submissions", "results", "tables", "files", "bytes")
        value = {
            "out": str(site.out),
            "dry_run": self.dry_run,
            **{name: getattr(site, name) for name in counts},
            "refused": [{"name": r.name, "reasons": list(r.reasons)} for r in site.refused],
            "notes": list(site.notes),
        }
        counted = f"{site.results:,} results in {site.tables:,} tables"
        verb = "would write" if self.dry_run else "wrote"
        lines = [
            f"{site.submissions:,} submissions, {len(site.refused):,} refused: {counted}",
            *(f"  refused     {r.name}: {'; '.join(r.reasons)}" for r in site.refused),
            *(f"  note        {note}" for note in site.notes),
            f"  {verb:<12}{site.files:,} files, {human_bytes(site.bytes)}: {site.out / 'index.html'}",
        ]
        print_either(self.as_json, value, lines)
        if self.strict and site.refused:
            raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class ReviewCommand:
    """Check what is new, refuse what removes or changes an accepted submission in silence; exit 1 if refused.

    \b
    birdmml leaderboard review --base accepted/submissions --head proposed/submissions

    Prints Markdown for a comment; what a submitter wrote is inert in it. benchmarks/ACCEPTING.md has the rules.
    """

    base: Path = option(..., "The accepted submissions: a folder that holds one for each.")
    head: Path = option(..., "The same folder as a pull request would leave it.")
    data: Path | None = option(None, "Your copy of the dataset: item ids are compared with it.")
    evalsets: Path | None = option(None, "Your prepared evaluation sets, likewise.")
    out: Path | None = option(None, "Write the report here instead of printing it.")
    as_json: bool = flag("--json", "Print the report as JSON.")

    def _run(self) -> None:
        from birdmml.core.text import markdown
        from birdmml.leaderboard.review import review as compare

        verdict = compare(self.base, self.head, expected(self.data, self.evalsets))
        if self.as_json:
            # In ASCII: names of strangers' files need not be text at all.
            value = {
                "sound": verdict.sound,
                "accepted": sorted(verdict.accepted),
                "proposed": list(map(_proposed, verdict.proposed)),
                "changes": [vars(change) for change in verdict.changes],
                "problems": [{"file": p.file, "found": p.wrong, "next": p.step} for p in verdict.problems],
                "notes": list(verdict.notes),
            }
            text = json.dumps(value, indent=2) + "\n"
        else:
            text = "\n".join(_report(verdict, lambda words: str(markdown(words[:MAX_LENGTH])))) + "\n"
        if self.out is None:
            typer.echo(text, nl=False)
        else:
            write_text(self.out, text)
        if not verdict.sound:
            raise ResultError(f"{self.head} is refused: {_counted(verdict)}, a line each in the report")


@dataclass(frozen=True, kw_only=True)
class BoardCommand:
    """Check every submission, list what would be uploaded, and upload it with --push.

    \b
    birdmml leaderboard push --submissions submissions --site site --repo user/board
    birdmml leaderboard push --submissions submissions --site site --repo user/board --push

    The dataset user/board gets the submissions, their figures as one table, and a card; the static Space user/board
    gets the site. A submission that is not sound stops it.
    """

    submissions: Path = option(..., "A folder that holds one for each submission.")
    site: Path = option(..., "What `birdmml leaderboard build` made of them.")
    repo: str = option(..., "Where on the Hub: user/board, a dataset and a Space of one name.")
    push: bool = flag("--push", "Upload; without it nothing leaves.")
    out: Path | None = option(None, "Keep the cards and the files here, to look at.")
    private: bool = flag("--private", "Repositories that only you see.")
    as_json: bool = flag("--json", "Print JSON.")

    def _run(self) -> None:
        from birdmml.hub import Parcel, check_repo
        from birdmml.hub.board import checked, stage_dataset, stage_space

        submissions, repo, as_json = self.submissions, self.repo, self.as_json
        check_repo("--repo", repo)  # First: all submissions are read next, which takes a while.
        board, problems = checked(submissions)
        if problems:
            typer.echo("\n".join(problem.line for problem in problems), err=as_json)
            raise ResultError(f"{submissions} is not sound: {len(problems)} things are wrong, so nothing was uploaded")

        def staged(folder: Path) -> list[Parcel]:
            dataset = stage_dataset(repo, submissions, board, folder / "dataset")
            return [dataset, stage_space(repo, self.site, board, folder / "space")]

        look_at = str(self.out or "the cards and the files: add --out FOLDER")
        parcels, urls = send(staged, self.out, look_at, self.push, self.private, as_json)
        repositories = [parcel_json(p, urls[i] if urls else None) for i, p in enumerate(parcels)]
        print_either(as_json, {"uploaded": bool(urls), "repositories": repositories}, uploaded(urls))


def _report(verdict: Review, clean: Callable[[str], str]) -> Iterator[str]:
    """Lines of Markdown; every text of a stranger goes through `clean`."""
    words = "nothing refuses it" if verdict.sound else f"refused, {_counted(verdict)}"
    kept = len(verdict.accepted) - len(verdict.changes) if verdict.sound else len(verdict.accepted)
    yield f"## Submissions: {words}"  # Second level: the first is a page's title.
    yield ""
    yield (
        f"{len(verdict.proposed):,} new, {len(verdict.changes):,} replaced or withdrawn,"
        f" {kept:,} accepted {'and unchanged' if verdict.sound else 'before'}."
    )
    yield from _section("What is wrong", [clean(problem.line) for problem in verdict.problems])
    yield from _section("New", [_new(one, clean) for one in verdict.proposed])
    gone = [f"{clean(c.slug)} on {clean(c.date)}: {clean(c.reason)}" for c in verdict.changes]
    yield from _section("Replaced or withdrawn", gone)
    yield from _section("For the maintainer", [clean(note) for note in verdict.notes])


def _counted(verdict: Review) -> str:
    number = len(verdict.problems)
    return "1 problem" if number == 1 else f"{number:,} problems"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield from ("", f"### {title}", "")
    yield from (f"- {line}" for line in lines[:MAX_SHOWN])
    if len(lines) > MAX_SHOWN:
        yield f"- and {len(lines) - MAX_SHOWN:,} more: `--json` has them all"


def _new(one: Proposed, clean: Callable[[str], str]) -> str:
    submission = one.report.submission if one.report is not None else None
    if one.report is None or submission is None:
        return f"**{clean(one.folder)}**: cannot be read"
    about = submission.about
    return (
        f"**{clean(one.folder)}**: {clean(about['name'])}, licence {clean(about['license'])},"
        f" contact {clean(about['contact'])}; {len(submission.entries):,} results, {one.report.figures:,} figures"
        f" {'follow from their items' if one.report.sound else 'claimed'}."
        f" Trained on: {clean(about['training_data']['declaration'])}"
    )


def _proposed(one: Proposed) -> dict[str, Any]:
    report = one.report
    about = {} if report is None or report.submission is None else report.submission.about
    return {
        "folder": one.folder,
        "sound": report is not None and report.sound,
        "figures": 0 if report is None else report.figures,
        "digest": about.get("digest"),
        "labels": about.get("labels"),
    }


group.command("build")(command(SiteCommand))
group.command("review")(command(ReviewCommand))
group.command("push")(command(BoardCommand))
