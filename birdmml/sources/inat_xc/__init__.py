"""Raw sources for any species list: photos of iNaturalist, recordings of Xeno-canto, texts of Wikipedia.

The tables of iNaturalist Open Data are joined on this machine; Xeno-canto's API needs the user's key, which is read
from the environment (XENO_CANTO_KEY) and written nowhere. Whoever asks says who they are: --contact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birdmml.core import files
from birdmml.core.licenses import policy
from birdmml.errors import MediaError
from birdmml.schema import Card
from birdmml.sources.common import disk_lines
from birdmml.sources.inat_xc.inaturalist import TABLES, open_folder
from birdmml.sources.inat_xc.index import merge_facts as merge_facts
from birdmml.sources.inat_xc.session import RawSession, check
from birdmml.sources.inat_xc.settings import RawSettings as Settings

CARD = Card(
    summary="iNaturalist photos and Xeno-canto recordings, fetched anew for any list of species",
    license="as each file's row says; none without a known licence, author and address",
    citation="iNaturalist Open Data; Xeno-canto; Wikipedia",
    url="https://github.com/inaturalist/inaturalist-open-data",
)
LICENSED = True  # No part of a row without a known licence: not a caption, either.
# Every photo of a species once: a species has the rows that were asked for, and clips go round where they are few.
PASSES = 1
# What one file weighs, roughly, in bytes: a photo by its size, and a minute of recording (MP3, 128 kbit/s).
PHOTO_BYTES = {"original": 1_500_000, "large": 350_000, "medium": 100_000, "small": 30_000}
RECORDING_BYTES, RECORDING_S = 1_000_000, 60.0
# Of the dataset: a photo as it comes, a clip of 10 s as FLAC.
CLIP_BYTES_S = 25_000
LISTED = 500  # Recordings on a page of Xeno-canto.

session = RawSession  # What a build calls.


def plan(settings: Settings, out: Path) -> list[str]:
    """What would be asked of whom, and how long it takes at the services' limits; nothing is fetched.

    Raises SourceError for tables on this machine that are wrong.
    """
    check(settings)
    rows = len(settings.species_list.taxonomy) * settings.per_species
    photo = min(PHOTO_BYTES.get(settings.photo_size, 0), PHOTO_BYTES["large"])
    # Encoded media wait in staging while the dataset is written, so they are there twice.
    most = 2 * rows * (photo + int(settings.clip_seconds * CLIP_BYTES_S))
    return [*_service_lines(settings), *disk_lines(out, most, "about")]


def _service_lines(settings: Settings) -> Iterator[str]:
    species, rows = len(settings.species_list.taxonomy), settings.per_species
    yield f"rows    {species:,} species, {rows:,} rows each: up to {species * rows:,}"
    allowed = ", ".join(sorted(policy(settings.licenses).ids)) or "every known one that allows derivatives"
    yield f"licence {allowed}"
    if settings.is_url:
        yield f"tables  {len(TABLES)} files from {settings.inat}, tens of GB, joined on this machine"
    else:
        tables = open_folder(Path(settings.inat).expanduser())
        size = sum(t.path.stat().st_size for t in tables.values())
        yield f"tables  {len(tables)} files ({files.human_bytes(size)}), joined on this machine"
    photos = species * rows
    size = photos * PHOTO_BYTES.get(settings.photo_size, 0)
    yield _line("photos", photos, size, settings.photos_per_second, settings.photos)
    # About how many recordings of usual length give so many clips.
    each = max(min(rows, 20), math.ceil(rows / max(RECORDING_S / settings.clip_seconds, 1.0)))
    recordings = species * each
    requests = recordings + species * math.ceil(each / LISTED)
    yield _line("sounds", requests, recordings * RECORDING_BYTES, settings.recordings_per_second, settings.xeno_canto)
    yield _line("texts", species, 0, settings.articles_per_second, settings.wikipedia)
    yield "        estimates; gone photos, failures and other names add requests; the services are asked side by side"


def _line(what: str, requests: int, size: int, per_second: float, base: str) -> str:
    seconds = requests / per_second
    units = (("days", 86400), ("hours", 3600), ("minutes", 60))
    times = (f"{seconds / length:,.1f} {unit}" for unit, length in units if seconds >= 2 * length)
    time = next(times, f"{seconds:,.0f} s")
    bytes_ = f", about {files.human_bytes(size)}" if size else ""
    return f"{what:<7} about {requests:,} requests{bytes_} from {base}: {time} at {per_second:g} a second"


def wanted_rows(settings: Settings, limit: int | None) -> dict[str, int]:
    """How many rows each species should have."""
    rows = min(settings.per_species, limit or settings.per_species)
    return {s.scientific_name: rows for s in settings.species_list.taxonomy.species}


def open_media(settings: Settings, locator: str) -> Path:
    """Nothing: media come with their records. Raises MediaError."""
    raise MediaError("missing_file", f"{locator} was handed over before and is not kept")


def decoding(settings: Settings) -> dict[str, Any]:
    """The settings that decide what a record becomes: not which ones are chosen, nor where they come from."""
    return {"clip_seconds": settings.clip_seconds, "species_list": settings.species_list.sha256}


def public_settings(settings: Settings) -> dict[str, Any]:
    """What decides the choice, without paths, contact or addresses of the user's."""
    names = ("per_species", "photo_size", "licenses", "seed", "clip_seconds", "min_side", "max_recording_s")
    return {name: getattr(settings, name) for name in names}
