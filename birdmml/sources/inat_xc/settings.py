"""The settings of a build from raw sources."""

from __future__ import annotations

from dataclasses import dataclass

from birdmml.core.species_list import SHIPPED, SpeciesList
from birdmml.sources.inat_xc.wikipedia import PER_SECOND as ARTICLES_PER_SECOND
from birdmml.sources.inat_xc.wikipedia import WIKIPEDIA
from birdmml.sources.inat_xc.xeno_canto import PER_SECOND as RECORDINGS_PER_SECOND
from birdmml.sources.inat_xc.xeno_canto import XENO_CANTO

BUCKET = "https://inaturalist-open-data.s3.amazonaws.com"


@dataclass(frozen=True)
class RawSettings:
    """`inat` is a folder or an address with the four tables; `photos`, `xeno_canto` and `wikipedia` are services.

    `per_species` rows are wanted of each species of `species_list`; `photo_size` is one of the bucket's,
    `min_side` what the shorter side of an original must have, px. `licenses` is as `birdmml.core.licenses.policy` reads
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
