"""The release's table, `bird-mml.csv` as it is in the wild: one row after another, each sound or rejected.

Memory does not grow with the file but for what tells a row listed twice, about 130 bytes a row.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path

from birdmml.core import species as core_species
from birdmml.core.licenses import UNKNOWN_LICENSE, normalise
from birdmml.core.species_list import SHIPPED
from birdmml.errors import SourceError, UnknownName
from birdmml.schema import Credit, Reject
from birdmml.sources.common import scientific_name
from birdmml.sources.csv_stream import CsvRecord, column_names, read_records

PREFIX = "bird-mml"
# photos/199840.0/770647.JPG                                iNaturalist taxon and photo
# audio/Haemorhous_mexicanus/House_Finch_323531_clip1.wav   species, Xeno-canto number, clip
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
    parts[:-1] = [_full_folder(p) for p in parts[:-1]]
    return root + "/".join(parts if root else _without_prefix(parts))


def photo_name(path: str) -> PhotoName:
    """The ids in a photo's path."""
    parts = path.split("/")
    stem = _stem(parts[-1])
    taxon = _full_folder(parts[-2]) if len(parts) > 1 else ""
    return PhotoName(stem if _is_id(stem) else "", int(taxon) if _is_id(taxon) else None)


def sound_name(path: str) -> SoundName:
    """The names and numbers in a clip's path."""
    parts = path.split("/")
    stem = _stem(parts[-1])
    folder = parts[-2] if len(parts) > 1 else ""
    if match := _SOUND.fullmatch(stem):
        clip = int(match[3]) if match[3] else None
        return SoundName(folder, match[1] or "", match[2], clip, f"XC{match[2]}")
    cut = _CLIP.search(stem)
    name = _CLIP.sub("", stem)
    return SoundName(folder, name, "", int(cut[1]) if cut else None, member_key("/".join([*parts[:-1], name])))


def _parts(path: str) -> list[str]:
    return [p for p in path.split("/") if p not in ("", ".")]


def _without_prefix(parts: list[str]) -> list[str]:
    while len(parts) > 1 and parts[0].casefold() == PREFIX:
        parts = parts[1:]
    return parts


def _full_folder(folder: str) -> str:
    match = _FLOAT.fullmatch(folder)
    return match[1] if match else folder


def _stem(name: str) -> str:
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 12


REQUIRED = ("scientific_name", "photo_file", "audio_file")
CAPTION = "combined_caption"
OBSERVATION = ("observation_uuid", "observation_id", "inat_observation_uuid", "inat_observation_id")
ATTRIBUTION = (
    "inat_observer_login", "inat_observer_name", "license_image", "audio_recorder", "license_audio_xc", "audio_id",
    "audio_url", "wikipedia_article_url", "wikipedia_history_url", "wikipedia_license_text", "wikipedia_license_url",
)  # fmt: skip
_license = lru_cache(maxsize=256)(normalise)  # Three a row, and a table has a dozen different ones.
# What pandas and its kin leave where there was no text.
_NO_TEXT = frozenset(("", "nan", "none", "null"))
_SAMPLE = 200


@dataclass(frozen=True)
class ReleaseRow:
    """One row of the table that names a photo, a clip, a known species and a text.

    `number` counts the table's rows from 0, rejected ones included; `line` is where the row begins. `photo` and
    `audio` are members' paths without `bird-mml/`, otherwise as written. `observation` and `recording` are what
    must not be split. Ids that the table does not give are "" (`taxon_id`, `clip`: None). `extra` holds the
    columns that have no meaning here. `warnings` are slugs: the names and ids in the paths disagree with the species.
    """

    number: int
    line: int
    species: str
    photo: str
    audio: str
    caption: str
    observation: str
    recording: str
    photo_id: str
    taxon_id: int | None
    xc_id: str
    clip: int | None
    image_credit: Credit
    audio_credit: Credit
    caption_credit: Credit
    extra: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def photo_key(self) -> str:
        """Where the photo meets a member of the archive."""
        return member_key(self.photo)

    @property
    def audio_key(self) -> str:
        """Where the clip meets a member of the archive."""
        return member_key(self.audio)


def text_columns(path: Path, encoding: str = "utf-8") -> tuple[str, ...]:
    """The columns that hold sentences: four words and more in most of the first rows that fill them."""
    names = column_names(path, encoding)
    filled, long = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for record in islice(read_records(path, encoding), _SAMPLE):
        for name, value in record.values.items():
            filled[name] += bool(value)
            long[name] += len(value.split(maxsplit=3)) > 3
    return tuple(n for n in names if 2 * long[n] > filled[n])


def read(path: Path, caption: str = CAPTION, encoding: str = "utf-8") -> Iterator[ReleaseRow | Reject]:
    """The rows in file order, each a Row or a Reject whose detail names its line.

    Reasons of rejects: bad_row (no CSV there), no_path, path_outside, unknown_species, no_caption, listed_twice
    (the same photo with the same clip). Raises, before the first row, SourceError for a file that is not the
    release's table and UnknownName for a caption column that is not in it; SourceError later for bytes that are
    not `encoding`, and where too much of the file is no CSV.
    """
    names = column_names(path, encoding)
    if missing := [c for c in REQUIRED if c not in names]:
        raise SourceError(
            f"{path}, line 1: no column {' and '.join(missing)}; found {_shown(names)}: "
            "this is not the release's bird-mml.csv"
        )
    chosen = caption.strip().casefold()
    if chosen not in names:
        texts = text_columns(path, encoding)
        others = [c for c in names if c not in REQUIRED]
        hint = f"{path.name} has captions in: {_shown(texts)}" if texts else f"{path.name} has no column of text"
        raise UnknownName("caption column", caption, texts or others, hint=hint)
    return _rows(path, chosen, encoding)


def _rows(path: Path, caption: str, encoding: str) -> Iterator[ReleaseRow | Reject]:
    seen: dict[bytes, int] = {}
    count = 0
    for record in read_records(path, encoding):
        where = f"{path.name}, line {record.line}"
        row = _row(count, record, caption)
        count += 1
        if isinstance(row, ReleaseRow):
            # A digest of 16 bytes stands for the two paths, which are ten times as long.
            pair = hashlib.blake2b(f"{row.photo_key}\0{row.audio_key}".encode(), digest_size=16).digest()
            first = seen.setdefault(pair, row.line)
            detail = f"line {row.line}: {row.photo} with {row.audio} stands in line {first} already"
            yield row if first == row.line else Reject(where, "listed_twice", detail)
        else:
            reason, detail = row
            yield Reject(where, reason, f"line {record.line}: {detail}")
    if not count:
        raise SourceError(f"{path} has a header and no rows: download it again")


def _row(number: int, record: CsvRecord, caption: str) -> ReleaseRow | tuple[str, str]:
    """A Row, or the reason and the detail of why there is none."""
    if record.problem:
        return "bad_row", record.problem
    values = dict(record.values)
    name, photo, audio = (values.pop(c) for c in REQUIRED)
    if not photo or not audio:
        return "no_path", f"{'audio_file' if photo else 'photo_file'} is empty"
    photo_path, audio_path = member_path(photo), member_path(audio)
    if photo_path is None or audio_path is None:
        column, value = ("photo_file", photo) if photo_path is None else ("audio_file", audio)
        return "path_outside", f"{column} {value[:200]!r} is absolute or climbs out of the release"
    species, problem = scientific_name(SHIPPED, name)
    if problem:
        return "unknown_species", problem
    if record.values[caption].casefold() in _NO_TEXT:
        return "no_caption", f"{caption} is empty"
    values.pop(caption, None)
    seen, heard = photo_name(photo_path), sound_name(audio_path)
    stated = {c: values.pop(c, "") for c in (*ATTRIBUTION, *OBSERVATION)}
    event = next((stated[c] for c in OBSERVATION if stated[c]), "").removesuffix(".0")
    return ReleaseRow(
        number=number,
        line=record.line,
        species=species,
        photo=photo_path,
        audio=audio_path,
        caption=record.values[caption],
        observation=event or f"photo-{seen.photo_id or member_key(photo_path)}",
        recording=heard.recording,
        photo_id=seen.photo_id,
        taxon_id=seen.taxon_id,
        xc_id=heard.xc_id,
        clip=heard.clip,
        image_credit=_image_credit(stated, seen),
        audio_credit=_audio_credit(stated, heard),
        caption_credit=_caption_credit(stated),
        extra=values,
        warnings=tuple(_warnings(species, seen, heard)),
    )


def _image_credit(stated: Mapping[str, str], photo: PhotoName) -> Credit:
    original, login, name = stated["license_image"], stated["inat_observer_login"], stated["inat_observer_name"]
    author = f"{name} ({login})" if name and login else name or login
    url = f"https://www.inaturalist.org/photos/{photo.photo_id}" if photo.photo_id else ""
    return Credit(_license(original), original, author, url)


def _audio_credit(stated: Mapping[str, str], sound: SoundName) -> Credit:
    original, number = stated["license_audio_xc"], sound.xc_id or stated["audio_id"].removesuffix(".0")
    number = number.upper().removeprefix("XC")
    derived = f"https://xeno-canto.org/{number}" if number.isascii() and number.isdecimal() else ""
    return Credit(_license(original), original, stated["audio_recorder"], _web(stated["audio_url"]) or derived)


def _caption_credit(stated: Mapping[str, str]) -> Credit:
    """Wikipedia's authors are its page history, so that is who is named."""
    text, link = stated["wikipedia_license_text"], stated["wikipedia_license_url"]
    spdx = _license(link)
    history = _web(stated["wikipedia_history_url"])
    article = _web(stated["wikipedia_article_url"])
    author = f"Wikipedia contributors ({history})" if history else "Wikipedia contributors" if article else ""
    return Credit(_license(text) if spdx == UNKNOWN_LICENSE else spdx, link or text, author, article)


def _web(url: str) -> str:
    """An http(s) address, also one that leaves its scheme out; "" for anything else."""
    url = f"https:{url}" if url.startswith("//") else url
    return url if url.casefold().startswith(("https://", "http://")) else ""


def _warnings(species: str, photo: PhotoName, sound: SoundName) -> Iterator[str]:
    """How the paths disagree with the species of the row, or name what the taxonomy does not know."""
    taxon = "" if photo.taxon_id is None else str(photo.taxon_id)
    names = {"taxon_folder": _named(taxon), "audio_folder": _named(sound.folder)}
    for where, name in names.items():
        if name != species:
            yield f"{where}_unknown" if name is None else f"{where}_disagrees"
    if _named(sound.common_name) not in (None, species):
        yield "audio_name_disagrees"


@lru_cache(maxsize=4096)
def _named(text: str) -> str | None:
    return _names().get(core_species.normalise(text))


@cache
def _names() -> dict[str, str]:
    """Every name and taxon id, normalised, to the scientific name; cheaper than asking for the nearest."""
    scientific: dict[str, str] = {}
    for species in core_species.all_species():
        scientific |= {core_species.normalise(n): species.scientific_name for n in species.names()}
        ids = (species.inat_taxon_id, *species.former_inat_ids)
        scientific |= {str(taxon): species.scientific_name for taxon in ids}
    return scientific


def _shown(names: Sequence[str]) -> str:
    text = ", ".join(n[:40] for n in names[:12]) or "none"
    return text + (f" and {len(names) - 12} more" if len(names) > 12 else "")
