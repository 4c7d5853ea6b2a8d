"""How much a split leaks: groups on several sides of it, and the photos of evaluation sets to compare with."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.core.species import Taxonomy
from birdmml.dataset import format, split
from birdmml.dataset.caption_probe import caption_leakage, is_unknown
from birdmml.dataset.catalog import MediaColumns
from birdmml.dataset.recipe import Rules, generator
from birdmml.errors import BuildError, EvalsetError, MediaError
from birdmml.media import near
from birdmml.media.image import decode_image, phash
from birdmml.media.video import decode_video
from birdmml.schema import SPLITS

NEAR_DUPLICATE = "near_duplicate"
TRAIN, VALIDATION, TEST = (SPLITS.index(s) for s in ("train", "validation", "test"))

_PHOTOS = frozenset(".jpg .jpeg .jpe .mpo .png .webp .gif .bmp .tif .tiff .avif".split())
_VIDEOS = frozenset(".mp4 .m4v .mov .mkv .webm .avi".split())
_FRAMES = 8
_BATCH = 64


@dataclass(frozen=True)
class Leak:
    """What one kind of group tells about a split.

    `groups` lie in more than one split and hold `rows` rows. `test_share` and `validation_share` are the shares of
    those splits' rows whose group also has training rows, in [0, 1]; None where the split has no rows.
    """

    groups: int
    rows: int
    test_share: float | None
    validation_share: float | None


def split_leakage(
    split: NDArray[np.int8], keys: Mapping[str, NDArray[Any]], near: NDArray[np.int64] | None = None
) -> dict[str, Leak]:
    """The leak through each of `keys` (name -> [N]) and, as "near_duplicate", through `near` (components, [N]).

    `split` [N] holds indices into `schema.SPLITS`. Keys are strings or integers; an empty string, None or a negative
    integer is unknown and ties nothing. Raises BuildError for other keys, lengths or splits.
    """
    split = np.asarray(split)
    if len(split) and (split.min() < 0 or split.max() >= len(SPLITS)):
        raise BuildError(
            f"a split is numbered {split.min()} to {split.max()}: use 0 to {len(SPLITS) - 1}, in the order of SPLITS"
        )
    every = {**keys, NEAR_DUPLICATE: near} if near is not None else keys
    return {name: _leak(split, _numbered(name, np.asarray(key), len(split))) for name, key in every.items()}


def evalset_hashes(path: Path) -> tuple[NDArray[np.uint64], str]:
    """Perceptual hashes [K] of an evaluation set's photos, and in words what they are of.

    `path` is a built birdmml dataset (its column image_phash), a folder of parquet files with a column `image` of
    struct<bytes, path>, or a folder tree of photos or videos (the middle frames of eight segments each). Pictures that
    cannot be decoded are counted in the words. Raises EvalsetError where there is nothing to hash.
    """
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise EvalsetError(f"{path} {state}: name the folder of the evaluation set")
    hashed = _HashedMedia(path)
    if format.is_dataset(path):
        files = sorted((path / "data").glob("*.parquet"))
    else:
        files = sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
    tables = [(f, column) for f in files if f.suffix == ".parquet" and (column := _column(f))]
    if tables:
        for file, column in tables:
            _read_table(file, column, hashed)
    else:
        _read_files(files, hashed)
    if not hashed.hashes:
        raise EvalsetError(f"{path} {_nothing(files, hashed)}")
    words = " and ".join(f"{n:,} {kind}" for kind, n in sorted(hashed.kinds.items()))
    return np.array(hashed.hashes, dtype=np.uint64), f"{words}; {hashed.undecoded()}" if hashed.broken else words


@dataclass
class _HashedMedia:
    """The hashes so far, of what, and what could not be read."""

    root: Path
    hashes: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add_image(self, data: bytes | None, where: str, kind: str) -> None:
        try:
            self.hashes.append(int(phash(decode_image(data or b"")), 16))
            self.kinds[kind] += 1
        except MediaError as e:
            self.broken.append(f"{where}: {e}")

    def add_video(self, file: Path) -> None:
        try:
            self.hashes += [int(phash(frame), 16) for frame in decode_video(file, _FRAMES).frames]
            self.kinds[f"videos, {_FRAMES} frames of each"] += 1
        except MediaError as e:
            self.broken.append(f"{file.relative_to(self.root)}: {e}")

    def undecoded(self) -> str:
        return f"{len(self.broken):,} could not be decoded (first: {self.broken[0]})"


def _leak(split: NDArray[Any], group: NDArray[np.int64]) -> Leak:
    """`group` [N] numbers the groups from 0; -1 is unknown."""
    # A group of one split cannot leak; one that lies in validation and test alone leaks, but not from training.
    several = in_several_splits(split, group)
    trained = np.isin(group, np.unique(group[(split == TRAIN) & (group >= 0)]))

    def share(side: int) -> float | None:
        mine = split == side
        return float(trained[mine].mean()) if mine.any() else None

    return Leak(len(np.unique(group[several])), int(several.sum()), share(TEST), share(VALIDATION))


def in_several_splits(split: NDArray[Any], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows [N] whose group lies in more than one split; `group` [N] numbers the groups from 0, -1 is unknown."""
    tied = group >= 0
    sides = np.zeros((int(group.max(initial=-1)) + 1, len(SPLITS)), dtype=np.bool_)
    sides[group[tied], split[tied]] = True
    several = np.zeros(len(split), dtype=np.bool_)
    several[tied] = (sides.sum(axis=1) > 1)[group[tied]]
    return several


def _numbered(name: str, keys: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Group numbers from 0, -1 where the key is unknown, [N]."""
    if keys.shape != (n,):
        raise BuildError(f"the key {name} has shape {keys.shape} beside {n} rows: give one key a row")
    if keys.dtype.kind not in "iuUO" and n:
        raise BuildError(f"the key {name} is of type {keys.dtype}: give strings or integers")
    ids: dict[Any, int] = {}
    values: Sequence[Any] = keys.tolist()
    return np.array([-1 if is_unknown(k) else ids.setdefault(k, len(ids)) for k in values], dtype=np.int64)


def _column(file: Path) -> str:
    """Which column of a parquet file to take: image_phash, else image, else none ("")."""
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as e:
        raise EvalsetError(f"{file} cannot be read ({e}): fetch it again, or move it out of the folder") from e
    names = set(schema.names)
    if "image_phash" in names:
        return "image_phash"
    if "image" not in names:
        return ""
    kind = schema.field("image").type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise EvalsetError(f"{file}: its column image is {kind}; struct<bytes, path> is needed")
    return "image"


def _read_table(file: Path, column: str, hashed: _HashedMedia) -> None:
    kind = "photos in parquet files" if column == "image" else "photos of a built dataset"
    row = itertools.count()
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(_BATCH, columns=[column]):
                for value in batch.column(0).to_pylist():
                    where = f"{file.relative_to(hashed.root)} row {next(row)}"
                    if column == "image":
                        hashed.add_image((value or {}).get("bytes"), where, kind)
                    else:
                        hashed.hashes.append(_hash(value, where))
                        hashed.kinds[kind] += 1
    except (pa.ArrowException, OSError) as e:
        raise EvalsetError(f"{file} cannot be read ({e}): fetch it again") from e


def _hash(value: Any, where: str) -> int:
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != 8:
        raise EvalsetError(f"{where}: image_phash is {value!r}, not 16 hex digits: build the dataset again")
    return int.from_bytes(data, "big")


def _read_files(files: Sequence[Path], hashed: _HashedMedia) -> None:
    for file in files:
        if file.suffix.lower() in _PHOTOS:
            try:
                data = file.read_bytes()
            except OSError as e:
                raise EvalsetError(f"{file} cannot be read ({e}): check its permissions") from e
            hashed.add_image(data, str(file.relative_to(hashed.root)), "photos")
        elif file.suffix.lower() in _VIDEOS:
            hashed.add_video(file)


def _nothing(files: Sequence[Path], hashed: _HashedMedia) -> str:
    """Why there is no hash, and what to do."""
    wanted = "name a built dataset, or a folder of parquet files, photos or videos"
    if hashed.broken:
        return f"holds no picture that can be read: {hashed.undecoded()}; {wanted}"
    if not files:
        return f"holds no files: {wanted}"
    suffixes = Counter(f.suffix.lower() or "no suffix" for f in files).most_common(5)
    listed = ", ".join(f"{n:,} of {s}" for s, n in suffixes)
    return f"holds no photo, video or parquet file with a column image (found {listed}): {wanted}"


Light = tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64]]
# The probe's memory grows with these (33 kB each); its interval is +-1 % with 8,000.
MAX_CAPTIONS = 8_000


def near_duplicates(media: MediaColumns, radius: int) -> NDArray[np.int64]:
    """Component numbers [M] of photos that look alike (-1: a clip, or a photo like no other, or switched off)."""
    groups_of = np.full(len(media), -1, dtype=np.int64)
    photos = np.flatnonzero(media.kind == split.IMAGE)
    if radius >= 0 and len(photos):
        groups = near.near_groups(media.phash[photos], radius)
        _, first, count = np.unique(groups, return_inverse=True, return_counts=True)
        groups_of[photos] = np.where(count[first] > 1, photos[groups], -1)
    return groups_of


def held_out(media: MediaColumns, evalsets: Sequence[str], radius: int) -> NDArray[np.bool_] | None:
    """Which media [M] are photos that look like one of an evaluation set; None without evaluation sets."""
    if not evalsets:
        return None
    alike = np.zeros(len(media), dtype=np.bool_)
    photos = np.flatnonzero(media.kind == split.IMAGE)
    for folder in evalsets:
        hashes, _ = evalset_hashes(Path(folder).expanduser())
        alike[photos[near.near_between(media.phash[photos], hashes, max(radius, 0))[:, 0]]] = True
    return alike


def of_splits(
    media: MediaColumns, rows: Light, rules: Rules, seed: int, look_alikes: NDArray[np.int64]
) -> dict[str, Any]:
    """How much lies on two sides: as built, and as a row-wise split of the same rows would have it."""
    return {
        "built": rules.mode,
        "as_built": _measure(media, rows, look_alikes),
        "row_wise": _measure(media, _row_wise(media, rows, rules, seed), look_alikes),
    }


def _row_wise(media: MediaColumns, rows: Light, rules: Rules, seed: int) -> Light:
    """The source's own rows (or, without those, the ones built), each put into a split by itself."""
    shown = np.flatnonzero(media.partner >= 0)
    if len(shown):
        return split.row_wise(media, rules.fractions, seed)[shown], shown, media.partner[shown]
    _, image, audio = rows
    draw = generator(seed, "row-wise").random(len(image))
    return np.searchsorted(np.cumsum(rules.fractions)[:2], draw, side="right").astype(np.int8), image, audio


def _measure(media: MediaColumns, rows: Light, look_alikes: NDArray[np.int64]) -> dict[str, Any]:
    sides, image, audio = rows
    keys: Mapping[str, NDArray[Any]] = {
        "recording": _codes(media.group[audio]),
        "observation": _codes(media.group[image]),
        "image_bytes": _codes(media.sha[image]),
        "audio_bytes": _codes(media.sha[audio]),
        "photographer": _codes(media.author[image]),
        "recordist": _codes(media.author[audio]),
    }
    return {name: asdict(leak) for name, leak in split_leakage(sides, keys, look_alikes[image]).items()}


def _codes(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Small numbers for hashes [N]; -1 where nothing is known."""
    _, codes = np.unique(hashes, return_inverse=True)
    return np.where(hashes == 0, -1, codes)


def of_captions(
    root: Path, manifest: Mapping[str, Any], named: Mapping[str, Mapping[str, float]], taxonomy: Taxonomy
) -> dict[str, Any]:
    """Names in the captions, and what a bag of words tells of the species.

    `named` has the shares over all rows; the probe reads up to MAX_CAPTIONS of them, evenly, from the shards.
    """
    columns = ["caption", "caption_name_free", "label", "observation_id"]
    shards = [root / s["path"] for value in manifest["splits"].values() for s in value["shards"]]
    total = int(manifest["counts"]["rows"])
    # Every k-th row, so that memory does not grow with the dataset.
    step = max(1, -(-total // MAX_CAPTIONS))
    taken: dict[str, list[Any]] = {c: [] for c in columns}
    start = 0
    for shard in shards:
        for batch in pq.ParquetFile(shard).iter_batches(4096, columns=columns):
            mine = np.arange(-start % step, batch.num_rows, step)
            for name in columns:
                taken[name] += batch[name].take(mine).to_pylist()
            start += batch.num_rows
    labels = np.array(taken["label"], dtype=np.int64)
    _, groups = np.unique(np.array(taken["observation_id"], dtype=object).astype(str), return_inverse=True)
    species = {label: taxonomy.by_label(label) for label in np.unique(labels).tolist()}
    return {
        name: {**caption_leakage(taken[name], labels, groups, species), **named[name], "n": total}
        for name in ("caption", "caption_name_free")
    }
