from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.archives import birds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdmml.errors import SourceError
from birdmml.fetch.salvage.members import Loss, MemberLimits, RecoveredMember, Refusal
from birdmml.fetch.salvage.zipped import members


def packed(
    path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = stat.S_IFREG | 0o644
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, data)
    return path


def test_members_come_in_order_with_their_bytes(tmp_path: Path) -> None:
    files = birds(12)
    events = list(members(packed(tmp_path / "x.zip", files)))
    assert [(e.name, e.data, e.state) for e in events if isinstance(e, RecoveredMember)] == [
        (name, data, "complete") for name, data in files.items()
    ]
    assert [e.seq for e in events] == list(range(1, 13))


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("link", stat.S_IFLNK | 0o777, "symbolic link"),
        ("dev", stat.S_IFCHR | 0o644, "character device"),
        ("blk", stat.S_IFBLK | 0o644, "block device"),
        ("pipe", stat.S_IFIFO | 0o644, "named pipe"),
        ("/abs", stat.S_IFREG, "absolute"),
        ("C:/abs", stat.S_IFREG, "absolute"),
        ("a/../../up", stat.S_IFREG, "out of the folder"),
        ("a\\..\\up", stat.S_IFREG, "out of the folder"),
        ("nul\0byte", stat.S_IFREG, "control characters"),
        ("z" * 300, stat.S_IFREG, "too long"),
    ],
)
def test_hostile_members_are_refused_by_name_and_the_rest_is_read(
    tmp_path: Path, name: str, mode: int, reason: str
) -> None:
    path = packed(tmp_path / "x.zip", {"ok": b"fine", "Q" * len(name): b"x", "after": b"too"}, mode=mode)
    # Written by hand, since zipfile mends such names itself; the other two members become plain files again.
    data = path.read_bytes().replace(b"Q" * len(name), name.encode())
    at = data.index(b"PK\x01\x02")
    for own in (b"ok", b"after"):
        entry = data.index(b"PK\x01\x02", at)
        while data[entry + 46 : entry + 46 + len(own)] != own:
            entry = data.index(b"PK\x01\x02", entry + 1)
        data = data[: entry + 38] + (stat.S_IFREG << 16).to_bytes(4, "little") + data[entry + 42 :]
    path.write_bytes(data)
    events = list(members(path))
    assert {e.name: e.data for e in events if isinstance(e, RecoveredMember)} == {"ok": b"fine", "after": b"too"}
    (refused,) = [e for e in events if isinstance(e, Refusal)]
    assert refused.name == name and reason in refused.reason


def test_a_second_member_of_a_name_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {"same": b"one", "sam2": b"two"})
    path.write_bytes(path.read_bytes().replace(b"sam2", b"same"))
    one, two = members(path)
    assert isinstance(one, RecoveredMember) and one.data == b"one"
    assert isinstance(two, Refusal) and two.name == "same" and "earlier member" in two.reason


def test_large_members_are_refused_unread(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {"big": bytes(50 << 20), "ok": b"fine"})
    tracemalloc.start()
    big, ok = members(path, MemberLimits(member_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(big, Refusal) and big.name == "big" and "more than the limit" in big.reason
    assert isinstance(ok, RecoveredMember)
    assert peak < 1 << 20


@pytest.mark.parametrize("stated", [10, 60 << 20])
def test_a_size_that_is_a_lie_is_no_member(tmp_path: Path, stated: int) -> None:
    """50 MB of zeros that state 10 bytes, or more than deflate could make of what is there."""
    path = packed(tmp_path / "x.zip", {"bomb": bytes(50 << 20)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 50 << 20), struct.pack("<I", stated)))
    tracemalloc.start()
    (event,) = members(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(event, Loss | Refusal) and event.name == "bomb"
    assert peak < 4 << 20


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {"one": bytes(900_000), "two": bytes(900_000), "ok": b"fine"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)  # The second in the list points at the first.
    data[entry + 42 : entry + 46] = bytes(4)
    path.write_bytes(data)
    events = list(members(path))
    assert [(e.name, type(e)) for e in events] == [("one", Refusal), ("two", Refusal), ("ok", RecoveredMember)]


@pytest.mark.parametrize(("method", "kind"), [(zipfile.ZIP_STORED, Loss), (zipfile.ZIP_DEFLATED, Loss)])
def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path, method: int, kind: type) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    path = packed(tmp_path / "x.zip", {"one": noise, "two": b"fine"}, method)
    data = bytearray(path.read_bytes())
    data[2000] ^= 4
    path.write_bytes(data)
    one, two = members(path)
    assert isinstance(one, kind) and one.name == "one"
    assert isinstance(two, RecoveredMember) and two.data == b"fine"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused_by_number(tmp_path: Path, method: int) -> None:
    (event,) = members(packed(tmp_path / "x.zip", {"one": b"x" * 99}, method))
    assert isinstance(event, Refusal) and f"method {method}" in event.reason


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {"secret": b"x" * 99})
    data = bytearray(path.read_bytes())
    for at in (6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1
    path.write_bytes(data)
    (event,) = members(path)
    assert isinstance(event, Refusal) and "encrypted" in event.reason


def test_too_many_members_are_an_error_before_any_is_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", {f"m{i}": b"x" for i in range(9)})
    with pytest.raises(SourceError, match="9 members, more than the limit of 4"):
        next(iter(members(path, MemberLimits(members=4))))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_a_zip_without_its_end_says_so(tmp_path: Path, keep: float) -> None:
    path = packed(tmp_path / "x.zip", birds(4))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(SourceError, match="no zip, or was cut short"):
        list(members(path))
    with pytest.raises(SourceError, match="cannot be read"):
        list(members(tmp_path / "none.zip"))


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_whatever_is_broken_nothing_wrong_comes_out(
    tmp_path_factory: pytest.TempPathFactory, at: list[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(1)
    files = {f"d/{i}": rng.bytes(300) + bytes(i * 200) for i in range(5)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    broken = bytearray(buffer.getvalue())
    for place, flip in at:
        broken[place % len(broken)] ^= flip
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    path.write_bytes(broken)
    try:
        events = list(members(path))
    except SourceError:
        return
    right = set(files.values())  # A name in the list has no checksum of its own, bytes have.
    assert all(e.data in right for e in events if isinstance(e, RecoveredMember))
