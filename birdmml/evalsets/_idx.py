"""MNIST's idx files, gzipped or not: a big-endian header, then bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml.errors import EvalsetError

_MOST_BYTES = 256 << 20


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """uint8 [N] or [N, H, W] of an idx file; raises EvalsetError unless it holds exactly what its header says."""
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as f:
            magic, *shape = struct.unpack(f">{1 + dimensions}I", f.read(4 + 4 * dimensions))
            size = int(np.prod(shape, dtype=object))
            # 08: unsigned bytes; then the number of dimensions.
            if magic != 0x0800 + dimensions or size > _MOST_BYTES:
                raise EvalsetError(
                    f"{path} begins with {magic:#010x} {shape}: not MNIST's bytes in {dimensions} dimensions"
                )
            data = f.read(size + 1)
    except (OSError, EOFError, zlib.error, struct.error) as e:
        raise EvalsetError(f"{path} cannot be read ({e}): get it again") from e
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data):,}"
        raise EvalsetError(f"{path} holds {more} bytes, its header says {size:,}: get it again")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
