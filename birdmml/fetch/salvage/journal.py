"""What a stream keeps on disk so that it can go on: marks in the archive's order, and a small file for each.

A mark is either at the end of a part (the reading can be taken up there) or somewhere within one, behind a hole,
where nothing depends on the hole any more (a second reading that fills the hole can end there). Between two marks
lies a stretch with its own account, so that one stretch can be read again and the others stay. The list is one JSON
file with the hash of every other file, replaced as a whole: a stop at any time leaves the old state or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from birdmml.core.files import atomic_write, digest, sha256_bytes
from birdmml.errors import SourceError
from birdmml.fetch.salvage.account import Account, natural

VERSION = 2
LIST = "salvage-state.json"
MOST = 1 << 32  # Bytes of one file of state that are read at all.


@dataclass
class Mark:
    """The place up to which `part` is read: its end when `offset` is None; part -1 is the archive's beginning.

    `position` counts compressed bytes read by then, `account` is of what follows, which is still to be read if
    `open`. `file` holds a checkpoint, or behind a hole the part's beginning; `place` what the reader must be like.
    """

    part: int = -1
    offset: int | None = None
    position: int = 0
    account: Account = field(default_factory=Account)
    open: bool = False
    file: str | None = None
    sha256: str = ""
    place: list[object] | None = None
    size: int = 0

    @property
    def rejoins(self) -> bool:
        """Whether a second reading can end here."""
        return self.offset is not None

    def joined(self, following: Mark) -> Mark:
        """This mark with the account of both."""
        account = Account()
        account.join(self.account)
        account.join(following.account)
        return replace(self, account=account, open=following.open)


@dataclass
class JournalState:
    """What was read from the journal."""

    marks: list[Mark]
    plain: bool | None
    sizes: dict[int, int]


class Damaged(Exception):
    """The state cannot be used; says why."""


class SalvageJournal:
    """The files below `folder`; `of` says what archive and which limits they are about."""

    def __init__(self, folder: Path, of: dict[str, Any]) -> None:
        self.folder, self.of = folder, digest({"version": VERSION, **of})

    def load(self) -> JournalState | None:
        """The newest state; None when there is none. Raises Damaged."""
        try:
            value = json.loads((self.folder / LIST).read_bytes())
            if value["sha256"] != digest(value["body"]):
                raise Damaged("its list is damaged")
            if value["body"]["of"] != self.of:
                raise Damaged("it is of another archive, of other limits, or of another version")
            body = value["body"]
            marks = [_mark(m) for m in body["marks"]]
            loose = any(m.part < 0 or m.file is None for m in marks[1:])
            if not marks or marks[0].part != -1 or marks[0].rejoins or loose:
                raise ValueError("no beginning")
            plain = None if body["plain"] is None else bool(body["plain"])
            state = JournalState(marks, plain, {natural(i): natural(n) for i, n in body["sizes"]})
        except FileNotFoundError:
            self._clear(set())
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise Damaged(f"its list cannot be read ({type(e).__name__})") from e
        for mark in state.marks:
            self.read(mark)
        self._clear({mark.file for mark in state.marks})
        return state

    def read(self, mark: Mark) -> bytes:
        """The bytes kept for a mark. Raises Damaged when they are not what was written."""
        if mark.file is None:
            return b""
        path = self.folder / mark.file
        try:
            data = path.read_bytes() if path.stat().st_size < MOST else b""
        except OSError as e:
            raise Damaged(f"{mark.file} cannot be read ({type(e).__name__})") from e
        if sha256_bytes(data) != mark.sha256:
            raise Damaged(f"{mark.file} is damaged")
        return data

    def keep(self, data: bytes) -> tuple[str, str]:
        """Put bytes on disk; the name of the file and its hash, for a mark."""
        name = f"{uuid4().hex}.mark"
        self._write(name, data)
        return name, sha256_bytes(data)

    def write(self, state: JournalState) -> None:
        """Make this the newest state; files of marks that went stay until `drop`: a stop in between loses nothing."""
        body = {
            "of": self.of,
            "plain": state.plain,
            "sizes": [[i, n] for i, n in sorted(state.sizes.items())],
            "marks": [{**vars(mark), "account": mark.account.as_json()} for mark in state.marks],
        }
        value = json.dumps({"sha256": digest(body), "body": body})
        self._write(LIST, value.encode())

    def drop(self, mark: Mark) -> None:
        """Its bytes are not needed any more."""
        if mark.file is not None:
            (self.folder / mark.file).unlink(missing_ok=True)

    def reset(self) -> None:
        """Nothing is known."""
        try:
            (self.folder / LIST).unlink(missing_ok=True)
            self._clear(set())
        except OSError as e:
            raise SourceError(f"{self.folder} is no folder that can be written ({e}): name another") from e

    def _clear(self, needed: set[str | None]) -> None:
        for path in self.folder.glob("*.mark*"):
            if path.name not in needed:
                path.unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        try:
            with atomic_write(self.folder / name) as f:
                f.write(data)
        except OSError as e:
            raise SourceError(f"{self.folder} cannot be written ({e}): mend that and run again, it goes on") from e


def needed(marks: Sequence[Mark]) -> list[Mark]:
    """The marks without those that no later reading can begin or end at; accounts are joined.

    A second reading begins at the last end of a part before the hole, and ends at the first rejoining mark behind.
    """
    kept = [marks[0]]
    for i, mark in enumerate(marks[1:], 1):
        if mark.rejoins:
            last = max((j for j in range(i) if marks[j].rejoins), default=0)
            wanted = any(m.account.may_improve for m in marks[last:i])
        else:
            following = next((j for j in range(i + 1, len(marks)) if not marks[j].rejoins), len(marks))
            wanted = mark.open or any(m.account.may_improve for m in marks[i:following])
        if wanted or kept[-1].open:
            kept.append(mark)
        else:
            kept[-1] = kept[-1].joined(mark)
    return kept


def _mark(value: dict[str, Any]) -> Mark:
    mark = Mark(**{**value, "account": Account.from_json(value["account"])})
    for number in (mark.part + 1, mark.position, mark.size, 0 if mark.offset is None else mark.offset):
        natural(number)
    if mark.file is not None and (Path(mark.file).name != mark.file or not mark.file.endswith(".mark")):
        raise ValueError(f"{mark.file!r} is no file of state")
    return mark
