"""Members in memory: one being read, and those that must wait until the bits behind them have proved sound."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from birdmml.core.files import sha256_file, sync_folder
from birdmml.fetch.salvage.account import LISTED, Account, Place, inside, natural, shown

# ---- Where salvaged members go: whole files under one folder, and the record of each.


REPORT = "salvage.json"
PENDING = ".salvage.part"
SUSPECT = 128 * 1024  # Compressed bytes before a break that may have been wrong already: two or three blocks.


@dataclass(frozen=True)
class MemberLimits:
    """What a member list may ask of the disk."""

    members: int = 2_000_000
    member_bytes: int = 1 << 30


@dataclass(frozen=True)
class Saved:
    """A member that is whole: `state` is "complete" or, read behind a hole, "recovered"."""

    state: str
    size: int
    sha256: str


class MemberFolder:
    """The store of `tar.Reader` on disk; `dry` keeps everything but the files.

    A file that is already there with the same bytes is kept as it is; with other bytes it is refused, never
    overwritten. Raises OSError as the disk does.
    """

    def __init__(self, root: Path, limits: MemberLimits, dry: bool = False) -> None:
        self.root, self.limits, self.dry = root, limits, dry
        self.behind: Place | None = None
        self.saved: dict[str, Saved] = {}
        self.lost_members: dict[str, str] = {}
        self.refused: list[dict[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.full = False
        self.position = 0  # Compressed bytes read so far, kept by the reader of the parts.
        self._recent: deque[tuple[int, str, bool]] = deque()
        self._file: BinaryIO | None = None
        self._name, self._size, self._hash = "", 0, hashlib.sha256()

    def begin(self, name: str, size: int) -> bool:
        """Whether the member may be written; if not, it is refused with the reason."""
        path, reason = inside(name)
        if not reason and path.split("/", 1)[0] in (REPORT, REPORT + ".part", PENDING):
            reason = "its name is kept for the salvage itself"
        if not reason and path in self.saved:
            reason = "there is an earlier member of this name"
        if not reason and size > self.limits.member_bytes:
            reason = f"{size:,} bytes are more than --max-member-bytes {self.limits.member_bytes:,}"
        if not reason and len(self.saved) + len(self.lost_members) >= self.limits.members:
            reason = f"there are more than --max-members {self.limits.members:,}; the rest is not read"
            self.full = True
        if reason:
            self.refuse(name, reason)
            return False
        self._name, self._size, self._hash = path, size, hashlib.sha256()
        if not self.dry and not self._there(size):
            self._file = (self.root / PENDING).open("wb")
        return True

    def _there(self, size: int) -> bool:
        target = self.root / self._name
        try:
            return target.is_file() and target.stat().st_size == size
        except OSError:
            return False  # A name that the file system will not take: told when it is to be written.

    def write(self, data: memoryview) -> None:
        """More bytes of the member begun last."""
        self._hash.update(data)
        if self._file is not None:
            self._file.write(data)

    def keep(self) -> None:
        """The member is whole: put it in place, unless it is there."""
        sha256, new = self._hash.hexdigest(), self._file is not None
        reason = "" if self.dry else self._place(sha256)
        if reason:
            self.refuse(self._name, reason)
            return
        self.lost_members.pop(self._name, None)
        state = "recovered" if self.behind else "complete"
        self.saved[self._name] = Saved(state, self._size, sha256)
        self.counts[state] += 1
        self._recent.append((self.position, self._name, new))
        while self._recent[0][0] < self.position - SUSPECT:
            self._recent.popleft()

    def distrust(self) -> None:
        """Bits broke here: take back what was read just before, for zlib notices late."""
        for position, path, new in self._recent:
            if position >= self.position - SUSPECT:
                self.counts[self.saved.pop(path).state] -= 1
                self.lost_members[path] = "it lies so close before broken bits that it may be wrong itself"
                if new:
                    (self.root / path).unlink()
                self.counts["written" if new else "already there"] -= not self.dry
        self._recent.clear()

    def sound(self) -> None:
        """The bits end here as they should: nothing is taken back any more."""
        self._recent.clear()

    def _place(self, sha256: str) -> str:
        target = self.root / self._name
        if self._file is None:
            if sha256_file(target) == sha256:
                self.counts["already there"] += 1
                return ""
            return f"{target} is there with other bytes: move it away and run again"
        if target.exists():
            self._discard()
            return f"{target} is there with another size: move it away and run again"
        file, self._file = self._file, None
        file.flush()
        os.fsync(file.fileno())
        file.close()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.root / PENDING).replace(target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return "another member has the name of its folder"
        sync_folder(target.parent)
        self.counts["written"] += 1
        return ""

    def drop(self, reason: str, uncertain: int) -> None:
        """The member is known only in part."""
        self._discard()
        self.lost(self._name, f"{reason} ({uncertain:,} uncertain bytes)" if uncertain else reason)

    def lost(self, name: str, reason: str) -> None:
        """A member that is known by name only."""
        if name not in self.saved:
            self.lost_members[shown(name)] = reason

    def refuse(self, name: str, reason: str) -> None:
        """A member that must not be written, by name."""
        self.counts["refused"] += 1
        if len(self.refused) < LISTED:
            self.refused.append({"member": shown(name), "reason": reason})

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Leave no half-written file behind."""
        self._discard()
        (self.root / PENDING).unlink(missing_ok=True)


@dataclass(frozen=True)
class RecoveredMember:
    """A file that is whole and certain. `state` is "complete" or, when read behind a hole, "recovered".

    `behind` is where the last hole before it lies: once all up to there are filled, it is as good as complete.
    """

    name: str
    data: bytes
    state: str
    seq: int = 0
    behind: Place | None = None


@dataclass(frozen=True)
class Refusal:
    """A member that must not be a file: a link, a device, a path that leads out, too large, sparse."""

    name: str
    reason: str
    seq: int = 0


@dataclass(frozen=True)
class Loss:
    """A member of which not every byte can be had."""

    name: str
    reason: str
    seq: int = 0


Event = RecoveredMember | Refusal | Loss


class Hold:
    """The store of a `walk.Walk`; `out` takes what can be handed out, `account` counts it.

    A member waits until SUSPECT compressed bytes behind it were read soundly: `distrust` drops those that wait.
    """

    def __init__(self, limits: MemberLimits, account: Account, seen: int = 0) -> None:
        self.limits, self.account = limits, account
        self.behind: Place | None = None
        self.full = False
        self.out: deque[Event] = deque()
        self._position = 0
        self._seen = seen  # Members so far, for the limit.
        self._held: deque[tuple[int, RecoveredMember]] = deque()
        self._name, self._size, self._data = "", 0, bytearray()

    @property
    def position(self) -> int:
        """Compressed bytes read so far."""
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        self._position = value
        while self._held and self._held[0][0] < value - SUSPECT:
            self.out.append(self._held.popleft()[1])

    def begin(self, name: str, size: int) -> bool:
        """Whether the member may be taken; if not, it is refused with the reason."""
        if self.full:
            return False
        path, reason = inside(name)
        if not reason and size > self.limits.member_bytes:
            reason = f"{size:,} bytes are more than the limit of {self.limits.member_bytes:,}"
        if not reason and self._seen >= self.limits.members:
            reason = f"there are more than {self.limits.members:,} members; the rest is not read"
            self.full = True
        if reason:
            self.refuse(name, reason)
            return False
        self._name, self._size, self._data = path, size, bytearray()
        return True

    def write(self, data: memoryview) -> None:
        """More bytes of the member begun last."""
        self._data += data

    def keep(self) -> None:
        """It is whole; it waits."""
        member = _member(self._name, bytes(self._data), self.behind)
        self._held.append((self._position, member))
        self._data = bytearray()
        self._seen += 1
        self.account.counts[member.state] += 1

    def distrust(self) -> None:
        """The bits broke here: members that wait may be wrong themselves."""
        for _, member in self._held:
            self.account.counts[member.state] -= 1
            self._seen -= 1
            self.lost(member.name, "it lies so close before broken bits that it may be wrong itself")
        self._held.clear()

    def sound(self) -> None:
        """The bits end here as they should: nothing needs to wait."""
        self.out.extend(member for _, member in self._held)
        self._held.clear()

    def drop(self, reason: str, uncertain: int) -> None:
        """The member begun last is known only in part."""
        self._data = bytearray()
        self.lost(self._name, f"{reason} ({uncertain:,} uncertain bytes)" if uncertain else reason)

    def lost(self, name: str, reason: str) -> None:
        """A member that is known by name only."""
        self._seen += 1
        self.account.lost[shown(name)] = reason
        self.out.append(Loss(shown(name), reason))

    def refuse(self, name: str, reason: str) -> None:
        """A member that must not be a file, by name."""
        self.account.refuse(shown(name), reason)
        self.out.append(Refusal(shown(name), reason))

    def place(self) -> list[object]:
        """Equal for two that are to take the same bytes for the same member."""
        return [shown(self._name), self._size]

    def state(self) -> tuple[dict[str, Any], list[bytes]]:
        """What has to be known to go on, as JSON and as bytes. What is in `out` is not a part of it."""
        held = [[position, m.name, m.behind] for position, m in self._held]
        value = {"behind": self.behind, "position": self._position, "name": self._name, "size": self._size}
        return {**value, "held": held}, [bytes(self._data), *(m.data for _, m in self._held)]

    def restore(self, value: dict[str, Any], data: list[bytes]) -> None:
        """Be as the one whose `state` this is. Raises LookupError, TypeError or ValueError for what is no state."""
        self.behind, self._position = _place(value["behind"]), natural(value["position"])
        self._name, self._size, self._data = str(value["name"]), natural(value["size"]), bytearray(data[0])
        self._held.clear()
        for (position, name, behind), held in zip(value["held"], data[1:], strict=True):
            if inside(name) != (name, ""):
                raise ValueError(f"{name!r} cannot be a member that waits")
            self._held.append((natural(position), _member(name, held, _place(behind))))


def _member(name: str, data: bytes, behind: Place | None) -> RecoveredMember:
    return RecoveredMember(name, data, "recovered" if behind else "complete", behind=behind)


def _place(value: Sequence[object] | None) -> Place | None:
    if value is None:
        return None
    part, byte = value
    return natural(part), natural(byte)


def numbered(event: Event, seq: int) -> Event:
    """The event with its place in the stream."""
    return replace(event, seq=seq)
