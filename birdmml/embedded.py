"""Embeddings kept on disk: computed once for a model, data, request and code; a second look costs a read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from birdmml import files, provenance
from birdmml.embed import Embeddings

PRESENT = "present."
# A file is the SHA-256 of a Parquet file in hex, and that file: what is read back is what was written, or nothing.
DIGEST_BYTES = 64


class EmbeddingCache:
    """A folder of embeddings by key. `folder` None keeps nothing."""

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


def default_folder() -> Path | None:
    """$BIRDMML_CACHE, else the user's cache folder; None where there is no home, or the variable is empty."""
    named = os.environ.get("BIRDMML_CACHE")
    if named is not None:
        return Path(named) / "embeddings" if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "birdmml" / "embeddings"
    except RuntimeError:
        return None


def _path(folder: Path, key: Mapping[str, Any]) -> Path:
    name = files.digest(key)
    return folder / name[:2] / f"{name}.embeddings"


def _write(path: Path, key: Mapping[str, Any], embeddings: Embeddings) -> None:
    columns: dict[str, Any] = {"id": list(embeddings.ids)}
    columns |= {PRESENT + name: value for name, value in embeddings.present.items()}
    for name, value in embeddings.arrays.items():
        flat = pa.array(np.ascontiguousarray(value, dtype=np.float32).ravel())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, value.shape[1])
    table = pa.table(columns).replace_schema_metadata({"birdmml": files.canonical_json(key)})
    buffer = pa.BufferOutputStream()
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
    if stored != json.loads(files.canonical_json(key)):
        return None
    arrays, present = {}, {}
    for name in table.column_names[1:]:
        column = table[name].combine_chunks()
        if name.startswith(PRESENT):
            present[name.removeprefix(PRESENT)] = np.asarray(column)
        else:
            arrays[name] = np.asarray(column.flatten()).reshape(len(column), column.type.list_size).copy()
    return Embeddings(tuple(table["id"].to_pylist()), arrays, present)
