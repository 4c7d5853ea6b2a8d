"""Read a CSV or JSONL manifest of strangers: strict about its form, exact about where it breaks."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from birdmml.errors import SourceError, UsageError

MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl", "metadata.csv", "metadata.jsonl")
REQUIRED = ("species", "path")
MAX_BYTES = 1 << 30

# What people call the columns; the first spelling is ours.
_ALIASES = {"licence": "license", "file": "path", "file_name": "path", "filename": "path", "text": "caption"}


def read_table(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as (line number, column -> text); column names in lower case, unknown columns left in.

    Raises SourceError for a file that is not text in `encoding`, is no table, or lacks a required column.
    """
    text = _text(path, encoding)
    rows = _json_lines(path, text) if path.suffix.casefold() in (".jsonl", ".ndjson") else _csv(path, text)
    return _checked(path, rows)


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
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"  # Spreadsheets write it; the mark leaves no doubt.
    try:
        return data.decode("utf-8-sig" if encoding.replace("-", "").lower() == "utf8" else encoding)
    except LookupError as e:
        raise UsageError(f"--encoding {encoding!r} is no encoding: try utf-8 or latin-1") from e
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise SourceError(
            f"{path}, line {line}: byte 0x{data[e.start]:02x} is not {encoding}: save the file as UTF-8, "
            "or name its encoding (--encoding latin-1)"
        ) from e


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [_name(n) for n in next(reader, [])]
        if len(set(names)) != len(names):
            raise SourceError(f"{path}: a column stands twice in the header ({', '.join(names)}): rename one")
        for values in reader:
            if not any(v.strip() for v in values):
                continue
            if len(values) != len(names):
                raise SourceError(
                    f"{path}, line {reader.line_num}: {len(values)} values under {len(names)} columns: "
                    "quote fields that hold the delimiter"
                )
            yield reader.line_num, dict(zip(names, (v.strip() for v in values), strict=True))
    except csv.Error as e:
        raise SourceError(f"{path}, line {reader.line_num}: not a CSV table ({e}): check the quotes") from e


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
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
