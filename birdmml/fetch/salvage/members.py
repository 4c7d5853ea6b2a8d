"""Where the members of an archive go while it is read: to a folder, or in memory until they can be handed out."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from birdmml.core.files import sha256_file, sync_folder
from birdmml.fetch.salvage.account import Account, Place, inside, natural, shown

REPORT = "salvage.json"
PENDING = ".salvage.part"
SUSPECT = 128 * 1024  # Compressed bytes before a break that may have been wrong already: two or three blocks.
DOUBTFUL = "it lies so close before broken bits that it may be wrong itself"


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


class _Store:
    """Where `tar.Reader` and `walk.Walk` put members: a subclass keeps the bytes, `account` counts what became of them.

    `begin` may refuse a member; then it gets no `write`, and neither `keep` nor `drop`.
    """

    def __init__(self, limits: MemberLimits, account: Account) -> None:
        self.limits, self.account = limits, account
        self.behind: Place | None = None  # The last hole so far: what comes from now on was read behind it.
        self.full = False  # It takes no more: the reading ends.
        self.position = 0  # Compressed bytes read so far.
        self._name, self._size = "", 0  # Of the member begun last.

    def advance(self, position: int) -> None:
        """So many compressed bytes have been read."""
        self.position = position

    def begin(self, name: str, size: int) -> bool:
        """Whether the regular file may be taken; if not, it is refused with the reason."""
        path, reason = inside(name)
        if reason := reason or self._why_not(path, size):
            self.refuse(name, reason)
            return False
        self._name, self._size = path, size
        self._open()
        return True

    def drop(self, reason: str, uncertain: int) -> None:
        """The member begun last is known only in part."""
        self._discard()
        self.lost(self._name, f"{reason} ({uncertain:,} uncertain bytes)" if uncertain else reason)

    def lost(self, name: str, reason: str) -> None:
        """A member that is known by name only."""
        self.account.lost[shown(name)] = reason

    def refuse(self, name: str, reason: str) -> None:
        """A member that must not be a file, by name."""
        self.account.refuse(shown(name), reason)

    def _why_not(self, path: str, size: int) -> str:
        raise NotImplementedError

    def _open(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError


class MemberFolder(_Store):
    """The store on disk: whole files under one folder, and the record of each; `dry` keeps everything but the files.

    A file that is already there with the same bytes is kept as it is; with other bytes it is refused, never
    overwritten. Raises OSError as the disk does.
    """

    def __init__(self, root: Path, limits: MemberLimits, account: Account, dry: bool = False) -> None:
        super().__init__(limits, account)
        self.root, self.dry = root, dry
        self.saved: dict[str, Saved] = {}
        self._recent: deque[tuple[int, str, bool]] = deque()
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        """More bytes of the member begun last."""
        self._hash.update(data)
        if self._file is not None:
            self._file.write(data)

    def keep(self) -> None:
        """The member begun last is whole and certain: put it in place, unless it is there."""
        sha256, new = self._hash.hexdigest(), self._file is not None
        reason = "" if self.dry else self._place(sha256)
        if reason:
            self.refuse(self._name, reason)
            return
        self.account.lost.pop(self._name, None)
        state = "recovered" if self.behind else "complete"
        self.saved[self._name] = Saved(state, self._size, sha256)
        self.account.counts[state] += 1
        self._recent.append((self.position, self._name, new))
        while self._recent[0][0] < self.position - SUSPECT:
            self._recent.popleft()

    def lost(self, name: str, reason: str) -> None:
        """One that is whole in an earlier place is not lost."""
        if name not in self.saved:
            super().lost(name, reason)

    def distrust(self) -> None:
        """The bits broke here; zlib notices late, so what was kept just before may be wrong: take it back."""
        for position, path, new in self._recent:
            if position >= self.position - SUSPECT:
                self.account.counts[self.saved.pop(path).state] -= 1
                self.account.lost[path] = DOUBTFUL
                if new:
                    (self.root / path).unlink()
                self.account.counts["written" if new else "already there"] -= not self.dry
        self._recent.clear()

    def sound(self) -> None:
        """The bits end here as they should: what was kept is right."""
        self._recent.clear()

    def close(self) -> None:
        """Leave no half-written file behind."""
        self._discard()
        (self.root / PENDING).unlink(missing_ok=True)

    def _why_not(self, path: str, size: int) -> str:
        if path.split("/", 1)[0] in (REPORT, REPORT + ".part", PENDING):
            return "its name is kept for the salvage itself"
        if path in self.saved:
            return "there is an earlier member of this name"
        if size > self.limits.member_bytes:
            return f"{size:,} bytes are more than --max-member-bytes {self.limits.member_bytes:,}"
        if len(self.saved) + len(self.account.lost) >= self.limits.members:
            self.full = True
            return f"there are more than --max-members {self.limits.members:,}; the rest is not read"
        return ""

    def _open(self) -> None:
        self._hash = hashlib.sha256()
        target = self.root / self._name
        try:
            there = target.is_file() and target.stat().st_size == self._size
        except OSError:
            there = False  # A name that the file system will not take: told when it is to be written.
        if not (self.dry or there):
            self._file = (self.root / PENDING).open("wb")

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _place(self, sha256: str) -> str:
        """Give the member its name; why that must not be, or ""."""
        target = self.root / self._name
        if self._file is None:
            if sha256_file(target) == sha256:
                self.account.counts["already there"] += 1
                return ""
            return f"{target} is there with other bytes: move it away and run again"
        if target.exists():
            self._discard()
            return f"{target} is there with another size: move it away and run again"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._discard()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.root / PENDING).replace(target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return "another member has the name of its folder"
        sync_folder(target.parent)
        self.account.counts["written"] += 1
        return ""


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


class Hold(_Store):
    """The store in memory; `out` takes what can be handed out.

    A member waits until SUSPECT compressed bytes behind it were read soundly: `distrust` drops those that wait.
    """

    def __init__(self, limits: MemberLimits, account: Account, seen: int = 0) -> None:
        super().__init__(limits, account)
        self.out: deque[Event] = deque()
        self._seen = seen  # Members so far, for the limit.
        self._held: deque[tuple[int, RecoveredMember]] = deque()
        self._data = bytearray()

    def advance(self, position: int) -> None:
        """Members that lie far enough back need not wait any more."""
        super().advance(position)
        while self._held and self._held[0][0] < position - SUSPECT:
            self.out.append(self._held.popleft()[1])

    def begin(self, name: str, size: int) -> bool:
        """As the other stores do; one that is full is silent."""
        return not self.full and super().begin(name, size)

    def write(self, data: memoryview) -> None:
        """More bytes of the member begun last."""
        self._data += data

    def keep(self) -> None:
        """The member begun last is whole and certain: it waits."""
        member = _member(self._name, bytes(self._data), self.behind)
        self._held.append((self.position, member))
        self._discard()
        self._seen += 1
        self.account.counts[member.state] += 1

    def lost(self, name: str, reason: str) -> None:
        """It is handed out as a Loss, too."""
        super().lost(name, reason)
        self._seen += 1
        self.out.append(Loss(shown(name), reason))

    def refuse(self, name: str, reason: str) -> None:
        """It is handed out as a Refusal, too."""
        super().refuse(name, reason)
        self.out.append(Refusal(shown(name), reason))

    def distrust(self) -> None:
        """The bits broke here; zlib notices late, so what was kept just before may be wrong: take it back."""
        for _, member in self._held:
            self.account.counts[member.state] -= 1
            self._seen -= 1
            self.lost(member.name, DOUBTFUL)
        self._held.clear()

    def sound(self) -> None:
        """The bits end here as they should: what was kept is right."""
        self.out.extend(member for _, member in self._held)
        self._held.clear()

    def _why_not(self, path: str, size: int) -> str:
        if size > self.limits.member_bytes:
            return f"{size:,} bytes are more than the limit of {self.limits.member_bytes:,}"
        if self._seen >= self.limits.members:
            self.full = True
            return f"there are more than {self.limits.members:,} members; the rest is not read"
        return ""

    def _open(self) -> None:
        self._discard()

    def _discard(self) -> None:
        self._data = bytearray()

    def place(self) -> list[object]:
        """Equal for two that are to take the same bytes for the same member."""
        return [shown(self._name), self._size]

    def state(self) -> tuple[dict[str, Any], list[bytes]]:
        """What has to be known to go on, as JSON and as bytes. What is in `out` is not a part of it."""
        held = [[position, m.name, m.behind] for position, m in self._held]
        value = {"behind": self.behind, "position": self.position, "name": self._name, "size": self._size}
        return {**value, "held": held}, [bytes(self._data), *(m.data for _, m in self._held)]

    def restore(self, value: dict[str, Any], data: list[bytes]) -> None:
        """Be as the one whose `state` this is. Raises LookupError, TypeError or ValueError for what is no state."""
        self.behind, self.position = _place(value["behind"]), natural(value["position"])
        self._name, self._size, self._data = str(value["name"]), natural(value["size"]), bytearray(data[0])
        self._held.clear()
        for (position, name, behind), held in zip(value["held"], data[1:], strict=True):
            if inside(name) != (name, ""):
                raise ValueError(f"{name!r} cannot be a member that waits")
            self._held.append((natural(position), _member(name, held, _place(behind))))


Store = MemberFolder | Hold


def _member(name: str, data: bytes, behind: Place | None) -> RecoveredMember:
    return RecoveredMember(name, data, "recovered" if behind else "complete", behind=behind)


def _place(value: Sequence[object] | None) -> Place | None:
    if value is None:
        return None
    part, byte = value
    return natural(part), natural(byte)
