"""A board on the hub: the submissions as a dataset, and the site that shows them as a static Space of the same name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from birdmml.errors import ResultError, UsageError
from birdmml.files import write_text
from birdmml.hub import board_card
from birdmml.hub.board_card import INDEX
from birdmml.hub.parcel import CARD, Parcel, clear, listed
from birdmml.leaderboard.accepting import changes
from birdmml.leaderboard.accepting.root import CHANGES, scan
from birdmml.leaderboard.submission import Problem, Submission, check, read
from birdmml.leaderboard.submission.expected import Expected
from birdmml.leaderboard.submission.model import HEAD

SHELF, FIGURES = "submissions", "figures.parquet"
MAX_SITE = 20_000
_SITE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._+=~-]{0,199}/){0,6}[A-Za-z0-9_][A-Za-z0-9._+=~-]{0,199}")
STALE = "files that the hub has there and that are not listed are removed with --push; its history keeps them"


def checked(submissions: Path, data: Expected | None = None) -> tuple[list[Submission], list[Problem]]:
    """Every submission of a folder that holds one for each, and all that is wrong with any of them.

    Raises ResultError where the folder holds none.
    """
    root = scan(submissions)
    found: dict[str, Submission] = {}
    problems = list(root.problems)
    for name in root.folders:
        try:
            report = check(submissions / name, data)
        except ResultError as e:
            problems.append(Problem(name, str(e).rpartition(": ")[0], "remove the folder, or submit again"))
            continue
        problems += [Problem(f"{name}/{p.file}", p.found, p.step) for p in report.problems]
        if (made := report.submission) is not None and found.setdefault(made.slug, made) is not made:
            problems.append(Problem(name, f"the same as {found[made.slug].folder.name}", "leave one"))
    if not root.folders:
        raise ResultError(f"{submissions} holds no submission: put there what `birdmml submit` wrote")
    return list(found.values()), problems


def stage_dataset(repo: str, submissions: Path, made: Sequence[Submission], folder: Path) -> Parcel:
    """Put the submissions that `checked` found, a table of their figures and a card into `folder`.

    Raises UsageError where `folder` holds anything else, ResultError where a file is not what was checked.
    """
    known = changes.read(submissions)
    wanted = {f"{SHELF}/{one.slug}/{name}": one.folder / name for one in made for name in _names(one)}
    wanted |= {} if known is None else {f"{SHELF}/{CHANGES}": submissions / CHANGES}
    clear(folder, {*wanted, CARD, FIGURES}, "board")
    _copied(wanted, folder)
    for one in made:
        _same(one, folder / SHELF / one.slug)
    board_card.write_figures(made, folder / FIGURES)
    write_text(folder / CARD, board_card.dataset(repo, made, known or (), FIGURES))
    notes = [f"{name} is not part of the board and stays here" for name in scan(submissions).files]
    files = listed(folder, {*wanted, CARD, FIGURES})
    stale = f"{SHELF}/: {STALE}"
    return Parcel(repo, "dataset", folder, files, _demo(made), (*notes, stale), replaces=f"{SHELF}/*")


def stage_space(repo: str, site: Path, made: Sequence[Submission], folder: Path) -> Parcel:
    """Put a site into `folder`, with a Space's card unless it has one.

    Raises UsageError for a site that is none, or holds odd files.
    """
    wanted = dict(_site(site))
    if INDEX not in wanted:
        raise UsageError(f"--site {site} has no {INDEX}: make one with `birdmml leaderboard build`")
    if CARD in wanted and not board_card.is_space(wanted[CARD]):
        raise UsageError(f"--site {site} has a {CARD} that is no card of a static Space: remove it")
    clear(folder, {*wanted, CARD}, "site")
    _copied(wanted, folder)
    if CARD not in wanted:
        write_text(folder / CARD, board_card.space(repo))
    files = listed(folder, {*wanted, CARD})
    return Parcel(repo, "space", folder, files, _demo(made), (STALE,), replaces="*")


def _demo(made: Sequence[Submission]) -> bool:
    return any("demo" in one.about["labels"] for one in made)


def _names(one: Submission) -> Iterator[str]:
    yield HEAD
    yield from (str(file["path"]) for file in one.about["files"])


def _copied(wanted: Mapping[str, Path], folder: Path) -> None:
    for path, source in wanted.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        # A link that came since the check is copied as a link, which has no hash of its own.
        shutil.copyfile(source, folder / path, follow_symlinks=False)


def _same(one: Submission, copy: Path) -> None:
    """Raise ResultError unless the copy holds, byte for byte, what was checked."""
    if read(copy).about != one.about:
        raise ResultError(f"{one.folder} was changed while it was read: run the same command again")


def _site(site: Path) -> Iterator[tuple[str, Path]]:
    """(path from the site, file) of everything in it; raises UsageError for what no site has."""
    if site.is_symlink() or not site.is_dir():
        raise UsageError(f"--site {site} is no folder: make one with `birdmml leaderboard build`")
    count = 0
    for at, folders, files in os.walk(site, onerror=_unread):
        for name in sorted([*folders, *files]):
            path = Path(at) / name
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
