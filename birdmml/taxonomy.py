"""The 150 species, their labels, names and codes (species.csv beside this file).

Names, orders, families and codes follow the eBird/Clements checklist v2024, compared with AviList v2025; taxon
ids are iNaturalist's of July 2026. Where these differ, the species keeps one row: the newer or older name is a
synonym, a retired iNaturalist id is kept in `former_inat_ids`. Labels are the row numbers and never change: the
60 species of SSW60 come first, in SSW60's order, then 90 of VB100's.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from birdmml.errors import UnknownName
from birdmml.files import sha256_bytes

CSV_PATH = Path(__file__).with_name("species.csv")


@dataclass(frozen=True)
class Species:
    """One species. `other_names` are further English names and retired eBird codes; `synonyms` are scientific."""

    label: int
    scientific_name: str
    common_name: str
    order: str
    family: str
    ebird_code: str
    inat_taxon_id: int
    ssw60_label: int | None
    vb100_class: str | None
    synonyms: tuple[str, ...]
    other_names: tuple[str, ...]
    former_inat_ids: tuple[int, ...] = ()

    def names(self) -> Iterator[str]:
        """Every name the species answers to, as written in species.csv; the scientific name first."""
        yield self.scientific_name
        yield self.common_name
        yield self.ebird_code
        yield from self.synonyms
        yield from self.other_names
        if self.vb100_class is not None:
            yield self.vb100_class


@cache
def all_species() -> tuple[Species, ...]:
    """The 150 species in label order."""
    with CSV_PATH.open(encoding="utf-8", newline="") as f:
        return tuple(_from_row(row) for row in csv.DictReader(f))


def by_label(label: int) -> Species:
    """The species with this label (0..149); raises UnknownName."""
    species = all_species()
    if not 0 <= label < len(species):
        known = (str(s.label) for s in species)
        raise UnknownName("species label", str(label), known, hint=f"labels run from 0 to {len(species) - 1}")
    return species[label]


def resolve(name: str) -> Species:
    """The species with this name, code or iNaturalist taxon id; raises UnknownName with the nearest three.

    Case, hyphens, underscores, accents, possessives and grey/gray do not matter. Older genera, VB100's folder
    names and former iNaturalist ids are known. A name is never guessed: what is only similar is unknown.
    """
    found = _index().get(normalise(name))
    if found is None:
        # Codes are close to everything short; names are what helps.
        known = (n for s in all_species() for n in s.names() if n[0].isupper() and "_" not in n)
        raise UnknownName("species", name, known, hint="see `birdmml species`")
    return by_label(found)


def digest() -> str:
    """Hex SHA-256 of species.csv with Unix line ends: the version of the taxonomy that a build records."""
    return sha256_bytes(CSV_PATH.read_bytes().replace(b"\r\n", b"\n"))


def normalise(name: str) -> str:
    """The key under which a name is found: lower case, letters and digits only, no possessive, gray for grey."""
    text = re.sub(r"['\u2018\u2019\u02bc\u00b4`]s\b", "", name.replace("_", " "), flags=re.IGNORECASE)
    text = unicodedata.normalize("NFKD", text).strip().casefold()
    if not any(c.isalpha() for c in text):
        # A taxon id, which the published release writes as a float; signs and other decimals stay and match nothing.
        return re.sub(r"^(\d+)\.0+$", r"\1", text)
    return "".join(c for c in text if c.isalnum()).replace("grey", "gray")


@cache
def _index() -> dict[str, int]:
    index: dict[str, int] = {}
    for species in all_species():
        for key in _keys(species):
            if index.setdefault(key, species.label) != species.label:
                raise ValueError(f"species.csv: {key!r} names rows {index[key]} and {species.label}")
    return index


def _keys(species: Species) -> Iterator[str]:
    for name in species.names():
        yield normalise(name)
        if "'s" in name:
            yield normalise(name.replace("'s", "s"))  # "Bairds Sandpiper"
    for taxon in (species.inat_taxon_id, *species.former_inat_ids):
        yield str(taxon)


def _from_row(row: dict[str, str]) -> Species:
    return Species(
        label=int(row["label"]),
        scientific_name=row["scientific_name"],
        common_name=row["common_name"],
        order=row["order"],
        family=row["family"],
        ebird_code=row["ebird_code"],
        inat_taxon_id=int(row["inat_taxon_id"]),
        ssw60_label=int(row["ssw60_label"]) if row["ssw60_label"] else None,
        vb100_class=row["vb100_class"] or None,
        synonyms=_split(row["synonyms"]),
        other_names=_split(row["other_names"]),
        former_inat_ids=tuple(int(x) for x in _split(row["former_inat_ids"])),
    )


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split(";") if part)
