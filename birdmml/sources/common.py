"""What sources of other people's data share: names of species, clean texts, web addresses, room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from birdmml.core import files
from birdmml.core.pool import Progress
from birdmml.core.species_list import SpeciesList
from birdmml.errors import UnknownName


# Tables name the same few species over and over, and a name that is none costs a search for its likes.
@lru_cache(maxsize=4096)
def scientific_name(species_list: SpeciesList, name: str) -> tuple[str, str]:
    """The scientific name and "", or "" and what is wrong."""
    try:
        return species_list.taxonomy.resolve(name).scientific_name, ""
    except UnknownName as e:
        return "", str(e)


def one_line(text: str) -> str:
    """A text on one line, without control and direction marks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def web_address(value: object, base: str = "") -> str:
    """A web address, one without a scheme read with that of `base`; "" for anything else.

    One with a user's name in it is none: whoever follows it would log in somewhere.
    """
    if not isinstance(value, str) or not value.isprintable() or " " in value or len(value) > 2000:
        return ""
    if base and value.startswith("//"):
        value = f"{urlsplit(base).scheme}:{value}"
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return value if parts.scheme in ("http", "https") and parts.hostname and not parts.username else ""


def file_stamp(path: Path) -> str:
    """Size and time of a file: equal ones are taken for the same bytes."""
    info = path.stat()
    return f"{info.st_size}:{info.st_mtime_ns}"


def downloading(progress: Progress) -> Callable[[str, int, int | None], None]:
    """What hears of a download, so that `progress` does; a file of unknown size is as long as what has come of it."""
    return lambda key, done, total: progress(f"download {key}", done, total or done)


def disk_lines(out: Path, most: int, words: str) -> Iterator[str]:
    """For a plan: `most` bytes that are needed at most, and whether the disk of `out` has them."""
    out = out.expanduser().resolve()
    # What will be made is not there yet: its nearest folder that exists says which disk it is.
    place = next(p for p in (out, *out.parents) if p.exists())
    free = shutil.disk_usage(place).free
    yield f"disk    {words} {files.human_bytes(most)} needed at {place}, {files.human_bytes(free)} free"
    if free < most:
        yield "        that may not be enough: free some space, or name another --out"
