"""A prepared set of arrays in the place of a built dataset: rows to train on and to score, sizes that follow from it.

Pictures [H, W] become [3, H, W] with the grey repeated, spectrograms [1, bands, frames]: what reaches an encoder is
what is stored. Features [T, D] stay as they are; "vision" is the image. A set without text of its own is described by
its prompt: "an image of a zero".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from birdmml import discover, settings
from birdmml.arrays import SPLITS, Field, Samples
from birdmml.arrayset import ArraySet
from birdmml.errors import EvalsetError, UsageError
from birdmml.load import Built
from birdmml.nn.presets import Preset
from birdmml.nn.read import RowSource
from birdmml.prepared import SetOnDisk, is_prepared
from birdmml.schema import MODALITIES

KIND = "evaluation set"
IMAGE, AUDIO, TEXT = MODALITIES
MODALITY = {"vision": IMAGE}
TRAIN, TEST = "train", "test"
# Random changes are meant for photos and log-mel in dB: a mirrored digit is another one, 6 dB more than white.
NO_CHANGES = (
    "training.augment.mirror=false",
    "training.augment.shift_px=0",
    "training.augment.roll_frames=0",
    "training.augment.gain_db=0.0",
)


class ModelData(Protocol):
    """What is trained on: a built dataset, or a prepared set of arrays."""

    @property
    def root(self) -> Path:
        """Its folder."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """At least "name" and "splits": {split: {"rows": N}}."""

    @property
    def caption(self) -> str:
        """The column that serves as the rows' text."""

    @property
    def digest(self) -> str:
        """Equal digests mean equal rows."""

    @property
    def demo(self) -> bool:
        """Whether it is made up."""

    def split(self, name: str) -> RowSource:
        """The rows of one split; raises UsageError if there is no such split."""


@dataclass(frozen=True)
class ArrayData(SetOnDisk):
    """A prepared set of arrays, as training and scoring want it; `manifest["splits"]` has the rows of each split."""

    arrays: ArraySet
    caption: str = "caption"

    @classmethod
    def open(cls, root: Path) -> ArrayData:
        """The set in a folder. Raises EvalsetError where it has nothing to train on, or modalities of other shapes."""
        stored = ArraySet.open(root.expanduser().resolve())
        rows = {s: {"rows": stored.rows(s)} for s in SPLITS if s in stored.splits}
        data = cls(stored.root, {**stored.manifest, "splits": rows}, stored)
        if data.name not in discover.names(KIND):
            raise EvalsetError(
                f"{root} is the set {data.name!r}, which this birdmml has not: see `birdmml list`"
            )
        if lacking := [s for s in (TRAIN, TEST) if s not in data.arrays.splits or not data.arrays.rows(s)]:
            raise EvalsetError(
                f"{root} has no {lacking[0]} rows to train and score with: prepare {data.name} again, with some"
            )
        modalities = (IMAGE, AUDIO) if data.prompt else MODALITIES
        if set(data.fields) != set(modalities) or not all(map(_is_usable, data.fields, data.fields.values())):
            shapes = ", ".join(f"{m} {f.shape}" for m, f in data.fields.items())
            raise EvalsetError(
                f"{root} holds {shapes}, not {', '.join(modalities)}: prepare {data.name} again"
            )
        return data

    @property
    def prompt(self) -> str:
        """What a class is called in a text; empty where texts are features."""
        if any(f.name == TEXT for f in self.arrays.fields):
            return ""
        return str(getattr(discover.load(KIND, self.name), "PROMPT", ""))

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The stored modalities under the names that models know them by."""
        return {MODALITY.get(f.name, f.name): f for f in self.arrays.fields}

    def split(self, name: str) -> SampleRows:
        """The rows of one split; raises UsageError if there is no such split."""
        return SampleRows(self, name)

    def sizes(self) -> dict[str, Any]:
        """The settings that follow from the shapes, as `--set` names them."""
        out: dict[str, Any] = {}
        for modality, f in self.fields.items():
            if f.steps:
                out[f"encoders.features.{modality}"], out["encoders.features.steps"] = f.shape[1], f.shape[0]
            elif modality == IMAGE:
                out["front_end.image_size"] = f.shape[0]
            else:
                out |= {"front_end.bands": f.shape[0], "front_end.frames": f.shape[1]}
                out |= {"front_end.db_centre": 0.0, "front_end.db_scale": 1.0}  # It is no longer in dB.
        return out


class SampleRows:
    """The rows of one split by number; one row group of values is in memory at a time."""

    def __init__(self, data: ArrayData, split: str) -> None:
        self._data, self._split, self._shards = data, split, data.arrays.shards(split)
        self._held: tuple[int, Samples] | None = None

    def __len__(self) -> int:
        return len(self._shards)

    def column(self, name: str) -> list[Any]:
        """ "id", "label" (an index), "species" (the class) or "caption", in row order; KeyError for any other."""
        if name == "id":
            return list(self._data.arrays.ids(self._split))
        classes, prompt = self._data.arrays.class_names, self._data.prompt
        # Without a prompt the text is features, and its caption is empty.
        captions = [prompt.format(common_name=c) for c in classes]
        values: Sequence[Any] = {"label": range(len(classes)), "species": classes, "caption": captions}[name]
        return [values[label] for label in self._data.arrays.labels(self._split)]

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        """Values of rows in the order given, float32: see the head of this file. Text features come with them."""
        modalities = [m for m in MODALITIES if m in {*kinds, TEXT} & set(self._data.fields)]
        values: list[dict[str, Any]] = [{} for _ in indices]
        for group, places, rows in self._shards.located(indices):
            samples = self._group(group)
            for place, row in zip(places, rows, strict=True):
                values[place] = {m: self._value(m, samples, row) for m in modalities}
        return values

    def _group(self, number: int) -> Samples:
        if self._held is None or self._held[0] != number:
            self._held = number, self._data.arrays.group(self._shards, number)
        return self._held[1]

    def _value(self, modality: str, samples: Samples, row: int) -> NDArray[np.float32]:
        f = self._data.fields[modality]
        value: NDArray[np.float32] = samples.arrays[f.name][row]
        return value if f.steps else np.repeat(value[None], 3 if modality == IMAGE else 1, axis=0)


def opened(path: Path) -> Built | ArrayData:
    """What lies in a folder: a built dataset, or a prepared set of arrays. Raises DatasetError or EvalsetError."""
    return ArrayData.open(path) if is_prepared(path.expanduser()) else Built.open(path)


def fitted(sizes: Preset, data: ModelData) -> Preset:
    """The preset with the sizes that `data` dictates, and without random changes that its arrays do not bear."""
    if not isinstance(data, ArrayData):
        return sizes
    return settings.override(sizes, [*NO_CHANGES, *(f"{k}={v}" for k, v in data.sizes().items())])


def check_sizes(sizes: Preset, data: ModelData) -> None:
    """Raise UsageError where a preset contradicts the shapes of a set of arrays."""
    if not isinstance(data, ArrayData):
        return
    for key, value in data.sizes().items():
        size = attrgetter(key)(sizes)
        if size != value:
            raise UsageError(f"{key} is {size}, but {data.name} has {value}: leave {key} out")


def _is_usable(modality: str, f: Field) -> bool:
    if f.steps or modality == TEXT:
        return f.steps and len(f.shape) == 2
    return len(f.shape) == 2 and (modality == AUDIO or f.shape[0] == f.shape[1])
