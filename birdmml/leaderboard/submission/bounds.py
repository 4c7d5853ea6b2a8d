"""Parquet files of strangers: what they would unpack to is bounded before they are read whole."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from birdmml.errors import ResultError
from birdmml.files import human_bytes
from birdmml.outcomes import measured, placed, species
from birdmml.text import UNSEEN

MAX_ROWS = 5_000_000
MAX_UNPACKED = 2**30
MAX_NAME = 500  # bytes of an id or a class name
MAX_CANDIDATES = 10**7
_FORMS = {"placed": placed.COLUMNS, "species": species.COLUMNS, "measured": measured.COLUMNS}
_FACTS = {"kind", "candidates", "demo", "metric", "statistic", "chance"}
_BATCH = 2**16
_COUNT = re.compile(r"[0-9]{1,9}")


def check(path: Path) -> None:
    """Raise ResultError for a file that is no predictions file, holds more than one does, or would fill the memory."""
    try:
        with pq.ParquetFile(path) as file:
            _size(file.metadata)
            names, metadata = _form(file.schema_arrow), file.metadata
        with pq.ParquetFile(path, read_dictionary=names, metadata=metadata) as file:
            _texts(file, names)
    except (OSError, ValueError, KeyError, OverflowError, MemoryError, pa.ArrowException) as e:
        raise ResultError(f"no predictions file ({type(e).__name__}: {str(e)[:200]})") from e


def _size(metadata: pq.FileMetaData) -> None:
    # Of row groups alone: pyarrow aborts the whole process on some damaged facts of a column.
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    unpacked = [group.total_byte_size for group in groups]
    if not 0 <= metadata.num_rows <= MAX_ROWS or any(not 0 <= g.num_rows <= MAX_ROWS for g in groups):
        raise ResultError(f"{metadata.num_rows:,} rows, more than {MAX_ROWS:,}")
    if sum(unpacked) > MAX_UNPACKED or min(unpacked, default=0) < 0:
        raise ResultError(
            f"would unpack to {human_bytes(sum(unpacked))}, more than {human_bytes(MAX_UNPACKED)}"
        )


def _form(schema: pa.Schema) -> list[str]:
    """The columns of texts; raises ResultError for columns or facts that such a file does not have."""
    facts = {k.decode(): v.decode() for k, v in (schema.metadata or {}).items()}
    kind = facts.get("kind", "placed")
    if kind not in _FORMS or set(facts) - _FACTS or any(len(v) > MAX_NAME for v in facts.values()):
        raise ResultError("holds facts that a predictions file does not have")
    wanted = list(_FORMS[kind].items())
    wanted += [("draw", pa.int64())] if kind == "placed" and "draw" in schema.names else []
    if not schema.equals(pa.schema(wanted), check_metadata=False):
        raise ResultError(
            f"its columns are not those of a predictions file ({', '.join(schema.names)[:200]})"
        )
    count = facts.get("candidates", "1")
    if not _COUNT.fullmatch(count) or int(count) > MAX_CANDIDATES:
        raise ResultError(f"{count[:20]!r} candidates: a number up to {MAX_CANDIDATES:,} was expected")
    return [name for name, kind_of in wanted if kind_of == pa.string()]


def _texts(file: pq.ParquetFile, names: list[str]) -> None:
    """Bound every text, and all of them together: a few bytes can name one long text for millions of rows."""
    total = 0
    for batch in file.iter_batches(_BATCH, columns=names):
        batch.validate(full=True)
        for name, column in zip(names, batch.columns, strict=True):
            texts = column.dictionary if pa.types.is_dictionary(column.type) else column
            lengths = pc.binary_length(texts)
            if (longest := pc.max(lengths).as_py() or 0) > MAX_NAME:
                raise ResultError(f"{name} has a text of {longest:,} bytes, more than {MAX_NAME}")
            # Python's pattern, for all texts of a batch at once: Arrow would compile one at every call.
            if UNSEEN.search("".join(filter(None, texts.to_pylist()))):
                raise ResultError(f"{name} has a text with control characters")
            used = lengths.take(column.indices) if texts is not column else lengths
            total += pc.sum(used).as_py() or 0
            if total > MAX_UNPACKED:
                raise ResultError(f"its texts would unpack to more than {human_bytes(MAX_UNPACKED)}")
