"""What a build from raw sources would ask of whom, and how long it takes at what the services allow."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from birdmml import files
from birdmml.licenses import policy
from birdmml.sources._inat_tables import TABLES, open_folder
from birdmml.sources._raw_settings import Settings

# What one file weighs, roughly, in bytes: a photo by its size, and a minute of recording (MP3, 128 kbit/s).
PHOTO_BYTES = {"original": 1_500_000, "large": 350_000, "medium": 100_000, "small": 30_000}
RECORDING_BYTES, RECORDING_S = 1_000_000, 60.0
# Of the dataset: a photo as it comes, a clip of 10 s as FLAC.
CLIP_BYTES_S = 25_000
LISTED = 500  # Recordings on a page of Xeno-canto.


def plan(settings: Settings, out: Path) -> list[str]:
    """In lines; nothing is asked of any service. Raises SourceError for tables on this machine that are wrong."""
    return [*_asked(settings), *_room(settings, out)]


def _asked(settings: Settings) -> Iterator[str]:
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
    yield _line(
        "sounds", requests, recordings * RECORDING_BYTES, settings.recordings_per_second, settings.xeno_canto
    )
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
