"""The leaderboard as a static site: submissions in, pages out, byte for byte the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pyarrow as pa
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no types

from birdmml.core.files import digest, sha256_bytes
from birdmml.core.pool import Pool
from birdmml.core.text import plain
from birdmml.errors import BirdmmlError, ResultError
from birdmml.leaderboard.site import browser, exports, items, model, pages, place, tables
from birdmml.leaderboard.site.items import ConfusionCounts, ItemOutcomes
from birdmml.leaderboard.site.model import Board, BoardMember, BoardTable, Refused
from birdmml.leaderboard.site.significance import ColumnOutcomes, compared
from birdmml.leaderboard.submission.checking import check
from birdmml.leaderboard.submission.model import HEAD, Submission

MOST_CONFUSIONS, MOST_REASONS = 6, 5
# A process takes as long to start as this many small submissions take to check.
ENOUGH = 25
AT_ONCE = 64  # Pages that are held together while they are made.
# What Hugging Face reads of a static Space.
SPACE = (
    "---\ntitle: Bird-MML leaderboard\nsdk: static\napp_file: index.html\n---\n\nMade by `birdmml leaderboard build`.\n"
)


@dataclass(frozen=True)
class BuiltSite:
    """What was made, or would be: `files` and `bytes` of the whole site."""

    out: Path
    submissions: int
    results: int
    tables: int
    refused: tuple[Refused, ...]
    files: int
    bytes: int
    notes: tuple[str, ...] = ()


@dataclass
class SiteOutcomes:
    """Outcomes that were read once. Ids and classes that several results share are kept once: they weigh most."""

    outcomes: dict[tuple[str, str], ItemOutcomes | None] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, member: BoardMember, name: str) -> ItemOutcomes | None:
        """The outcomes of one file of a result; None where they cannot be paired, or not be read."""
        if (member.page, name) not in self.outcomes:
            metrics = [f.metric for f in model.headlines(member.result) if f.predictions == name]
            try:
                outcome = items.read(member.folder, name, metrics)
            except ResultError:
                outcome = None  # Only of a result that was not checked.
            self.outcomes[member.page, name] = None if outcome is None else self._shared(outcome)
        return self.outcomes[member.page, name]

    def _shared(self, outcome: ItemOutcomes) -> ItemOutcomes:
        ids = self.names.setdefault(outcome.key, outcome.ids)
        if outcome.targets is None:
            return replace(outcome, ids=ids)
        return replace(outcome, ids=ids, targets=self.names.setdefault(digest(outcome.targets), outcome.targets))


def build(submissions: Path, out: Path, data: Path | None = None, dry_run: bool = False, workers: int = 1) -> BuiltSite:
    """Write the site of all submissions below a folder to `out`; the same submissions give the same bytes.

    `data` is a built dataset whose photos and sounds are shown beside the items, where their licences allow it.
    Raises UsageError for an `out` that holds anything else, ResultError where there is nothing to show.
    """
    place.check(out)
    accepted, refused = gather(submissions, workers)
    content, notes = site(accepted, refused, data)
    with Pool(min(workers, 1 + len(accepted) // ENOUGH)) as pool:
        if dry_run:
            written = _written(content, None, pool)
        else:
            with place.fresh(out) as folder:
                written = _written(content, folder, pool)
    board, size = content.board, sum(n for n, _ in written.values())
    counts = len(accepted) + len(refused), len(board.members), len(board.tables)
    return BuiltSite(out, *counts, board.refused, 1 + len(written), size, tuple(notes))


def _written(content: Site, folder: Path | None, pool: Pool) -> dict[str, tuple[int, str]]:
    """Write every file below `folder`, the list of them last; returns (bytes, SHA-256) by name. None writes nothing."""
    written: dict[str, tuple[int, str]] = {}
    for name, data in content.files(pool):
        written[name] = len(data), sha256_bytes(data)
        if folder is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if folder is not None:
        digests = {name: sha256 for name, (_, sha256) in sorted(written.items())}
        (folder / place.MARK).write_text(place.mark(digests), encoding="utf-8")
    return written


def gather(folder: Path, workers: int = 1) -> tuple[list[Submission], list[Refused]]:
    """The submissions below a folder that pass the check, and those that do not, with their reasons.

    Checks run in `workers` processes. Raises ResultError where there is no submission.
    """
    if not folder.is_dir():
        raise ResultError(f"{folder} is no folder: give one that holds submissions")
    folders = sorted(p.parent for p in folder.rglob(HEAD))
    if not folders:
        raise ResultError(f"no {HEAD} below {folder}: make one with `birdmml submit`")
    with Pool(min(workers, 1 + len(folders) // ENOUGH)) as pool:
        checked = pool.run(_checked, [(folder, one) for one in folders])
    accepted: dict[str, Submission] = {}
    refused = []
    for one in checked:
        if isinstance(one, Refused):
            refused.append(one)
            continue
        first = accepted.setdefault(str(one.about["digest"]), one)
        if first is not one:
            names = [plain(s.folder.relative_to(folder).as_posix()) for s in (one, first)]
            refused.append(Refused(names[0], (f"the same as {names[1]}",)))
    return list(accepted.values()), refused


@contextmanager
def _one_thread() -> Iterator[None]:
    """Arrow and BLAS in this thread alone: for tables this small, handing work to others costs more than the work."""
    before = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        with _controller().limit(limits=1):
            yield
    finally:
        pa.set_cpu_count(before)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # Looks through all libraries, which takes a while.


@_one_thread()
def _checked(task: tuple[Path, Path]) -> Submission | Refused:
    folder, one = task
    name = plain(one.relative_to(folder).as_posix())
    try:
        report = check(one)
    except BirdmmlError as e:
        return Refused(name, (plain(str(e).replace(str(one), name), 300),))
    if report.submission is None or not report.sound:
        reasons = [plain(p.line, 300) for p in report.problems[:MOST_REASONS]]
        left = len(report.problems) - len(reasons)
        return Refused(name, (*reasons, *([f"and {left:,} more: run `birdmml verify`"] if left else ())))
    return report.submission


def _entry(task: tuple[BoardMember, list[tuple[str, ConfusionCounts]]]) -> str:
    return pages.entry(*task)


@dataclass(frozen=True)
class Site:
    """Everything that the files are made of."""

    board: Board
    tasks: dict[str, list[ColumnOutcomes]]
    shelf: SiteOutcomes
    media: browser.SiteMedia | None = None

    def files(self, pool: Pool | None = None) -> Iterator[tuple[str, bytes]]:
        """Every file but the list of them: its path and content. Pages of results are made in the pool."""
        for name, text in self._texts(pool or Pool(1)):
            yield name, text.encode()
        if self.media is not None:
            yield from self.media.files()

    def _texts(self, pool: Pool) -> Iterator[tuple[str, str]]:
        board = self.board
        yield "index.html", pages.index(board, self.tasks)
        for name in pages.ASSETS:
            yield f"assets/{name}", pages.asset(name)
        yield "README.md", SPACE
        yield "board.csv", exports.as_csv(board.tables)
        yield "board.json", exports.as_json(board)
        yield "LEADERBOARD.md", exports.as_markdown(board.tables)
        for table in board.tables:
            yield f"tables/{table.id}.csv", exports.as_csv([table])
            yield f"tables/{table.id}.json", exports.table_json(table)
            yield f"tables/{table.id}.md", exports.as_markdown([table])
            yield from self._items(table)
        for start in range(0, len(board.members), AT_ONCE):
            some = board.members[start : start + AT_ONCE]
            texts = pool.run(_entry, [(member, self._confusions(member)) for member in some])
            yield from ((f"entries/{m.page}.html", text) for m, text in zip(some, texts, strict=True))

    def _items(self, table: BoardTable) -> Iterator[tuple[str, str]]:
        tasks = sorted(self.tasks.get(table.id, []), key=lambda t: t.column != table.lead)
        if not tasks:
            return
        named = [
            (browser.name(table, t), f"{pages.arrows(c.task)}, {c.metric}")
            for t in tasks
            for c in [table.columns[t.column]]
        ]
        shown = self.media.script if self.media is not None and self.media.of(table) else ""
        yield f"items/{table.id}.html", pages.items(table, named, browser.rule(table, tasks), shown)
        for task in tasks:
            yield f"items/{browser.name(table, task)}.js", browser.script(table, task)

    def _confusions(self, member: BoardMember) -> list[tuple[str, ConfusionCounts]]:
        """What was taken for what: of a sweep its last step alone; what all modalities give comes first."""
        confusions: dict[tuple[str, ...], tuple[str, ConfusionCounts]] = {}
        for f in model.headlines(member.result):
            read = self.shelf.read(member, f.predictions) if f.metric == "accuracy" else None
            if read is not None and read.confusion is not None:
                key = (f.suite, f.evalset, "" if f.suite in tables.SWEEPS else f.task)
                confusions[key] = f"{pages.arrows(f.task)}, {f.suite} on {f.evalset}", read.confusion
        return sorted(confusions.values(), key=lambda c: -c[0].count("+"))[:MOST_CONFUSIONS]


@_one_thread()
def site(
    accepted: Sequence[Submission], refused: Sequence[Refused] = (), data: Path | None = None
) -> tuple[Site, list[str]]:
    """Tables, comparisons and media of submissions that passed the check; and notes on what is not shown."""
    shelf, compared_tables, tasks = SiteOutcomes(), [], {}
    members = tables.members(accepted)
    all_tables, left_out = tables.tables(members)
    for table in all_tables:
        lettered, columns = compared(table, shelf.read)
        compared_tables.append(lettered)
        if some := browser.browsable(lettered, columns):
            tasks[lettered.id] = some
    board = Board(tuple(compared_tables), members, tuple(refused), left_out)
    if data is None:
        return Site(board, tasks, shelf), []
    shown, notes = browser.of(data, [(t, tasks[t.id]) for t in compared_tables if t.id in tasks])
    return Site(board, tasks, shelf, shown), notes
