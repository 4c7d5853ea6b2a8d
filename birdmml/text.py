"""Texts of strangers, made harmless: what nobody sees goes, and no cell of a table starts a formula."""

from __future__ import annotations

import math
import re

LONGEST = 160  # Characters of a text that a page can hold.
# Controls, marks that reorder the text around them, lone surrogates and non-characters.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
# What spreadsheets take for the start of a formula, full-width forms and what blanks or no width precede included.
_FORMULA = re.compile("[\\s\u00ad\u200b-\u200d\u2060-\u2064]*[=+\\-@＝＋－＠]")


def printable(text: str) -> str:
    """`text` with each character that readers obey or refuse, unseen, replaced by a space."""
    return UNSEEN.sub(" ", text)


def plain(text: object, longest: int = LONGEST) -> str:
    """`text` on one line without unseen characters; what is longer is cut, and says so."""
    content = str(text)
    line = " ".join(printable(content[: longest + 1]).split())
    if len(content) <= longest:
        return line
    return f"{line[:longest].rstrip()}… (cut, {len(content):,} characters)"


def csv_cell(value: object, longest: int | None = None) -> str:
    """A cell that no spreadsheet takes for a formula, and no terminal for a command.

    Numbers, negative ones too, stay as they are; of a text at most `longest` characters do, on one line. Half
    characters, which are bytes of a file's name, are written out where nothing is cut.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else ""
    content = str(value)
    if longest is None:
        text = printable(content.encode("utf-8", "backslashreplace").decode())
    else:
        text = plain(content, longest)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
