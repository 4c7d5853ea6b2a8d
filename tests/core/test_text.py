"""Texts of strangers: no cell starts a formula, and no character that nobody sees gets through."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmml.core.text import LONGEST, csv_cell, plain, printable
from birdmml.leaderboard.submission.form import bad_text

FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "＝1",
    "＋1+1",
    "－1+1",
    "＠A1",
    "-cmd|' /C x'!A0",
]
HIDDEN = ["\x00=1", "\u200b=1", "\u200d\u2060@A1", "\ufeff=1", "\u202e=1", "\u00ad-A1", "\x1b=1", "\u00a0=1"]
UNSEEN = [
    *(chr(c) for c in (*range(0x20), *range(0x7F, 0xA0))),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff",
    *("\ud800", "\udcff", "\udfff"),
]


@given(st.text(max_size=40))
def test_no_cell_starts_a_formula_and_none_loses_its_words(content: str) -> None:
    cell = csv_cell(content, LONGEST)
    number = re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", cell)
    assert number or cell.lstrip()[:1] not in tuple("=+-@\t\r＝＋－＠")
    assert cell.removeprefix("'") == plain(content).removeprefix("'") or cell == plain(content)


@pytest.mark.parametrize("content", ["-1", "-0.5", "12", "-1e-3", "3.25E+7"])
def test_a_number_stays_a_number(content: str) -> None:
    assert csv_cell(content, LONGEST) == content
    assert float(csv_cell(float(content))) == float(content)


@pytest.mark.parametrize("longest", [None, LONGEST])
@pytest.mark.parametrize("content", FORMULAS + HIDDEN)
def test_a_formula_becomes_text_in_every_table(content: str, longest: int | None) -> None:
    assert csv_cell(content, longest).startswith("'")


@given(st.text(max_size=40), st.sampled_from([None, LONGEST]))
def test_a_cell_is_one_line_of_csv_that_can_be_written(content: str, longest: int | None) -> None:
    cell = csv_cell(content, longest)
    assert printable(cell) == cell
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(["x", cell])
    assert out.getvalue().count("\n") == 1
    out.getvalue().encode()


def test_a_cell_keeps_all_of_a_name_and_writes_out_bytes_that_are_no_utf_8() -> None:
    assert csv_cell("a/" + "b" * 900) == "a/" + "b" * 900
    assert csv_cell("caf\udce9.jpg") == "caf\\udce9.jpg"
    assert csv_cell("Phylloscopus  bonelli, f. l.") == "Phylloscopus  bonelli, f. l."


@pytest.mark.parametrize("character", UNSEEN)
def test_pages_and_submissions_agree_on_what_nobody_sees(character: str) -> None:
    assert printable(f"a{character}b") == "a b"
    assert bad_text(f"a{character}b") == f"holds the character U+{ord(character):04X}"


@given(st.characters(exclude_categories=("Cc", "Cf", "Cn", "Cs", "Zl", "Zp")))
def test_what_is_seen_stays(character: str) -> None:
    assert printable(character) == character
    assert bad_text(character) == ""
    assert unicodedata.category(character) not in ("Cc", "Cs")
