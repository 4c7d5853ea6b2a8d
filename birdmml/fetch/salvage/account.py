"""The account of a salvage: what was passed over, what was lost, what the checksum says; which names may be files."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import xor
from pathlib import PurePosixPath
from typing import Any

LISTED = 1000  # Refused members are listed up to here and counted beyond.
END = 1 << 62  # Of a part, whatever its size.

Place = tuple[int, int]  # Number of a part, and a byte in it.


@dataclass
class Hole:
    """What was passed over: `kind` is missing, truncated or corrupt; `resumed` is None when nothing followed."""

    kind: str
    parts: tuple[str, ...]
    at: dict[str, Any] | None = None
    resumed: dict[str, Any] | None = None
    uncertain_bytes: int = 0

    def place(self, names: Sequence[str]) -> Place:
        """Where it ends (for a broken stretch: where it begins); places compare in the archive's order."""
        index = names.index(self.parts[-1])
        return (index, self.at["byte"] if self.at else END)

    def begins(self, names: Sequence[str]) -> Place:
        """Where its first part lies, or its first broken byte."""
        byte = self.at["byte"] if self.at else END if self.kind == "truncated" else 0
        return (names.index(self.parts[0]), byte)

    @property
    def may_close(self) -> bool:
        """Whether another file for the part can mend it."""
        return self.kind in ("missing", "truncated")


@dataclass
class SalvageReport:
    """What a salvage found; as JSON in salvage.json.

    `checksum` is "matches", "differs", "unknown" (with a hole no one can tell) or "none" (a tar has none).
    `unverified` counts the members handed out that no checksum of the archive covers.
    """

    counts: dict[str, int] = field(default_factory=dict)
    checksum: str = "unknown"
    reached_end: bool = False
    uncertain_bytes: int = 0
    unverified: int = 0
    holes: list[Hole] = field(default_factory=list)
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is lost, refused or in doubt."""
        sound = self.reached_end and self.checksum in ("matches", "none")
        return sound and not (self.holes or self.lost or self.refused)


@dataclass
class Sums:
    """CRC-32 and length of decoded bytes, cut where gzip members end.

    `first` runs up to the first end (whose trailer is kept, since its beginning may lie before), `last` from the
    last end on; what lies between is checked at once, and `sound` says how that went.
    """

    first: tuple[int, int] = (0, 0)
    trailer: bytes | None = None
    sound: bool = True
    last: tuple[int, int] = (0, 0)

    def add(self, data: bytes) -> None:
        """More decoded bytes."""
        crc, size = self.first if self.trailer is None else self.last
        now = (zlib.crc32(data, crc), size + len(data))
        if self.trailer is None:
            self.first = now
        else:
            self.last = now

    def end(self, trailer: bytes) -> None:
        """A gzip member is over; these are its last eight bytes (fewer when cut short)."""
        if self.trailer is None:
            self.trailer = trailer
        else:
            self.sound &= _trailer(self.last) == trailer
            self.last = (0, 0)

    def join(self, other: Sums) -> None:
        """What `other` has seen follows."""
        if other.trailer is None:
            if self.trailer is None:
                self.first = _joined(self.first, other.first)
            else:
                self.last = _joined(self.last, other.first)
            return
        if self.trailer is None:
            self.first, self.trailer = _joined(self.first, other.first), other.trailer
        else:
            self.sound &= _trailer(_joined(self.last, other.first)) == other.trailer
        self.sound &= other.sound
        self.last = other.last

    @property
    def matches(self) -> bool:
        """Whether every member had its checksum; asked of a whole archive."""
        return self.sound and self.trailer == _trailer(self.first)


@dataclass
class Account:
    """What one stretch of the archive has given. `carried` are uncertain bytes behind a hole before the stretch."""

    counts: Counter[str] = field(default_factory=Counter)
    lost: dict[str, str] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    carried: int = 0
    sums: Sums = field(default_factory=Sums)
    reached_end: bool = False

    @property
    def may_improve(self) -> bool:
        """Whether a part that turns up can change it."""
        return any(hole.may_close for hole in self.holes)

    def uncertain(self, n: int) -> None:
        """`n` more bytes depend on what is lost."""
        if self.holes:
            self.holes[-1].uncertain_bytes += n
        else:
            self.carried += n

    def refuse(self, name: str, reason: str) -> None:
        """Count a refused member, and list it while the list is short."""
        self.counts["refused"] += 1
        if len(self.refused) < LISTED:
            self.refused.append({"member": name, "reason": reason})

    def join(self, other: Account) -> None:
        """Take in the stretch that follows."""
        self.counts.update(other.counts)
        self.lost.update(other.lost)
        self.refused = (self.refused + other.refused)[:LISTED]
        self.uncertain(other.carried)
        self.holes += [Hole(**vars(hole)) for hole in other.holes]
        self.sums.join(other.sums)
        self.reached_end = other.reached_end

    def as_json(self) -> dict[str, Any]:
        """The account as JSON values, for `from_json`."""
        trailer = None if self.sums.trailer is None else self.sums.trailer.hex()
        changed = {
            "counts": dict(self.counts),
            "holes": [asdict(hole) for hole in self.holes],
            "sums": {**asdict(self.sums), "trailer": trailer},
        }
        return {**vars(self), **changed}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Account:
        """Raises KeyError, TypeError or ValueError for what is no account."""
        sums = value["sums"]
        (a, b), (c, d) = sums["first"], sums["last"]
        trailer = None if sums["trailer"] is None else bytes.fromhex(sums["trailer"])
        return cls(
            Counter({str(k): int(n) for k, n in value["counts"].items()}),
            {str(k): str(reason) for k, reason in value["lost"].items()},
            [{"member": str(r["member"]), "reason": str(r["reason"])} for r in value["refused"]],
            [_hole(h) for h in value["holes"]],
            natural(value["carried"]),
            Sums((int(a), natural(b)), trailer, bool(sums["sound"]), (int(c), natural(d))),
            bool(value["reached_end"]),
        )


def report(accounts: Iterable[Account], plain: bool) -> SalvageReport:
    """The whole, from stretches in the archive's order that leave nothing out; `plain` when nothing is compressed."""
    total = Account()
    for account in accounts:
        total.join(account)
    names = ("complete", "recovered", "refused")
    summary = SalvageReport({name: total.counts[name] for name in names} | {"lost": len(total.lost)})
    summary.holes, summary.lost, summary.refused = total.holes, total.lost, total.refused
    summary.reached_end = total.reached_end
    summary.uncertain_bytes = sum(h.uncertain_bytes for h in total.holes)
    if plain:
        summary.checksum = "none"
    elif not total.holes and total.sums.trailer is not None:
        summary.checksum = "matches" if total.sums.matches else "differs"
    if summary.checksum != "matches":
        summary.unverified = summary.counts["complete"] + summary.counts["recovered"]
    return summary


def _hole(value: dict[str, Any]) -> Hole:
    hole = Hole(**{**value, "parts": tuple(str(p) for p in value["parts"])})
    natural(hole.uncertain_bytes)
    return hole


def _trailer(sum_: tuple[int, int]) -> bytes:
    crc, size = sum_
    return crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _joined(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    """CRC and length of two stretches, one after the other.

    A CRC is linear over GF(2): behind n zero bytes the first becomes M^n times itself, M being the matrix that one
    zero byte stands for; the second is added to that. M^n by squaring.
    """
    crc, n = one[0], two[1]
    # gzip's CRC (RFC 1952, 8) inverts its bits before and after: taking the CRC of 0 away leaves the linear part.
    matrix = [zlib.crc32(b"\0", 1 << bit) ^ zlib.crc32(b"\0") for bit in range(32)]
    while n:
        if n & 1:
            crc = _times(matrix, crc)
        matrix = [_times(matrix, column) for column in matrix]
        n >>= 1
    return crc ^ two[0], one[1] + two[1]


def _times(matrix: list[int], vector: int) -> int:
    return reduce(xor, (column for bit, column in enumerate(matrix) if vector >> bit & 1), 0)


def natural(value: object) -> int:
    """`value`, which must be a whole number from 0 on; ValueError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def inside(name: str) -> tuple[str, str]:
    """The path below the folder, and why there must be no file of that name ("" when there may)."""
    parts = PurePosixPath(name).parts
    path = "/".join(parts)
    if name.startswith("/") or name[1:3] == ":/":
        return path, "its path is absolute"
    if ".." in parts or "\\" in name:
        return path, "its path leads out of the folder"
    if not parts or "\0" in name or not name.isprintable():
        return path, "its name cannot be a file's (empty, control characters or not UTF-8)"
    if max(len(p.encode()) for p in parts) > 255 or len(path.encode()) > 4000:
        return path, "its name is too long for a file"
    return path, ""


def shown(name: str) -> str:
    """The name as valid Unicode."""
    return name.encode("utf-8", "backslashreplace").decode()
