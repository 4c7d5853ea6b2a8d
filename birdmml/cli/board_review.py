"""`birdmml leaderboard review`: what a pull request would do to the accepted submissions, as a report for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdmml.errors import ResultError

if TYPE_CHECKING:
    from birdmml.leaderboard.accepting import Proposed, Review

MAX_SHOWN, MAX_LENGTH = 50, 500  # Lines of each kind, and letters of each: a comment has room for 65,536.


def review(
    base: Annotated[Path, typer.Option(help="The accepted submissions: a folder that holds one for each.")],
    head: Annotated[Path, typer.Option(help="The same folder as a pull request would leave it.")],
    data: Annotated[
        Path | None, typer.Option(help="Your copy of the dataset: item ids are compared with it.")
    ] = None,
    evalsets: Annotated[Path | None, typer.Option(help="Your prepared evaluation sets, likewise.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report here instead of printing it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check what is new, refuse what removes or changes an accepted submission in silence; exit 1 if refused.

    \b
    birdmml leaderboard review --base accepted/submissions --head proposed/submissions

    Prints Markdown for a comment; what a submitter wrote is inert in it. benchmarks/ACCEPTING.md has the rules.
    """
    from birdmml.build.report_text import markdown
    from birdmml.cli._expected import expected
    from birdmml.files import write_text
    from birdmml.leaderboard.accepting import review as compare

    found = compare(base, head, expected(data, evalsets))
    if as_json:
        # In ASCII: names of strangers' files need not be text at all.
        text = json.dumps(_as_json(found), indent=2) + "\n"
    else:
        text = "\n".join(_report(found, lambda words: str(markdown(words[:MAX_LENGTH])))) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
    if not found.sound:
        raise ResultError(f"{head} is refused: {_counted(found)}, a line each in the report")


def register(group: typer.Typer) -> None:
    """Add the command to `birdmml leaderboard`."""
    group.command()(review)


def _report(found: Review, clean: Callable[[str], str]) -> Iterator[str]:
    """Lines of Markdown; every text of a stranger goes through `clean`."""
    verdict = "nothing refuses it" if found.sound else f"refused, {_counted(found)}"
    kept = len(found.accepted) - len(found.changes) if found.sound else len(found.accepted)
    yield f"## Submissions: {verdict}"
    yield ""
    yield (
        f"{len(found.proposed):,} new, {len(found.changes):,} replaced or withdrawn,"
        f" {kept:,} accepted {'and unchanged' if found.sound else 'before'}."
    )
    yield from _section("What is wrong", [clean(problem.line) for problem in found.problems])
    yield from _section("New", [_new(one, clean) for one in found.proposed])
    gone = [f"{clean(c.slug)} on {clean(c.date)}: {clean(c.reason)}" for c in found.changes]
    yield from _section("Replaced or withdrawn", gone)
    yield from _section("For the maintainer", [clean(note) for note in found.notes])


def _counted(found: Review) -> str:
    number = len(found.problems)
    return "1 problem" if number == 1 else f"{number:,} problems"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield from ("", f"### {title}", "")
    yield from (f"- {line}" for line in lines[:MAX_SHOWN])
    if len(lines) > MAX_SHOWN:
        yield f"- and {len(lines) - MAX_SHOWN:,} more: `--json` has them all"


def _new(one: Proposed, clean: Callable[[str], str]) -> str:
    made = one.report.submission if one.report is not None else None
    if one.report is None or made is None:
        return f"**{clean(one.folder)}**: cannot be read"
    about = made.about
    return (
        f"**{clean(one.folder)}**: {clean(about['name'])}, licence {clean(about['license'])},"
        f" contact {clean(about['contact'])}; {len(made.entries):,} results, {one.report.figures:,} figures"
        f" {'follow from their items' if one.report.sound else 'claimed'}."
        f" Trained on: {clean(about['training_data']['declaration'])}"
    )


def _as_json(found: Review) -> dict[str, Any]:
    return {
        "sound": found.sound,
        "accepted": sorted(found.accepted),
        "proposed": [_proposed(one) for one in found.proposed],
        "changes": [vars(change) for change in found.changes],
        "problems": [{"file": p.file, "found": p.found, "next": p.step} for p in found.problems],
        "notes": list(found.notes),
    }


def _proposed(one: Proposed) -> dict[str, Any]:
    report = one.report
    made = None if report is None else report.submission
    return {
        "folder": one.folder,
        "sound": report is not None and report.sound,
        "figures": 0 if report is None else report.figures,
        "digest": None if made is None else made.about["digest"],
        "labels": None if made is None else made.about["labels"],
    }
