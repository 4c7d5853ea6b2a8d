"""What a suite asks for, embedded: rows of a built dataset, or videos of an evaluation set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from birdmml.bench import embed as bench_embed
from birdmml.bench.embed import Embedder, EmbeddingCache, Embeddings, Embeds
from birdmml.bench.suites._contract import Arrays, Material, Request, Scorer, Subject, subject_label
from birdmml.core import discover, settings
from birdmml.core.device import pick_device
from birdmml.core.files import atomic_write
from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets.read import Prepared, PreparedFilm
from birdmml.load import Built
from birdmml.media.corruption import Corruption, Partners, parse
from birdmml.media.video import decode_video
from birdmml.models.checkpoint import load
from birdmml.models.preprocess import Others, Sound
from birdmml.models.read import MODALITY, ArrayData, ModelData, rows_of, sample
from birdmml.models.state import resolve
from birdmml.schema import MODALITIES

# How many films are looked into for one with a sound track, before an item goes without.
SONG_ATTEMPTS = 16


class Provider(Protocol):
    """One subject, and how its items are embedded."""

    subject: Subject
    digest: str
    demo: bool

    def embed(self, request: Request, embedder: Embeds, limit: int | None, quiet: bool) -> Embeddings:
        """Every item of the split asked for."""

    def classes(self, request: Request, limit: int | None) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        """The labels [N] of the same items, and the classes' names."""


def material(
    provider: Provider, request: Request, embedder: Embeds, cache: EmbeddingCache, limit: int | None, quiet: bool
) -> Material:
    """Embed what a suite asks for, or take it from the cache.

    Raises EvalsetError or MediaError where a part of it cannot be used.
    """
    key = {
        "weights": embedder.weights_sha256,
        "method": embedder.method,
        "front_end": settings.to_dict(embedder.front_end),
        # Devices differ in the last digits, and what is compared with the clean must be made alike.
        "device": embedder.device.type,
        "data": provider.digest,
        "limit": limit,
        **settings.to_dict(request),
    }
    key.pop("templates")  # Prompts are embedded apart, so other templates find the same items in the cache.
    labels, names = provider.classes(request, limit)

    def make() -> Embeddings:
        if not request.pairing:
            return provider.embed(request, embedder, limit, quiet)
        if not isinstance(embedder, Embedder):
            raise UsageError("own encoders are scored as they are: competition swaps inputs of a checkpoint")
        return bench_embed.embed(
            lambda chosen: provider.embed(request, chosen, limit, quiet), embedder, cache, key, labels
        )

    embeddings = cache.get(key, make)
    prompts = class_prompts(embedder, names, request.templates) if request.templates else {}
    subject = provider.subject
    return Material(
        subject.label_of(request),
        embeddings.ids,
        embeddings.arrays,
        embeddings.present,
        labels,
        names,
        prompts,
        request.frames,
        request.corruption,
        provider.lengths(request, limit) if isinstance(provider, ArraySubject) else {},
    )


def class_prompts(embedder: Embeds, names: Sequence[str], templates: Sequence[str]) -> Arrays:
    """{"text": [C, D]} of unit vectors: the mean over templates of each class's prompts, renormalised."""
    prompts = [embedder.texts([t.format(common_name=name) for name in names]) for t in templates]
    if len(prompts) == 1:
        return prompts[0]
    out = {}
    for name in prompts[0]:
        mean = np.mean([vectors[name] for vectors in prompts], axis=0)
        # Prompts that cancel out stay near zero, level with everything, and not NaN.
        out[name] = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-6)
    return out


class OwnRows:
    """The rows of a built dataset; its classes are the species of the whole dataset, in label order."""

    def __init__(self, built: Built) -> None:
        self.built, self.demo = built, built.demo
        self.digest = built.digest if built.caption == "caption" else f"{built.digest} {built.caption}"
        # Over all splits: with classes of its own for each, chance and accuracy would not compare.
        pairs: set[tuple[int, str]] = set()
        for rows in map(built.split, built.manifest["splits"]):
            pairs |= set(zip(rows.column("label"), rows.called(), strict=True))
        self._classes = dict(sorted(pairs))
        splits = tuple(name for name, s in built.manifest["splits"].items() if s["rows"])
        self.subject = Subject(
            "dataset", subject_label("dataset", "rows"), "rows", splits, MODALITIES, len(self._classes), captions=True
        )

    def embed(self, request: Request, embedder: Embeds, limit: int | None, quiet: bool) -> Embeddings:
        """Image, audio, text and what is fused of them, made worse if so asked.

        Raises EvalsetError for a split without rows.
        """
        rows = rows_of(self.built, request.split, limit)
        if len(rows) == 0:
            raise EvalsetError(
                f"{self.built.root} has no {request.split} rows: build with a larger {request.split} share"
            )
        corruption = corruption_of(request)
        others = self._songs(request.split, corruption, embedder.front_end.rate_hz)
        with bar(f"embedding {request.split}{_worse(corruption)}", len(rows), quiet) as progress:
            return embedder.rows(rows, progress.update, corruption, others)

    def classes(self, request: Request, limit: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The rows' species."""
        place = {label: i for i, label in enumerate(self._classes)}
        labels = rows_of(self.built, request.split, limit).column("label")
        return np.asarray([place[label] for label in labels], dtype=np.int64), tuple(self._classes.values())

    def _songs(self, split: str, corruption: Corruption | None, rate_hz: int) -> Others | None:
        """Other species' clips without their padding, out of the whole split whatever the limit."""
        if corruption is None or corruption.kind != "song":
            return None
        rows = self.built.split(split)
        partners = Partners(rows.column("id"), rows.column("label"), corruption.seed)
        seconds = rows.column("audio_valid_seconds")

        def songs(ids: Sequence[str]) -> list[Sound | None]:
            chosen = [partners.of(i) for i in ids]
            media = rows.media(chosen, ("audio",))
            lengths = [round(seconds[row] * rate_hz) for row in chosen]
            return [one["audio"][:length] for one, length in zip(media, lengths, strict=True)]

        return songs


class Films:
    """An evaluation set of video files that lies in a built dataset, as the demo's does."""

    def __init__(self, built: Built, name: str) -> None:
        self.root, self.digest, self._name = built.root / "evalsets" / name, built.digest, name
        self.demo = built.demo
        self._module = discover.load("evaluation set", name)
        self._names = tuple(self._module.class_names(self.root))
        self.subject = Subject(
            name, subject_label(name, "videos"), "videos", self._module.SPLITS, ("image", "audio"), len(self._names)
        )

    def embed(self, request: Request, embedder: Embeds, limit: int | None, quiet: bool) -> Embeddings:
        """Image, audio and what is fused of them, for every film, made worse if so asked."""
        items, corruption = self._items(request, limit), corruption_of(request)
        ids, paths = [i.id for i in items], [i.path for i in items]
        others = self._songs(request.split, corruption)
        with bar(f"embedding {self._name}{_worse(corruption)}", len(items), quiet) as progress:
            return embedder.videos(ids, paths, decode_video, progress.update, corruption, others)

    def classes(self, request: Request, limit: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The films' species."""
        labels = [item.label for item in self._items(request, limit)]
        return np.asarray(labels, dtype=np.int64), self._names

    def _items(self, request: Request, limit: int | None) -> list[Any]:
        items = self._module.items(self.root, request.split)
        return [items[i] for i in sample(len(items), limit)]

    def _songs(self, split: str, corruption: Corruption | None) -> Others | None:
        """The sound of other species' films, out of the whole split; a film without any gives way to another."""
        if corruption is None or corruption.kind != "song":
            return None
        items = self._module.items(self.root, split)
        partners = Partners([i.id for i in items], [i.label for i in items], corruption.seed)

        def one(item_id: str) -> Sound | None:
            tried = (items[partners.of(item_id, attempt)] for attempt in range(SONG_ATTEMPTS))
            sounds = (decode_video(item.path).audio for item in tried)
            return next((sound for sound in sounds if sound is not None), None)

        return lambda ids: [one(i) for i in ids]


def ceiling(built: ModelData, suite: str, evalset: str, query: str) -> float | None:
    """The demo's known best accuracy, on its own rows and films; nothing is known of retrieval, or of other sets."""
    ceilings = built.manifest.get("source", {}).get("facts", {}).get("ceilings", {})
    own = evalset.endswith("-split") or evalset.startswith("demo-")
    return float(ceilings[query]) if suite == "zero-shot" and own and query in ceilings else None


def embed_to_file(
    checkpoint: Path, data: Path, split: str, out: Path, device: str = "auto", limit: int | None = None
) -> tuple[int, tuple[str, ...], int]:
    """Embed a split into a Parquet file: id, label, species, and a list<float> column a vector, "image" and so on.

    The file's metadata says which model and data it comes from. Returns rows, vector names, and their width.
    """
    folder = resolve(checkpoint)
    chosen = pick_device(device)
    ready, built = load(folder, device=chosen), Built.open(data)
    rows = rows_of(built, split, limit)
    if len(rows) == 0:
        raise EvalsetError(f"{built.root} has no {split} rows: choose another --split")
    with bar(f"embedding {split}", len(rows), quiet=False) as progress:
        embeddings = Embedder(ready, chosen).rows(rows, progress.update)
    columns: dict[str, Any] = {name: rows.column(name) for name in ("id", "label", "species")}
    columns |= bench_embed.vector_columns(embeddings)
    facts = {
        "checkpoint": folder.name,
        "method": discover.label(ready.method),
        "seed": ready.seed,
        "split": split,
        "limit": limit,
        "dataset": built.digest,
        "trained_on": ready.dataset.get("digest"),
        "demo": built.demo,
    }
    table = pa.table(columns).replace_schema_metadata({"birdmml": json.dumps(facts)})
    with atomic_write(out) as f:
        pq.write_table(table, f)
    names = tuple(embeddings.arrays)
    return len(rows), names, int(embeddings.arrays[names[0]].shape[1])


def scorer(embedder: Embedder) -> Scorer:
    """The method's score on numpy arrays."""
    model, device = embedder.network.model, embedder.device

    @torch.inference_mode()
    def score(query: str, target: str, *sides: Arrays) -> NDArray[np.floating]:
        queries, candidates = ({k: torch.from_numpy(array).to(device) for k, array in side.items()} for side in sides)
        return np.asarray(model.score(query, target, queries, candidates).cpu())

    return Scorer(score, model.pairs())


def corruption_of(request: Request) -> Corruption | None:
    """What a request wants done to its items; raises UsageError or UnknownName where it says nothing that exists."""
    return parse(request.corruption) if request.corruption else None


def _worse(corruption: Corruption | None) -> str:
    return "" if corruption is None else f", {corruption.name}"


def bar(what: str, total: int, quiet: bool) -> tqdm[Any]:
    """A progress bar on a terminal."""
    return tqdm(desc=what, total=total, disable=quiet or None, leave=False)


MEAN = "mean"
HEARD = {"videos": ("image", "audio"), "images": ("image",)}
CLOSE_S = 1e-6  # A request names a time with six digits: a third of a second comes back as 0.333333.


class PreparedSet:
    """One collection of a set that `birdmml prepare` has written; opened by its manifest, media read when embedded."""

    def __init__(self, prepared: Prepared, collection: str) -> None:
        self._set, self._collection = prepared, collection
        self._kind = prepared.kind(collection)
        self.digest, self.demo = str(prepared.digest), bool(prepared.demo)
        splits = (*prepared.splits(collection), "all")
        label = subject_label(prepared.name, self._kind, collection)
        # The times at which some video has a single frame, in s; no frame is read for them.
        cells = prepared.rows(collection, "all").cells(["sweep_s"]) if self._kind == "videos" else []
        sweep = tuple(f"{t:g}" for t in sorted({float(t) for row in cells for t in row["sweep_s"]}))
        classes = len(prepared.class_names)
        self.subject = Subject(prepared.name, label, self._kind, splits, HEARD[self._kind], classes, sweep=sweep)

    @classmethod
    def of(cls, root: Path, name: str) -> tuple[PreparedSet, ...]:
        """A set's videos, or where it has none its images; nothing of a set of sounds or arrays alone.

        Raises EvalsetError for a folder that is no prepared set, or that of another one.
        """
        prepared = Prepared.open(root)
        if prepared.name != name:
            raise EvalsetError(f"{root} holds the set {prepared.name}: rename the folder, or prepare {name} there")
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
        places: list[int | None] = [0] * len(kept)
        if single:  # A video that is too short has no frame at that time.
            times, at_s = [row["sweep_s"] for row in rows.cells(["sweep_s"])], float(request.frames)
            places = [next((k for k, t in enumerate(times[i]) if abs(t - at_s) < CLOSE_S), None) for i in kept]
        there = [i for i, place in enumerate(places) if place is not None]
        if not there:
            raise EvalsetError(f"{self.subject.label}: no video has a frame at {request.frames} s")
        # In order, and one at a time: none is decoded that nobody asked for.
        chosen = {kept[i] for i in there}
        items: Iterator[Any] = (item for i, item in enumerate(rows) if i in chosen)
        if single:
            items = map(_Still.of, items, (place for place in places if place is not None))
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

    @classmethod
    def of(cls, film: PreparedFilm, place: int) -> _Still:
        return cls(film.sweep[place : place + 1], film.audio)


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


class ArraySubject:
    """Its splits "av_mnist-test" and so on; classes are asked for with the set's own prompt."""

    def __init__(self, data: ArrayData) -> None:
        self._data, self.digest, self.demo = data, data.digest, data.demo
        texts = not data.prompt
        self.subject = Subject(
            data.name,
            subject_label(data.name, "arrays"),
            "arrays",
            tuple(data.manifest["splits"]),
            tuple(data.fields),
            len(data.arrays.class_names),
            captions=texts,
            prompt=data.prompt,
        )

    def embed(self, request: Request, embedder: Embeds, limit: int | None, quiet: bool) -> Embeddings:
        """Image, audio, text and what is fused of them. Raises EvalsetError for a split without rows."""
        if corruption_of(request) is not None:
            raise UsageError(f"{self._data.name} holds arrays: noise is for sounds and pictures, leave it out")
        rows = rows_of(self._data, request.split, limit)
        if len(rows) == 0:
            raise EvalsetError(f"{self._data.root} has no {request.split} rows: choose another split")
        with bar(f"embedding {request.split}", len(rows), quiet) as progress:
            return embedder.rows(rows, progress.update)

    def classes(self, request: Request, limit: int | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The rows' classes."""
        labels = self._data.arrays.labels(request.split)
        return labels[sample(len(labels), limit)], self._data.arrays.class_names

    def lengths(self, request: Request, limit: int | None) -> Mapping[str, NDArray[np.int32]]:
        """How many steps of each row are real, by modality."""
        lengths = self._data.arrays.lengths(request.split)
        return {MODALITY.get(name, name): n[sample(len(n), limit)] for name, n in lengths.items()}
