"""The Parquet schema of a dataset, from birdmml.columns, with Hugging Face's feature metadata.

Written without `datasets`, whose encoder wants torchcodec and takes seconds to import; a test compares
the two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from birdmml import columns, taxonomy
from birdmml.schema import RATE_HZ

_MEDIUM = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ARROW = {
    "image": _MEDIUM,
    "audio": _MEDIUM,
    "label": pa.int64(),
    "string": pa.string(),
    "int": pa.int32(),
    "float": pa.float32(),
    "bool": pa.bool_(),
}


def arrow_schema(rate_hz: int = RATE_HZ, species: Sequence[str] = ()) -> pa.Schema:
    """The schema that every shard has; `species` are the labels' names (none: those of the shipped 150)."""
    names = list(species) or taxonomy.shipped().scientific_names
    fields = [pa.field(c.name, _ARROW[c.kind]) for c in columns.COLUMNS]
    info = {"info": {"features": {c.name: _feature(c.kind, rate_hz, names) for c in columns.COLUMNS}}}
    return pa.schema(fields, metadata={"huggingface": json.dumps(info)})


def _feature(kind: str, rate_hz: int, names: list[str]) -> dict[str, Any]:
    if kind == "image":
        return {"_type": "Image"}
    if kind == "audio":
        # Not decoded on access: that would need torchcodec, and rows must be readable without it.
        return {"sampling_rate": rate_hz, "decode": False, "_type": "Audio"}
    if kind == "label":
        return {"names": names, "_type": "ClassLabel"}
    return {"dtype": str(_ARROW[kind]).replace("float", "float32"), "_type": "Value"}
