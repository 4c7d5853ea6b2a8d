"""Raw sources for any species list: photos of iNaturalist, recordings of Xeno-canto, texts of Wikipedia.

The tables of iNaturalist Open Data are joined on this machine; Xeno-canto's API needs the user's key, which is read
from the environment (XENO_CANTO_KEY) and written nowhere. Whoever asks says who they are: --contact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdmml.errors import MediaError
from birdmml.schema import Card
from birdmml.sources._raw_plan import plan as _plan
from birdmml.sources._raw_session import Session, Share, Tell, check
from birdmml.sources._raw_told import merged
from birdmml.sources._wikipedia import PER_SECOND as ARTICLES_PER_SECOND
from birdmml.sources._wikipedia import WIKIPEDIA
from birdmml.sources._xeno_canto import PER_SECOND as RECORDINGS_PER_SECOND
from birdmml.sources._xeno_canto import XENO_CANTO
from birdmml.species_list import SHIPPED, SpeciesList

CARD = Card(
    summary="iNaturalist photos and Xeno-canto recordings, fetched anew for any list of species",
    license="as each file's row says; none without a known licence, author and address",
    citation="iNaturalist Open Data; Xeno-canto; Wikipedia",
    url="https://github.com/inaturalist/inaturalist-open-data",
)
BUCKET = "https://inaturalist-open-data.s3.amazonaws.com"
LICENSED = True  # No part of a row without a known licence: not a caption, either.
# Every photo of a species once: a species has the rows that were asked for, and clips go round where they are few.
PASSES = 1


@dataclass(frozen=True)
class Settings:
    """`inat` is a folder or an address with the four tables; `photos`, `xeno_canto` and `wikipedia` are services.

    `per_species` rows are wanted of each species of `species_list`; `photo_size` is one of the bucket's,
    `min_side` what the shorter side of an original must have, px. `licenses` is as `birdmml.licenses.policy` reads
    it. Rates are in requests a second; DuckDB holds `memory_mb` MB, a recording at most `most_bytes`.
    """

    inat: str = ""
    contact: str = ""
    species_list: SpeciesList = SHIPPED
    per_species: int = 1000
    photo_size: str = "medium"
    licenses: str = ""
    seed: int = 0
    clip_seconds: float = 10.0
    min_side: int = 240
    max_recording_s: float = 1200.0
    memory_mb: int = 2048
    allow_private: bool = False
    photos: str = BUCKET
    xeno_canto: str = XENO_CANTO
    wikipedia: str = WIKIPEDIA
    photos_per_second: float = 20.0
    recordings_per_second: float = RECORDINGS_PER_SECOND
    articles_per_second: float = ARTICLES_PER_SECOND
    most_bytes: int = 256 << 20
    timeout_s: float = 30.0
    back_off_s: float = 1.0

    @property
    def is_url(self) -> bool:
        """Whether the tables are to be downloaded."""
        return "://" in self.inat


def session(
    settings: Settings,
    folder: Path,
    limit: int | None,
    retry_failed: bool,
    tell: Tell,
    part: Share | None = None,
) -> Session:
    """One reading; `folder` keeps what it must not forget. `part` is the share of this machine (None: all)."""
    return Session(settings, folder, limit, retry_failed, tell, part)


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
