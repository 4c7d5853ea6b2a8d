"""Prepared evaluation sets of videos or images as subjects: read in place, embedded in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.embed import Embeddings
from birdmml.errors import EvalsetError, UsageError
from birdmml.materials import Embeds, bar, corruption_of
from birdmml.nn.read import sample
from birdmml.prepared import Prepared, PreparedFilm, PreparedRows
from birdmml.suites._material import Request, Subject, subject_label

MEAN = "mean"
HEARD = {"videos": ("image", "audio"), "images": ("image",)}
CLOSE_S = 1e-6


class PreparedSet:
    """One collection of a set that `birdmml prepare` has written; opened by its manifest, media read when embedded."""

    def __init__(self, prepared: Prepared, collection: str) -> None:
        self._set, self._collection = prepared, collection
        self._kind = prepared.kind(collection)
        self.digest, self.demo = str(prepared.digest), bool(prepared.demo)
        splits = (*prepared.splits(collection), "all")
        classes = len(prepared.class_names)
        label = subject_label(prepared.name, self._kind, collection)
        sweep = _times(prepared.rows(collection, "all")) if self._kind == "videos" else ()
        self.subject = Subject(
            prepared.name, label, self._kind, splits, HEARD[self._kind], classes, sweep=sweep
        )

    @classmethod
    def of(cls, root: Path, name: str) -> tuple[PreparedSet, ...]:
        """A set's videos, or where it has none its images; nothing of a set of sounds or arrays alone.

        Raises EvalsetError for a folder that is no prepared set, or that of another one.
        """
        prepared = Prepared.open(root)
        if prepared.name != name:
            raise EvalsetError(
                f"{root} holds the set {prepared.name}: rename the folder, or prepare {name} there"
            )
        kinds = {c: prepared.kind(c) for c in prepared.collections()}
        for kind in HEARD:
            if chosen := tuple(c for c, k in kinds.items() if k == kind):
                return tuple(cls(prepared, c) for c in chosen)
        return ()

    def embed(self, request: Request, embedder: Embeds, limit: int | None, quiet: bool) -> Embeddings:
        """Image, audio and what is fused of them of videos; image of images. Raises EvalsetError, MediaError."""
        corruption = corruption_of(request)
        if corruption is not None and corruption.kind == "song":
            raise UsageError(f"{self.subject.label}: other species' songs are not mixed in: leave song out")
        rows = self._set.rows(self._collection, request.split)
        kept = sample(len(rows), limit)
        if not kept:
            raise EvalsetError(f"{self.subject.label} has no {request.split} rows: choose another split")
        ids = [rows.ids[i] for i in kept]
        single = request.frames != MEAN
        places = _places(rows, kept, float(request.frames)) if single else [0] * len(kept)
        there = [i for i, place in enumerate(places) if place is not None]
        if not there:
            raise EvalsetError(f"{self.subject.label}: no video has a frame at {request.frames} s")
        items = _some(rows, [kept[i] for i in there])
        if single:
            chosen = [place for place in places if place is not None]
            items = map(_still, items, chosen)
        with bar(f"embedding {self.subject.label}", len(there), quiet) as progress:
            if self._kind == "images":
                return embedder.images(ids, items, progress.update, corruption)
            names = [ids[i] for i in there]
            embeddings = embedder.videos(names, there, lambda _: next(items), progress.update, corruption)
        return _spread(embeddings, ids, there)

    def classes(self, request: Request, limit: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The items' classes."""
        labels = self._set.rows(self._collection, request.split).labels
        return labels[sample(len(labels), limit)], tuple(self._set.class_names)


@dataclass(frozen=True)
class _Still:
    """One frame of a video, and its whole sound."""

    frames: NDArray[np.uint8]
    audio: NDArray[np.float32] | None


def _times(rows: PreparedRows) -> tuple[str, ...]:
    """The times at which some video has a single frame, in s; reads no frame."""
    there = {float(t) for row in rows.cells(["sweep_s"]) for t in row["sweep_s"]}
    return tuple(f"{t:g}" for t in sorted(there))


def _some(rows: PreparedRows, kept: Sequence[int]) -> Iterator[Any]:
    """The kept rows, in order; none is decoded that nobody asked for."""
    chosen = set(kept)
    return (item for i, item in enumerate(rows) if i in chosen)


def _places(rows: PreparedRows, kept: Sequence[int], at_s: float) -> list[int | None]:
    """Which of each video's stored single frames is that at `at_s`; None for a video too short for it."""
    times = [row["sweep_s"] for row in rows.cells(["sweep_s"])]
    return [next((k for k, t in enumerate(times[i]) if abs(t - at_s) < CLOSE_S), None) for i in kept]


def _still(film: PreparedFilm, place: int) -> _Still:
    return _Still(film.sweep[place : place + 1], film.audio)


def _spread(embeddings: Embeddings, ids: Sequence[str], there: Sequence[int]) -> Embeddings:
    """Embeddings of the items `there` among all: the others have no modality, and vectors of NaN."""
    arrays, present = {}, {}
    for name, values in embeddings.arrays.items():
        arrays[name] = np.full((len(ids), values.shape[1]), np.nan, dtype=np.float32)
        arrays[name][there] = values
    for name, flags in embeddings.present.items():
        present[name] = np.zeros(len(ids), dtype=bool)
        present[name][there] = flags
    return Embeddings(tuple(ids), arrays, present)
