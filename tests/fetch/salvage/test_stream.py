from __future__ import annotations

import gzip
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.archives import NAMES, SMALL, Shelf, birds, cut, drink, hostile_tar, outside, plain, tar, wav
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import UsageError
from birdmml.fetch.salvage import salvage
from birdmml.fetch.salvage.account import Sums
from birdmml.fetch.salvage.inflate import Start, joined, primed
from birdmml.fetch.salvage.members import Hold, Loss, MemberLimits, RecoveredMember, Refusal
from birdmml.fetch.salvage.parts import Files
from birdmml.fetch.salvage.stream import Stream

SLACK = 34_000  # zlib's blocks hold 16 K symbols, below 2 bytes each here: so far behind a hole one may begin.


@pytest.mark.parametrize(
    ("gone", "level"),
    [((), 6), ((4,), 1), ((4,), 6), ((4,), 9), ((0,), 6), ((7,), 6), ((3, 4), 6), ((1, 5), 6), ((0, 7), 1)],
)
def test_the_stream_hands_out_every_member_outside_the_missing_parts(
    tmp_path: Path, gone: tuple[int, ...], level: int
) -> None:
    packed = gzip.compress(tar(SMALL), level)
    paths = cut(packed, tmp_path / "parts", 8)
    shelf, got = Shelf(paths, gone), dict[str, RecoveredMember]()
    stream = Stream(shelf, state=tmp_path / "state")
    assert drink(stream, got)
    assert plain(got) == {name: SMALL[name] for name in got}
    report, size = stream.report(), paths[0].stat().st_size
    unsure = {name for name, why in report.lost.items() if "uncertain bytes" in why}
    must = outside(SMALL, packed, [(i * size, (i + 1) * size) for i in gone], SLACK)
    assert must <= set(got) | unsure and len(must & unsure) <= 2 * len(gone)
    if gone != (0, 7):  # Without its first part and its last, an archive's names say less of what is missing.
        folder = salvage([p for i, p in enumerate(paths) if i not in gone], tmp_path / "out")
        assert {name: m.state for name, m in got.items()} == {n: m["state"] for n, m in folder.members.items()}
        assert set(report.lost) == set(folder.lost)
        assert report.uncertain_bytes == folder.uncertain_bytes
    assert {p for h in report.holes for p in h.parts} == {paths[i].name for i in gone}
    assert report.whole == (not gone) and report.unverified == (len(got) if gone else 0)
    assert sorted(set(shelf.asked)) == list(range(8)) and len(shelf.asked) == 8
    assert not shelf.held


def test_one_part_at_a_time_lies_on_the_disk(tmp_path: Path) -> None:
    paths = cut(gzip.compress(tar(SMALL)), tmp_path / "parts", 6)
    at_once, in_turn, holed, late = Shelf(paths), Shelf(paths), Shelf(paths, {2}), Shelf(paths)
    drink(Stream(at_once, state=tmp_path / "a"), {})
    assert at_once.peak == 1
    seqs = [0]
    stream = Stream(in_turn, state=tmp_path / "b", turn=lambda: stream.acknowledge(seqs[-1]))
    seqs += [event.seq for event in iter_noting(stream, seqs)]
    assert in_turn.peak == 1
    drink(Stream(holed, state=tmp_path / "c"), {})
    assert holed.peak == 1  # The search ended within the part behind the hole.
    slow = Stream(late, state=tmp_path / "d")
    assert len(list(slow)) == 60 and late.peak == 6  # What nobody has put on disk keeps its parts.
    slow.acknowledge(10**9)
    assert not late.held


def iter_noting(stream: Stream, seqs: list[int]) -> Iterator[RecoveredMember | Refusal | Loss]:
    for event in stream:
        seqs.append(event.seq)
        yield event


class Endless:
    """Parts made when asked for and unlinked when released: an archive that is never there as a whole."""

    def __init__(self, folder: Path, members: int, unit: bytes, size: int, hole: int) -> None:
        self.folder, self.hole, self.size = folder, hole, size
        self.made = self._bytes(members, unit)
        self.names = tuple(f"x.tar.gz.{NAMES[i]}" for i in range(12))
        self.next, self.left = 0, b""

    def _bytes(self, members: int, unit: bytes) -> Iterator[bytes]:
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        for i in range(members):
            info = tarfile.TarInfo(f"m{i}")
            info.size = len(unit)
            yield packer.compress(info.tobuf() + unit)
        yield packer.compress(bytes(1024)) + packer.flush()

    def get(self, index: int) -> Path | None:
        while self.next <= index:
            while len(self.left) < self.size and (more := next(self.made, b"")):
                self.left += more
            last = self.next == len(self.names) - 1
            path = self.folder / self.names[self.next]
            now, self.left = (self.left, b"") if last else (self.left[: self.size], self.left[self.size :])
            path.write_bytes(now + b"".join(self.made) if last else now)
            self.next += 1
        return None if index == self.hole else self.folder / self.names[index]

    def release(self, index: int) -> None:
        (self.folder / self.names[index]).unlink(missing_ok=True)


def test_memory_is_one_member_and_what_waits(tmp_path: Path) -> None:
    unit = wav(np.random.default_rng(2), 20_000) + bytes((2 << 20) - 512 - 40_016)
    endless = Endless(tmp_path, 110, unit, 300_000, hole=3)  # 230 MB unpacked.
    stream = Stream(endless, state=tmp_path / "state")
    total = members = 0
    tracemalloc.start()
    for event in stream:
        if isinstance(event, RecoveredMember):
            assert event.data == unit
            total, members = total + len(event.data), members + 1
        stream.acknowledge(event.seq)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert members > 90 and total > 180 << 20
    assert peak < 40 << 20  # 128 KiB that wait hold five or six members here; a step unpacks a little more.
    assert sum(p.stat().st_size for p in (tmp_path / "state").iterdir()) < 32 << 20


def test_a_member_over_the_limit_is_never_held(tmp_path: Path) -> None:
    data = hostile_tar(("bomb", tarfile.REGTYPE, bytes(60 << 20), ""), ("ok", tarfile.REGTYPE, b"fine", ""))
    paths = cut(gzip.compress(data), tmp_path / "parts", 2)
    del data
    tracemalloc.start()
    bomb, ok = Stream(Shelf(paths), MemberLimits(member_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(bomb, Refusal) and bomb.name == "bomb" and "more than the limit" in bomb.reason
    assert isinstance(ok, RecoveredMember) and ok.data == b"fine"
    assert peak < 128 << 20  # What 16 KiB of zeros unpack to, a few times; not the member.


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("ln", tarfile.SYMTYPE, "symbolic link"),
        ("hard", tarfile.LNKTYPE, "hard link"),
        ("dev", tarfile.CHRTYPE, "character device"),
        ("blk", tarfile.BLKTYPE, "block device"),
        ("pipe", tarfile.FIFOTYPE, "named pipe"),
        ("/etc/abs", tarfile.REGTYPE, "absolute"),
        ("a/../../up", tarfile.REGTYPE, "out of the folder"),
        ("sparse", tarfile.GNUTYPE_SPARSE, "sparse"),
        ("odd", b"Z", "unknown type"),
    ],
)
@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzip", "tar"])
def test_hostile_members_are_refused_by_name(tmp_path: Path, name: str, kind: bytes, reason: str, pack: type) -> None:
    data = hostile_tar(
        ("ok", tarfile.REGTYPE, b"fine", ""), (name, kind, b"", "ok"), ("after", tarfile.REGTYPE, b"too", "")
    )
    stream = Stream(Shelf(cut(pack(data), tmp_path / "parts", 1)))
    events = list(stream)
    assert {e.name: e.data for e in events if isinstance(e, RecoveredMember)} == {"ok": b"fine", "after": b"too"}
    (refused,) = [e for e in events if isinstance(e, Refusal)]
    assert refused.name == name and reason in refused.reason
    assert stream.report().refused == [{"member": name, "reason": refused.reason}]


def test_too_many_members_end_the_stream(tmp_path: Path) -> None:
    data = gzip.compress(hostile_tar(*((f"m{i}", tarfile.REGTYPE, b"x", "") for i in range(9))))
    events = list(Stream(Shelf(cut(data, tmp_path / "parts", 1)), MemberLimits(members=4)))
    assert [e.name for e in events if isinstance(e, RecoveredMember)] == ["m0", "m1", "m2", "m3"]
    assert [e.name for e in events if isinstance(e, Refusal)] == ["m4"]


def test_a_plain_tar_in_parts_is_read_past_its_holes(tmp_path: Path) -> None:
    data = tar(SMALL)
    paths = [p.rename(p.with_name(f"x.tar.{NAMES[i]}")) for i, p in enumerate(cut(data, tmp_path / "parts", 8))]
    size, got = paths[0].stat().st_size, dict[str, RecoveredMember]()
    shelf = Shelf(paths, {0, 5})
    drink(Stream(shelf, state=tmp_path / "state"), got)
    whole = {name for name, lies in spans(SMALL).items() if not any(touches(lies, i * size, size) for i in (0, 5))}
    assert set(got) == whole and plain(got) == {name: SMALL[name] for name in got}
    shelf.gone.clear()
    drink(stream := Stream(shelf, state=tmp_path / "state"), got)
    assert plain(got) == SMALL
    assert stream.report().checksum == "none" and stream.report().whole


def spans(files: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    """Where in the tar (pax headers with times) each member lies."""
    at, lies = 0, {}
    for name, data in files.items():
        end = at + 1536 + len(data)
        lies[name] = (at, end)
        at = end + -len(data) % 512
    return lies


def touches(lies: tuple[int, int], start: int, size: int) -> bool:
    return lies[0] < start + size and start < lies[1]


def test_members_just_before_broken_bits_are_never_handed_out(tmp_path: Path) -> None:
    paths = cut(gzip.compress(tar(SMALL)), tmp_path / "parts", 8)
    data = bytearray(paths[4].read_bytes())
    data[9000:13000] = np.random.default_rng(5).bytes(4000)
    paths[4].write_bytes(data)
    got = dict[str, RecoveredMember]()
    drink(stream := Stream(Shelf(paths), state=tmp_path / "state"), got)
    assert plain(got) == {name: SMALL[name] for name in got} and len(got) > 50
    close = {name for name, why in stream.report().lost.items() if "so close before" in why}
    assert close and not close & set(got)
    assert set(got) == set(salvage(paths, tmp_path / "out").members)


def test_a_broken_part_costs_what_it_would_cost_in_one_reading(tmp_path: Path) -> None:
    """A part with a wrong MD5 is no part to its supply; without an MD5 it is read as far as it goes."""
    paths = cut(gzip.compress(tar(SMALL)), tmp_path / "parts", 8)
    data = paths[3].read_bytes()
    paths[3].write_bytes(data[:20_000] + np.random.default_rng(1).bytes(3000) + data[23_000:])
    known, unknown = dict[str, RecoveredMember](), dict[str, RecoveredMember]()
    drink(Stream(Shelf(paths, {3})), known)
    drink(Stream(Shelf(paths)), unknown)
    assert plain(unknown) == {name: SMALL[name] for name in unknown}
    assert set(known) - set(unknown) <= {name for name in known if known[name].state == "complete"}
    assert len(unknown) >= len(known)


def test_a_stream_is_read_once(tmp_path: Path) -> None:
    stream = Stream(Files(cut(gzip.compress(tar(birds(2))), tmp_path / "parts", 2)))
    assert len(list(stream)) == 2
    with pytest.raises(UsageError, match="once"):
        iter(stream)


@settings(max_examples=60, deadline=None)
@given(window=st.binary(max_size=300), data=st.binary(max_size=300), bit=st.integers(0, 7), level=st.integers(0, 9))
def test_a_primed_decoder_reads_on_from_any_bit_with_the_window_given(
    window: bytes, data: bytes, bit: int, level: int
) -> None:
    """Against zlib with a preset dictionary; the stream moved up by some bits, which zlib cannot do by itself."""
    packer = zlib.compressobj(level or 1, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, window)
    packed = int.from_bytes(packer.compress(data) + packer.flush(), "little") << bit
    raw = packed.to_bytes(packed.bit_length() // 8 + 9, "little")
    decoder, lead = primed(Start(bit), window)
    # A short input becomes one block of fixed codes; a stored one would have to end on a byte's edge.
    if raw[0] >> bit & 6 == 0:
        return
    assert decoder.decompress(joined(raw, bit, lead)) == data and decoder.eof


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(st.lists(st.binary(max_size=40), max_size=4), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 800), max_size=6),
    wrong=st.booleans(),
)
def test_checksums_of_stretches_join_to_that_of_the_whole(
    pieces: list[list[bytes]], cuts: list[int], wrong: bool
) -> None:
    """gzip members of several pieces, the pieces dealt to stretches in any way."""
    ops: list[tuple[str, bytes]] = []
    for i, member in enumerate(pieces):
        whole = b"".join(member)
        crc = zlib.crc32(whole) ^ (wrong and i == len(pieces) // 2)
        ops += [("add", data) for data in member]
        ops.append(("end", crc.to_bytes(4, "little") + len(whole).to_bytes(4, "little")))
    edges = [0, *sorted(c % (len(ops) + 1) for c in cuts), len(ops)]
    total = Sums()
    for a, b in zip(edges, edges[1:], strict=False):
        stretch = Sums()
        for op, data in ops[a:b]:
            stretch.add(data) if op == "add" else stretch.end(data)
        total.join(stretch)
    assert total.matches == (not wrong)


def test_what_waits_is_dropped_when_the_bits_break(tmp_path: Path) -> None:
    from birdmml.fetch.salvage.account import Account

    hold = Hold(MemberLimits(), account := Account())
    for position, name in ((0, "early"), (10, "late")):
        hold.advance(position)
        hold.begin(name, 1)
        hold.write(memoryview(b"x"))
        hold.keep()
    hold.advance(128 * 1024 + 5)
    assert [e.name for e in hold.out] == ["early"]
    hold.distrust()
    assert [type(e) for e in hold.out] == [RecoveredMember, Loss]
    assert account.counts["complete"] == 1 and list(account.lost) == ["late"]
