"""One recording as Xeno-canto's API words it: read, cleaned, and its licence, author and addresses checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from birdmml.licenses import normalise
from birdmml.schema import Credit
from birdmml.sources._names import plain

RESTRICTED = "restricted_species"
_LENGTH = re.compile(r"(?:(\d{1,3}):)?(\d{1,4}):(\d{1,2}(?:\.\d{1,3})?)")
_EXTENSION = re.compile(r"\.(mp3|wav|flac|ogg|m4a|opus)")


class Unfit(Exception):
    """A record that cannot even be read: where, a slug, and words."""

    def __init__(self, where: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.where, self.reason, self.detail = where, reason, detail


@dataclass(frozen=True)
class Found:
    """One recording. `problem` (a slug and words) says why it cannot be used whatever is wished.

    `file` is where its bytes lie, `seconds` its length, `quality` A to E or "", `also` who else is heard.
    """

    number: int
    species: str
    english: str
    credit: Credit
    file: str
    extension: str
    quality: str
    seconds: float
    types: tuple[str, ...]
    also: tuple[str, ...]
    problem: tuple[str, str] | None = None


def read_record(value: dict[str, Any], base: str) -> Found:
    """A recording from its JSON; `base` is the service's address. Raises Unfit."""
    text = str(value.get("id")) if isinstance(value.get("id"), str | int) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 12) or isinstance(value.get("id"), bool):
        raise Unfit("xeno-canto", "bad_record", f"a recording whose id is {value.get('id')!r:.40}")
    number = int(text)
    file = _address(value.get("file"), base)
    original = plain(value.get("lic"))
    page = _address(value.get("url"), "https:") or f"https://xeno-canto.org/{number}"
    credit = Credit(normalise(original), original, plain(value.get("rec"), 200), page)
    quality = plain(value.get("q"), 20).upper()
    suffix = _EXTENSION.fullmatch(_suffix(plain(value.get("file-name"))))
    seconds = _seconds(value.get("length"))
    return Found(
        number=number,
        species=f"{plain(value.get('gen'), 100)} {plain(value.get('sp'), 100)}".strip(),
        english=plain(value.get("en"), 200),
        credit=credit,
        file=file,
        extension=suffix[0] if suffix else "",
        quality=quality if quality in tuple("ABCDE") else "",
        seconds=seconds or 0.0,
        types=tuple(t for t in (p.strip() for p in plain(value.get("type"), 300).split(",")) if t),
        also=_texts(value.get("also")),
        problem=_problem(value, file, credit, seconds),
    )


def _problem(
    value: dict[str, Any], file: str, credit: Credit, seconds: float | None
) -> tuple[str, str] | None:
    address = value.get("file")
    if address is None or address == "" or (isinstance(address, str) and RESTRICTED in address.casefold()):
        return "restricted", "its file is withheld, as for species that must be protected"
    if not file:
        return "bad_record", f"its file is {address!r:.80}, no web address"
    if not credit.author:
        return "no_author", "it names no recordist"
    if seconds is None:
        return "bad_record", f"its length is {value.get('length')!r:.40}, not m:ss"
    return None


def _address(value: Any, base: str) -> str:
    """A web address, one without a scheme read with the service's own; "" for anything else."""
    if not isinstance(value, str) or not value.isprintable() or " " in value or len(value) > 2000:
        return ""
    if value.startswith("//"):
        value = f"{urlsplit(base).scheme}:{value}"
    try:
        parts = urlsplit(value)
        return value if parts.scheme in ("http", "https") and parts.hostname and not parts.username else ""
    except ValueError:
        return ""


def _seconds(value: Any) -> float | None:
    """The seconds of "m:ss" or "h:mm:ss"; None for anything else."""
    match = _LENGTH.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match or not value.isascii() or float(match[3]) >= 60 or (match[1] and int(match[2]) >= 60):
        return None
    return 3600 * int(match[1] or 0) + 60 * int(match[2]) + float(match[3])


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower() if "." in name else ""


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(t for t in (plain(v, 100) for v in value[:200]) if t)
