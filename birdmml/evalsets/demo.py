"""The demo's videos: drawn birds that move and sing, laid out like SSW60; written by `birdmml build`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from birdmml.errors import EvalsetError, UsageError
from birdmml.schema import Card

CARD = Card(
    summary="Little films of the demo's birds under its known ceilings: a demonstration, not data about birds.",
    license="CC0-1.0",
    citation="birdmml demo generator: films and sounds are computed, nothing was observed.",
    url="",
    modalities=("image", "audio"),
)
PROMPT = "{common_name}"
SPLITS = ("test", "all")

_TAXA = ("label", "common_name", "scientific_name")
_VIDEOS = ("asset_id", "label", "split")


@dataclass(frozen=True)
class VideoItem:
    """One video; `label` is an index into `class_names(root)`, `path` is what `media.video.decode_video` takes."""

    id: str
    label: int
    path: Path


def class_names(root: Path) -> tuple[str, ...]:
    """Common names in the order of taxa.csv, whose labels count from 0; raises EvalsetError."""
    path = root / "taxa.csv"
    rows = _rows(path, _TAXA)
    for number, row in enumerate(rows):
        if row["label"] != str(number):
            raise EvalsetError(
                f"{path}: row {number + 1} has label {row['label']!r} instead of {number}: {_again(root)}"
            )
    return tuple(row["common_name"] for row in rows)


def items(root: Path, split: str = "test") -> tuple[VideoItem, ...]:
    """The videos of `split` (test or all), in the order of video_ml.csv.

    Raises EvalsetError if a table or a video is missing or a label is unknown: an evaluation on part of
    the set would not be comparable.
    """
    if split not in SPLITS:
        raise UsageError(f"the demo evaluation set has no split {split!r}: choose one of {', '.join(SPLITS)}")
    path = root / "video_ml.csv"
    classes = len(class_names(root))
    films = [_item(root, path, row, classes) for row in _rows(path, _VIDEOS) if split in ("all", row["split"])]
    if not films:
        raise EvalsetError(f"{path} lists no video of split {split!r}: {_again(root)}")
    return tuple(films)


def _item(root: Path, table: Path, row: dict[str, str], classes: int) -> VideoItem:
    name, label = row["asset_id"], row["label"]
    # A name with a folder in it could point outside the set.
    if not name or Path(name).name != name:
        raise EvalsetError(f"{table}: asset_id {name!r} is not a plain name: {_again(root)}")
    if not label.isdecimal() or int(label) >= classes:
        raise EvalsetError(f"{table}: {name} has label {label!r}, taxa.csv has {classes} classes: {_again(root)}")
    path = root / "video_ml" / f"{name}.mp4"
    if not path.is_file():
        raise EvalsetError(f"{path} is missing though video_ml.csv lists it: {_again(root)}")
    return VideoItem(name, int(label), path)


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as f:
            reader = csv.DictReader(f)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            # A short row leaves None in its last columns; no cell is not the same as any cell.
            rows = [{k: v or "" for k, v in row.items() if k is not None} for row in reader]
    except FileNotFoundError as e:
        raise EvalsetError(f"{path} is missing: {_again(path.parent)}") from e
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise EvalsetError(f"{path} cannot be read ({e}): {_again(path.parent)}") from e
    if missing:
        raise EvalsetError(f"{path} has no column {', '.join(missing)}: {_again(path.parent)}")
    if not rows:
        raise EvalsetError(f"{path} has no rows: {_again(path.parent)}")
    return rows


def _again(root: Path) -> str:
    # root is <dataset>/evalsets/demo.
    where = root.parent.parent if root.parts[-2:] == ("evalsets", "demo") else Path("DIR")
    return f"rebuild the demo with `birdmml build --out {where}`"
