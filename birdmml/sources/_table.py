"""Read a CSV or JSONL manifest of strangers: strict about its form, exact about where it breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from birdmml.errors import SourceError
from birdmml.sources._stream import codec, column_names, not_encoded, read_records

MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl", "metadata.csv", "metadata.jsonl")
REQUIRED = ("species", "path")
MAX_BYTES = 1 << 30

# What people call the columns; the first spelling is ours.
_ALIASES = {"licence": "license", "file": "path", "file_name": "path", "filename": "path", "text": "caption"}


def read_table(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as (line number, column -> text); column names in lower case, unknown columns left in.

    Raises SourceError for a file that is not text in `encoding`, is no table, or lacks a required column.
    """
    json_lines = path.suffix.casefold() in (".jsonl", ".ndjson")
    return _checked(path, _json_lines(path, encoding) if json_lines else _csv(path, encoding))


def _checked(path: Path, rows: Iterator[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, dict[str, str]]]:
    empty = True
    for line, row in rows:
        empty = False
        missing = [c for c in REQUIRED if c not in row]
        if missing:
            raise SourceError(
                f"{path}, line {line}: no column {' and '.join(missing)}; found {', '.join(row) or 'none'}: "
                f"a manifest needs {', '.join(REQUIRED)}"
            )
        yield line, row
    if empty:
        raise SourceError(
            f"{path} lists nothing: it needs a header with {', '.join(REQUIRED)} and one row a file"
        )


def _text(path: Path, encoding: str) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path} is larger than {MAX_BYTES:,} bytes: split it into several builds")
        data = path.read_bytes()
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e.strerror}): check the file and its permissions") from e
    name = codec(data[:4], encoding, path)
    try:
        return data.decode(name)
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise not_encoded(path, line, data[e.start], encoding) from e


def _csv(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    names = [_name(n) for n in column_names(path, encoding)]
    if len(set(names)) != len(names):
        raise SourceError(f"{path}: a column stands twice in the header ({', '.join(names)}): rename one")
    for record in read_records(path, encoding):
        if record.problem:
            raise SourceError(f"{path}, line {record.line}: {record.problem}")
        yield record.line, dict(zip(names, record.values.values(), strict=True))


def _json_lines(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(_text(path, encoding).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise SourceError(f"{path}, line {number}: not JSON ({e}): one object a line is needed") from e
        if not isinstance(value, dict):
            raise SourceError(f"{path}, line {number}: not an object: one object a line is needed")
        yield number, {_name(str(k)): "" if v is None else str(v).strip() for k, v in value.items()}


def _name(name: str) -> str:
    key = name.strip().casefold()
    return _ALIASES.get(key, key)
