"""The state of a reading at the end of a part, as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from birdmml.salvage.account import natural
from birdmml.salvage.hold import Hold
from birdmml.salvage.inflate import TAIL
from birdmml.salvage.parts import CHUNK
from birdmml.salvage.points import Point, opened
from birdmml.salvage.tar import Reader


@dataclass(frozen=True)
class Checkpoint:
    """Where the decoders, the reader of tar and the members that wait stood after `done` compressed bytes."""

    done: int
    point: Point
    reader: dict[str, Any]
    hold: dict[str, Any]
    data: list[bytes]

    @classmethod
    def of(cls, done: int, point: Point, reader: Reader, hold: Hold) -> Checkpoint:
        """The checkpoint of a reading that has just come to the end of a part."""
        value, data = hold.state()
        return cls(done, point, reader.state(), value, data)

    def restore(self, reader: Reader, hold: Hold) -> None:
        """Put both in that state. Raises LookupError, TypeError or ValueError for what is none."""
        reader.restore(self.reader)
        hold.restore(self.hold, self.data)

    def to_bytes(self) -> bytes:
        """For `from_bytes`: the length of a JSON text, the text, and what it gives the lengths of."""
        point = self.point
        sections = [point.tail, *point.windows, *self.data]
        head = {
            "done": self.done,
            "point": [point.bit, point.stored, len(point.windows), point.certain],
            "reader": self.reader,
            "hold": self.hold,
            "lengths": [len(s) for s in sections],
        }
        text = json.dumps(head).encode()
        return b"".join([len(text).to_bytes(8, "little"), text, *sections])

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Raises LookupError, TypeError, ValueError or zlib.error for bytes that are no checkpoint."""
        at = 8 + int.from_bytes(data[:8], "little")
        head = json.loads(data[8:at])
        sections = []
        for length in head["lengths"]:
            sections.append(data[at : at + natural(length)])
            at += length
        if at != len(data):
            raise ValueError("the lengths do not add up")
        bit, stored, windows, certain = head["point"]
        tail, rest = sections[0], sections[1:]
        if windows not in (0, 1, 2) or bit not in range(8) or len(tail) > TAIL + CHUNK:
            raise ValueError("no place to go on from")
        point = Point(bit, bool(stored), tail, tuple(rest[:windows]), natural(certain))
        if windows:
            opened(point)
        return cls(natural(head["done"]), point, head["reader"], head["hold"], rest[windows:])
