"""The members of a split archive as a stream: parts come and go one by one, and any of them may be missing.

    stream = Stream(supply, limits, state)
    for event in stream:            # Member, Refusal or Loss
        ...                         # put it on disk
        stream.acknowledge(event.seq)

At the end of a part a checkpoint holds all that is needed to go on: the decoder at the last start of a block (see
`points`), the reader of tar, the beginning of an unfinished member, and members that wait. Once everything handed out
before it is acknowledged, it is put on disk, and the part is released; only then is the next one asked for, if the
consumer acknowledges at once (or in `turn`). So the disk holds one part, and two while the reading looks for a place
behind a hole across their border, or when no block begins in the last 256 KiB of a part.

A stream made again on the same state goes on from the last checkpoint. What was handed out after it comes again: a
consumer keeps the first member of a name. A Loss may be followed, later, by a Member of that name; `report()` has
what is lost in the end. When a part turns up that was a hole, the stretch from the checkpoint before the hole is read
again, up to the first place behind it where the first reading depended on nothing lost. Members in that stretch come
as "complete" (if no other hole lies before them), those behind it stay as they were handed out, "recovered", though
now they are proven. Parts that broke in the middle are not tried again: for those, start with a new state.

However often it was stopped and whenever the parts came, the members are those of one reading of the parts as they
are in the end. Only beside bits that broke within a part can they be a few more or fewer: what was handed out because
a hole had ended it soundly stays, and a reading takes up again behind broken bits where it first can.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from birdmml.errors import UsageError
from birdmml.fetch.salvage.account import Account, SalvageReport, natural, shown
from birdmml.fetch.salvage.account import report as total
from birdmml.fetch.salvage.inflate import TAIL, ResumePoint, opened
from birdmml.fetch.salvage.journal import Damaged, JournalState, Mark, SalvageJournal, needed
from birdmml.fetch.salvage.members import SUSPECT, Event, Hold, MemberLimits, RecoveredMember
from birdmml.fetch.salvage.parts import CHUNK, ArchiveParts, KeptHead, Supply
from birdmml.fetch.salvage.tar import Reader
from birdmml.fetch.salvage.walk import Source, Walk

MOST_HEAD = 8 << 20  # Bytes of a part's beginning that are kept so that it need not come again.
BEYOND = 192 * 1024  # Of them, bytes behind the place: what the proof of a start may look at.


@dataclass(frozen=True)
class StreamState:
    """Where the decoders, the reader of tar and the members that wait stood after `done` compressed bytes."""

    done: int
    point: ResumePoint
    reader: dict[str, Any]
    hold: dict[str, Any]
    data: list[bytes]

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
    def from_bytes(cls, data: bytes) -> StreamState:
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
        point = ResumePoint(bit, bool(stored), tail, tuple(rest[:windows]), natural(certain))
        if windows:
            opened(point)
        return cls(natural(head["done"]), point, head["reader"], head["hold"], rest[windows:])


@dataclass
class _Leg:
    """One reading: marks before it, those it makes, and those behind the place where it may end."""

    before: list[Mark]
    fresh: list[Mark]
    rest: list[Mark]
    parts: ArchiveParts

    @property
    def marks(self) -> list[Mark]:
        return self.before + self.fresh + self.rest

    @property
    def account(self) -> Account:
        return self.fresh[-1].account

    def aim(self, index: int) -> None:
        """End at the first place from `index` on in the rest where that is possible."""
        at = (i for i in range(index, len(self.rest)) if self.rest[i].rejoins)
        self.rest = self.rest[next(at, len(self.rest)) :]
        self.parts.until = self.rest[0].part if self.rest else self.parts.last

    @property
    def in_doubt(self) -> bool:
        """Whether there is a hole that may be filled, and no place behind it yet where a reading could end."""
        for mark in reversed(self.before + self.fresh):
            if mark.account.may_improve:
                return True
            if mark.rejoins:
                return False
        return False

    def forget(self, position: int) -> None:
        """Behind `position` nothing was certain: a reading cannot end there."""
        for marks in (self.fresh, self.before):
            for i in range(len(marks) - 1, 0, -1):
                if marks[i].rejoins and marks[i].position >= position:
                    joined, into = marks[i - 1].joined(marks[i]), marks[i].account
                    vars(into).update(vars(joined.account))  # The reading goes on to write into this very account.
                    marks[i - 1 : i + 1] = [replace(joined, account=into)]


class _Held(Hold):
    """A hold that tells its leg of broken bits."""

    def __init__(self, limits: MemberLimits, leg: _Leg) -> None:
        seen = sum(m.account.counts[s] for m in leg.before for s in ("complete", "recovered"))
        super().__init__(limits, leg.account, seen + sum(len(m.account.lost) for m in leg.before))
        self.leg = leg

    def distrust(self) -> None:
        super().distrust()
        self.leg.forget(self.position - SUSPECT)


class Stream:
    """Iterate once; see the module. `state` is a folder of its own, a few MB at most.

    `turn` is called when a part is read to its end, before the next is asked for: the place to put on disk and
    acknowledge what was handed out. Without `state`, nothing is kept, and a new stream begins anew. `notes` says what
    became of a state that could not be used. Raises SourceError when a part or the state cannot be read or written.
    """

    def __init__(
        self,
        supply: Supply,
        limits: MemberLimits | None = None,
        state: Path | None = None,
        turn: Callable[[], None] = lambda: None,
        progress: Callable[[int], None] = lambda position: None,
    ) -> None:
        self.supply, self.limits, self.turn, self.progress = supply, limits or MemberLimits(), turn, progress
        self.notes: list[str] = []
        of = {"names": [shown(name) for name in supply.names], "limits": list(astuple(self.limits))}
        self._journal = SalvageJournal(state, of) if state else None
        self._known = self._load()
        self._seq = self._handed = self._safe = 0
        self._pending: deque[tuple[int, _Leg, Mark | None]] = deque()
        self._begun = False

    def report(self) -> SalvageReport:
        """What was found so far, over all readings; `members` stays empty."""
        return total([mark.account for mark in self._known.marks], bool(self._known.plain))

    def acknowledge(self, seq: int) -> None:
        """Everything handed out up to `seq` is safe on the consumer's disk."""
        self._safe = max(self._safe, seq)
        self._settle()

    def __iter__(self) -> Iterator[Event]:
        if self._begun:
            raise UsageError("a stream can be read once: make another on the same state")
        self._begun = True
        return self._events()

    def _load(self) -> JournalState:
        if self._journal is None:
            return JournalState([Mark(open=True)], None, {})
        try:
            state = self._journal.load()
            for mark in state.marks if state else []:
                if not mark.rejoins:
                    self._restored(mark, Reader(hold := Hold(self.limits, Account())), hold)
        except Damaged as e:
            self.notes.append(f"the state in {self._journal.folder} cannot be used: {e}. Reading starts over")
            self._journal.reset()
            state = None
        return state or JournalState([Mark(open=True)], None, {})

    def _restored(self, mark: Mark, reader: Reader, hold: Hold) -> tuple[int, ResumePoint | None]:
        """Compressed bytes read before the mark, and where to go on. Raises Damaged."""
        if mark.part < 0 or self._journal is None:
            return 0, None
        try:
            checkpoint = StreamState.from_bytes(self._journal.read(mark))
            reader.restore(checkpoint.reader)
            hold.restore(checkpoint.hold, checkpoint.data)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, zlib.error) as e:
            raise Damaged(f"{mark.file} is no checkpoint ({type(e).__name__})") from e
        return checkpoint.done, checkpoint.point

    def _events(self) -> Iterator[Event]:
        marks = self._known.marks
        if len(marks) > 1 or not marks[0].open:
            # A reading that was stopped may have had done with parts that it could not release any more.
            for index in range(next((m.part + 1 for m in marks if m.open), len(self.supply.names))):
                self.supply.release(index)
        holes = [h for m in self._known.marks for h in m.account.holes if h.may_close]
        while (at := next((i for i, m in enumerate(self._known.marks) if m.open), None)) is not None:
            yield from self._read(self._leg(at, at, ArchiveParts(self.supply, self._known.sizes)))
        for hole in holes:
            behind = next((i for i, m in enumerate(self._known.marks) if hole in m.account.holes), None)
            if behind is None:
                continue  # An earlier hole's reading went over this one as well.
            parts = ArchiveParts(self.supply, self._known.sizes)
            if any(self._turned_up(parts, self.supply.names.index(name), hole.kind) for name in hole.parts):
                at = max(i for i in range(behind + 1) if not self._known.marks[i].rejoins)
                yield from self._read(self._leg(at, behind, parts))
            else:
                parts.release(parts.last)

    def _turned_up(self, parts: ArchiveParts, index: int, kind: str) -> bool:
        before = self._known.sizes.get(index, 0) if kind == "truncated" else 0
        part = parts.part(index)
        return part is not None and part.size > before

    def _leg(self, at: int, hole: int, parts: ArchiveParts) -> _Leg:
        """A reading from mark `at` that has to go on behind mark `hole`."""
        marks = self._known.marks
        start = replace(marks[at], account=Account(), open=True)
        leg = _Leg(marks[:at], [start], marks[hole + 1 :], parts)
        leg.aim(0)
        if leg.rest and self._journal is not None and (head := self._journal.read(leg.rest[0])):
            parts.heads[leg.rest[0].part] = KeptHead(head, leg.rest[0].size)
        return leg

    def _read(self, leg: _Leg) -> Iterator[Event]:
        hold = _Held(self.limits, leg)
        walk = Walk(leg.parts, hold, self.progress)
        walk.plain = self._known.plain
        walk.done, point = self._restored(leg.fresh[0], walk.reader, hold)
        steps = walk.steps(leg.fresh[0].part + 1, point)
        rejoined = False
        for source in steps:
            self._known = JournalState(leg.marks, walk.plain, leg.parts.sizes)
            if source is not None and (rejoined := self._rejoins(leg, source, walk, hold)):
                break
            yield from self._drain(hold)
            if source is not None:
                self._mark(leg, source, walk, hold)
        if rejoined:
            hold.sound()
        elif not (leg.parts.gave_up or hold.full):
            leg.rest = []
        leg.fresh[-1].open = False
        self._known = JournalState(leg.marks, walk.plain, leg.parts.sizes)
        yield from self._drain(hold)
        self._pending.append((self._handed, leg, None))
        self._settle()

    def _drain(self, hold: Hold) -> Iterator[Event]:
        while hold.out:
            event = hold.out.popleft()
            self._seq += 1
            if isinstance(event, RecoveredMember):
                self._handed = self._seq
            yield replace(event, seq=self._seq)

    def _rejoins(self, leg: _Leg, source: Source, walk: Walk, hold: Hold) -> bool:
        """Whether an earlier reading went through this very place, as certain as this one."""
        part, offset = source.run.place(source.offset)
        while leg.rest and (leg.rest[0].part, leg.rest[0].offset) < (part.index, offset):
            leg.aim(1)
        if not leg.rest or (leg.rest[0].part, leg.rest[0].offset) != (part.index, offset):
            return False
        here = walk.reader.place() + hold.place()
        return source.sure and walk.reader.clean and here == leg.rest[0].place

    def _mark(self, leg: _Leg, source: Source, walk: Walk, hold: Hold) -> None:
        """Set the marks that belong between two pieces, if any."""
        part, offset = source.run.place(source.offset)
        position = walk.done + source.offset
        if self._journal is not None and source.sure and walk.reader.clean and leg.in_doubt:
            head = part.read(0, min(part.size, offset + BEYOND)) if offset <= MOST_HEAD else b""
            place = walk.reader.place() + hold.place()
            mark = Mark(part.index, offset, position, Account(), True, *self._journal.keep(head), place, part.size)
            self._append(leg, mark, hold)
        if offset == part.size and part.index < leg.parts.last and not leg.parts.short(part):
            self._turn(leg, source, walk, hold, Mark(part.index, None, position, Account(), True))

    def _turn(self, leg: _Leg, source: Source, walk: Walk, hold: Hold, mark: Mark) -> None:
        if self._journal is not None:
            point = source.point()
            if point is None:
                return  # The part is needed until one of the next has a place to go on from.
            checkpoint = StreamState(mark.position, point, walk.reader.state(), *hold.state())
            mark.file, mark.sha256 = self._journal.keep(checkpoint.to_bytes())
        self._append(leg, mark, hold)
        self._pending.append((self._handed, leg, mark))
        self.turn()
        self._settle()

    def _append(self, leg: _Leg, mark: Mark, hold: Hold) -> None:
        leg.fresh[-1].open = False
        leg.fresh.append(mark)
        hold.account = mark.account

    def _settle(self) -> None:
        """Put on disk what everything handed out before is acknowledged of, and release the parts behind it."""
        done = None
        while self._pending and self._pending[0][0] <= self._safe:
            done = self._pending.popleft()
        if done is None:
            return
        _, leg, mark = done
        marks = leg.marks
        if mark is not None:
            upto = next(i for i, m in enumerate(leg.fresh) if not m.rejoins and m.part == mark.part)
            opened = replace(leg.fresh[upto], account=Account(), open=True)
            marks = leg.before + leg.fresh[:upto] + [opened] + leg.rest
        if self._journal is not None:
            kept = needed(marks)
            self._journal.write(JournalState(kept, self._known.plain, self._known.sizes))
            files = {m.file for m in kept}
            for gone in marks:
                if gone.file not in files:
                    self._journal.drop(gone)
        leg.parts.release(leg.parts.last if mark is None else mark.part)
