"""Tar, read as a stream with holes: members out, and a word about each that cannot be had.

A member is handed to the store as whole only when all its bytes are certain and what follows it is what tar puts
there: the next header with a sound checksum, or zeros to the end. A hole in the parts counts as a fair end, since
the bits before it were read in order; broken bits do not, for they may have gone wrong some time before zlib noticed.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.fetch.salvage.account import natural, shown
from birdmml.fetch.salvage.members import Store

BLOCK = tarfile.BLOCKSIZE
LONGEST_EXTRA = 1 << 20  # Bytes of a long name or pax header; more is an attack or a mistake.
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
EXTRA = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
SKIPPED = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
NO_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
}

Doubt = NDArray[np.bool_] | None


@dataclass
class _Open:
    """The member being read: `left` data bytes to come; `kind` is "file", "extra" or "skip"."""

    kind: str
    left: int
    pad: int
    type: bytes = b""
    uncertain: int = 0


class Reader:
    """Feed it decoded bytes in order; tell it of holes with `gap`, of the end with `end`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.scanning = False  # Whether the place of the next header is unknown.
        self.ended = False  # Whether the last block was zeros, as an archive ends.
        self._block, self._block_doubt = bytearray(), False
        self._tail, self._tail_doubt = b"", np.zeros(0, np.bool_)
        self._open: _Open | None = None
        self._waiting = False  # A member is read to its end, and what follows it is not seen yet.
        self._extra = bytearray()
        self._path: str | None = None
        self._size: int | None = None
        self._sparse = False
        self._fresh = False  # No header before this one was seen, so its long name may be lost.

    def feed(self, data: bytes, doubt: Doubt = None) -> bool:
        """Take decoded bytes [N] and which of them are uncertain [N]; False when they cannot be tar here.

        Then the member before has been dropped, and the stream cannot be trusted up to here.
        """
        at = 0
        while at < len(data):
            if self.scanning:
                at += self._scan(data[at:], None if doubt is None else doubt[at:])
            elif self._open is not None:
                at = self._data(self._open, data, doubt, at)
                continue
            else:
                end = min(len(data), at + BLOCK - len(self._block))
                self._block += data[at:end]
                self._block_doubt |= doubt is not None and bool(doubt[at:end].any())
                at = end
            if len(self._block) == BLOCK and not self._header():
                return False
        return True

    def gap(self, clean: bool, why: str) -> None:
        """The bytes do not go on: behind a hole (`clean`), or because the bits before this broke."""
        if self._waiting:
            self._settle(clean, why)
        elif self._open is not None and self._open.kind == "file":
            self.store.drop(why, self._open.uncertain)
        elif self._path is not None:
            self.store.lost(self._path, why)
        self._reset()

    def end(self, complete: bool) -> None:
        """No more input; `complete` when the compressed stream had reached its own end."""
        self.gap(True, "the archive ends in it" if complete else "the parts end in it")

    @property
    def clean(self) -> bool:
        """Whether nothing behind a hole is in doubt any more: in a certain member, or just behind one."""
        if self.scanning or (self._open is None and not self._waiting):
            return False
        return self._open is None or (self._open.kind == "file" and not self._open.uncertain)

    def place(self) -> list[object]:
        """Equal for two readers that will take what follows in the same way, if both are `clean`."""
        member = self._open
        left = None if member is None else [member.kind, member.left, member.pad]
        path = None if self._path is None else shown(self._path)
        return [left, self._waiting, self._block.hex(), path, self._size, self._sparse]

    def state(self) -> dict[str, Any]:
        """What has to be known to go on, as JSON; the store keeps the member's bytes."""
        member = self._open
        return {
            "flags": [self.scanning, self.ended, self._waiting, self._block_doubt, self._sparse, self._fresh],
            "block": self._block.hex(),
            "tail": [self._tail.hex(), np.flatnonzero(self._tail_doubt).tolist()],
            "open": member and [member.kind, member.left, member.pad, member.type.hex(), member.uncertain],
            "extra": self._extra.hex(),
            "path": self._path,
            "size": self._size,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Be as the reader whose `state` this is. Raises KeyError, TypeError, ValueError for what is no state."""
        flags = [bool(f) for f in state["flags"]]
        self.scanning, self.ended, self._waiting, self._block_doubt, self._sparse, self._fresh = flags
        self._block, self._extra = bytearray.fromhex(state["block"]), bytearray.fromhex(state["extra"])
        tail, doubtful = state["tail"]
        self._tail = bytes.fromhex(tail)
        self._tail_doubt = np.isin(np.arange(len(self._tail)), doubtful)
        self._path = None if state["path"] is None else str(state["path"])
        self._size = None if state["size"] is None else natural(state["size"])
        if len(self._block) >= BLOCK or len(self._tail) >= BLOCK:
            raise ValueError("more of a header than there can be")
        self._open = None
        if state["open"] is not None:
            kind, left, pad, type_, uncertain = state["open"]
            if kind not in ("file", "extra", "skip"):
                raise ValueError(f"a member of kind {kind!r}")
            self._open = _Open(kind, natural(left), natural(pad), bytes.fromhex(type_), natural(uncertain))

    def _reset(self) -> None:
        self.scanning = self._fresh = True
        self._block.clear()
        self._tail, self._tail_doubt = b"", np.zeros(0, np.bool_)
        self._open, self._block_doubt = None, False
        self._extra.clear()
        self._clear_extra()

    def _clear_extra(self) -> None:
        self._path, self._size, self._sparse = None, None, False

    def _settle(self, sound: bool, why: str) -> None:
        if self._waiting:
            self.store.keep() if sound else self.store.drop(why, 0)
            self._waiting = False

    def _scan(self, data: bytes, doubt: Doubt) -> int:
        """Look for a header; how much of `data` was used. A found one is left in the block."""
        mask = np.zeros(len(data), np.bool_) if doubt is None else doubt
        window, unsure = self._tail + data, np.concatenate([self._tail_doubt, mask])
        at = window.find(b"ustar", 257)
        while at >= 0:
            start = at - 257
            block = window[start : start + BLOCK]
            if not unsure[start : start + BLOCK].any() and parse(block):
                self._block[:] = block
                used = start + BLOCK - len(self._tail)
                self._tail, self._tail_doubt = b"", np.zeros(0, np.bool_)
                self.scanning = False
                return used
            at = window.find(b"ustar", at + 1)
        self._tail, self._tail_doubt = window[-BLOCK + 1 :], unsure[-BLOCK + 1 :]
        return len(data)

    def _data(self, member: _Open, data: bytes, doubt: Doubt, at: int) -> int:
        end = min(len(data), at + member.left)
        if end > at:
            if doubt is not None:
                member.uncertain += int(doubt[at:end].sum())
            if member.kind == "file":
                self.store.write(memoryview(data)[at:end])
            elif member.kind == "extra":
                self._extra += data[at:end]
            member.left -= end - at
        if member.left == 0:
            skip = min(len(data) - end, member.pad)
            end, member.pad = end + skip, member.pad - skip
            if member.pad == 0:
                self._finish(member)
        return end

    def _finish(self, member: _Open) -> None:
        self._open = None
        if member.kind == "file":
            self._waiting = not member.uncertain
            if member.uncertain:
                self.store.drop("some of its bytes depend on what is lost", member.uncertain)
        elif member.kind == "extra":
            if member.uncertain:
                self._fresh = True  # As good as lost: the name of what follows is not known.
                self._clear_extra()
            else:
                self._take_extra(member.type, bytes(self._extra))
            self._extra.clear()

    def _take_extra(self, kind: bytes, data: bytes) -> None:
        self._fresh = False
        if kind == tarfile.GNUTYPE_LONGNAME:
            self._path = data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            return
        for key, value in _pax(data):
            if key == b"path":
                self._path = value.decode("utf-8", "surrogateescape")
            elif key == b"size" and value.isdigit() and len(value) < 20:
                self._size = int(value)
            elif key.startswith(b"GNU.sparse"):
                self._sparse = True

    def _header(self) -> bool:
        block, doubtful = bytes(self._block), self._block_doubt
        self._block.clear()
        self._block_doubt = False
        if doubtful:
            self.gap(True, "the header behind its long name depends on what is lost")
            return True
        self.ended = not any(block)
        if self.ended:
            return True  # The end, or silence at a wrong place: only what follows can tell.
        info = parse(block)
        if info is None:
            self._settle(False, "no header follows where it ends")
            self.gap(False, "no header follows where it ends")
            return False
        self._settle(True, "")
        self._begin(info, block)
        return True

    def _begin(self, info: tarfile.TarInfo, block: bytes) -> None:
        size = info.size
        if info.type in EXTRA or info.type in SKIPPED:
            kind = "extra" if info.type in EXTRA and size <= LONGEST_EXTRA else "skip"
            if kind == "skip" and info.type in EXTRA:
                self.store.refuse(info.name, f"its name takes {size:,} bytes")
            self._open = _Open(kind, size, -size % BLOCK, info.type)
            return
        name = info.name if self._path is None else self._path
        size = size if self._size is None else self._size
        nameless = self._fresh and _may_be_cut(block)
        sparse = self._sparse or info.type == tarfile.GNUTYPE_SPARSE
        self._fresh = False
        self._clear_extra()
        if info.type in NO_DATA:
            if info.type != tarfile.DIRTYPE:
                self.store.refuse(name, KINDS[info.type])
            return
        kind = "skip"
        if sparse or info.type not in PLAIN:
            self.store.refuse(name, "a sparse file" if sparse else f"of unknown type {info.type!r}")
        elif nameless:
            self.store.lost(name, "its long name may have been in the hole")
        elif self.store.begin(name, size):
            kind = "file"
        self._open = _Open(kind, size, -size % BLOCK)
        if size == 0:
            self._finish(self._open)


def parse(block: bytes) -> tarfile.TarInfo | None:
    """The header with a sound checksum that these bytes are; None when they are none, or not a block."""
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return info if info.size >= 0 else None


def _may_be_cut(block: bytes) -> bool:
    """Whether the header's own name may stand for another one: full, a sparse file's, or (pax) not ASCII."""
    name = block[:100]
    if b"\0" not in name or b"GNUSparseFile." in name:
        return True
    name = name.split(b"\0", 1)[0]
    return block[257:265] != tarfile.GNU_MAGIC and (b"?" in name or not name.isascii())


def _pax(data: bytes) -> list[tuple[bytes, bytes]]:
    """Records "LENGTH KEY=VALUE\\n" of a pax header, as far as they are well formed."""
    records, at = [], 0
    while at < len(data):
        digits = data[at : at + 20].split(b" ", 1)[0]
        if not digits.isdigit() or not 0 < int(digits) <= len(data) - at:
            break
        key, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        records.append((key, value))
        at += int(digits)
    return records
