"""What a suite asks for, embedded: rows of a built dataset, or videos of an evaluation set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from birdmml import checkpoint as checkpoints
from birdmml import discover
from birdmml.embed import Embedder, Embeddings
from birdmml.errors import EvalsetError
from birdmml.files import atomic_write
from birdmml.load import Built, Rows
from birdmml.media.video import decode_video
from birdmml.nn.feed import RowSource
from birdmml.suites._material import Arrays, Material, Request, Scorer
from birdmml.train import pick_device
from birdmml.training.state import resolve


class Subset:
    """Some rows, chosen by a fixed seed: what --limit leaves."""

    def __init__(self, rows: Rows, limit: int) -> None:
        self._rows, self._kept = rows, sample(len(rows), limit)

    def __len__(self) -> int:
        return len(self._kept)

    def column(self, name: str) -> list[Any]:
        """One light column of the kept rows."""
        values = self._rows.column(name)
        return [values[i] for i in self._kept]

    def media(self, indices: Sequence[int], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        """Decoded media of the kept rows."""
        return self._rows.media([self._kept[i] for i in indices], kinds)

    def blocks(self) -> list[tuple[int, int]]:
        """(rows, bytes of media) of each block: what is left of it."""
        found = self._rows.blocks()
        edges = np.cumsum([0] + [rows for rows, _ in found])
        kept, _ = np.histogram(self._kept, bins=edges)
        return [(int(n), size * int(n) // max(1, rows)) for n, (rows, size) in zip(kept, found, strict=True)]

    def cells(self, rows: Sequence[int], columns: Sequence[str] = ("image", "audio")) -> list[dict[str, Any]]:
        """Stored media of the kept rows."""
        return self._rows.cells([self._kept[i] for i in rows], columns)


def sample(total: int, limit: int | None) -> list[int]:
    """`limit` of `total` row numbers, sorted; always the same ones. None keeps all."""
    order = np.random.default_rng(0).permutation(total)
    return sorted(int(i) for i in order[:limit])


def rows_of(built: Built, split: str, limit: int | None = None) -> RowSource:
    """The rows of a split, cut to `limit`."""
    rows = built.split(split)
    return rows if limit is None else Subset(rows, limit)


def material(built: Built, request: Request, embedder: Embedder, limit: int | None, quiet: bool) -> Material:
    """Embed what a suite asks for. Raises EvalsetError or MediaError where a part of it cannot be used."""
    if request.evalset == "dataset":
        return _own(built, request, embedder, limit, quiet)
    root = built.root / "evalsets" / request.evalset
    module = discover.load("evaluation set", request.evalset)
    names = tuple(module.class_names(root))
    items = module.items(root, request.split)
    items = [items[i] for i in sample(len(items), limit)]
    with _bar(f"embedding {request.evalset}", len(items), quiet) as bar:
        found = embedder.videos([i.id for i in items], [i.path for i in items], decode_video, bar.update)
    labels = np.asarray([item.label for item in items], dtype=np.int64)
    prompts = embedder.texts([module.PROMPT.format(common_name=name) for name in names])
    return _joined(f"{request.evalset}-videos", found, labels, names, prompts)


def embed_to_file(
    checkpoint: Path, data: Path, split: str, out: Path, device: str = "auto", limit: int | None = None
) -> tuple[int, tuple[str, ...], int]:
    """Embed a split into a Parquet file: id, label, species, and a list<float> column a vector, "image" and so on.

    The file's metadata says which model and data it comes from. Returns rows, vector names, and their width.
    """
    folder = resolve(checkpoint)
    chosen = pick_device(device)
    ready, built = checkpoints.load(folder, device=chosen), Built.open(data)
    rows = rows_of(built, split, limit)
    if len(rows) == 0:
        raise EvalsetError(f"{built.root} has no {split} rows: choose another --split")
    with _bar(f"embedding {split}", len(rows), quiet=False) as bar:
        found = Embedder(ready, chosen).rows(rows, bar.update)
    columns: dict[str, Any] = {name: rows.column(name) for name in ("id", "label", "species")}
    for name, values in found.arrays.items():
        flat = pa.array(np.ascontiguousarray(values).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    facts = {"checkpoint": folder.name, "method": discover.label(ready.method), "seed": ready.seed}
    facts |= {
        "split": split,
        "limit": limit,
        "dataset": built.digest,
        "trained_on": ready.dataset.get("digest"),
    }
    table = pa.table(columns).replace_schema_metadata({"birdmml": json.dumps(facts)})
    with atomic_write(out) as f:
        pq.write_table(table, f)
    names = tuple(found.arrays)
    return len(rows), names, int(found.arrays[names[0]].shape[1])


def scorer(embedder: Embedder) -> Scorer:
    """The method's score on numpy arrays."""
    model, device = embedder.network.model, embedder.device

    def score(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
        with torch.inference_mode():
            block = model.score(query, target, _tensors(queries, device), _tensors(candidates, device))
        return np.asarray(block.cpu())

    return Scorer(score, model.pairs())


def _own(built: Built, request: Request, embedder: Embedder, limit: int | None, quiet: bool) -> Material:
    """The dataset's own split; its classes are the species of the whole dataset, in label order."""
    rows = rows_of(built, request.split, limit)
    if len(rows) == 0:
        raise EvalsetError(
            f"{built.root} has no {request.split} rows: build with a larger {request.split} share"
        )
    with _bar(f"embedding {request.split}", len(rows), quiet) as bar:
        found = embedder.rows(rows, bar.update)
    if not request.prompts:
        return _joined(f"{request.split}-split", found, None, (), {})
    classes = _classes(built)
    place = {label: i for i, label in enumerate(classes)}
    labels = np.asarray([place[label] for label in rows.column("label")], dtype=np.int64)
    names = tuple(classes.values())
    return _joined(f"{request.split}-split", found, labels, names, embedder.texts(names))


def _classes(built: Built) -> dict[int, str]:
    """label -> common name of every species in any split, in label order."""
    pairs: set[tuple[int, str]] = set()
    for name in built.manifest["splits"]:
        rows = built.split(name)
        pairs |= set(zip(rows.column("label"), rows.column("common_name"), strict=True))
    return dict(sorted(pairs))


def _joined(
    evalset: str,
    found: Embeddings,
    labels: NDArray[np.int64] | None,
    names: tuple[str, ...],
    prompts: Arrays,
) -> Material:
    return Material(evalset, found.ids, found.arrays, found.present, labels, names, prompts)


def _tensors(arrays: Arrays, device: torch.device) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def _bar(what: str, total: int, quiet: bool) -> tqdm[Any]:
    return tqdm(desc=what, total=total, disable=quiet or None, leave=False)
