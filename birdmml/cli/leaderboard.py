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
from birdmml.cli._show import expected, parcel_folder, parcel_json, parcel_lines, print_either, staging
from birdmml.errors import ResultError

if TYPE_CHECKING:
    from birdmml.leaderboard.review import Proposed, Review
    from birdmml.leaderboard.site import BuiltSite


MAX_SHOWN, MAX_LENGTH = 50, 500  # Lines of each kind, and letters of each: a comment has room for 65,536.

group = typer.Typer(help="Check results and set them side by side.", no_args_is_help=True, rich_markup_mode=None)


@group.callback()
def _group() -> None:
    """Check results and set them side by side."""


@group.command()
def table(
    results: Annotated[list[Path], typer.Argument(help="Result folders, or folders that hold some.")],
    allow_demo: Annotated[bool, typer.Option("--allow-demo", help="Show demo results too, marked.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the Markdown here instead of printing it.")] = None,
) -> None:
    """Compute every figure again from its per-item predictions, then write one Markdown table.

    A result whose figures do not follow is refused, and so is the demo unless --allow-demo is given.
    """
    from birdmml.core.files import write_text
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
class SiteOptions:
    """The options of `birdmml leaderboard build`, in the order of its help."""

    submissions: Path = option(..., "A folder that holds submissions, at any depth.")
    out: Path = option(..., "Where the site goes; replaced as a whole.")
    media: Path | None = option(None, "A built dataset: show photos and sounds of its items.")
    workers: int | None = option(None, "Processes that check submissions; one a core by default.", min=1)
    strict: bool = flag("--strict", "Exit 1 if a submission was refused.")
    dry_run: bool = flag("--dry-run", "Check and count everything, write nothing.")
    as_json: bool = flag("--json", "Print what was made as JSON.")


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    """The options of `birdmml leaderboard review`, in the order of its help."""

    base: Path = option(..., "The accepted submissions: a folder that holds one for each.")
    head: Path = option(..., "The same folder as a pull request would leave it.")
    data: Path | None = option(None, "Your copy of the dataset: item ids are compared with it.")
    evalsets: Path | None = option(None, "Your prepared evaluation sets, likewise.")
    out: Path | None = option(None, "Write the report here instead of printing it.")
    as_json: bool = flag("--json", "Print the report as JSON.")


@dataclass(frozen=True, kw_only=True)
class BoardOptions:
    """The options of `birdmml leaderboard push`, in the order of its help."""

    submissions: Path = option(..., "A folder that holds one for each submission.")
    site: Path = option(..., "What `birdmml leaderboard build` made of them.")
    repo: str = option(..., "Where on the Hub: user/board, a dataset and a Space of one name.")
    push: bool = flag("--push", "Upload; without it nothing leaves.")
    out: Path | None = option(None, "Keep the cards and the files here, to look at.")
    private: bool = flag("--private", "Repositories that only you see.")
    as_json: bool = flag("--json", "Print JSON.")


@group.command()
@command
def build(options: SiteOptions) -> None:
    """Check submissions, and write them as a static site: tables, a page a result, items side by side, exports.

    It works from a file, a server or a Space, and asks nobody for anything. Equal submissions give equal bytes.
    """
    from birdmml.leaderboard.site import build as build_site

    o = options
    site = build_site(o.submissions, o.out, o.media, o.dry_run, o.workers or os.cpu_count() or 1)
    print_either(o.as_json, _site_json(site, o.dry_run), _site_lines(site, o.dry_run))
    if o.strict and site.refused:
        raise typer.Exit(1)


@group.command()
@command
def review(options: ReviewOptions) -> None:
    """Check what is new, refuse what removes or changes an accepted submission in silence; exit 1 if refused.

    \b
    birdmml leaderboard review --base accepted/submissions --head proposed/submissions

    Prints Markdown for a comment; what a submitter wrote is inert in it. benchmarks/ACCEPTING.md has the rules.
    """
    from birdmml.core.files import write_text
    from birdmml.core.text import markdown
    from birdmml.leaderboard.review import review as compare

    verdict = compare(options.base, options.head, expected(options.data, options.evalsets))
    if options.as_json:
        # In ASCII: names of strangers' files need not be text at all.
        text = json.dumps(_review_json(verdict), indent=2) + "\n"
    else:
        text = "\n".join(_report(verdict, lambda words: str(markdown(words[:MAX_LENGTH])))) + "\n"
    if options.out is None:
        typer.echo(text, nl=False)
    else:
        write_text(options.out, text)
    if not verdict.sound:
        raise ResultError(f"{options.head} is refused: {_counted(verdict)}, a line each in the report")


@group.command()
@command
def push(options: BoardOptions) -> None:
    """Check every submission, list what would be uploaded, and upload it with --push.

    \b
    birdmml leaderboard push --submissions submissions --site site --repo user/board
    birdmml leaderboard push --submissions submissions --site site --repo user/board --push

    The dataset user/board gets the submissions, their figures as one table, and a card; the static Space user/board
    gets the site. A submission that is not sound stops it.
    """
    from birdmml.hub import check_repo
    from birdmml.hub import push as upload
    from birdmml.hub.board import checked, stage_dataset, stage_space

    submissions, repo, as_json = options.submissions, options.repo, options.as_json
    check_repo("--repo", repo)
    board, problems = checked(submissions)
    if problems:
        typer.echo("\n".join(problem.line for problem in problems), err=as_json)
        raise ResultError(f"{submissions} is not sound: {len(problems)} things are wrong, so nothing was uploaded")
    with parcel_folder(options.out) as folder:
        with staging(folder):
            parcels = [
                stage_dataset(repo, submissions, board, folder / "dataset"),
                stage_space(repo, options.site, board, folder / "space"),
            ]
        if not as_json:
            typer.echo("\n".join(line for parcel in parcels for line in parcel_lines(parcel)))
            typer.echo(f"look at   {options.out or 'the cards and the files: add --out FOLDER'}")
        urls = upload(*parcels, private=options.private) if options.push else []
    repositories = [parcel_json(p, urls[i] if urls else None) for i, p in enumerate(parcels)]
    lines = [f"uploaded  {url}" for url in urls] or ["nothing was uploaded: add --push"]
    print_either(as_json, {"uploaded": bool(urls), "repositories": repositories}, lines)


def _site_lines(site: BuiltSite, dry_run: bool) -> list[str]:
    from birdmml.core.files import human_bytes

    verb = "would write" if dry_run else "wrote"
    counted = f"{site.results:,} results in {site.tables:,} tables"
    lines = [f"{site.submissions:,} submissions, {len(site.refused):,} refused: {counted}"]
    lines += [f"  refused     {r.name}: {'; '.join(r.reasons)}" for r in site.refused]
    lines += [f"  note        {note}" for note in site.notes]
    lines.append(f"  {verb:<12}{site.files:,} files, {human_bytes(site.bytes)}: {site.out / 'index.html'}")
    return lines


def _site_json(site: BuiltSite, dry_run: bool) -> dict[str, Any]:
    return {
        "out": str(site.out),
        "dry_run": dry_run,
        "submissions": site.submissions,
        "results": site.results,
        "tables": site.tables,
        "files": site.files,
        "bytes": site.bytes,
        "refused": [{"name": r.name, "reasons": list(r.reasons)} for r in site.refused],
        "notes": list(site.notes),
    }


def _report(verdict: Review, clean: Callable[[str], str]) -> Iterator[str]:
    """Lines of Markdown; every text of a stranger goes through `clean`."""
    words = "nothing refuses it" if verdict.sound else f"refused, {_counted(verdict)}"
    kept = len(verdict.accepted) - len(verdict.changes) if verdict.sound else len(verdict.accepted)
    yield f"## Submissions: {words}"
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


def _review_json(verdict: Review) -> dict[str, Any]:
    return {
        "sound": verdict.sound,
        "accepted": sorted(verdict.accepted),
        "proposed": [_proposed(one) for one in verdict.proposed],
        "changes": [vars(change) for change in verdict.changes],
        "problems": [{"file": p.file, "found": p.wrong, "next": p.step} for p in verdict.problems],
        "notes": list(verdict.notes),
    }


def _proposed(one: Proposed) -> dict[str, Any]:
    report = one.report
    submission = None if report is None else report.submission
    return {
        "folder": one.folder,
        "sound": report is not None and report.sound,
        "figures": 0 if report is None else report.figures,
        "digest": None if submission is None else submission.about["digest"],
        "labels": None if submission is None else submission.about["labels"],
    }
