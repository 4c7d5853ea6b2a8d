"""Where checked media wait until the whole is known: one data file and one receipt a chunk.

A receipt is renamed into place after its data file is synced, so a chunk with a receipt is whole, and
a build that was killed goes on from the receipts it finds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from birdmml import files
from birdmml.schema import Caption, Credit, Medium, Reject


@dataclass(frozen=True)
class Receipt:
    """What became of one chunk of records. `tails` are ends of recordings too short for a clip of their own."""

    key: str
    media: tuple[Medium, ...] = ()
    rejects: tuple[Reject, ...] = ()
    tails: int = 0
    tail_seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


def data_path(folder: Path, chunk: int) -> Path:
    """The file that holds the chunk's encoded media, end to end."""
    return folder / f"chunk-{chunk:06d}.bin"


def receipt_path(folder: Path, chunk: int) -> Path:
    """The chunk's receipt."""
    return folder / f"chunk-{chunk:06d}.json"


def write_receipt(folder: Path, chunk: int, receipt: Receipt) -> None:
    """Declare a chunk done."""
    value = {
        "key": receipt.key,
        "media": [asdict(m) for m in receipt.media],
        "rejects": [asdict(r) for r in receipt.rejects],
        "tails": receipt.tails,
        "tail_seconds": receipt.tail_seconds,
    }
    with files.atomic_write(receipt_path(folder, chunk)) as f:
        f.write(json.dumps(value).encode())


def read_receipt(folder: Path, chunk: int, key: str) -> Receipt | None:
    """The chunk's receipt if it is there and was made from the same records and settings, else None."""
    path = receipt_path(folder, chunk)
    try:
        value = json.loads(path.read_bytes())
        if value["key"] != key or not data_path(folder, chunk).exists():
            return None
        media = tuple(_medium(m) for m in value["media"])
        rejects = tuple(Reject(**r) for r in value["rejects"])
        return Receipt(key, media, rejects, value["tails"], value["tail_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # Not a receipt of ours, or a torn one: the chunk is done again.


def read_medium(folder: Path, medium: Medium) -> bytes:
    """The encoded bytes of one medium."""
    with data_path(folder, medium.chunk).open("rb") as f:
        f.seek(medium.offset)
        return f.read(medium.length)


def _medium(value: dict[str, Any]) -> Medium:
    caption = value.pop("caption")
    credit = Credit(**value.pop("credit"))
    return Medium(**value, credit=credit, caption=_caption(caption) if caption else None)


def _caption(value: dict[str, Any]) -> Caption:
    return Caption(value["text"], value["origin"], Credit(**value["credit"]))
