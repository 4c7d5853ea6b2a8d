"""CUB-200-2011: 11,788 photos of 200 species, images only; the user's own copy, research only."""

from __future__ import annotations

import re
from collections.abc import Collection as Many
from collections.abc import Mapping

from birdmml.errors import EvalsetError
from birdmml.evalsets._annotations import (
    Annotations,
    Collection,
    Download,
    TableRow,
    count,
    lines,
    settle,
    text,
    whole_number,
)
from birdmml.schema import Card

CARD = Card(
    summary="Photos of 200 bird species with the published split, for the few-shot suite.",
    license="research only, no redistribution",
    citation="Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, Technical Report CNS-TR-2011-001, 2011",
    url="https://data.caltech.edu/records/65de6-vp158",
    modalities=("image",),
)
KIND = "media"
PROMPT = "{common_name}"
SPLITS = ("train", "test")
DOWNLOAD = Download("CUB_200_2011.tgz", "1.1 GB", "97eceeb196236b17998738112f37df78", CARD.url, "for research only")
ARCHIVES = ("cub_200_2011", "cub200", "cub-200")
PUBLISHED = {"classes": 200, "images": {"train": 5994, "test": 5794}}
COLLECTIONS = (Collection("images", "images", "images"),)
TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")

_CLASS = re.compile(r"([0-9]{3})\.")
_DIGITS = re.compile(r"[0-9]+")


def annotate(tables: Mapping[str, bytes], files: Many[str]) -> Annotations:
    """The set from its tables and the paths that are there; raises EvalsetError for tables that do not fit together."""
    classes = []
    for i, (where, number, name) in enumerate(_pairs("classes.txt", tables), 1):
        if number != str(i) or not _CLASS.match(name):
            raise EvalsetError(f"{where}: `{i} {i:03d}.Name` is expected, found `{number} {name}`: get the table again")
        classes.append(name[4:].replace("_", " "))  # Behind "NNN.".
    labels, sides = _by_id("image_class_labels.txt", tables), _by_id("train_test_split.txt", tables)
    like = {key: file for file in sorted(files) if (key := _key(file))}
    claims, respelt = [], 0
    for where, number, name in _pairs("images.txt", tables):
        file = f"images/{name}"
        if file not in files and (other := like.get(_key(file))):
            file, respelt = other, respelt + 1
        raw, side = labels.get(number, ""), sides.get(number, "")
        value = whole_number(raw)
        split = {"1": "train", "0": "test"}.get(side, side)
        claims.append(TableRow(where, number, value - 1 if value else None, raw, split, file))
    entries, rejects = settle(claims, len(classes), SPLITS, files)
    notes = [f"{respelt:,} files lie under another spelling than images.txt has"] if respelt else []
    return Annotations(
        tuple(classes), {"images": entries}, rejects, tuple(notes), (), {"images": count(claims)},
        frozenset(c.file for c in claims),
    )  # fmt: skip


def _pairs(table: str, tables: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
    """(where, number, rest) of a table whose lines begin with a number. Raises EvalsetError."""
    text(table, tables)
    pairs = [(where, first.strip(), second) for where, first, second in lines(table, tables)]
    for where, number, _ in pairs:
        if whole_number(number) is None:
            raise EvalsetError(f"{where}: a number is expected first, found {number[:40]!r}: get the table again")
    return pairs


def _by_id(table: str, tables: Mapping[str, bytes]) -> dict[str, str]:
    """Value by image id; an id that stands twice with two values has none."""
    paths: dict[str, str] = {}
    for _, number, value in _pairs(table, tables):
        paths[number] = value if paths.get(number, value) == value else ""
    return paths


def _key(file: str) -> str:
    """Class number and the numbers in a file's name: the same in copies that spell the folders otherwise."""
    parts = file.split("/")
    numbered = _CLASS.match(parts[-2]) if len(parts) > 2 else None
    digits = _DIGITS.findall(parts[-1])
    return "/".join([numbered[1], *digits]) if numbered and digits else ""
