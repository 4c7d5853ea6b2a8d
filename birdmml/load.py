"""A built dataset, read in place: by Hugging Face's `datasets`, or row by row without it.

`datasets.load_dataset("birdmml")` is made to work by `install_name`, which wraps the one function of
`datasets` that turns a name into a folder.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.dataset import format
from birdmml.dataset.shards import Shards
from birdmml.errors import DatasetError, MediaError, UnknownName
from birdmml.media.audio import decode_clip
from birdmml.media.image import decode_image
from birdmml.schema import RATE_HZ

NAME = "birdmml"


def _note() -> Path:
    """The one thing birdmml remembers between runs: where the last build went."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "birdmml" / "last-build"


def last_build() -> Path | None:
    """The folder of the last successful `birdmml build`, if one is known."""
    try:
        text = _note().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError):
        return None  # No note, or no home: the caller looks elsewhere.
    return Path(text) if text else None


def remember_build(folder: Path) -> None:
    """Note where a build went; a home that cannot be written only costs the convenience."""
    with contextlib.suppress(OSError, RuntimeError):
        _note().parent.mkdir(parents=True, exist_ok=True)
        _note().write_text(f"{folder}\n", encoding="utf-8")


def find() -> Path:
    """Where the newest build is: $BIRDMML_DATA, else the last `birdmml build`, else ./data.

    Raises DatasetError saying how to get one if there is none.
    """
    named = os.environ.get("BIRDMML_DATA")
    if named:
        if not format.is_dataset(Path(named)):
            raise DatasetError(f"BIRDMML_DATA is {named!r}, which holds no finished dataset: unset it or build there")
        return Path(named)
    for folder in (last_build(), Path("data")):
        if folder is not None and format.is_dataset(folder):
            return folder
    raise DatasetError(
        "no Bird-MML dataset has been built here: run `birdmml build --out ./data` (an offline demo, 20 s), "
        "or set BIRDMML_DATA to a folder that birdmml has built"
    )


def load_dataset(name: str = NAME, **options: Any) -> Any:
    """`datasets.load_dataset` for the newest build ("birdmml") or a folder; options are passed on.

    Returns what `datasets` returns: a DatasetDict, a Dataset for one split, or their streaming kinds.
    Raises DatasetError if there is no finished dataset.
    """
    import datasets

    folder = find() if name == NAME else Path(name)
    format.read(folder)
    return datasets.load_dataset(str(folder.resolve()), **options)


def install_name(module: ModuleType) -> None:
    """Teach a loaded `datasets.load` the name "birdmml"; a second call changes nothing."""
    original = module.dataset_module_factory
    if getattr(original, "knows_birdmml", False):
        return

    @functools.wraps(original)
    def factory(path: str, *args: Any, **kwargs: Any) -> Any:
        # A folder ./birdmml (our own package in a checkout) must not answer to the name.
        return original(str(find().resolve()) if path == NAME else path, *args, **kwargs)

    factory.knows_birdmml = True  # type: ignore[attr-defined]  # a mark on a function
    vars(module)["dataset_module_factory"] = factory


def decode(value: Mapping[str, Any], at_least: int = 0) -> Any:
    """Arrays from a row, or from its image or audio cell; no torchcodec needed.

    `at_least` > 0 lets large JPEGs come smaller, with no side below so many px.

    A row comes back as a dict with `image` uint8 [H, W, 3] and `audio` float32 [T] (mono, 22,050 Hz)
    beside its other columns; a cell ({"bytes", "path"}) comes back as its array. Raises MediaError if
    the bytes are missing or damaged.
    """
    if "bytes" in value:
        name, data = str(value.get("path") or ""), value["bytes"] or b""
        is_sound = data[:4] in (b"fLaC", b"RIFF", b"OggS") or name.endswith((".flac", ".wav", ".ogg"))
        # WebP pictures start with RIFF, too.
        return _audio(value) if is_sound and data[8:12] != b"WEBP" else _image(value, at_least)
    row = dict(value)
    if "image" in row:
        row["image"] = _image(row["image"], at_least)
    if "audio" in row:
        row["audio"] = _audio(row["audio"])
    return row


def _image(cell: Any, at_least: int) -> NDArray[np.uint8]:
    if isinstance(cell, Mapping):
        return decode_image(_cell_bytes(cell), at_least=at_least)
    return np.asarray(cell.convert("RGB"))  # `datasets` has made a Pillow image of it.


def _audio(cell: Any) -> NDArray[np.float32]:
    if not isinstance(cell, Mapping) and hasattr(cell, "get_all_samples"):
        # `datasets` with torchcodec has made a decoder of it: [channels, T].
        return np.asarray(cell.get_all_samples().data.mean(0), dtype=np.float32)
    return decode_clip(_cell_bytes(cell), RATE_HZ)


def _cell_bytes(cell: Mapping[str, Any]) -> bytes:
    data = cell.get("bytes")
    if not data:
        raise MediaError("empty_file", f"the cell of {cell.get('path')!r} holds no bytes")
    return bytes(data)


@dataclass(frozen=True)
class Built:
    """A built dataset on disk, opened by its manifest. `caption` is the column that serves as the rows' text."""

    root: Path
    manifest: Mapping[str, Any]
    caption: str = "caption"

    @classmethod
    def open(cls, path: Path | str) -> Built:
        """Open a dataset folder; raises DatasetError if it is none or lacks a shard."""
        root = Path(path).expanduser().resolve()
        return cls(root, format.read(root))

    @property
    def digest(self) -> str:
        """The digest of the whole: equal digests mean equal data."""
        return str(self.manifest["digest"])

    @property
    def demo(self) -> bool:
        """Whether this is the procedurally generated demo and not Bird-MML."""
        return bool(self.manifest["demo"])

    def split(self, name: str) -> DatasetRows:
        """The rows of one split; raises UnknownName if the dataset has no such split."""
        return DatasetRows(self.paths(name), self.caption)

    def paths(self, split: str) -> list[Path]:
        """The Parquet files of one split, in the order of their rows; raises UnknownName."""
        splits = self.manifest["splits"]
        if split not in splits:
            raise UnknownName("split", split, splits, hint=f"{self.root} has {', '.join(splits)}")
        return [self.root / s["path"] for s in splits[split]["shards"]]


class DatasetRows:
    """The rows of one split by number; keeps one row group of media in memory at a time."""

    def __init__(self, paths: Sequence[Path], caption: str = "caption") -> None:
        self._shards, self._caption = Shards(paths, format.DATASET), caption

    def __len__(self) -> int:
        return len(self._shards)

    def column(self, name: str) -> list[Any]:
        """All values of one light column (not image or audio), in row order; "caption" is the chosen text."""
        return self._shards.column(self._caption if name == "caption" else name)

    def called(self) -> list[str]:
        """What each row's species is called: by its common name, or the scientific one where none is known."""
        names = zip(self.column("common_name"), self.column("species"), strict=True)
        return [common or scientific for common, scientific in names]

    def media(self, rows: Sequence[int], columns: Sequence[str] = ("image", "audio")) -> list[dict[str, Any]]:
        """Decoded media of the given rows, in the order given: image uint8 [H, W, 3], audio float32 [T].

        Raises MediaError naming the row if one cannot be decoded, DatasetError if a shard is damaged.
        """
        decoded = {row: decode_row(row, cells) for row, cells in self._cells(rows, columns)}
        return [decoded[int(row)] for row in rows]

    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self._shards.schemas[0].names) if self._shards.schemas else ()

    def blocks(self) -> list[tuple[int, int]]:
        """(rows, bytes of media) of each row group: what is read from disk at once, in row order."""
        blocks = []
        for group in self._shards.groups:
            columns = [group.column(i) for i in range(group.num_columns)]
            media = (c.total_compressed_size for c in columns if c.path_in_schema.endswith(".bytes"))
            blocks.append((group.num_rows, sum(media)))
        return blocks

    def cells(self, rows: Sequence[int], columns: Sequence[str] = ("image", "audio")) -> list[dict[str, Any]]:
        """Media of the given rows as they are stored, {"image": {"bytes", "path"}, ...}, in the order given."""
        stored = dict(self._cells(rows, columns))
        return [stored[int(row)] for row in rows]

    def _cells(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each of the rows once, in the order on disk."""
        numbers = sorted(set(map(int, rows)))
        for group, places, inside in self._shards.located(numbers):
            values = self._shards.group(group, list(columns)).take(inside).to_pylist()
            yield from zip((numbers[place] for place in places), values, strict=True)


def decode_row(row: int, cells: Mapping[str, Any], at_least: int = 0) -> dict[str, Any]:
    """`decode` of a whole row; raises MediaError naming it."""
    try:
        return dict(decode(cells, at_least))
    except MediaError as e:
        raise MediaError(e.reason, f"row {row}: {e.detail}; run `birdmml validate` on the dataset") from e
