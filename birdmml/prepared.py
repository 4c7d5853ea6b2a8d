"""A prepared evaluation set, read in place: `birdmml prepare` writes it once, evaluation reads it in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml import files
from birdmml.errors import EvalsetError, MediaError, UnknownName
from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image

MANIFEST = "manifest.json"
KIND = "evaluation set"
SCHEMA_VERSION = 1
ALL = "all"
_AT_ONCE = 16  # Rows of media held in memory.
_KEYS = ("birdmml_version", "name", "demo", "classes", "collections", "settings", "digest")

Item = Any  # A Film, uint8 [H, W, 3], float32 [T], or for arrays the stored columns as a dict.


@dataclass(frozen=True)
class Film:
    """One video; media are decoded when they are asked for. Times in s, frames per second as the file says."""

    id: str
    duration_s: float
    fps: float
    sweep_s: tuple[float, ...]
    cells: Mapping[str, Any]

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """The middles of eight equal segments, uint8 [F, H, W, 3]."""
        return np.stack([_picture(cell, self.id) for cell in self.cells["frames"]])

    @cached_property
    def sweep(self) -> NDArray[np.uint8]:
        """The frames at `sweep_s`, uint8 [K, H, W, 3]; K is 0 for a video shorter than the first of them."""
        found = [_picture(cell, self.id) for cell in self.cells["sweep"]]
        return np.stack(found) if found else np.zeros((0, *self.frames.shape[1:]), np.uint8)

    @cached_property
    def audio(self) -> NDArray[np.float32] | None:
        """Mono float32 [T] at 22,050 Hz; None where the video has no audio track."""
        cell = self.cells["audio"]
        return None if cell is None else _sound(cell, self.id)


class Rows:
    """The rows of one collection and split, in the order of the provider's table; iterate for decoded items.

    `ids` and `labels` (int64 [N]) are in memory. Iteration holds a few rows of media at a time and can be repeated.
    It raises MediaError naming the row, or EvalsetError for a damaged shard.
    """

    def __init__(self, kind: str, paths: list[Path]) -> None:
        self.kind, self._paths = kind, paths
        light = [_open(p).read(columns=["id", "label"]) for p in paths]
        self.ids: tuple[str, ...] = tuple(v for t in light for v in t.column("id").to_pylist())
        labels = [v for t in light for v in t.column("label").to_pylist()]
        self.labels: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Item]:
        for row in self.cells():
            yield _item(self.kind, row)

    def cells(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows as they are stored: media as {"bytes", "path"}; only some `columns` if given."""
        for path in self._paths:
            file = _open(path)
            try:
                for batch in file.iter_batches(_AT_ONCE, columns=columns):
                    yield from batch.to_pylist()
            except (OSError, pa.ArrowException) as e:
                raise EvalsetError(f"{path} is damaged ({e}): prepare the set again") from e


@dataclass(frozen=True)
class Prepared:
    """A prepared evaluation set on disk, opened by its manifest."""

    root: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Prepared:
        """Open a folder that `birdmml prepare` has written; raises EvalsetError with the next step if it is none."""
        root = Path(path).expanduser().resolve()
        return cls(root, read_manifest(root))

    @property
    def name(self) -> str:
        """The evaluation set's name: ssw60, vb100, ..."""
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """Equal digests mean equal classes, settings and rows."""
        return str(self.manifest["digest"])

    @property
    def demo(self) -> bool:
        """Whether it was made from a fake and says nothing about birds."""
        return bool(self.manifest["demo"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Common names; labels are indices into them."""
        return tuple(self.manifest["classes"])

    def collections(self) -> tuple[str, ...]:
        """Names of what is in it: videos, audio, images, ..."""
        return tuple(self.manifest["collections"])

    def kind(self, collection: str) -> str:
        """ "videos", "images", "audio" or "arrays"; raises UnknownName."""
        return str(self._collection(collection)["kind"])

    def splits(self, collection: str) -> tuple[str, ...]:
        """The provider's splits of a collection, "all" not among them; raises UnknownName."""
        return tuple(self._collection(collection)["splits"])

    def rows(self, collection: str, split: str = "test") -> Rows:
        """The rows of a split, or of all splits one after the other ("all").

        Raises UnknownName for a collection or split that is not there, EvalsetError for a shard that is missing.
        """
        return Rows(self.kind(collection), self.paths(collection, split))

    def paths(self, collection: str, split: str = "test") -> list[Path]:
        """The Parquet files of a split, or of all splits, in the order of their rows; raises UnknownName."""
        told = self._collection(collection)
        if split != ALL and split not in told["splits"]:
            raise UnknownName("split", split, (*told["splits"], ALL), hint=f"of {collection} in {self.root}")
        names = told["splits"] if split == ALL else (split,)
        return [self.root / s["path"] for n in names for s in told["splits"][n]["shards"]]

    def _collection(self, name: str) -> Mapping[str, Any]:
        collections: Mapping[str, Any] = self.manifest["collections"]
        if name not in collections:
            raise UnknownName("collection", name, collections, hint=f"of {self.root}")
        return dict(collections[name])


def digest(classes: Sequence[str], settings: Mapping[str, Any], collections: Mapping[str, Any]) -> str:
    """The digest of a set: over its class names, its settings and the hashes of its shards."""
    shards = {
        name: {split: [s["sha256"] for s in told["shards"]] for split, told in value["splits"].items()}
        for name, value in collections.items()
    }
    return files.digest({"classes": list(classes), "settings": dict(settings), "shards": shards})


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a finished evaluation set."""
    try:
        read_manifest(folder)
    except EvalsetError:
        return False
    return True


def claims(folder: Path) -> bool:
    """Whether a folder's manifest calls itself that of an evaluation set, sound or not."""
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("kind") == KIND


def validate(path: Path | str) -> tuple[str, ...]:
    """What is wrong with a prepared set, a line each: digest, shards, hashes, rows; empty if it is sound.

    Raises EvalsetError if there is no set to look at.
    """
    prepared = Prepared.open(path)
    told, root = prepared.manifest, prepared.root
    problems = []
    if digest(list(told["classes"]), told["settings"], told["collections"]) != told["digest"]:
        problems.append(f"{MANIFEST}: was changed after it was written: its digest differs")
    listed = set()
    for name, value in told["collections"].items():
        for split, part in value["splits"].items():
            for shard in part["shards"]:
                listed.add(shard["path"])
                problems += _shard_problems(root, shard)
            if (rows := sum(s["rows"] for s in part["shards"])) != part["rows"]:
                problems.append(f"{name}/{split}: {part['rows']} rows, {rows} in its shards")
    for found in sorted((root / "data").rglob("*.parquet")):
        if (relative := found.relative_to(root).as_posix()) not in listed:
            problems.append(f"{relative}: not in the manifest")
    return tuple(problems)


def _shard_problems(root: Path, shard: Mapping[str, Any]) -> list[str]:
    name, path = shard["path"], root / shard["path"]
    if not path.is_file():
        return [f"{name}: listed in the manifest, not there"]
    if path.stat().st_size != shard["bytes"] or files.sha256_file(path) != shard["sha256"]:
        return [f"{name}: was changed after it was written: its SHA-256 differs"]
    try:
        rows = _open(path).metadata.num_rows
    except EvalsetError:
        return [f"{name}: is not a readable Parquet file"]
    return [] if rows == shard["rows"] else [f"{name}: {rows} rows, the manifest says {shard['rows']}"]


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a prepared set of any kind; raises EvalsetError with the next step."""
    again = "run `birdmml prepare NAME --from PATH --out DIR`; see `birdmml list` for the names"
    if not root.is_dir():
        raise EvalsetError(f"no evaluation set at {root}: {again}")
    path = root / MANIFEST
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise EvalsetError(f"{root} has no {MANIFEST}, so it is no finished evaluation set: {again}") from e
    except (OSError, ValueError, RecursionError) as e:
        raise EvalsetError(f"{path} cannot be read ({e}): prepare the set again") from e
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise EvalsetError(f"{path} is not that of an evaluation set: {again}")
    if lacking := [k for k in _KEYS if k not in told]:
        raise EvalsetError(f"{path} lacks {lacking[0]!r}: prepare the set again")
    if told.get("schema_version") != SCHEMA_VERSION:
        raise EvalsetError(
            f"{path} has schema version {told.get('schema_version')}, this birdmml reads {SCHEMA_VERSION}: "
            "prepare the set again with this version"
        )
    _check_shards(path, told)
    return told


def _check_shards(path: Path, told: Mapping[str, Any]) -> None:
    """Raise EvalsetError for a manifest whose inside has another form, or whose shards would lie elsewhere."""
    try:
        shards = [s for c in told["collections"].values() for p in c["splits"].values() for s in p["shards"]]
        paths = [Path(s["path"]) for s in shards]
        sound = all(isinstance(s[k], int) for s in shards for k in ("rows", "bytes"))
        whole = all(isinstance(name, str) for name in told["classes"]) and isinstance(told["settings"], dict)
    except (KeyError, TypeError, AttributeError) as e:
        raise EvalsetError(
            f"{path} garbles its shards ({type(e).__name__}: {e}): prepare the set again"
        ) from e
    if not whole:
        raise EvalsetError(f"{path} garbles its classes or settings: prepare the set again")
    if not sound:
        raise EvalsetError(f"{path} garbles the rows or bytes of a shard: prepare the set again")
    if outside := [str(p) for p in paths if p.is_absolute() or ".." in p.parts]:
        raise EvalsetError(f"{path} names {outside[0]!r}, outside of the set: prepare it again")


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError as e:
        raise EvalsetError(f"{path} is missing though the manifest lists it: prepare the set again") from e
    except (OSError, ValueError) as e:
        raise EvalsetError(f"{path} is not a readable Parquet file ({e}): prepare the set again") from e


def _item(kind: str, row: Mapping[str, Any]) -> Item:
    if kind == "videos":
        return Film(row["id"], row["duration_s"], row["fps"], tuple(row["sweep_s"]), row)
    if kind == "images":
        return _picture(row["image"], row["id"])
    if kind == "audio":
        return _sound(row["audio"], row["id"])
    return dict(row)


def _picture(cell: Mapping[str, Any], row: str) -> NDArray[np.uint8]:
    try:
        return decode_image(cell["bytes"] or b"")
    except MediaError as e:
        raise MediaError(e.reason, f"row {row}: {e.detail}; prepare the set again") from e


def _sound(cell: Mapping[str, Any], row: str) -> NDArray[np.float32]:
    try:
        return decode_clip(cell["bytes"] or b"")
    except MediaError as e:
        raise MediaError(e.reason, f"row {row}: {e.detail}; prepare the set again") from e
