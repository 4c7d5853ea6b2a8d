"""The four monthly tables of iNaturalist Open Data: found or downloaded, and checked by the names in their headers.

Tab-separated with a header and without quoting: a quote is a letter like any other. Columns are found by name, so an
added one does no harm, and one that is lacking is an error that says what was found.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdmml import files
from birdmml.errors import SourceError

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
class Table:
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


def open_folder(folder: Path) -> dict[str, Table]:
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


def read_header(name: str, path: Path) -> Table:
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
    return Table(name, path, columns, "\\r\\n" if line.endswith(b"\r\n") else "\\n")


def identity(table: Table) -> dict[str, int | str]:
    """What the manifest says of a table: its size in bytes and its SHA-256."""
    return {"bytes": table.path.stat().st_size, "sha256": files.sha256_file(table.path)}


def _first(table: str) -> str:
    return file_names(table)[0]


def _shown(columns: tuple[str, ...]) -> str:
    text = ", ".join("".join(c if c.isprintable() else "?" for c in name[:40]) for name in columns[:20])
    return text[:400] or "nothing"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
