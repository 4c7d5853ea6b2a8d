"""Raw sources for any species list: photos of iNaturalist, recordings of Xeno-canto, texts of Wikipedia.

The tables of iNaturalist Open Data are joined on this machine; Xeno-canto's API needs the user's key, which is read
from the environment (XENO_CANTO_KEY) and written nowhere. Whoever asks says who they are: --contact.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdmml.core import files
from birdmml.core.licenses import policy
from birdmml.core.pool import Progress
from birdmml.errors import MediaError
from birdmml.schema import Card
from birdmml.sources.inat_xc.inaturalist import TABLES, open_folder
from birdmml.sources.inat_xc.index import merged
from birdmml.sources.inat_xc.session import RawSession, Share, check
from birdmml.sources.inat_xc.settings import RawSettings as Settings

# ---- What a build from raw sources would ask of whom, and how long it takes at what the services allow.


# What one file weighs, roughly, in bytes: a photo by its size, and a minute of recording (MP3, 128 kbit/s).
PHOTO_BYTES = {"original": 1_500_000, "large": 350_000, "medium": 100_000, "small": 30_000}
RECORDING_BYTES, RECORDING_S = 1_000_000, 60.0
# Of the dataset: a photo as it comes, a clip of 10 s as FLAC.
CLIP_BYTES_S = 25_000
LISTED = 500  # Recordings on a page of Xeno-canto.


def plan_lines(settings: Settings, out: Path) -> list[str]:
    """In lines; nothing is asked of any service. Raises SourceError for tables on this machine that are wrong."""
    return [*_service_lines(settings), *_room(settings, out)]


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
    each = recordings_for(rows, settings.clip_seconds)
    recordings = species * each
    requests = recordings + species * math.ceil(each / LISTED)
    yield _line("sounds", requests, recordings * RECORDING_BYTES, settings.recordings_per_second, settings.xeno_canto)
    yield _line("texts", species, 0, settings.articles_per_second, settings.wikipedia)
    yield "        estimates; gone photos, failures and other names add requests; the services are asked side by side"


def recordings_for(rows: int, clip_s: float) -> int:
    """About how many recordings of usual length give so many clips."""
    return max(min(rows, 20), math.ceil(rows / max(RECORDING_S / clip_s, 1.0)))


def _line(what: str, requests: int, size: int, per_second: float, base: str) -> str:
    bytes_ = f", about {files.human_bytes(size)}" if size else ""
    return (
        f"{what:<7} about {requests:,} requests{bytes_} from {base}: {_time(requests / per_second)} at "
        f"{per_second:g} a second"
    )


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def _room(settings: Settings, out: Path) -> Iterator[str]:
    place = next(p for p in (out.expanduser().resolve(), *out.expanduser().resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    rows = len(settings.species_list.taxonomy) * settings.per_species
    photo = min(PHOTO_BYTES.get(settings.photo_size, 0), PHOTO_BYTES["large"])
    # Encoded media wait in staging while the dataset is written.
    most = 2 * rows * (photo + int(settings.clip_seconds * CLIP_BYTES_S))
    yield f"disk    about {files.human_bytes(most)} needed at {place}, {files.human_bytes(free)} free"
    if free < most:
        yield "        that may not be enough: free some space, or name another --out"


CARD = Card(
    summary="iNaturalist photos and Xeno-canto recordings, fetched anew for any list of species",
    license="as each file's row says; none without a known licence, author and address",
    citation="iNaturalist Open Data; Xeno-canto; Wikipedia",
    url="https://github.com/inaturalist/inaturalist-open-data",
)
LICENSED = True  # No part of a row without a known licence: not a caption, either.
# Every photo of a species once: a species has the rows that were asked for, and clips go round where they are few.
PASSES = 1


def session(
    settings: Settings,
    folder: Path,
    limit: int | None,
    retry_failed: bool,
    progress: Progress,
    part: Share | None = None,
) -> RawSession:
    """One reading; `folder` keeps what it must not forget. `part` is the share of this machine (None: all)."""
    return RawSession(settings, folder, limit, retry_failed, progress, part)


def wanted_rows(settings: Settings, limit: int | None) -> dict[str, int]:
    """How many rows each species should have."""
    rows = min(settings.per_species, limit or settings.per_species)
    return {s.scientific_name: rows for s in settings.species_list.taxonomy.species}


def merge_facts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all parts of a divided build have found, as one build would say it."""
    return merged(parts)


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


def plan(settings: Settings, out: Path) -> list[str]:
    """What would be asked of whom, and how long it takes at the services' limits; nothing is fetched."""
    check(settings)
    return plan_lines(settings, out)
