"""Which species a build knows: the shipped 150, or those of a list of the user's own.

Settings carry a `SpeciesList`, which is a path and a hash and no more: it is small to pickle, and every process that
asks it reads the file once and gets the same table, or an error if the file is not what it was. A built dataset has
its table in itself, as species.csv (`of_dataset`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from birdmml import files, taxonomy
from birdmml.errors import DatasetError, SourceError
from birdmml.species_rows import MAX_BYTES, Faults, read_rows
from birdmml.taxonomy import Species, Taxonomy, name_keys, normalise

TABLE = "species.csv"  # In the folder of a dataset that was built for a list.


@dataclass(frozen=True)
class SpeciesList:
    """A list on disk, as settings carry it; without a path the shipped 150.

    `exact`: the table of a dataset, whose empty cells stay empty.
    """

    path: str = ""
    sha256: str = ""
    exact: bool = False

    def __bool__(self) -> bool:
        return bool(self.path)

    def load(self) -> Loaded:
        """The table; read once in a process. Raises SourceError if the file is not what it was, or no list."""
        if not self.path:
            return Loaded(taxonomy.shipped())
        return _load(self)

    @property
    def taxonomy(self) -> Taxonomy:
        """The table of `load`."""
        return self.load().taxonomy


SHIPPED = SpeciesList()


@dataclass(frozen=True)
class Loaded:
    """A table, the labels of the species that were completed from the shipped table, and what was left out there."""

    taxonomy: Taxonomy
    completed: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def given(path: Path | str) -> SpeciesList:
    """The list in a file of the user's, checked; raises SourceError saying which lines are wrong, and how."""
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as e:  # A home that does not exist, links in a circle.
        raise SourceError(f"{path} cannot be found ({e}): name a list of species with --species-list") from e
    species_list = SpeciesList(str(place), files.sha256_bytes(_bytes(place)))
    species_list.load()
    return species_list


def of_settings(source_settings: Any) -> SpeciesList:
    """The list that a source's settings carry; the shipped 150 for a source that takes none."""
    species_list = getattr(source_settings, "species_list", SHIPPED)
    return species_list if isinstance(species_list, SpeciesList) else SHIPPED


def of_dataset(root: Path, manifest: Mapping[str, Any]) -> SpeciesList:
    """The list of a built dataset: its own table, or the shipped one. `load` raises if the table was changed."""
    entry = manifest.get("taxonomy", {})
    if not entry.get("file"):
        return SHIPPED
    return SpeciesList(str((root / TABLE).resolve()), str(entry.get("digest")), exact=True)


def dataset_taxonomy(root: Path, manifest: Mapping[str, Any]) -> Taxonomy:
    """The table of a built dataset; raises DatasetError if it is missing, changed or damaged."""
    try:
        return of_dataset(root, manifest).taxonomy
    except SourceError as e:
        raise DatasetError(f"the dataset's table of species: {e}; build the dataset again") from e


@lru_cache(maxsize=8)
def _load(wanted: SpeciesList) -> Loaded:
    path = Path(wanted.path)
    if wanted.exact and not path.is_file():
        raise SourceError(f"{path} is missing")
    data = _bytes(path)
    if files.sha256_bytes(data) != wanted.sha256:
        when = (
            "after the build"
            if wanted.exact
            else "since the work began: start again with the list as it is now"
        )
        raise SourceError(f"{path} was changed {when}")
    species, lines = read_rows(path, data)
    faults = Faults(path)
    owners = _owners(species, lines, faults)
    completed_species, completed, notes = (
        (species, frozenset[int](), list[str]())
        if wanted.exact
        else _completed(species, lines, owners, faults)
    )
    if faults.found:
        faults.stop()
    digest = files.sha256_bytes(taxonomy.to_csv(completed_species).encode())
    hint = f"see `birdmml species --species-list {path.name}`"
    return Loaded(Taxonomy(tuple(completed_species), digest, hint), completed, tuple(notes))


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise SourceError(f"{path} is no file: name a list of species with --species-list")
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path} is larger than {MAX_BYTES:,} bytes: this is no list of species")
        return path.read_bytes()
    except OSError as e:
        raise SourceError(f"{path} cannot be read ({e.strerror}): check the file and its permissions") from e


def _owners(species: list[Species], lines: list[int], faults: Faults) -> dict[str, int]:
    """Key -> label; a name that two rows answer to is a fault of the later one."""
    owners: dict[str, int] = {}
    for one in species:
        reported: set[int] = set()
        for key in taxonomy.keys(one):
            label = owners.setdefault(key, one.label)
            if label == one.label or label in reported:
                continue
            reported.add(label)
            other, name = species[label], _name_of(one, key)
            if normalise(other.scientific_name) == normalise(one.scientific_name):
                what = f"{one.scientific_name} is in line {lines[label]} already: remove one of the two"
            else:
                what = (
                    f"{one.scientific_name} and {other.scientific_name} (line {lines[label]}) both answer to "
                    f"{name!r}: remove the name from one of them"
                )
            faults.add(lines[one.label], what)
    return owners


def _name_of(species: Species, key: str) -> str:
    return next((n for n in species.names() if key in name_keys(n)), key)


def _completed(
    species: list[Species], lines: list[int], owners: Mapping[str, int], faults: Faults
) -> tuple[list[Species], frozenset[int], list[str]]:
    """What the shipped table knows of these species, put where the list says nothing."""
    matches = _known(species, lines, faults)
    completed: list[Species] = []
    notes: list[str] = []
    for one in species:
        ours = matches.get(one.label)
        if ours is not None:
            one, left_out = _filled(one, ours, owners)
            notes += [
                f"{one.scientific_name}: {name!r} of the shipped table is left out, "
                f"{species[owners[key]].scientific_name} has it"
                for name, key in left_out
            ]
        completed.append(one)
    return completed, frozenset(matches), notes


def _known(species: list[Species], lines: list[int], faults: Faults) -> dict[int, Species]:
    """Label -> the shipped species of that scientific name; an older name counts where the new one is not listed."""
    ours = {normalise(s.scientific_name): s for s in taxonomy.all_species()}
    matches = {s.label: ours[key] for s in species if (key := normalise(s.scientific_name)) in ours}
    taken = {s.label for s in matches.values()}
    for one in species:
        if one.label in matches:
            continue
        other = taxonomy.shipped().find(one.scientific_name)
        if other is None:
            continue
        latin = {normalise(n) for n in (other.scientific_name, *other.synonyms)}
        if normalise(one.scientific_name) not in latin:
            faults.add(
                lines[one.label],
                f"{one.scientific_name!r} is an English name: write {other.scientific_name!r}",
            )
        elif other.label not in taken:
            matches[one.label] = other
            taken.add(other.label)
    return matches


def _filled(one: Species, ours: Species, owners: Mapping[str, int]) -> tuple[Species, list[tuple[str, str]]]:
    """`one` with what `ours` knows besides, and (name, key) of what belongs to another species of the list."""
    left_out: dict[str, str] = {}

    def free(name: str) -> bool:
        lost = [key for key in name_keys(name) if owners.get(key, one.label) != one.label]
        left_out.update(dict.fromkeys([name] if lost else [], "".join(lost[:1])))
        return not lost

    def kept(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n in dict.fromkeys(names) if n and free(n))

    common = one.common_name or next(iter(kept((ours.common_name,))), "")
    latin = (*one.synonyms, ours.scientific_name, *ours.synonyms)
    english = (*one.other_names, ours.common_name, *ours.other_names)
    taxon = one.inat_taxon_id
    if taxon is None and ours.inat_taxon_id is not None and free(str(ours.inat_taxon_id)):
        taxon = ours.inat_taxon_id
    former = dict.fromkeys((*one.former_inat_ids, *ours.former_inat_ids))
    filled = dataclasses.replace(
        one,
        common_name=common,
        order=one.order or ours.order,
        family=one.family or ours.family,
        ebird_code=one.ebird_code or next(iter(kept((ours.ebird_code,))), ""),
        inat_taxon_id=taxon,
        former_inat_ids=tuple(i for i in former if i != taxon and free(str(i))),
        ssw60_label=ours.ssw60_label if one.ssw60_label is None else one.ssw60_label,
        vb100_class=one.vb100_class or next(iter(kept((ours.vb100_class or "",))), None),
        synonyms=kept(tuple(n for n in latin if normalise(n) != normalise(one.scientific_name))),
        other_names=kept(tuple(n for n in english if normalise(n) != normalise(common))),
    )
    return filled, list(left_out.items())
