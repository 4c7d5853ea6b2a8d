"""Raw sources for any species list: photos of iNaturalist, recordings of Xeno-canto, texts of Wikipedia.

The tables of iNaturalist Open Data are joined on this machine; Xeno-canto's API needs the user's key, which is read
from the environment (XENO_CANTO_KEY) and written nowhere. Whoever asks says who they are: --contact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdmml.errors import MediaError
from birdmml.schema import Card
from birdmml.sources._raw_plan import plan as _plan
from birdmml.sources._raw_session import Session, Share, Tell, check
from birdmml.sources._raw_settings import Settings as Settings
from birdmml.sources._raw_told import merged

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
    progress: Tell,
    part: Share | None = None,
) -> Session:
    """One reading; `folder` keeps what it must not forget. `part` is the share of this machine (None: all)."""
    return Session(settings, folder, limit, retry_failed, progress, part)


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
    return _plan(settings, out)
