"""Text of strangers (names, captions, addresses) made harmless for Markdown, YAML and HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup

from birdmml import __version__
from birdmml.text import printable

TEMPLATES = Path(__file__).with_name("templates")

# How rows can be related across a split, as birdmml.build.leaking names it and in words.
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
