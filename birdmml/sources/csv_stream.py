"""CSV of strangers as a stream: one record after another, a broken one told by its line, in bounded memory."""

from __future__ import annotations

import codecs
import csv
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from birdmml.errors import SourceError, UsageError

MAX_RECORD = 1 << 20  # Characters; a caption is a thousandth of it.
MAX_BROKEN = 1000  # Broken records that are passed over before a tenth of the file must be sound.


@dataclass(frozen=True)
class CsvRecord:
    """One row: `line` is where it begins, `problem` says why there are no `values` (column -> stripped text)."""

    line: int
    values: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


def codec(start: bytes, encoding: str, path: Path) -> str:
    """The codec of a file that begins with `start`: a byte order mark leaves no doubt, else it is `encoding`.

    Raises UsageError for a name that is no text encoding.
    """
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    try:
        b"x".decode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError) as e:  # ValueError: a NUL in the name, codecs that always fail.
        raise UsageError(f"--encoding {encoding!r} is no encoding: try utf-8 or latin-1 for {path.name}") from e


def not_encoded(path: Path, line: int, byte: int, encoding: str) -> SourceError:
    """What to raise for a byte that `encoding` does not have."""
    return SourceError(
        f"{path}, line {line}: byte 0x{byte:02x} is not {encoding}: save the file as UTF-8, "
        "or name its encoding (--encoding latin-1)"
    )


def column_names(path: Path, encoding: str = "utf-8") -> tuple[str, ...]:
    """The header's names, stripped and in lower case, nameless columns as `unnamed_0`; empty for an empty file.

    Raises SourceError for a file that cannot be read and for a header that is none.
    """
    with _CsvLines(path, encoding) as lines:
        return _header(lines)[0]


def read_records(path: Path, encoding: str = "utf-8") -> Iterator[CsvRecord]:
    """The records below the header; blank ones are left out, quoted line breaks are part of their field.

    A record with a quote that never closes is given up at its first line, and the lines that it had swallowed
    are read again. Raises SourceError for what `column_names` does, for bytes that are not `encoding`, for a line
    of more than MAX_RECORD characters, and when more than MAX_BROKEN records and a tenth of all are broken.
    """
    with _CsvLines(path, encoding) as lines:
        names, delimiter = _header(lines)
        count = broken = 0
        for start, values, problem in _split(lines, delimiter):
            if not problem and not any(v.strip() for v in values):
                continue
            problem = problem or _misfit(values, names)
            count, broken = count + 1, broken + bool(problem)
            if broken > MAX_BROKEN and 10 * broken > count:
                raise SourceError(
                    f"{path}, line {start}: {broken:,} of {count:,} rows so far are broken, here: {problem}; "
                    "this is no CSV table, or a damaged one: get it again"
                )
            if problem:
                yield CsvRecord(start, problem=problem)
            else:
                yield CsvRecord(start, dict(zip(names, (v.strip() for v in values), strict=True)))


def _misfit(values: list[str], names: tuple[str, ...]) -> str:
    if any("\0" in v for v in values):
        return "a NUL byte, which no text has: the file is damaged there"
    if len(values) != len(names):
        return f"{len(values)} values under {len(names)} columns: quote fields that hold the delimiter"
    return ""


def _header(lines: _CsvLines) -> tuple[tuple[str, ...], str]:
    """The columns and the delimiter, which is the one that the header has most of."""
    # csv.Sniffer reads a sample and is led astray by commas in captions; a header has no captions.
    first = lines.peek()
    delimiter = max(",;\t", key=first.count)
    _, values, problem = next(_split(lines, delimiter), (1, [], ""))
    if problem or "\0" in "".join(values):
        raise SourceError(f"{lines.path}, line 1: {problem or 'a NUL byte'}: this is no CSV table")
    names = tuple(v.strip().casefold() or f"unnamed_{i}" for i, v in enumerate(values))
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise SourceError(f"{lines.path}, line 1: a column stands twice in the header ({', '.join(twice)}): rename one")
    return names, delimiter


def _split(lines: _CsvLines, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """First line, fields and problem of each record."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = lines.begin()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            lines.rewind()
            yield start, [], f"not a CSV table ({e}): check the quotes"
        else:
            yield start, values, ""


class _CsvLines:
    """Physical lines, counted; those of the record being read can be read again."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, encoding
        self.number = 0
        self._record: list[str] = []
        self._size = 0
        self._again: deque[str] = deque()
        try:
            with path.open("rb") as f:
                self.codec = codec(f.read(4), encoding, path)
            self._file = path.open(encoding=self.codec, newline="")
        except OSError as e:
            raise self._unreadable(e) from e

    def __enter__(self) -> _CsvLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self.number += 1
        self._size += len(line)
        self._record.append(line)
        if self._size > MAX_RECORD:
            raise csv.Error(f"a row of more than {MAX_RECORD:,} characters")
        return line

    def peek(self) -> str:
        """The next line, which stays the next."""
        if not self._again and (line := self._read()):
            self._again.append(line)
        return self._again[0] if self._again else ""

    def begin(self) -> int:
        """A new record: its first line's number."""
        self._record, self._size = [], 0
        return self.number + 1

    def rewind(self) -> None:
        """Give back all lines of the record but the first, so that one stray quote costs one row."""
        self.number -= len(self._record) - 1
        self._again.extendleft(reversed(self._record[1:]))

    def _read(self) -> str:
        try:
            line = self._file.readline(MAX_RECORD)
        except OSError as e:
            raise self._unreadable(e) from e
        except UnicodeError as e:
            raise self._undecodable() from e
        if len(line) >= MAX_RECORD:
            raise SourceError(
                f"{self.path}, line {self.number + 1}: a line of more than {MAX_RECORD:,} characters: "
                "this is no CSV table, or a damaged one: get it again"
            )
        return line

    def _unreadable(self, error: OSError) -> SourceError:
        return SourceError(f"{self.path} cannot be read ({error.strerror}): check the file and its permissions")

    def _undecodable(self) -> SourceError:
        """Read again to name the line: the text layer decodes ahead and does not tell."""
        decoder, line = codecs.getincrementaldecoder(self.codec)(), 1
        with self.path.open("rb") as f:
            while True:
                chunk = f.read(1 << 16)
                try:
                    line += decoder.decode(chunk, not chunk).count("\n")
                except UnicodeDecodeError as e:
                    line += e.object[: e.start].count(b"\n")
                    return not_encoded(self.path, line, e.object[e.start], self.encoding)
                if not chunk:
                    return SourceError(f"{self.path} is not {self.encoding}: save the file as UTF-8")
