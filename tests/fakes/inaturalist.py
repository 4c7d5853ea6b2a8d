"""A small world in the layouts of iNaturalist Open Data, Xeno-canto and Wikipedia, for tests.

    settings = write(root, seed)      root/tables/*.csv.gz, root/bucket/photos/ID/SIZE.jpg, root/xeno-canto, ...

Every species has photos that must not be taken; `Truth` says which may, and what the rest are.
"""

from __future__ import annotations

import csv
import gzip
import io
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from birdmml.core import species_list
from birdmml.core.species import Species, all_species
from birdmml.sources.inat_xc.settings import RawSettings
from birdmml.sources.inat_xc.wikipedia import names_of
from fakes import wikipedia, xeno_canto

Rows = list[tuple[Any, ...]]
AVES = "48460/1/2/355675/3"
LICENSES = ("CC-BY-NC", "CC-BY", "CC0", "CC-BY-SA", "CC-BY-NC-SA")
HEADERS: dict[str, tuple[str, ...]] = {
    "taxa": ("taxon_id", "ancestry", "rank_level", "rank", "name", "active"),
    "observations": (
        "observation_uuid", "observer_id", "latitude", "longitude", "positional_accuracy", "taxon_id",
        "quality_grade", "observed_on", "anomaly_score",
    ),
    "photos": (
        "photo_uuid", "photo_id", "observation_uuid", "observer_id", "extension", "license", "width", "height",
        "position",
    ),
    "observers": ("observer_id", "login", "name"),
}  # fmt: skip
OBSERVERS = ((1, "ana", 'Ana "Birdie" Costa'), (2, "bo", ""), (3, "chen", "Chen Wei"), (4, "dee", "Dee 'D' Okoye"))
NAMELESS = 9
# Folders below the root that a test serves, by the setting that takes the address.
SERVICES = {"photos": "bucket", "xeno_canto": "xeno-canto", "wikipedia": "wikipedia"}


@dataclass
class Tables:
    """The rows of the four tables, to be changed by a test before they are written; `truth` is by photo id.

    The truth of a photo is (species, "") where it may be taken, else (species, why not).
    """

    taxa: Rows = field(default_factory=list)
    observations: Rows = field(default_factory=list)
    photos: Rows = field(default_factory=list)
    observers: Rows = field(default_factory=list)
    truth: dict[int, tuple[str, str]] = field(default_factory=dict)

    def write(self, folder: Path, headers: dict[str, tuple[str, ...]] = HEADERS) -> None:
        """As the provider has them: tab-separated, a header, no quoting, gzip."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, header in headers.items():
            rows: Iterable[tuple[Any, ...]] = (header, *getattr(self, name))
            text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
            with gzip.GzipFile(folder / f"{name}.csv.gz", "wb", mtime=0) as f:
                f.write(text.encode())


def write(
    root: Path, seed: int, species: int = 4, photos: int = 6, recordings: int = 6, seconds: float = 2.0
) -> RawSettings:
    """Write the world; the settings have `species` of the 150, and addresses that a test must fill in."""
    birds = all_species()[:species]
    tables = make_tables(birds, seed, photos)
    tables.write(root / "tables")
    write_photos(root / "bucket", tables, seed)
    names = [names_of(b) for b in birds]
    xeno_canto.write(root / "xeno-canto", names, seed, each=recordings, seconds=seconds)
    wikipedia.write(root / "wikipedia", names)
    return RawSettings(
        inat=str(root / "tables"),
        contact="tests@example.org",
        species_list=write_list(root / "species.csv", birds),
        per_species=photos,
        clip_seconds=1.0,
        seed=seed,
        photos_per_second=1000.0,
        recordings_per_second=1000.0,
        articles_per_second=1000.0,
        back_off_s=0.01,
        allow_private=True,
    )


def write_list(path: Path, birds: Sequence[Species]) -> species_list.SpeciesList:
    """A species list of some of the 150."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([("scientific_name",), *((b.scientific_name,) for b in birds)])
    path.write_text(out.getvalue(), encoding="utf-8")
    return species_list.read_list(path)


def make_tables(birds: Sequence[Species], seed: int, photos: int, spares: int = 4) -> Tables:
    """`photos` + `spares` good photos a species, two of each observation, and some of every kind of bad ones."""
    rng = np.random.default_rng([seed, 7])
    tables = Tables(observers=[*OBSERVERS])
    tables.taxa += [
        (3, "48460/1/2/355675", 50, "class", "Aves", "true"),
        (9_999_999, AVES, 10, "species", "Aus bus", "true"),
    ]
    number = 1000
    for bird in birds:
        taxon = bird.inat_taxon_id or 0
        below = 5_000_000 + taxon
        tables.taxa.append((taxon, f"{AVES}/{10 + bird.label}", 10, "species", bird.scientific_name, "true"))
        epithet = bird.scientific_name.split(" ")[1]
        tables.taxa.append(
            (below, f"{AVES}/{10 + bird.label}/{taxon}", 5, "subspecies", f"{bird.scientific_name} {epithet}", "true")
        )
        kinds = [""] * (photos + spares) + ["license", "license", "small", "casual", "author"]
        observation = ""
        for k, kind in enumerate(kinds):
            number += int(rng.integers(1, 50))
            observer = NAMELESS if kind == "author" else int(rng.integers(1, len(OBSERVERS) + 1))
            if k % 2 == 0 or kind:
                observation = _uuid(rng)
                tables.observations.append(
                    (
                        observation, observer, f"{rng.uniform(-60, 60):.5f}", f"{rng.uniform(-180, 180):.5f}", "",
                        below if k % 4 == 0 else taxon, "casual" if kind == "casual" else "research",
                        "2024-05-01", "0.1",
                    )
                )  # fmt: skip
            licence = ("CC-BY-ND", "all-rights")[k % 2] if kind == "license" else LICENSES[number % len(LICENSES)]
            side = 120 if kind == "small" else 600
            tables.photos.append(
                (_uuid(rng), number, observation, observer, "jpg" if number % 7 else "jpeg", licence, 800, side, k % 2)
            )
            tables.truth[number] = (bird.scientific_name, kind)
        tables.photos.append(tables.photos[-len(kinds)])  # The provider repeats some.
    for name in ("taxa", "observations", "photos"):
        rows = getattr(tables, name)
        rows[:] = [rows[i] for i in rng.permutation(len(rows))]
    return tables


def write_photos(bucket: Path, tables: Tables, seed: int, size: str = "medium") -> None:
    """A JPEG for each photo, none like another."""
    for row in tables.photos:
        number, extension = row[1], row[4]
        path = bucket / "photos" / str(number) / f"{size}.{extension}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([seed, number]).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((48, 36), Image.Resampling.NEAREST).save(path, "JPEG", quality=85)


def _uuid(rng: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))
