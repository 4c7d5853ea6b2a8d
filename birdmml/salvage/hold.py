"""Members in memory: one being read, and those that must wait until the bits behind them have proved sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from birdmml.salvage.account import Account, Place, natural
from birdmml.salvage.names import inside, shown
from birdmml.salvage.store import SUSPECT, Limits


@dataclass(frozen=True)
class Member:
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


Event = Member | Refusal | Loss


class Hold:
    """The store of a `walk.Walk`; `out` takes what can be handed out, `account` counts it.

    A member waits until SUSPECT compressed bytes behind it were read soundly: `distrust` drops those that wait.
    """

    def __init__(self, limits: Limits, account: Account, seen: int = 0) -> None:
        self.limits, self.account = limits, account
        self.behind: Place | None = None
        self.full = False
        self.out: deque[Event] = deque()
        self._position = 0
        self._seen = seen  # Members so far, for the limit.
        self._held: deque[tuple[int, Member]] = deque()
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
        value = {
            "behind": self.behind,
            "position": self._position,
            "name": self._name,
            "size": self._size,
        }
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


def _member(name: str, data: bytes, behind: Place | None) -> Member:
    return Member(name, data, "recovered" if behind else "complete", behind=behind)


def _place(value: Sequence[object] | None) -> Place | None:
    if value is None:
        return None
    part, byte = value
    return natural(part), natural(byte)


def numbered(event: Event, seq: int) -> Event:
    """The event with its place in the stream."""
    return replace(event, seq=seq)
