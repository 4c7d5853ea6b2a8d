"""Texts of strangers, made harmless for tables, Markdown, HTML and file names, and cut to what a page holds."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup

from birdmml import __version__

LONGEST = 160  # Characters of a text that a page can hold.
MOST_FACTS, DEEPEST = 400, 12  # A stranger's settings may be nested and many; a page is neither.
# Controls, marks that reorder the text around them, lone surrogates and non-characters.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
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


TEMPLATES = Path(__file__).with_name("templates")

# How rows can be related across a split, as birdmml.dataset.leaks names it and in words.
RELATIONS = (
    ("recording", "the recording"),
    ("observation", "the observation"),
    ("near_duplicate", "photos that look the same"),
    ("image_bytes", "the same photo file"),
    ("audio_bytes", "the same sound file"),
    ("photographer", "the photographer"),
    ("recordist", "the recordist"),
)


def markdown(text: str) -> Markup:
    """Text as inert Markdown on one line: nothing in it becomes a link, a tag, a table cell or emphasis."""
    line = " ".join(printable(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|#~$!{}])", r"\\\1", line)
    # GitHub's flavour turns bare addresses into links.
    line = line.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")
    return Markup(line)  # noqa: S704  # escaped above


def web_address(text: str) -> str | None:
    """`text` if it is an absolute http or https address, else None: nothing else may become a link."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return None
    # urlsplit drops tabs and line ends in silence, browsers too: such an address is not what it seems.
    plain = text.isprintable() and not re.search(r"[\s\\]", text)
    return text if plain and host and parts.scheme in ("http", "https") else None


def templates(clean: Callable[[str], str], *folders: Path) -> jinja2.Environment:
    """The templates of `folders` and of this one, escaping on; plain strings that they print go through `clean`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        finalize=lambda v: clean(v) if isinstance(v, str) and not isinstance(v, Markup) else v,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = lambda n: f"{n:,}"
    environment.filters["percent"] = lambda x: f"{100 * x:.1f} %"
    return environment


def citation() -> str:
    """BibTeX of the software and of the paper that the method comes from."""
    text = templates(str).get_template("cite.md.j2").render(version=__version__)
    return text.replace("```bibtex\n", "").replace("```", "").strip()


def number(value: float) -> str:
    """A coordinate with two decimals at most: the same text everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"


def file_name(*parts: str, read: int = 2) -> str:
    """A name that every file system and address takes: the first `read` of `parts`, and a digest of them all."""
    content = "\0".join(parts).encode("utf-8", "surrogatepass")
    shown = "-".join(p[:60] for p in parts[:read]).lower()
    read_as = re.sub(r"[^a-z0-9]+", "-", shown).strip("-")[:60].strip("-")
    return f"{read_as or 'x'}-{hashlib.sha256(content).hexdigest()[:16]}"


def facts(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, words), at most MOST_FACTS; the last says that there are more."""
    leaves = list(islice(_leaves(value, "", 0), MOST_FACTS + 1))
    return leaves if len(leaves) <= MOST_FACTS else [*leaves[:MOST_FACTS], ("…", "more is in the submission")]


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value and depth < DEEPEST:
        for key in sorted(value, key=str):
            yield from _leaves(value[key], f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield plain(name), words(value)


def words(value: Any) -> str:
    """A JSON value as it is read: lists by commas, none as a dash."""
    if value is None or value == {} or value == [] or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and not any(isinstance(v, Mapping | list | tuple) for v in value):
        return plain(", ".join(str(v)[:LONGEST] for v in value[:LONGEST]))
    return plain(value)
