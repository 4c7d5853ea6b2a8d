"""The 150 species, their labels, names and codes (species.csv beside this file), and tables like it.

The functions of this module know the 150; `Taxonomy` is any table, as `birdmml.core.species_list` reads them.
Names, orders, families and codes follow the eBird/Clements checklist v2024, compared with AviList v2025; taxon
ids are iNaturalist's of July 2026. Where these differ, the species keeps one row: the newer or older name is a
synonym, a retired iNaturalist id is kept in `former_inat_ids`. Labels are the row numbers and never change: the
60 species of SSW60 come first, in SSW60's order, then 90 of VB100's.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from birdmml.core.files import sha256_bytes
from birdmml.errors import UnknownName

CSV_PATH = Path(__file__).with_name("species.csv")
COLUMNS = (
    "label", "scientific_name", "common_name", "order", "family", "ebird_code", "inat_taxon_id", "former_inat_ids",
    "ssw60_label", "vb100_class", "synonyms", "other_names",
)  # fmt: skip
# Names that a message compares with an unknown one, letter by letter: more take seconds.
_COMPARED = 2000


@dataclass(frozen=True)
class Species:
    """One species. `other_names` are further English names and retired eBird codes; `synonyms` are scientific.

    In a table of the user's, all but label and scientific name may be unknown: empty, or None.
    """

    label: int
    scientific_name: str
    common_name: str
    order: str
    family: str
    ebird_code: str
    inat_taxon_id: int | None
    ssw60_label: int | None
    vb100_class: str | None
    synonyms: tuple[str, ...]
    other_names: tuple[str, ...]
    former_inat_ids: tuple[int, ...] = ()

    def names(self) -> Iterator[str]:
        """Every name the species answers to, as written in its table; the scientific name first."""
        first = (self.scientific_name, self.common_name, self.ebird_code)
        for name in (*first, *self.synonyms, *self.other_names, self.vb100_class):
            if name:
                yield name

    @property
    def called(self) -> str:
        """The common name, or the scientific one where no common name is known."""
        return self.common_name or self.scientific_name

    @property
    def slug(self) -> str:
        """A short name that is safe in ids and file names: the eBird code, else genus-epithet."""
        return self.ebird_code or re.sub(r"[^a-z]+", "-", self.scientific_name.casefold())


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """A table of species, labelled by their places in it.

    `digest` is the SHA-256 of the table's file; `hint` tells where the names can be looked up. Built once and
    asked often: the index of names is made with the first question.
    """

    species: tuple[Species, ...]
    digest: str
    hint: str = "see `birdmml species`"

    def __len__(self) -> int:
        return len(self.species)

    @property
    def scientific_names(self) -> list[str]:
        """In label order."""
        return [s.scientific_name for s in self.species]

    def by_label(self, label: int) -> Species:
        """The species with this label (0..N - 1); raises UnknownName."""
        if not 0 <= label < len(self.species):
            labels = (str(s.label) for s in self.species[:_COMPARED])
            raise UnknownName("species label", str(label), labels, hint=f"labels run from 0 to {len(self.species) - 1}")
        return self.species[label]

    def resolve(self, name: str) -> Species:
        """The species with this name, code or iNaturalist taxon id; raises UnknownName with the nearest three.

        Case, hyphens, underscores, accents, possessives and grey/gray do not matter. A name is never guessed: what
        is only similar is unknown.
        """
        species = self.find(name)
        if species is None:
            raise UnknownName("species", name, self._alike(name), hint=self.hint)
        return species

    def find(self, name: str) -> Species | None:
        """As `resolve`, but None for an unknown name: quick, where many are unknown."""
        rows = self._index.get(normalise(name))
        return None if rows is None else self.species[rows]

    @cached_property
    def _index(self) -> Mapping[str, int]:
        index: dict[str, int] = {}
        for species in self.species:
            for key in keys(species):
                if index.setdefault(key, species.label) != species.label:
                    raise ValueError(f"{key!r} names rows {index[key]} and {species.label}")
        return index

    def _alike(self, name: str) -> list[str]:
        """The names to look for near ones among: all, or of a large table those that share most with `name`."""
        if len(self._shown) <= _COMPARED:
            return self._shown
        shared: Counter[int] = Counter()
        for piece in _pieces(name):
            shared.update(self._by_piece.get(piece, ()))
        return [self._shown[i] for i, _ in shared.most_common(50)]

    @cached_property
    def _shown(self) -> list[str]:
        # Codes are close to everything short; names are what helps.
        return [n for s in self.species for n in s.names() if n[0].isupper() and "_" not in n]

    @cached_property
    def _by_piece(self) -> Mapping[str, list[int]]:
        pieces: dict[str, list[int]] = {}
        for number, name in enumerate(self._shown):
            for piece in _pieces(name):
                pieces.setdefault(piece, []).append(number)
        return pieces


@cache
def shipped() -> Taxonomy:
    """The 150 species as a table."""
    with CSV_PATH.open(encoding="utf-8", newline="") as f:
        return Taxonomy(tuple(_from_row(row) for row in csv.DictReader(f)), digest())


def all_species() -> tuple[Species, ...]:
    """The 150 species in label order."""
    return shipped().species


def by_label(label: int) -> Species:
    """The species with this label (0..149); raises UnknownName."""
    return shipped().by_label(label)


def resolve(name: str) -> Species:
    """The one of the 150 with this name, code or iNaturalist taxon id, as `Taxonomy.resolve`.

    Older genera, VB100's folder names and former iNaturalist ids are known.
    """
    return shipped().resolve(name)


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


def keys(species: Species) -> Iterator[str]:
    """Every key that finds the species."""
    for name in species.names():
        yield from name_keys(name)
    for taxon in (species.inat_taxon_id, *species.former_inat_ids):
        if taxon is not None:
            yield str(taxon)


def name_keys(name: str) -> Iterator[str]:
    """The keys of one name."""
    yield normalise(name)
    if "'s" in name:
        yield normalise(name.replace("'s", "s"))  # "Bairds Sandpiper"


def to_csv(species: Iterable[Species]) -> str:
    """A table of species as species.csv has it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in species:
        cells = [getattr(row, column) for column in COLUMNS]  # csv writes None as an empty cell.
        writer.writerow([";".join(map(str, c)) if isinstance(c, tuple) else c for c in cells])
    return out.getvalue()


def _pieces(name: str) -> set[str]:
    """Runs of three letters, by which names are alike."""
    key = f" {normalise(name)[:100]} "
    return {key[i : i + 3] for i in range(len(key) - 2)}


def _from_row(row: dict[str, str]) -> Species:
    cells: dict[str, Any] = {**row, "vb100_class": row["vb100_class"] or None}
    for column in ("synonyms", "other_names", "former_inat_ids"):
        cells[column] = tuple(filter(None, row[column].split(";")))
    cells["former_inat_ids"] = tuple(map(int, cells["former_inat_ids"]))
    for column in ("label", "inat_taxon_id", "ssw60_label"):
        cells[column] = int(row[column]) if row[column] else None
    return Species(**cells)
