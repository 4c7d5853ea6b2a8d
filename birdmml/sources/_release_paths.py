"""What the release's paths say: the member they name, and the ids in it.

photos/199840.0/770647.JPG                                iNaturalist taxon and photo
audio/Haemorhous_mexicanus/House_Finch_323531_clip1.wav   species, Xeno-canto number, clip
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

PREFIX = "bird-mml"

_FLOAT = re.compile(r"([0-9]+)\.0+")
_DRIVE = re.compile(r"[A-Za-z]:")
_SOUND = re.compile(r"(?:(.*)_)?(?:XC)?([0-9]{3,12})(?:_clip([0-9]{1,6}))?", re.IGNORECASE)
_CLIP = re.compile(r"_clip([0-9]{1,6})$", re.IGNORECASE)


@dataclass(frozen=True)
class PhotoName:
    """What a photo's path says; `photo_id` is "" and `taxon_id` None where it says nothing."""

    photo_id: str
    taxon_id: int | None


@dataclass(frozen=True)
class SoundName:
    """What a clip's path says. `recording` groups clips: `XC323531`, or the path without its clip number."""

    folder: str
    common_name: str
    xc_id: str
    clip: int | None
    recording: str


def member_path(path: str) -> str | None:
    """A path of the table as a member's: forward slashes, no `./`, no `bird-mml/`; spelled as it is otherwise.

    None for a path that is absolute (here or on Windows), climbs with `..`, or names nothing.
    """
    path = path.replace("\\", "/")
    parts = _parts(path)
    if path.startswith("/") or _DRIVE.match(path) or ".." in parts or not parts:
        return None
    return "/".join(_without_prefix(parts))


def member_key(path: str) -> str:
    """The key under which a path of the table and a member of an archive meet; idempotent.

    It unifies: the leading `bird-mml/` and `./`, `\\` and `/`, doubled and trailing slashes, folders that are
    numbers written as floats (`199840.0`, `199840`), letter case (`.JPG`, `.jpg`), and composed or decomposed
    accents. It does not unify `.jpg` with `.jpeg` or an absolute path with a relative one, nor resolve `..`.
    Two members with one key are for the caller to report: which one is meant cannot be known.
    """
    if path.isascii():
        path = path.lower()
    else:
        decomposed = unicodedata.normalize("NFD", path)
        path = unicodedata.normalize("NFD", decomposed.casefold())
    path = path.replace("\\", "/")
    root = "/" if path.startswith("/") else ""
    parts = _parts(path)
    parts[:-1] = [_whole(p) for p in parts[:-1]]
    return root + "/".join(parts if root else _without_prefix(parts))


def photo_name(path: str) -> PhotoName:
    """The ids in a photo's path."""
    parts = path.split("/")
    stem = _stem(parts[-1])
    taxon = _whole(parts[-2]) if len(parts) > 1 else ""
    return PhotoName(
        stem if _is_id(stem) else "",
        int(taxon) if _is_id(taxon) else None,
    )


def sound_name(path: str) -> SoundName:
    """The names and numbers in a clip's path."""
    parts = path.split("/")
    stem = _stem(parts[-1])
    folder = parts[-2] if len(parts) > 1 else ""
    if match := _SOUND.fullmatch(stem):
        clip = int(match[3]) if match[3] else None
        return SoundName(folder, match[1] or "", match[2], clip, f"XC{match[2]}")
    cut = _CLIP.search(stem)
    stem_alone = _CLIP.sub("", stem)
    return SoundName(
        folder, stem_alone, "", int(cut[1]) if cut else None, member_key("/".join([*parts[:-1], stem_alone]))
    )


def _parts(path: str) -> list[str]:
    return [p for p in path.split("/") if p not in ("", ".")]


def _without_prefix(parts: list[str]) -> list[str]:
    while len(parts) > 1 and parts[0].casefold() == PREFIX:
        parts = parts[1:]
    return parts


def _whole(folder: str) -> str:
    match = _FLOAT.fullmatch(folder)
    return match[1] if match else folder


def _stem(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12
