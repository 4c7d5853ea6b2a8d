# ruff: noqa: S608  # The names in the queries are ours; what is the user's goes in as values.
"""Which photos a build asks for: the tables joined by DuckDB on the disk, then a seeded choice.

The order of a species' photos follows from the seed and their numbers alone, not from the tables' order: first one
photo of each observation, then second ones, each lot by the MD5 of "seed:photo".
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from birdmml.core import files
from birdmml.core.pool import Progress
from birdmml.errors import SourceError, UsageError
from birdmml.fetch.download import Fetcher
from birdmml.fetch.ledger import Ledger, WantedFile
from birdmml.fetch.pace import Politeness
from birdmml.sources.inat_xc.settings import RawSettings

# ---- The four monthly tables of iNaturalist Open Data: found or downloaded, and checked by the names in their headers.
# Tab-separated with a header and without quoting: a quote is a letter like any other. Columns are found by name, so an
# added one does no harm, and one that is lacking is an error that says what was found.


TABLES = ("taxa", "observations", "photos", "observers")
# What is read of each table, and as what; other columns are passed over.
NEEDED: Mapping[str, Mapping[str, str]] = {
    "taxa": {
        "taxon_id": "BIGINT", "ancestry": "VARCHAR", "rank": "VARCHAR", "name": "VARCHAR", "active": "VARCHAR",
    },
    "observations": {"observation_uuid": "UUID", "taxon_id": "BIGINT", "quality_grade": "VARCHAR"},
    "photos": {
        "photo_id": "BIGINT", "observation_uuid": "UUID", "observer_id": "BIGINT", "extension": "VARCHAR",
        "license": "VARCHAR", "width": "BIGINT", "height": "BIGINT",
    },
    "observers": {"observer_id": "BIGINT", "login": "VARCHAR", "name": "VARCHAR"},
}  # fmt: skip
SUFFIXES = (".csv.gz", ".csv")
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class InatTable:
    """One table on the disk: its columns in order, and how its lines end."""

    name: str
    path: Path
    columns: tuple[str, ...]
    newline: str = "\n"

    def sql(self, rejects: str = "") -> str:
        """A DuckDB table function that reads it; lines that are no rows go into the table named by `rejects`."""
        wanted = NEEDED[self.name]
        typed = ", ".join(f"{_quoted(c)}: '{wanted.get(c, 'VARCHAR')}'" for c in self.columns)
        packed = "gzip" if self.path.name.endswith(".gz") else "none"
        kept = f", store_rejects = true, rejects_table = '{rejects}', rejects_scan = '{rejects}_scan'"
        return (
            f"read_csv({_quoted(str(self.path))}, columns = {{{typed}}}, delim = '\\t', quote = '', escape = '', "
            f"new_line = '{self.newline}', compression = '{packed}', header = true, auto_detect = false, "
            f"nullstr = '', ignore_errors = true{f'{kept}, rejects_limit = {MOST_BAD}' if rejects else ''})"
        )

    def stamp(self) -> list[int]:
        """Size in bytes and time of the file: equal ones are taken for the same bytes."""
        info = self.path.stat()
        return [info.st_size, info.st_mtime_ns]


# So many lines that are no rows are a table of another kind.
MOST_BAD = 100_000


def file_names(table: str) -> tuple[str, ...]:
    """Names that a table's file may have, the provider's first."""
    return tuple(f"{table}{suffix}" for suffix in SUFFIXES)


def open_folder(folder: Path) -> dict[str, InatTable]:
    """The four tables of a folder. Raises SourceError for a missing, unreadable or changed one."""
    if not folder.is_dir():
        raise SourceError(f"--inat {folder} is no folder: name the one with {', '.join(map(_first, TABLES))}")
    tables = {}
    for name in TABLES:
        path = next((p for n in file_names(name) if (p := folder / n).is_file()), None)
        if path is None:
            raise SourceError(
                f"{folder} has no {_first(name)}: download it from iNaturalist Open Data into that folder"
            )
        tables[name] = read_header(name, path)
    return tables


def read_header(name: str, path: Path) -> InatTable:
    """The table in `path`, by its first line. Raises SourceError where a column that is needed is not there."""
    opened: Callable[..., gzip.GzipFile] = gzip.open if path.name.endswith(".gz") else open  # type: ignore[assignment]  # both read bytes
    try:
        with opened(path, "rb") as f:
            line = f.readline(_LONGEST_HEADER)
    except (OSError, EOFError, zlib.error) as e:
        raise SourceError(f"{path} cannot be read ({e}): download it again") from e
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")
    columns = tuple(c.strip() for c in text.split("\t"))
    lacking = [c for c in NEEDED[name] if c not in columns]
    if lacking:
        raise SourceError(
            f"{path.name} has no column {' and no column '.join(lacking)}; found: {_shown(columns)}; "
            f"needed: {', '.join(NEEDED[name])}. The table is another one, or its format has changed: get "
            f"{_first(name)} of iNaturalist Open Data again, or a newer birdmml"
        )
    if len(set(columns)) != len(columns) or not all(columns):
        raise SourceError(f"{path.name}: a column has no name, or one stands twice: {_shown(columns)}")
    return InatTable(name, path, columns, "\\r\\n" if line.endswith(b"\r\n") else "\\n")


def identity(table: InatTable) -> dict[str, int | str]:
    """What the manifest says of a table: its size in bytes and its SHA-256."""
    return {"bytes": table.path.stat().st_size, "sha256": files.sha256_file(table.path)}


def _first(table: str) -> str:
    return file_names(table)[0]


def _shown(columns: tuple[str, ...]) -> str:
    text = ", ".join("".join(c if c.isprintable() else "?" for c in name[:40]) for name in columns[:20])
    return text[:400] or "nothing"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_ACTIVE = "lower(coalesce(active, '')) IN ('true', 't', '1')"


@dataclass(frozen=True)
class WantedSpecies:
    """A species as the tables may know it; `mine` if photos of it are to be chosen here.

    `ids` are its taxon ids, today's first, then retired ones. Where there is none, it is looked up by its scientific
    `names`, the first one first.
    """

    label: int
    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    mine: bool = True


@dataclass(frozen=True)
class PhotoRules:
    """Which photos may be taken: grades, SPDX-normalised licences as `allowed` says, the shorter side in px."""

    seed: int
    allowed: Callable[[str], bool]
    grades: tuple[str, ...] = ("research",)
    min_side: int = 0


@dataclass(frozen=True)
class Candidate:
    """A photo that may be taken, the `rank`-th choice (from 1) of its species."""

    label: int
    rank: int
    photo_id: int
    extension: str
    license: str
    width: int
    height: int
    observation: str
    taxon_id: int
    login: str
    author: str


@dataclass
class TableCounts:
    """What the tables hold of what is wanted, counted.

    `taxa`: label -> (state, taxon ids in use); state is "", "former", "inactive", "ambiguous" or "unknown", and `today`
    has the ids under which the table lists the names of those that have none in use.
    `refused` counts photos by (label, reason, detail), `duplicates` repeated rows by label.
    """

    taxa: dict[int, tuple[str, list[int]]] = field(default_factory=dict)
    today: dict[int, list[int]] = field(default_factory=dict)
    offered: dict[int, int] = field(default_factory=dict)
    refused: dict[tuple[int, str, str], int] = field(default_factory=dict)
    duplicates: dict[int, int] = field(default_factory=dict)
    bad_lines: dict[str, int] = field(default_factory=dict)


class Selection:
    """One join of the tables, in a database file of its own below `folder`; a context manager.

    `memory_mb` bounds what DuckDB holds in memory; the rest goes to the disk. Raises SourceError for a table that
    cannot be read to its end.
    """

    def __init__(
        self,
        tables: Mapping[str, InatTable],
        wanted: Sequence[WantedSpecies],
        rules: PhotoRules,
        folder: Path,
        memory_mb: int,
    ) -> None:
        self._tables, self._wanted, self._rules = tables, wanted, rules
        self.found = TableCounts()
        duckdb = _duckdb()
        self._error: type[Exception] = duckdb.Error
        self._path = folder / "join.duckdb"
        _clear(folder)
        self._db = duckdb.connect(str(self._path))
        for name, value in (
            ("memory_limit", f"{memory_mb}MB"), ("temp_directory", str(folder / "join.tmp")),
            ("preserve_insertion_order", "false"), ("enable_progress_bar", "false"), ("threads", "2"),
        ):  # fmt: skip
            self._db.execute(f"SET {name} = '{value}'")

    def __enter__(self) -> Selection:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        _clear(self._path.parent)

    def run(self) -> TableCounts:
        """Join; afterwards `candidates` can be asked."""
        try:
            self._taxa()
            self._offered()
            self._sift()
        except self._error as e:
            raise SourceError(
                f"the iNaturalist tables cannot be read ({_line(e)}): download the one named again, or free some "
                "space or memory (--memory) if that is what was lacking"
            ) from e
        return self.found

    def candidates(self, most: int) -> Iterator[Candidate]:
        """The first `most` choices of each species, species by species in the order of choice."""
        self._make(
            "chosen",
            "SELECT label, rank, photo_id, extension, license, width, height, observation_uuid, taxon_id, observer_id "
            "FROM ranked WHERE rank <= ?", [most],
        )  # fmt: skip
        self._make(
            "named",
            "SELECT observer_id, min(coalesce(login, '')) AS login, min(coalesce(name, '')) AS name FROM "
            f"{self._read('observers')} WHERE observer_id IN (SELECT observer_id FROM chosen) GROUP BY observer_id",
        )
        self._count_bad("observers")
        cursor = self._db.execute(
            "SELECT label, rank, photo_id, extension, license, width, height, observation_uuid::VARCHAR, taxon_id, "
            "coalesce(named.login, ''), coalesce(named.name, '') FROM chosen "
            "LEFT JOIN named USING (observer_id) ORDER BY label, rank"
        )
        while rows := cursor.fetchmany(4096):
            for row in rows:
                login, name = _plain(row[9]), _plain(row[10])
                yield Candidate(*(*row[:9], login, name or login))

    def _taxa(self) -> None:
        """Which taxon ids stand for which species: today's if it is active, else a retired one that still is."""
        self._db.execute("CREATE TABLE wanted (label INTEGER, id BIGINT)")
        self._db.execute("CREATE TABLE called (label INTEGER, place INTEGER, name VARCHAR)")
        ids = [(w.label, i) for w in self._wanted for i in w.ids]
        names = [(w.label, place, n) for w in self._wanted for place, n in enumerate(w.names)]
        for table, marks, rows in (("wanted", "?, ?", ids), ("called", "?, ?, ?", names)):
            if rows:
                self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self._make(
            "taxon",
            f"SELECT taxon_id, coalesce(ancestry, '') AS ancestry, rank, name, {_ACTIVE} AS active "
            f"FROM {self._read('taxa')} WHERE taxon_id IS NOT NULL",
        )
        self._count_bad("taxa")
        rows_of_taxa = dict(
            self._db.execute(
                "SELECT taxon_id, bool_or(active) FROM taxon JOIN wanted ON id = taxon_id GROUP BY taxon_id"
            ).fetchall()
        )
        by_name: dict[int, dict[int, list[int]]] = {}
        for label, place, one in self._db.execute(
            "SELECT DISTINCT label, place, taxon_id FROM taxon JOIN called USING (name) WHERE active ORDER BY ALL"
        ).fetchall():
            by_name.setdefault(label, {}).setdefault(place, []).append(one)
        for w in self._wanted:
            mine = by_name.get(w.label, {})
            self.found.taxa[w.label] = standing = _standing(w, rows_of_taxa, mine)
            if not standing[1] and mine:
                self.found.today[w.label] = sorted({i for ids in mine.values() for i in ids})
        used = [(i, label) for label, (_, ids) in self.found.taxa.items() for i in ids]
        self._db.execute("CREATE TABLE used (id BIGINT, label INTEGER)")
        if used:
            self._db.executemany("INSERT INTO used VALUES (?, ?)", used)
        # Subspecies lie below their species; where two wanted taxa contain one, the nearer one has it.
        self._make(
            "mine",
            "SELECT taxon_id, arg_max(label, depth) AS label FROM ("
            "SELECT taxon_id, TRY_CAST(unnest(up) AS BIGINT) AS id, generate_subscripts(up, 1) AS depth FROM ("
            "SELECT taxon_id, list_append(regexp_split_to_array(ancestry, '[/\\\\]'), taxon_id::VARCHAR) AS up "
            "FROM taxon WHERE active)) JOIN used USING (id) GROUP BY taxon_id",
        )

    def _offered(self) -> None:
        """Every photo of a wanted species' observations of the right grade, whatever its licence."""
        self._make(
            "seen",
            f"SELECT DISTINCT observation_uuid, label, o.taxon_id FROM {self._read('observations')} o "
            "JOIN mine USING (taxon_id) WHERE list_contains(?, quality_grade)",
            [list(self._rules.grades)],
        )
        self._count_bad("observations")
        self._make(
            "raw",
            "SELECT photo_id, observation_uuid, observer_id, extension, coalesce(license, '') AS license, width, "
            f"height, label, seen.taxon_id FROM {self._read('photos')} p JOIN seen USING (observation_uuid) "
            "WHERE photo_id IS NOT NULL",
        )
        self._count_bad("photos")
        # A photo of two species shows either or both: its label cannot be known.
        self._make(
            "offered",
            "SELECT * FROM (SELECT *, "
            "row_number() OVER (PARTITION BY photo_id ORDER BY label, observation_uuid, observer_id, extension, "
            "license, width, height, taxon_id) AS nth, count(*) OVER (PARTITION BY photo_id) - 1 AS more, "
            "min(label) OVER (PARTITION BY photo_id) AS least, max(label) OVER (PARTITION BY photo_id) AS largest "
            "FROM raw) WHERE nth = 1 AND list_contains(?, label)",
            [[w.label for w in self._wanted if w.mine]],
        )
        repeated = "SELECT label, sum(more) FROM offered GROUP BY label HAVING sum(more) > 0 ORDER BY label"
        self.found.duplicates = {label: int(n) for label, n in self._db.execute(repeated).fetchall()}
        self._db.execute("DROP TABLE raw")

    def _sift(self) -> None:
        """Why each photo may not be taken, and the order of choice of those that may."""
        least, selected = self._rules.min_side, self.found
        licenses = self._db.execute("SELECT DISTINCT license FROM offered").fetchall()
        allowed = [text for (text,) in licenses if self._rules.allowed(text)]
        sifted = (
            "SELECT *, CASE WHEN least <> largest THEN 'two_species' WHEN NOT list_contains(?, license) THEN 'license' "
            "WHEN NOT (? = 0 OR coalesce(width >= ? AND height >= ?, false)) THEN 'small' "
            "WHEN NOT regexp_full_match(lower(coalesce(extension, '')), '[a-z0-9]{1,8}') THEN 'extension' "
            "ELSE '' END AS why FROM offered"
        )
        values = [allowed, least, least, least]
        self._make("sifted", sifted, values)
        self._db.execute("DROP TABLE offered")
        for label, why, detail, n in self._db.execute(
            "SELECT label, why, CASE why WHEN 'license' THEN license WHEN 'extension' THEN coalesce(extension, '') "
            "ELSE '' END AS detail, count(*) FROM sifted WHERE why <> '' GROUP BY ALL ORDER BY ALL"
        ).fetchall():
            selected.refused[label, why, detail] = n
        self._make(
            "ranked",
            "SELECT * EXCLUDE (h, turn), "
            "row_number() OVER (PARTITION BY label ORDER BY turn, h, photo_id) AS rank FROM ("
            "SELECT *, row_number() OVER (PARTITION BY label, observation_uuid ORDER BY h, photo_id) AS turn FROM ("
            "SELECT label, photo_id, extension, license, coalesce(width, 0) AS width, coalesce(height, 0) AS height, "
            "observation_uuid, taxon_id, observer_id, md5(?::VARCHAR || ':' || photo_id::VARCHAR) AS h "
            "FROM sifted WHERE why = ''))", [self._rules.seed],
        )  # fmt: skip
        self._db.execute("DROP TABLE sifted")
        selected.offered = dict(self._db.execute("SELECT label, count(*) FROM ranked GROUP BY label").fetchall())

    def _read(self, name: str) -> str:
        return self._tables[name].sql(rejects=f"bad_{name}")

    def _count_bad(self, name: str) -> None:
        """Lines that are no rows are counted; too many of them are another table."""
        n = self._number(f"SELECT count(DISTINCT line) FROM bad_{name}")
        if n:
            self.found.bad_lines[name] = n
        if n >= MOST_BAD:
            first = self._db.execute(f"SELECT line, error_message FROM bad_{name} ORDER BY line LIMIT 1").fetchone()
            raise SourceError(
                f"{self._tables[name].path.name} has {n:,} or more lines that are no rows; the first, line "
                f"{first[0] if first else '?'}: {_line(first[1] if first else '')}: a column has changed; get the "
                "table again, or a newer birdmml"
            )

    def _make(self, name: str, query: str, values: Iterable[Any] = ()) -> None:
        self._db.execute(f"CREATE OR REPLACE TABLE {name} AS {query}", list(values))

    def _number(self, query: str) -> int:
        row = self._db.execute(query).fetchone()
        return int(row[0]) if row else 0


def _standing(w: WantedSpecies, active: Mapping[int, bool], named: Mapping[int, list[int]]) -> tuple[str, list[int]]:
    """How the table knows a species, and the taxon ids to take.

    A name alone does not bring back what was split: only ids that the species list gives are followed, and the name
    where the list has no id at all.
    """
    if not w.ids:
        first = named[min(named)] if named else []
        return ("" if len(first) == 1 else "ambiguous" if first else "unknown"), first if len(first) == 1 else []
    if active.get(w.ids[0]):
        return "", [w.ids[0]]
    if former := [i for i in w.ids[1:] if active.get(i)]:
        return "former", former
    return ("inactive" if any(i in active for i in w.ids) else "unknown"), []


def _clear(folder: Path) -> None:
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("join.duckdb*"):
        path.unlink()
    shutil.rmtree(folder / "join.tmp", ignore_errors=True)


def _plain(text: str) -> str:
    """A name on one line, without control and direction marks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:1000]).split())[:200]


def _line(e: object) -> str:
    return " ".join(str(e).split())[:300]


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as e:
        raise UsageError("--source inat-xc joins tables with DuckDB: pip install 'birdmml[raw]'") from e
    return duckdb


# ---- Where the iNaturalist tables come from: a folder of the user's, or the bucket, downloaded so that it can go on.


def tables_of(settings: RawSettings, folder: Path, agent: str, progress: Progress) -> dict[str, InatTable]:
    """The four tables, checked by their headers. Raises SourceError for one that cannot be had."""
    if not settings.is_url:
        return open_folder(Path(settings.inat).expanduser())
    base, to = settings.inat.rstrip("/"), folder / "tables"

    def heard(key: str, done: int, total: int | None) -> None:
        progress(f"download {key}", done, total or done)

    politeness = Politeness(
        agent,
        named=[base],
        allow_private=settings.allow_private,
        back_off_s=settings.back_off_s,
        timeout_s=settings.timeout_s,
    )
    with Ledger(folder / "tables.sqlite") as ledger, Fetcher(ledger, politeness) as fetcher:
        ledger.retry_failed()
        for name in TABLES:
            key = f"{name}.csv.gz"
            outcome = fetcher.fetch(WantedFile(key, f"{base}/{key}"), to / key, heard)
            if outcome.state != "done":
                raise SourceError(
                    f"{base}/{key} cannot be had ({outcome.reason or outcome.state}): check --inat, or try "
                    "again later; what has come is kept"
                )
    return open_folder(to)
