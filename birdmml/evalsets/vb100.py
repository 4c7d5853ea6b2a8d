"""VB100, also spelt VE100: about 1,416 video clips of 100 species; the user's own copy, research only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection as Many
from collections.abc import Mapping

from birdmml.core.species import Species, all_species, resolve
from birdmml.errors import UnknownName
from birdmml.evalsets._annotations import (
    Annotations,
    Collection,
    Download,
    TableRow,
    count,
    lines,
    settle,
    whole_number,
)
from birdmml.schema import Card, Reject

CARD = Card(
    summary="Video clips of 100 bird species in two sides, some without sound: zero-shot and few-shot.",
    license="research only, no redistribution",
    citation="Ge et al., Exploiting Temporal Information for DCNN-based Fine-Grained Object Classification, DICTA 2016",
    url="https://arma.sourceforge.net/vb100/",
    modalities=("image", "audio"),
)
KIND = "media"
PROMPT = "{common_name}"
SPLITS = ("train", "test")
DOWNLOAD = Download("vb100_all_videos and vb100_annotations_v1", "about 1,416 clips", "", CARD.url, "for research only")
ARCHIVES = ("vb100", "ve100")
PUBLISHED = {"classes": 100, "videos": {"all": 1416}}
COLLECTIONS = (Collection("videos", "videos", "vb100_all_videos"),)
TABLES = ("train_video.txt", "test_video.txt")


def annotate(tables: Mapping[str, bytes], files: Many[str]) -> Annotations:
    """The set from its two lists and the paths that are there; raises EvalsetError for lists that are none.

    A line's raw label becomes its place among all raw labels, sorted as numbers; a class is called as its folder. A
    line whose folder and label do not go together elsewhere is rejected, for one of them must be wrong.
    """
    listed = [
        (where, _end(path), raw, whole_number(raw), table.partition("_")[0])
        for table in TABLES
        for where, path, raw in lines(table, tables)
    ]
    folder_of = _folders([(n, end.rpartition("/")[0]) for _, end, _, n, _ in listed if n is not None])
    label_of = {raw: label for label, raw in enumerate(folder_of)}
    by_end = {_end(file): file for file in sorted(files)}
    claims, rejects = list[TableRow](), list[Reject]()
    for where, end, raw, number, split in listed:
        file = by_end.get(end, f"{COLLECTIONS[0].folder}/{end}")
        name = end.rpartition(".")[0] or end
        if number is not None and folder_of.get(number) != end.rpartition("/")[0]:
            detail = f"{where}: label {raw} and this folder do not go together in the other lines"
            rejects.append(Reject(file, "label_disagrees", detail))
            name = ""
        claims.append(TableRow(where, name, None if number is None else label_of.get(number), raw, split, file))
    entries, bad = settle([c for c in claims if c.id], len(folder_of), SPLITS, files)
    names, taxa, notes = _names(list(folder_of.values()))
    return Annotations(
        names, {"videos": entries}, (*rejects, *bad), notes, taxa, {"videos": count(claims)},
        frozenset(c.file for c in claims),
    )  # fmt: skip


def _end(path: str) -> str:
    """Class folder and file: what lists and archives agree on, wherever the folders lay."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def _folders(lines: list[tuple[int, str]]) -> dict[int, str]:
    """Class folder by raw label, labels ascending.

    A folder goes with the label that most of its lines have, and a label with the folder that has most such lines; of
    equals the smaller label, the first folder in the alphabet. A label without a folder is a slip of the pen, no class.
    """
    votes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for raw, folder in lines:
        votes[folder][raw] += 1
    best: dict[int, tuple[int, str]] = {}
    for folder in sorted(votes):
        raw, lines_of_it = min(votes[folder].items(), key=lambda entry: (-entry[1], entry[0]))
        if raw not in best or lines_of_it > best[raw][0]:
            best[raw] = (lines_of_it, folder)
    return {raw: best[raw][1] for raw in sorted(best)}


def _names(folders: list[str]) -> tuple[tuple[str, ...], tuple[Mapping[str, object], ...], tuple[str, ...]]:
    """Today's common names where the taxonomy knows the folder's, else the folder's own; and which those are."""
    matches = [_species(folder) for folder in folders]
    twice = Counter(s.label for s in matches if s is not None)
    names, taxa, notes = list[str](), list[Mapping[str, object]](), list[str]()
    for label, (folder, species) in enumerate(zip(folders, matches, strict=True)):
        named = species if species is not None and twice[species.label] == 1 else None
        name = named.common_name if named else folder.replace("_", " ")
        if named is None:
            why = "is unknown to" if species is None else "shares its species with another class in"
            notes.append(f"class {label}, folder {folder}, {why} the taxonomy: it is called {name!r}")
        names.append(name)
        taxa.append({"label": label, "class_folder": folder, "scientific_name": named.scientific_name if named else ""})
    return tuple(names), tuple(taxa), tuple(notes)


def _species(folder: str) -> Species | None:
    if species := next((s for s in all_species() if s.vb100_class == folder), None):
        return species
    try:
        return resolve(folder)
    except UnknownName:
        return None
