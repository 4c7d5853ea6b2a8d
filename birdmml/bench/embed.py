"""Items to named arrays of unit vectors, and the cache of them: what embeds rows, texts, pictures and videos."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdmml.core import discover, files, provenance, settings
from birdmml.errors import EvalsetError
from birdmml.media.corruption import PAIRED_KINDS, Corruption, Swap, lenders
from birdmml.models import scores
from birdmml.models.checkpoint import Checkpoint
from birdmml.models.encoders import widths
from birdmml.models.feed import Feed, to_device, trimmed
from birdmml.models.heads import TOWER
from birdmml.models.losses import normalise
from birdmml.models.preprocess import Damage, Others
from birdmml.models.read import RowSource
from birdmml.models.text import tokenise
from birdmml.schema import MODALITIES

Arrays = dict[str, NDArray[np.float32]]

Progress = Callable[[int], object] | None


class DecodedFilm(Protocol):
    """A decoded video: `frames` uint8 [F, H, W, 3], `audio` float32 [T] or None without a track."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 [F, H, W, 3]."""

    @property
    def audio(self) -> NDArray[np.float32] | None:
        """float32 [T], or None."""


@dataclass(frozen=True)
class Embeddings:
    """`arrays` [N, D] of unit vectors by name; `present` [N] by modality. An absent vector is NaN.

    A name for which no item has a vector may be missing.
    """

    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]


class Embeds(ABC):
    """What turns items into unit vectors, a batch at a time: a checkpoint, or functions of the user's own.

    `weights_sha256`, `method` and the dataclass `front_end` stand for everything that decides its vectors.
    `corruption` of one modality: see `birdmml.models.preprocess`; `others` gives what kind "song" mixes in. An item
    without a signal to measure it by is absent from that modality. All that does not read the modality keeps every bit.
    """

    weights_sha256: str
    method: Mapping[str, Any]
    front_end: Any
    device: torch.device
    modalities: Collection[str] = MODALITIES
    batch, films_at_once = 128, 16  # Fewer films, as each has several frames.

    def rows(
        self,
        rows: RowSource,
        progress: Progress = None,
        corruption: Corruption | None = None,
        others: Others | None = None,
    ) -> Embeddings:
        """Image, audio, text and what the method fuses of them, for every row."""
        damage = self._damage(corruption, others)
        read, parts = self._reader(rows, damage), list[Arrays]()
        for start in range(0, len(rows), self.batch):
            places = range(start, min(start + self.batch, len(rows)))
            parts.append(read(places))
            _advance(progress, len(places))
        present = {name: np.ones(len(rows), dtype=bool) for name in MODALITIES}
        return self._embeddings(map(str, rows.column("id")), joined(parts), present, damage)

    def images(
        self,
        ids: Sequence[str],
        pictures: Iterable[NDArray[np.uint8]],
        progress: Progress = None,
        corruption: Corruption | None = None,
    ) -> Embeddings:
        """Image alone, of pictures uint8 [H, W, 3] in the order of `ids`; a batch of them in memory at a time."""
        damage, left, done = self._damage(corruption, None), iter(pictures), 0
        parts: list[Arrays] = []
        while batch := list(islice(left, self.batch)):
            parts.append(self._pictures(batch, ids[done : done + len(batch)], damage))
            done += len(batch)
            _advance(progress, len(batch))
        return self._embeddings(ids, joined(parts), {"image": np.ones(len(ids), dtype=bool)}, damage)

    def videos(
        self,
        ids: Sequence[str],
        paths: Sequence[Any],
        decode: Callable[[Any], DecodedFilm],
        progress: Progress = None,
        corruption: Corruption | None = None,
        others: Others | None = None,
    ) -> Embeddings:
        """Per video: the mean over frames of each frame's vectors, renormalised; fused with the same sound.

        Some methods' `reference` variant leaves the mean as it is. A video without a sound track has no audio and no
        fused vector. Raises MediaError where one cannot be decoded. Noise differs from frame to frame, and a single
        black frame has no SNR, so that the video is absent.
        """
        damage = self._damage(corruption, others)
        parts: list[Arrays] = []
        heard: list[bool] = []
        sizes: list[int] = []
        for start in range(0, len(paths), self.films_at_once):
            films = [decode(path) for path in paths[start : start + self.films_at_once]]
            parts.append(self._films(films, ids[start : start + self.films_at_once], damage))
            heard += [film.audio is not None for film in films]
            sizes.append(len(films))
            _advance(progress, len(films))
        present = {"image": np.ones(len(heard), dtype=bool), "audio": np.asarray(heard, dtype=bool)}
        return self._embeddings(ids, joined(parts, sizes), present, damage)

    @abstractmethod
    def texts(self, texts: Sequence[str]) -> Arrays:
        """{"text": [N, D]} of any texts, prompts for example."""

    @abstractmethod
    def _reader(self, rows: RowSource, damage: Damage | None) -> Callable[[range], Arrays]:
        """What embeds the rows at some places."""

    @abstractmethod
    def _pictures(self, pictures: list[Any], ids: Sequence[str], damage: Damage | None) -> Arrays:
        """{"image": [N, D]}."""

    @abstractmethod
    def _films(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> Arrays:
        """A row a film, NaN where it has no such vector."""

    @abstractmethod
    def _damage(self, corruption: Corruption | None, others: Others | None) -> Damage | None:
        """What is done to the items before they are embedded."""

    def _embeddings(
        self, ids: Iterable[str], arrays: Arrays, present: Mapping[str, NDArray[np.bool_]], damage: Damage | None
    ) -> Embeddings:
        there = {name: flags for name, flags in present.items() if name in self.modalities}
        return _left(Embeddings(tuple(ids), arrays, there), damage)


class Embedder(Embeds):
    """Embeds with one checkpoint on one device, in float32, with dropout off."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.network = checkpoint.network.to(device).eval()
        self.tokenizer, self.device = checkpoint.tokenizer, device
        self.front_end = checkpoint.preset.front_end
        self.weights_sha256 = checkpoint.weights_sha256
        # Equal weights do not say it all: a variant may average frames, or fuse, in another way.
        self.method = {
            "name": discover.label(checkpoint.method),
            "file": checkpoint.network.method_file,
            "config": settings.to_dict(checkpoint.config),
        }

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Arrays:
        """{"text": [N, D]} of any texts, prompts for example."""
        ids = tokenise(self.tokenizer, texts, self.front_end.max_tokens)
        parts = [trimmed(ids[i : i + self.batch]).to(self.device) for i in range(0, len(ids), self.batch)]
        return joined([to_numpy(self.network.embed({"text": part})) for part in parts])

    @torch.inference_mode()
    def _reader(self, rows: RowSource, damage: Damage | None) -> Callable[[range], Arrays]:
        feed = Feed(rows, self.network.preprocessor, self.tokenizer, damage=damage)

        @torch.inference_mode()
        def read(places: range) -> Arrays:
            return to_numpy(self._vectors(to_device(feed.batch(np.asarray(places)), self.device)))

        return read

    @torch.inference_mode()
    def _pictures(self, pictures: list[Any], ids: Sequence[str], damage: Damage | None) -> Arrays:
        compact = self.network.preprocessor.images(pictures)
        if damage is not None and not damage.missing:
            compact = damage.pixels(compact, ids)
        return to_numpy(self.network.model.embed(self.network.features({"image": compact})))

    def _vectors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.network.embed(inputs)

    @torch.inference_mode()
    def _films(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> Arrays:
        frames, model = len(films[0].frames), self.network.model
        seen = self._seen(films, ids, damage)
        unit = getattr(model, "renormalise_frames", True)
        averaged = {k: frame_mean(v, frames, unit) for k, v in model.embed(seen).items()} if seen else {}
        heard = self._heard(films, ids, damage)
        if not heard:
            return to_numpy(averaged)
        has_sound = torch.tensor([film.audio is not None for film in films], device=self.device)
        pairs = {k: v[has_sound.repeat_interleave(frames)] for k, v in seen.items()}
        pairs |= {k: v.repeat_interleave(frames, dim=0) for k, v in heard.items()}
        for name, value in model.embed(pairs).items():
            if name not in averaged:  # Image is there of all films already, with sound or without.
                averaged[name] = value.new_full((len(films), value.shape[-1]), torch.nan)
                averaged[name][has_sound] = frame_mean(value, frames, unit)
        return to_numpy(averaged)

    def _seen(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> dict[str, Tensor]:
        """Encoder outputs [V * F, D] of all frames; none where pictures are missing."""
        if damage is not None and damage.missing == "image":
            return {}
        compact = self.network.preprocessor.images([frame for film in films for frame in film.frames])
        if damage is not None:
            compact = damage.pixels(compact, ids, len(films[0].frames))
        return self.network.features({"image": compact})

    def _heard(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> dict[str, Tensor]:
        """Encoder outputs of the sound of those films that have some; none where sound is missing."""
        clips = [(i, film.audio) for i, film in zip(ids, films, strict=True) if film.audio is not None]
        if not clips or (damage is not None and damage.missing == "audio"):
            return {}
        waves = [wave for _, wave in clips]
        if damage is not None:
            waves = damage.waves(waves, [i for i, _ in clips])
        return self.network.features({"audio": self.network.preprocessor.audio(waves)})

    @torch.inference_mode()
    def _damage(self, corruption: Corruption | None, others: Others | None) -> Damage | None:
        return None if corruption is None else Damage(corruption, self.network.preprocessor, others)


def _left(embeddings: Embeddings, damage: Damage | None) -> Embeddings:
    """What damage leaves: absent wherever the modality is missing or could not be made worse."""
    if damage is None:
        return embeddings
    modality = damage.corruption.modality
    out = np.asarray([bool(damage.missing) or i in damage.left_out for i in embeddings.ids], dtype=bool)
    present = {**embeddings.present, modality: embeddings.present[modality] & ~out}
    for name, value in embeddings.arrays.items():
        if modality in [part.split(TOWER)[0] for part in scores.parts(name)]:
            value[out] = np.nan  # Not zero: a vector that is used all the same shows in the score at once.
    return Embeddings(embeddings.ids, embeddings.arrays, present)


def _advance(progress: Progress, count: int) -> None:
    if progress is not None:
        progress(count)


def frame_mean(z: Tensor, frames: int, unit: bool) -> Tensor:
    """[V * F, D] -> [V, D]: the mean over F frames, to unit length again unless the method leaves it."""
    mean = z.reshape(-1, frames, z.shape[-1]).mean(dim=1)
    return normalise(mean) if unit else mean


def to_numpy(named: Mapping[str, Tensor]) -> Arrays:
    """float32 on the CPU, whatever the device and type."""
    return {name: value.float().cpu().numpy() for name, value in named.items()}


def joined(parts: Sequence[Arrays], sizes: Sequence[int] | None = None) -> Arrays:
    """Parts one below the other; where a part lacks a name (no sound at all), its rows are NaN.

    `sizes` says how many items a part has where it may lack all names.
    """
    widths = {name: value.shape[1] for part in parts for name, value in part.items()}
    if sizes is None:
        sizes = [len(next(iter(part.values()))) if part else 0 for part in parts]
    return {
        name: np.concatenate(
            [
                part.get(name, np.full((size, width), np.nan, dtype=np.float32))
                for part, size in zip(parts, sizes, strict=True)
            ]
        )
        for name, width in widths.items()
    }


PRESENT = "present."
# A file is the SHA-256 of a Parquet file in hex, and that file: what is read back is what was written, or nothing.
DIGEST_BYTES = 64


class EmbeddingCache:
    """A folder of embeddings by key: a second look costs a read. `folder` None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.read, self.made = folder, 0, 0

    def get(self, key: Mapping[str, Any], make: Callable[[], Embeddings]) -> Embeddings:
        """What is kept under the key, else what `make` gives, which is kept then.

        The key takes in the code's own digest: another version of birdmml never reads this one's embeddings. A file
        that is damaged, or of another key, is made anew.
        """
        key = {**key, "code": provenance.code_digest(), "packages": provenance.packages()}
        path = None if self.folder is None else _path(self.folder, key)
        embeddings = None if path is None else _read(path, key)
        if embeddings is not None:
            self.read += 1
            return embeddings
        embeddings = make()
        self.made += 1
        if path is not None:
            _write(path, key, embeddings)
        return embeddings


def vector_columns(embeddings: Embeddings) -> dict[str, Any]:
    """The vectors as columns of an Arrow table: a list<float> of one length each."""
    return {
        name: pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(value, dtype=np.float32).ravel(), value.shape[1])
        for name, value in embeddings.arrays.items()
    }


def default_folder() -> Path | None:
    """$BIRDMML_CACHE, else the user's cache folder; None where there is no home, or the variable is empty."""
    named = os.environ.get("BIRDMML_CACHE")
    if named is not None:
        return Path(named) / "embeddings" if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "birdmml" / "embeddings"
    except RuntimeError:  # No home, as for a service's user: the cache is a help, not a need.
        return None


def _path(folder: Path, key: Mapping[str, Any]) -> Path:
    name = files.digest(key)
    # Folders by two digits, as Git has them: some file systems are slow with many files in one.
    return folder / name[:2] / f"{name}.embeddings"


def _write(path: Path, key: Mapping[str, Any], embeddings: Embeddings) -> None:
    columns: dict[str, Any] = {"id": list(embeddings.ids)}
    columns |= {PRESENT + name: value for name, value in embeddings.present.items()}
    columns |= vector_columns(embeddings)
    table = pa.table(columns).replace_schema_metadata({"birdmml": files.canonical_json(key)})
    buffer = pa.BufferOutputStream()
    # Floats of unit vectors hardly compress: it would cost time at every read and save nothing.
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    data = buffer.getvalue().to_pybytes()
    try:
        with files.atomic_write(path) as f:
            f.write(files.sha256_bytes(data).encode() + data)
    except OSError:
        pass  # A cache that cannot be written costs time, not results.


def _read(path: Path, key: Mapping[str, Any]) -> Embeddings | None:
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[DIGEST_BYTES:]
    if content[:DIGEST_BYTES] != files.sha256_bytes(data).encode():
        return None
    table = pq.read_table(pa.BufferReader(data))
    stored = json.loads((table.schema.metadata or {}).get(b"birdmml", b"null"))
    # Through JSON as what was stored: tuples have become lists there.
    if stored != json.loads(files.canonical_json(key)):
        return None
    arrays, present = {}, {}
    for name in table.column_names[1:]:
        column = table[name].combine_chunks()
        if name.startswith(PRESENT):
            present[name.removeprefix(PRESENT)] = np.asarray(column)
        else:
            # A copy, as Arrow's own memory is read-only.
            arrays[name] = np.asarray(column.flatten()).reshape(len(column), column.type.list_size).copy()
    return Embeddings(tuple(table["id"].to_pylist()), arrays, present)


OUTPUTS = "outputs"


class Outputs(Embedder):
    """Gives encoder outputs h_m instead of vectors: [N, D_m], of a video's F frames one after the other [N, F * D_m].

    An encoder sees one medium alone, so the output of a swapped input is the swapped output.
    """

    def __init__(self, embedder: Embedder) -> None:
        vars(self).update(vars(embedder))  # The weights are on the device already: nothing is loaded twice.

    def _vectors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.network.features({name: inputs[name] for name in PAIRED_KINDS})

    @torch.inference_mode()
    def _films(self, films: Sequence[DecodedFilm], ids: Sequence[str], damage: Damage | None) -> Arrays:
        seen, heard = self._seen(films, ids, damage), self._heard(films, ids, damage)
        outputs = {name: value.reshape(len(films), -1) for name, value in seen.items()}
        if heard:
            has_sound = torch.tensor([film.audio is not None for film in films], device=self.device)
            for name, value in heard.items():
                outputs[name] = value.new_full((len(films), value.shape[-1]), torch.nan)
                outputs[name][has_sound] = value
        return to_numpy(outputs)


def embed(
    encode: Callable[[Embedder], Embeddings],
    embedder: Embedder,
    cache: EmbeddingCache,
    key: Mapping[str, Any],
    labels: NDArray[np.int64] | None,
) -> Embeddings:
    """The embeddings that `key["pairing"]` asks for; the encoder outputs behind them are kept in the cache.

    An item without picture or sound lends nothing and gets nothing. Raises UsageError or EvalsetError.
    """
    swap = Swap.parse(str(key["pairing"]))
    if labels is None:
        raise EvalsetError(f"{key['evalset']} has no classes: {swap} needs items of different ones")
    outputs = cache.get({**key, "pairing": OUTPUTS}, lambda: encode(Outputs(embedder)))
    both = np.flatnonzero(outputs.present["image"] & outputs.present["audio"])
    lender = lenders(labels, both, swap.seed)
    h = {name: value[lender] if name.split(TOWER)[0] == swap.kind else value for name, value in outputs.arrays.items()}
    return Embeddings(outputs.ids, fuse(embedder, h), {kind: outputs.present[kind] for kind in PAIRED_KINDS})


@torch.inference_mode()
def fuse(embedder: Embedder, h: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """Unit vectors [N, dim] of encoder outputs, over a video's frames as `Embedder.videos` takes them."""
    model = embedder.network.model
    unit = getattr(model, "renormalise_frames", True)  # A method of the user's own need not know of it.
    width = widths(embedder.network.encoders)
    frames = max(value.shape[1] // width[name] for name, value in h.items())
    step = max(1, embedder.batch // frames)  # As many rows at a time as elsewhere, frames counted.
    parts: list[Arrays] = []
    for start in range(0, len(next(iter(h.values()))), step):
        # A still medium goes with every frame.
        rows = {
            name: torch.from_numpy(value[start : start + step].reshape(-1, width[name])).to(embedder.device)
            for name, value in h.items()
        }
        most = max(map(len, rows.values()))
        rows = {name: value.repeat_interleave(most // len(value), dim=0) for name, value in rows.items()}
        parts.append(to_numpy({k: frame_mean(v, frames, unit) for k, v in model.embed(rows).items()}))
    return joined(parts)
