"""CSV of strangers as a stream: what is legal comes through, what is broken is told by its line."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import SourceError, UsageError
from birdmml.sources.csv_stream import column_names, read_records
from birdmml.sources.folder import read_table


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def records(path: Path, encoding: str = "utf-8") -> list[tuple[int, list[str], bool]]:
    return [(r.line, list(r.values.values()), bool(r.problem)) for r in read_records(path, encoding)]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8))
def test_what_a_csv_writer_writes_comes_back_with_its_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    lines = []
    for row in [("a", "b", "c"), *rows]:
        # A lone return ends a physical line, too.
        lines.append(out.getvalue().replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1)
        writer.writerow(row)
    path = table(tmp_path_factory.mktemp("csv"), out.getvalue().encode())
    expected = [
        (line, [c.strip() for c in row], False)
        for line, row in zip(lines[1:], rows, strict=True)
        if any(c.strip() for c in row)
    ]
    assert records(path) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_delimiters_and_marks(tmp_path: Path, end: str, delimiter: str, encoding: str) -> None:
    text = end.join(("Name,Text", 'José,"two', 'lines"', "", "x, y ")).replace(",", delimiter)
    path = table(tmp_path, text.encode(encoding))
    assert column_names(path) == ("name", "text")
    first, last = records(path)
    assert first == (2, ["José", f"two{end}lines"], False)
    assert last == (5, ["x", "y"], False)


def test_a_quote_that_never_closes_costs_its_own_row_only(tmp_path: Path) -> None:
    rows = ["a,b", "1,one", '2,"two', "3,three", '4,"four"', "5,five"]
    path = table(tmp_path, "\n".join(rows))
    assert [(line, values, bad) for line, values, bad in records(path) if not bad] == [
        (2, ["1", "one"], False),
        (4, ["3", "three"], False),
        (5, ["4", "four"], False),
        (6, ["5", "five"], False),
    ]
    assert [line for line, _, bad in records(path) if bad] == [3]


def test_ragged_rows_and_nul_bytes_are_problems_of_their_row(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b\n1,x\n2\n3,x,y\n4,\0\n5,x\n")
    problems = {r.line: r.problem for r in read_records(path) if r.problem}
    assert problems.keys() == {3, 4, 5}
    assert problems[3].startswith("1 values under 2 columns")
    assert "NUL" in problems[5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a,B ,b\n", "line 1: a column stands twice in the header (b)"),
        (b"a,b\0\n", "line 1: a NUL byte"),
        (b'a,"b\n1,2\n', "line 1: not a CSV table"),
        (b"a,b\n1,2\n3,\xe9\n", "line 3: byte 0xe9 is not utf-8"),
        (b"a,b\n" + b"1,x\n" * 50_000 + b"2,\xff\n", "line 50002: byte 0xff is not utf-8"),
        (b"a,b\n1,2\n3,caf\xc3", "line 3: byte 0xc3 is not utf-8"),
        (b"a,b\n1," + b"x" * (1 << 20), "line 2: a line of more than 1,048,576 characters"),
        (b"\0" * (1 << 21), "line 1: a line of more than 1,048,576 characters"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, text: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=".") as caught:
        list(read_records(table(tmp_path, text)))
    assert words in str(caught.value)


def test_a_file_that_is_mostly_broken_is_given_up_with_the_place(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b\n" + "1,x\n" * 100 + "1\n" * 2000)
    with pytest.raises(SourceError, match=r"line 1102: 1,001 of 1,101 rows so far are broken"):
        list(read_records(path))
    path = table(tmp_path, "a,b\n" + ("1,x\n" * 20 + "1\n") * 1200)
    assert sum(bad for _, _, bad in records(path)) == 1200


def test_missing_files_and_unknown_encodings(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        column_names(tmp_path / "no.csv")
    with pytest.raises(SourceError, match="cannot be read"):
        column_names(tmp_path)
    for name in ("utf-99", "hex", "a\0b", ""):
        with pytest.raises(UsageError, match="is no encoding"):
            column_names(table(tmp_path, "a,b\n"), name)


def test_the_record_limit_holds_whatever_the_csv_module_allows(tmp_path: Path) -> None:
    before = csv.field_size_limit(1 << 30)
    try:
        path = table(tmp_path, 'a,b\n1,"x\n' + "2,y\n" * (1 << 19))
        rows = read_records(path)
        assert next(rows).problem.startswith("not a CSV table (a row of more than 1,048,576 characters)")
        assert next(rows).values == {"a": "2", "b": "y"}
    finally:
        csv.field_size_limit(before)


def test_memory_stays_flat(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b\n" + ("1," + "x" * 1000 + "\n") * 20_000)
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20 < path.stat().st_size


def test_an_empty_file_has_no_columns_and_no_records(tmp_path: Path) -> None:
    path = table(tmp_path, "")
    assert column_names(path) == ()
    assert records(path) == []
    assert column_names(table(tmp_path, ",a\n")) == ("unnamed_0", "a")


def test_a_manifest_is_strict_where_the_stream_goes_on(tmp_path: Path) -> None:
    good = "Species,File\nx,a.jpg\n"
    assert list(read_table(table(tmp_path, good))) == [(2, {"species": "x", "path": "a.jpg"})]
    for text, words in {
        good + "y\n": "line 3: 1 values under 2 columns",
        good + 'y,"b\n': "line 3: not a CSV table",
        "file,path,species\n": "a column stands twice",
        "species,path\n": "lists nothing",
        "species,name\nx,y\n": "line 2: no column path",
    }.items():
        with pytest.raises(SourceError, match=words):
            list(read_table(table(tmp_path, text)))
