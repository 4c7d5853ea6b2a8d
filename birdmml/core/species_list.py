"""Which species a build knows: the shipped 150, or those of a list of the user's own.

Settings carry a `SpeciesList`, which is a path and a hash and no more: it is small to pickle, and every process that
asks it reads the file once and gets the same table, or an error if the file is not what it was. A built dataset has
its table in itself, as species.csv (`of_dataset`).
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from birdmml import errors
from birdmml.core import files
from birdmml.core.species import COLUMNS, Species, Taxonomy, all_species, keys, name_keys, normalise, shipped, to_csv
from birdmml.errors import DatasetError, SourceError

MAX_BYTES = 64 << 20
MAX_SPECIES = 30_000  # Of birds there are 11,000; labels are 16-bit numbers.
MAX_NAME, MAX_NAMES = 200, 100
SHOWN = 10

_TABLES = {".csv": "", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_BINOMIAL = re.compile(r"[A-Z][a-z]+ [a-z]+(?:-[a-z]+)*")
_NUMBER = re.compile(r"([0-9]{1,10})(?:\.0+)?")  # pandas writes 7089.0 where a column has gaps.
_SIGNS = frozenset(" '\u2018\u2019\u02bb\u02bc\u00b4`-\u2010\u2011\u2013.,/()&_\u00b7")

Cells = Mapping[str, Any]


@dataclass
class Faults:
    """What is wrong with a list, collected so that one look shows more than one fault."""

    path: Path
    lines: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        """One more."""
        self.lines.append((line, what))

    def check(self) -> None:
        """Raise SourceError with the first of them, in the order of their lines, if there are any."""
        lines = [f"{self.path}, line {line}: {what}" for line, what in sorted(self.lines)]
        more = [f"and {len(lines) - SHOWN:,} more lines like these"] if len(lines) > SHOWN else []
        if lines:
            raise SourceError("\n  ".join([*lines[:SHOWN], *more]))


def read_rows(path: Path, data: bytes) -> tuple[list[Species], list[int]]:
    """The species that the file states, labelled in its order, and the line of each.

    Raises SourceError naming every faulty line, up to SHOWN of them.
    """
    faults = Faults(path)
    species: list[Species] = []
    lines: list[int] = []
    for line, cells in _records(path, _text(path, data), faults):
        if len(species) == MAX_SPECIES:
            faults.add(line, f"more than {MAX_SPECIES:,} species: split the list into several builds")
            break
        species.append(_species(cells, len(species), partial(faults.add, line)))
        lines.append(line)
    faults.check()
    if not species:
        raise SourceError(f"{path} lists no species: write one scientific name a line, or a table of them")
    return species, lines


def _text(path: Path, data: bytes) -> str:
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise SourceError(
            f"{path}, line {line}: byte 0x{data[min(e.start, len(data) - 1)]:02x} is not UTF-8: "
            "save the list as UTF-8 text"
        ) from e
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SourceError(f"{path}, line {line}: a NUL byte: this is no text, save the list as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _records(path: Path, text: str, faults: Faults) -> Iterator[tuple[int, Cells]]:
    """(line, column -> value) of every row that is not blank."""
    suffix = path.suffix.casefold()
    if suffix in _TABLES:
        return _table(text, _TABLES[suffix], faults)
    if suffix in _JSON_LINES:
        return _json_lines(text, faults)
    lines = enumerate(text.split("\n"), 1)
    return ((n, {"scientific_name": line}) for n, line in lines if line.strip() and not line.lstrip().startswith("#"))


def _table(text: str, delimiter: str, faults: Faults) -> Iterator[tuple[int, Cells]]:
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=delimiter or max(",;\t", key=first.count), strict=True)
    names: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as e:
            faults.add(line, f"no table from here on ({e}): check the quotes")
            return
        if values is None:
            return
        if not any(v.strip() for v in values):
            continue
        if names is None:
            names = [v.strip().casefold() for v in values]
            if not _header_fits(names, line, faults):
                return
        elif len(values) != len(names):
            faults.add(line, f"{len(values)} values under {len(names)} columns: quote those that hold the delimiter")
        else:
            yield line, dict(zip(names, values, strict=True))


def _header_fits(names: list[str], line: int, faults: Faults) -> bool:
    before = len(faults.lines)
    if "scientific_name" not in names:
        faults.add(
            line,
            f"no column scientific_name; found {', '.join(map(_shown, names[:20]))}: name the column so, "
            "or for one name a line let the file's name end in .txt",
        )
    elif twice := sorted({n for n in names if names.count(n) > 1}):
        faults.add(line, f"the column {_shown(twice[0])} stands twice in the header: remove one")
    else:
        _unknown_columns(names, partial(faults.add, line))
    return len(faults.lines) == before


def _unknown_columns(names: list[str], fault: Callable[[str], None]) -> None:
    for name in names:
        if name not in COLUMNS:
            near = ", ".join(errors.nearest(name[:100], COLUMNS))
            fault(f"unknown column {_shown(name)}: nearest are {near}; rename or remove it")


def _json_lines(text: str, faults: Faults) -> Iterator[tuple[int, Cells]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_once, parse_constant=files.no_number)
        except (ValueError, RecursionError) as e:
            faults.add(number, f"not JSON ({str(e)[:200]}): write one object a line")
            continue
        if not isinstance(value, dict):
            faults.add(number, "not a JSON object: write one object a line")
            continue
        _unknown_columns(list(value), partial(faults.add, number))
        yield number, value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = {name.strip().casefold(): value for name, value in pairs}
    if len(values) != len(pairs):
        raise ValueError("a name stands twice in it")
    return values


def _species(cells: Cells, label: int, fault: Callable[[str], None]) -> Species:
    """The species of one row; what is wrong with it is told to `fault`, and left out."""

    def text_of(column: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            fault(f"{column} is {_shown(json.dumps(value))}: it must be a text or a number")
            return ""
        return str(value).strip(" \u00a0\t")

    def one(column: str) -> str:
        return text_of(column, cells.get(column))

    def many(column: str) -> tuple[str, ...]:
        # A JSON list, or a text between semicolons.
        value = cells.get(column)
        parts = value if isinstance(value, list) else text_of(column, value).split(";")
        if len(parts) > MAX_NAMES:
            fault(f"{column} has {len(parts):,} entries, {MAX_NAMES} are allowed: keep the ones that matter")
            return ()
        return tuple(filter(None, (text_of(column, part) for part in parts)))

    def name(column: str, text: str) -> str:
        problem = _not_a_name(text) if text else ""
        if problem:
            fault(f"{column} {_shown(text)}: {problem}")
        return "" if problem else text

    def number(column: str, text: str, least: int) -> int | None:
        match = _NUMBER.fullmatch(text)
        if text and (not match or int(match[1]) < least):
            fault(f"{column} {_shown(text)} is not a number from {least} on: correct it, or leave it empty")
            return None
        return int(match[1]) if match else None

    def code(column: str, text: str, pattern: str) -> str:
        if text and not re.fullmatch(pattern, text):
            fault(f"{column} {_shown(text)} is not letters and digits alone: correct it, or leave it empty")
            return ""
        return text

    scientific = one("scientific_name")
    if problem := _not_a_binomial(scientific):
        fault(problem)
    place = number("label", one("label"), 0)
    if place is not None and place != label:
        fault(f"label {place}, but this is row {label}: labels are row numbers; leave the column out, or sort by it")
    ids = (number("former_inat_ids", text, 1) for text in many("former_inat_ids"))
    synonyms = [name("synonyms", text) for text in many("synonyms")]
    others = [name("other_names", text) for text in many("other_names")]
    return Species(
        label=label,
        scientific_name=scientific,
        common_name=name("common_name", one("common_name")),
        order=name("order", one("order")),
        family=name("family", one("family")),
        ebird_code=code("ebird_code", one("ebird_code"), r"[A-Za-z0-9]{1,20}"),
        inat_taxon_id=number("inat_taxon_id", one("inat_taxon_id"), 1),
        ssw60_label=number("ssw60_label", one("ssw60_label"), 0),
        vb100_class=code("vb100_class", one("vb100_class"), r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}") or None,
        synonyms=tuple(dict.fromkeys(filter(None, synonyms))),
        other_names=tuple(dict.fromkeys(filter(None, others))),
        former_inat_ids=tuple(dict.fromkeys(i for i in ids if i is not None)),
    )


def _not_a_name(text: str) -> str:
    """Why a text is no name, or ""."""
    if len(text) > MAX_NAME:
        return f"{len(text):,} characters, {MAX_NAME} are allowed: shorten it"
    if wrong := next((c for c in text if c not in _SIGNS and unicodedata.category(c)[0] not in "LMN"), None):
        return f"the character {_shown(wrong)} (U+{ord(wrong):04X}) stands in no name: remove it"
    if not any(unicodedata.category(c)[0] == "L" for c in text):
        return "a name has letters: correct it, or leave it empty"
    if text[0] in "-.,/&_":
        return f"a name does not begin with {text[0]!r}: remove it"
    return ""


def _not_a_binomial(text: str) -> str:
    if not text:
        return "no scientific name: add one, or remove the line"
    if _BINOMIAL.fullmatch(text) and len(text) <= MAX_NAME:
        return ""
    reason = f"{_shown(text)} is not a binomial: "
    words = re.split(r"[ _]+", text) if re.fullmatch(r"[A-Za-z_ -]{1,200}", text) else []
    if len(words) == 2:
        likely = f"{words[0].capitalize()} {words[1].casefold()}"
        if _BINOMIAL.fullmatch(likely):
            return reason + f"write genus and epithet, perhaps {likely!r}"
    return reason + "write genus and epithet, as 'Branta canadensis'"


def _shown(text: str) -> str:
    """A stranger's text in a message: short, on one line, nothing that a terminal obeys."""
    start = text[:60]
    return (repr(start) if start.isprintable() else ascii(start)) + ("..." if len(text) > 60 else "")


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
        return _load(self) if self.path else Loaded(shipped())

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


def read_list(path: Path | str) -> SpeciesList:
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
        when = "after the build" if wanted.exact else "since the work began: start again with the list as it is now"
        raise SourceError(f"{path} was changed {when}")
    species, lines = read_rows(path, data)
    faults = Faults(path)
    owners = _owners(species, lines, faults)
    completed_species, completed, notes = (
        (species, frozenset[int](), list[str]()) if wanted.exact else _completed(species, lines, owners, faults)
    )
    faults.check()
    digest = files.sha256_bytes(to_csv(completed_species).encode())
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
        for key in keys(one):
            label = owners.setdefault(key, one.label)
            if label == one.label or label in reported:
                continue
            reported.add(label)
            other, name = species[label], next((n for n in one.names() if key in name_keys(n)), key)
            if normalise(other.scientific_name) == normalise(one.scientific_name):
                what = f"{one.scientific_name} is in line {lines[label]} already: remove one of the two"
            else:
                what = (
                    f"{one.scientific_name} and {other.scientific_name} (line {lines[label]}) both answer to "
                    f"{name!r}: remove the name from one of them"
                )
            faults.add(lines[one.label], what)
    return owners


def _completed(
    species: list[Species], lines: list[int], owners: Mapping[str, int], faults: Faults
) -> tuple[list[Species], frozenset[int], list[str]]:
    """What the shipped table knows of these species, put where the list says nothing."""
    matches = _shipped_species(species, lines, faults)
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


def _shipped_species(species: list[Species], lines: list[int], faults: Faults) -> dict[int, Species]:
    """Label -> the shipped species of that scientific name; an older name counts where the new one is not listed."""
    ours = {normalise(s.scientific_name): s for s in all_species()}
    matches = {s.label: ours[key] for s in species if (key := normalise(s.scientific_name)) in ours}
    taken = {s.label for s in matches.values()}
    for one in species:
        if one.label in matches:
            continue
        other = shipped().find(one.scientific_name)
        if other is None:
            continue
        latin = {normalise(n) for n in (other.scientific_name, *other.synonyms)}
        if normalise(one.scientific_name) not in latin:
            faults.add(lines[one.label], f"{one.scientific_name!r} is an English name: write {other.scientific_name!r}")
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
