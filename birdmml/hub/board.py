"""A board on the hub: the submissions as a dataset, and the site that shows them as a static Space of the same name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from birdmml import __version__
from birdmml.core.files import atomic_write, write_text
from birdmml.core.text import markdown, templates
from birdmml.dataset.card import hub_licenses
from birdmml.errors import ResultError, UsageError
from birdmml.hub import CARD, TAGS, TEMPLATES, Parcel, clear, copied, listed
from birdmml.leaderboard import review
from birdmml.leaderboard.review import CHANGES, Change, scan
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.expected import Expected
from birdmml.leaderboard.submission.model import HEAD, Entry, Problem, Submission, at, plain
from birdmml.leaderboard.submission.reading import read

# The cards of a board's dataset and Space, and the table of figures that the hub's viewer shows.
INDEX = "index.html"
_TEXTS = (
    "submission", "name", "license", "method", "preset", "protocol", "dataset", "suite", "evalset", "task", "metric",
)  # fmt: skip
_NUMBERS = ("value", "low", "high", "sd", "chance")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.float64()) for name in _NUMBERS),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
        ("labels", pa.list_(pa.string())),
    ]
)


def write_figures(submissions: Sequence[Submission], path: Path) -> None:
    """One row a figure, shares as in the results; equal submissions give equal bytes."""
    rows = [row for one in submissions for entry in one.entries for row in _rows(one, entry)]
    with atomic_write(path) as f:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), f)


def dataset(repo: str, submissions: Sequence[Submission], changes: Sequence[Change], figures: str) -> str:
    """README.md of the dataset; what submitters wrote is inert in it."""
    from huggingface_hub import DatasetCardData

    counted = dict(sorted(Counter(str(one.about["license"]) for one in submissions).items()))
    demo = any("demo" in one.about["labels"] for one in submissions)
    data = DatasetCardData(
        pretty_name=f"{repo.split('/')[1]}: submissions to birdmml",
        license=hub_licenses({"submissions": counted}),
        tags=[*TAGS, "leaderboard", *(["synthetic", "demo"] if demo else [])],
        configs=[{"config_name": "figures", "data_files": figures, "default": True}],
    )
    return _template().render(
        front_matter=Markup(data.to_yaml()),  # noqa: S704  # a YAML writer's own quoting
        repo=Markup(repo),  # noqa: S704  # letters, digits, "-", "_", ".": checked
        name=repo.split("/")[1],
        demo=demo,
        submissions=sorted(submissions, key=lambda one: one.slug),
        results=sum(len(one.entries) for one in submissions),
        figures=sum(len(entry.result.figures) for one in submissions for entry in one.entries),
        licenses=counted,
        changes=changes,
        version=__version__,
    )


def space(repo: str) -> str:
    """README.md of the static Space."""
    from huggingface_hub import SpaceCardData

    data = SpaceCardData(title=repo.split("/")[1], sdk="static", app_file=INDEX, datasets=[repo])
    return (
        f"---\n{data.to_yaml()}\n---\n\nA static site that `birdmml leaderboard build` made from the submissions in the"
        " dataset of the same name.\nEvery figure of it can be computed again from that dataset.\n"
    )


def is_space(card: Path) -> bool:
    """Whether a README.md tells the hub to show index.html as it is; anything else could be told to run."""
    start, *rest = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    lines = rest[0].splitlines() if len(rest) == 2 and not start else []
    fields = [line for line in lines if line.startswith(("sdk", "app_file"))]
    return sorted(fields) == [f"app_file: {INDEX}", "sdk: static"]


def _rows(one: Submission, entry: Entry) -> Iterator[dict[str, Any]]:
    result = entry.result
    common = {
        "submission": one.slug,
        "name": plain(one.about["name"]),
        "license": one.about["license"],
        "method": plain(result.method),
        "preset": plain(result.preset),
        "protocol": at(result.settings, "protocol", "name"),
        "dataset": plain(str(result.dataset.get("name", ""))),
        "seeds": len(result.seeds),
        "labels": list(one.about["labels"]),
    }
    for f in result.figures:
        texts = {name: plain(getattr(f, name)) for name in ("suite", "evalset", "task", "metric")}
        yield common | texts | {name: getattr(f, name) for name in (*_NUMBERS, "n")}


@cache
def _template() -> jinja2.Template:
    return templates(markdown, TEMPLATES).get_template("board_card.md.j2")


SHELF, FIGURES = "submissions", "figures.parquet"
MAX_SITE = 20_000
_SITE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._+=~-]{0,199}/){0,6}[A-Za-z0-9_][A-Za-z0-9._+=~-]{0,199}")
STALE = "files that the hub has there and that are not listed are removed with --push; its history keeps them"


def checked(submissions: Path, data: Expected | None = None) -> tuple[list[Submission], list[Problem]]:
    """Every submission of a folder that holds one for each, and all that is wrong with any of them.

    Raises ResultError where the folder holds none.
    """
    root = scan(submissions)
    by_slug: dict[str, Submission] = {}
    problems = list(root.problems)
    for name in root.folders:
        try:
            report = check(submissions / name, data)
        except ResultError as e:
            problems.append(Problem(name, str(e).rpartition(": ")[0], "remove the folder, or submit again"))
            continue
        problems += [Problem(f"{name}/{p.file}", p.wrong, p.step) for p in report.problems]
        if report.submission is not None:
            first = by_slug.setdefault(report.submission.slug, report.submission)
            if first is not report.submission:
                problems.append(Problem(name, f"the same as {first.folder.name}", "leave one"))
    if not root.folders:
        raise ResultError(f"{submissions} holds no submission: put there what `birdmml submit` wrote")
    return list(by_slug.values()), problems


def stage_dataset(repo: str, submissions: Path, accepted: Sequence[Submission], folder: Path) -> Parcel:
    """Put the submissions that `checked` found, a table of their figures and a card into `folder`.

    Raises UsageError where `folder` holds anything else, ResultError where a file is not what was checked.
    """
    changes = review.read_changes(submissions)
    wanted = {
        f"{SHELF}/{one.slug}/{name}": one.folder / name
        for one in accepted
        for name in (HEAD, *(str(file["path"]) for file in one.about["files"]))
    }
    wanted |= {} if changes is None else {f"{SHELF}/{CHANGES}": submissions / CHANGES}
    clear(folder, {*wanted, CARD, FIGURES}, "board")
    copied(wanted, folder)
    for one in accepted:
        if read(folder / SHELF / one.slug).about != one.about:  # Byte for byte what was checked.
            raise ResultError(f"{one.folder} was changed while it was read: run the same command again")
    write_figures(accepted, folder / FIGURES)
    write_text(folder / CARD, dataset(repo, accepted, changes or (), FIGURES))
    notes = [f"{name} is not part of the board and stays here" for name in scan(submissions).files]
    files = listed(folder, {*wanted, CARD, FIGURES})
    stale = f"{SHELF}/: {STALE}"
    return Parcel(repo, "dataset", folder, files, _demo(accepted), (*notes, stale), replaces=f"{SHELF}/*")


def stage_space(repo: str, site: Path, accepted: Sequence[Submission], folder: Path) -> Parcel:
    """Put a site into `folder`, with a Space's card unless it has one.

    Raises UsageError for a site that is none, or holds odd files.
    """
    wanted = dict(_site(site))
    if INDEX not in wanted:
        raise UsageError(f"--site {site} has no {INDEX}: make one with `birdmml leaderboard build`")
    if CARD in wanted and not is_space(wanted[CARD]):
        raise UsageError(f"--site {site} has a {CARD} that is no card of a static Space: remove it")
    clear(folder, {*wanted, CARD}, "site")
    copied(wanted, folder)
    if CARD not in wanted:
        write_text(folder / CARD, space(repo))
    files = listed(folder, {*wanted, CARD})
    return Parcel(repo, "space", folder, files, _demo(accepted), (STALE,), replaces="*")


def _demo(submissions: Sequence[Submission]) -> bool:
    return any("demo" in one.about["labels"] for one in submissions)


def _site(site: Path) -> Iterator[tuple[str, Path]]:
    """(path from the site, file) of everything in it; raises UsageError for what no site has."""
    if site.is_symlink() or not site.is_dir():
        raise UsageError(f"--site {site} is no folder: make one with `birdmml leaderboard build`")
    count = 0
    for folder, folders, files in os.walk(site, onerror=_unread):
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            inside = path.relative_to(site).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()) or not _SITE.fullmatch(inside):
                raise UsageError(f"--site {site} has {inside!r}, a link or an odd name: remove it")
            if path.is_file():
                count += 1
                yield inside, path
        if count > MAX_SITE:
            raise UsageError(f"--site {site} has more than {MAX_SITE:,} files: build it without --media")


def _unread(error: OSError) -> None:
    raise UsageError(f"--site: {error.filename} cannot be read ({error.strerror}): see that you may read it")
