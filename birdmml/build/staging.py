"""Where checked media wait until the whole is known: one data file and one receipt a chunk.

A receipt is renamed into place after its data file is synced, so a chunk with a receipt is whole, and
a build that was killed goes on from the receipts it finds. A receipt says what became of each record under the
record's own key, so records may come in other chunks the next time, or more of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from birdmml import files
from birdmml.build import parts
from birdmml.schema import Caption, Credit, Medium, Reject

T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """What became of one record. `tails` are ends of a recording too short for a clip of their own."""

    key: str
    media: tuple[Medium, ...] = ()
    rejects: tuple[Reject, ...] = ()
    tails: int = 0
    tail_seconds: float = 0.0


def data_path(folder: Path, chunk: int) -> Path:
    """The file that holds the chunk's encoded media, end to end; the chunks of parts lie in the parts' folders."""
    part, number = parts.located(chunk)
    if part is not None:
        folder = folder.with_name(parts.FOLDER) / part.name / "staging"
    return folder / f"chunk-{number:06d}.bin"


def receipt_path(folder: Path, chunk: int) -> Path:
    """The chunk's receipt."""
    return folder / f"chunk-{chunk:06d}.json"


def write_receipt(folder: Path, chunk: int, done: Sequence[Done]) -> None:
    """Declare a chunk done."""
    write_lines(folder, chunk, map(_plain, done))


def write_lines(folder: Path, chunk: int, lines: Iterable[Mapping[str, Any]]) -> None:
    """The receipt of a chunk of any kind, a value a record."""
    with files.atomic_write(receipt_path(folder, chunk)) as f:
        f.write(json.dumps(list(lines)).encode())


def receipts(folder: Path) -> Iterator[tuple[int, list[Done]]]:
    """All chunks that are whole, by number; a torn receipt, or one without its data, is passed over."""
    return read_lines(folder, _done)


def read_lines(folder: Path, parse: Callable[[dict[str, Any]], T]) -> Iterator[tuple[int, list[T]]]:
    """`receipts` of chunks of any kind; `parse` raises KeyError, TypeError or ValueError for a line that is none."""
    for path in sorted(folder.glob("chunk-??????.json")):
        chunk = int(path.name[6:12])
        try:
            done = [parse(line) for line in json.loads(path.read_bytes())]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if data_path(folder, chunk).exists():
            yield chunk, done


def next_chunk(folder: Path) -> int:
    """A number that no file of an earlier chunk has."""
    used = [int(p.name[6:12]) for p in folder.glob("chunk-??????.*")]
    return max(used, default=-1) + 1


def read_medium(folder: Path, medium: Medium) -> bytes:
    """The encoded bytes of one medium."""
    return read_span(data_path(folder, medium.chunk), medium.offset, medium.length)


def read_span(path: Path, offset: int, length: int) -> bytes:
    """Some bytes of a data file or a spool."""
    with path.open("rb") as f:
        f.seek(offset)
        return f.read(length)


def medium_to_json(medium: Medium) -> str:
    """One medium as a line of text."""
    return json.dumps(plain_medium(medium), ensure_ascii=False)


def plain_medium(medium: Medium) -> dict[str, Any]:
    """What `dataclasses.asdict` gives, without its deep copies: this runs for every medium."""
    caption = medium.caption
    words = {**caption.__dict__, "credit": caption.credit.__dict__} if caption else None
    return {**medium.__dict__, "credit": medium.credit.__dict__, "caption": words}


def medium_from_json(text: str) -> Medium:
    """The medium that `medium_to_json` has written."""
    return _medium(json.loads(text))


def _plain(done: Done) -> dict[str, Any]:
    return {
        **done.__dict__,
        "media": [plain_medium(m) for m in done.media],
        "rejects": [r.__dict__ for r in done.rejects],
    }


def _done(value: dict[str, Any]) -> Done:
    return Done(
        value["key"],
        tuple(_medium(m) for m in value["media"]),
        tuple(Reject(**r) for r in value["rejects"]),
        value["tails"],
        value["tail_seconds"],
    )


def _medium(value: dict[str, Any]) -> Medium:
    caption = value.pop("caption")
    credit = Credit(**value.pop("credit"))
    return Medium(**value, credit=credit, caption=_caption(caption) if caption else None)


def _caption(value: dict[str, Any]) -> Caption:
    return Caption(value["text"], value["origin"], Credit(**value["credit"]))
