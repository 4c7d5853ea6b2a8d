"""A prepared evaluation set, read in place: `birdmml prepare` writes it once, evaluation reads it in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from birdmml import __version__
from birdmml.core import files
from birdmml.dataset.format import MANIFEST, FolderKind, check_version, read_json
from birdmml.dataset.shards import Shards
from birdmml.errors import EvalsetError, MediaError, UnknownName
from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image

KIND = "evaluation set"
SCHEMA_VERSION = 1
EVALSET = FolderKind(KIND, SCHEMA_VERSION, EvalsetError, "prepare the set again")
ALL = "all"
_AT_ONCE = 16  # Rows of media held in memory.
_KEYS = ("birdmml_version", "name", "demo", "classes", "collections", "settings", "digest")

# Kinds of collections of one medium a row: its column, and what decodes it.
_MEDIA: dict[str, tuple[str, Callable[[bytes], NDArray[Any]]]] = {
    "images": ("image", decode_image),
    "audio": ("audio", decode_clip),
}
T = TypeVar("T")
Item = Any  # A PreparedFilm, uint8 [H, W, 3], float32 [T], or for arrays the stored columns as a dict.


@dataclass(frozen=True)
class PreparedFilm:
    """One video; media are decoded when they are asked for. Times in s, frames per second as the file says."""

    id: str
    duration_s: float
    fps: float
    sweep_s: tuple[float, ...]
    cells: Mapping[str, Any]

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """The middles of eight equal segments, uint8 [F, H, W, 3]."""
        return np.stack([_decoded(decode_image, cell, self.id) for cell in self.cells["frames"]])

    @cached_property
    def sweep(self) -> NDArray[np.uint8]:
        """The frames at `sweep_s`, uint8 [K, H, W, 3]; K is 0 for a video shorter than the first of them."""
        pictures = [_decoded(decode_image, cell, self.id) for cell in self.cells["sweep"]]
        return np.stack(pictures) if pictures else np.zeros((0, *self.frames.shape[1:]), np.uint8)

    @cached_property
    def audio(self) -> NDArray[np.float32] | None:
        """Mono float32 [T] at 22,050 Hz; None where the video has no audio track."""
        cell = self.cells["audio"]
        return None if cell is None else _decoded(decode_clip, cell, self.id)


class PreparedRows:
    """The rows of one collection and split, in the order of the provider's table; iterate for decoded items.

    `ids` and `labels` (int64 [N]) are in memory. Iteration holds a few rows of media at a time and can be repeated.
    It raises MediaError naming the row, or EvalsetError for a damaged shard.
    """

    def __init__(self, kind: str, paths: list[Path]) -> None:
        self.kind, self._shards = kind, Shards(paths, EVALSET)
        self.ids: tuple[str, ...] = tuple(self._shards.column("id"))
        self.labels: NDArray[np.int64] = np.asarray(self._shards.column("label"), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Item]:
        for row in self.cells():
            if self.kind == "videos":
                yield PreparedFilm(row["id"], row["duration_s"], row["fps"], tuple(row["sweep_s"]), row)
            elif self.kind in _MEDIA:
                column, decode = _MEDIA[self.kind]
                yield _decoded(decode, row[column], row["id"])
            else:
                yield row

    def cells(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows as they are stored: media as {"bytes", "path"}; only some `columns` if given."""
        for batch in self._shards.batches(_AT_ONCE, columns):
            yield from batch.to_pylist()


@dataclass(frozen=True)
class SetOnDisk:
    """What is the same of evaluation sets of all kinds: what their manifest says."""

    root: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The evaluation set's name: ssw60, mosi, ..."""
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """Hex SHA-256; equal digests mean equal classes, settings and rows."""
        return str(self.manifest["digest"])

    @property
    def demo(self) -> bool:
        """Whether it was made from a fake and says nothing about birds."""
        return bool(self.manifest["demo"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, birds by their common names; labels are indices into them."""
        return tuple(self.manifest["classes"])


@dataclass(frozen=True)
class Prepared(SetOnDisk):
    """A prepared evaluation set on disk, opened by its manifest."""

    @classmethod
    def open(cls, path: Path | str) -> Prepared:
        """Open a folder that `birdmml prepare` has written; raises EvalsetError with the next step if it is none."""
        root = Path(path).expanduser().resolve()
        return cls(root, read_manifest(root))

    def collections(self) -> tuple[str, ...]:
        """Names of what is in it: videos, audio, images, ..."""
        return tuple(self.manifest["collections"])

    def kind(self, collection: str) -> str:
        """ "videos", "images", "audio" or "arrays"; raises UnknownName."""
        return str(self._collection(collection)["kind"])

    def splits(self, collection: str) -> tuple[str, ...]:
        """The provider's splits of a collection, "all" not among them; raises UnknownName."""
        return tuple(self._collection(collection)["splits"])

    def rows(self, collection: str, split: str = "test") -> PreparedRows:
        """The rows of a split, or of all splits one after the other ("all").

        Raises UnknownName for a collection or split that is not there, EvalsetError for a shard that is missing.
        """
        return PreparedRows(self.kind(collection), self.paths(collection, split))

    def paths(self, collection: str, split: str = "test") -> list[Path]:
        """The Parquet files of a split, or of all splits, in the order of their rows; raises UnknownName."""
        splits = self._collection(collection)["splits"]
        if split != ALL and split not in splits:
            raise UnknownName("split", split, (*splits, ALL), hint=f"of {collection} in {self.root}")
        names = splits if split == ALL else (split,)
        return [self.root / s["path"] for n in names for s in splits[n]["shards"]]

    def _collection(self, name: str) -> Mapping[str, Any]:
        collections: Mapping[str, Any] = self.manifest["collections"]
        if name not in collections:
            raise UnknownName("collection", name, collections, hint=f"of {self.root}")
        return dict(collections[name])


def digest(classes: Sequence[str], settings: Mapping[str, Any], collections: Mapping[str, Any]) -> str:
    """The digest of a set: over its class names, its settings and the hashes of its shards."""
    shards = {
        name: {split: [s["sha256"] for s in part["shards"]] for split, part in value["splits"].items()}
        for name, value in collections.items()
    }
    return files.digest({"classes": list(classes), "settings": dict(settings), "shards": shards})


def manifest_head(name: str, demo: bool, class_names: Sequence[str]) -> dict[str, Any]:
    """How the manifest of a set of any kind begins."""
    return {
        "birdmml_version": __version__,
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "demo": demo,
        "classes": list(class_names),
    }


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
        manifest = read_json(folder, EVALSET, "")
    except EvalsetError:
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == KIND


def validate(path: Path | str) -> tuple[str, ...]:
    """What is wrong with a prepared set, a line each: digest, shards, hashes, rows; empty if it is sound.

    Raises EvalsetError if there is no set to look at.
    """
    prepared = Prepared.open(path)
    manifest, root = prepared.manifest, prepared.root
    problems = []
    if digest(manifest["classes"], manifest["settings"], manifest["collections"]) != manifest["digest"]:
        problems.append(f"{MANIFEST}: was changed after it was written: its digest differs")
    listed = set()
    for name, value in manifest["collections"].items():
        for split, part in value["splits"].items():
            for shard in part["shards"]:
                listed.add(shard["path"])
                problems += _shard_problems(root, shard)
            if (rows := sum(s["rows"] for s in part["shards"])) != part["rows"]:
                problems.append(f"{name}/{split}: {part['rows']} rows, {rows} in its shards")
    for file in sorted((root / "data").rglob("*.parquet")):
        if (relative := file.relative_to(root).as_posix()) not in listed:
            problems.append(f"{relative}: not in the manifest")
    return tuple(problems)


def _shard_problems(root: Path, shard: Mapping[str, Any]) -> list[str]:
    name, path = shard["path"], root / shard["path"]
    if not path.is_file():
        return [f"{name}: listed in the manifest, not there"]
    if path.stat().st_size != shard["bytes"] or files.sha256_file(path) != shard["sha256"]:
        return [f"{name}: was changed after it was written: its SHA-256 differs"]
    try:
        rows = len(Shards([path], EVALSET))
    except EvalsetError:
        return [f"{name}: is not a readable Parquet file"]
    return [] if rows == shard["rows"] else [f"{name}: {rows} rows, the manifest says {shard['rows']}"]


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a prepared set of any kind; raises EvalsetError with the next step."""
    get_one = "run `birdmml prepare NAME --from PATH --out DIR`; see `birdmml list` for the names"
    manifest, path = read_json(root, EVALSET, get_one), root / MANIFEST
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise EvalsetError(f"{path} is not that of an evaluation set: {get_one}")
    if lacking := [k for k in _KEYS if k not in manifest]:
        raise EvalsetError(f"{path} lacks {lacking[0]!r}: {EVALSET.again}")
    check_version(root, manifest, EVALSET)
    _check_shards(path, manifest)
    return manifest


def _check_shards(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise EvalsetError for a manifest whose inside has another form, or whose shards would lie elsewhere."""
    try:
        collections = manifest["collections"].values()
        shards = [s for c in collections for p in c["splits"].values() for s in p["shards"]]
        # Windows takes a colon or a backslash in a name for more than a part of it.
        outside = [
            name
            for name in (shard["path"] for shard in shards)
            if (inner := PurePosixPath(name)).is_absolute() or ".." in inner.parts or "\\" in name or ":" in name
        ]
        counted = all(isinstance(s[k], int) for s in shards for k in ("rows", "bytes"))
        described = all(isinstance(n, str) for n in manifest["classes"]) and isinstance(manifest["settings"], dict)
    except (KeyError, TypeError, AttributeError) as e:
        raise EvalsetError(f"{path} garbles its shards ({type(e).__name__}: {e}): prepare the set again") from e
    if not described:
        raise EvalsetError(f"{path} garbles its classes or settings: prepare the set again")
    if not counted:
        raise EvalsetError(f"{path} garbles the rows or bytes of a shard: prepare the set again")
    if outside:
        raise EvalsetError(f"{path} names {outside[0]!r}, outside of the set: prepare it again")


def _decoded(decode: Callable[[bytes], T], cell: Mapping[str, Any], row: str) -> T:
    try:
        return decode(cell["bytes"] or b"")
    except MediaError as e:
        raise MediaError(e.reason, f"row {row}: {e.detail}; prepare the set again") from e
