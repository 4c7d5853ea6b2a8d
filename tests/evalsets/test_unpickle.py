"""Hostile pickles are refused by name before anything runs; honest ones of every protocol come out equal."""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from birdmml.errors import EvalsetError
from birdmml.evalsets._pickles import OPCODES, PickleLimits, load

RAN: list[str] = []


def touch(*args: Any) -> None:
    RAN.append("ran")


class Reduced:
    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.args


class WithState:
    """A dict subclass's way: the hostile object hides in the state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (len,), {"state": [Reduced(os.system, "true")]}


class Own:
    pass


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refused(path: Path, data: bytes, *words: str) -> str:
    with pytest.raises(EvalsetError) as caught:
        load(write(path / "x.pkl", data))
    message = str(caught.value)
    assert "\n" not in message
    assert "x.pkl" in message
    assert "it was not loaded" in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "args", "named"),
    [
        (os.system, ("true",), "system"),
        (eval, ("1",), "eval"),
        (getattr, ("a", "upper"), "getattr"),
        (np.load, ("x.npy",), "numpy.load"),
        (np.testing.assert_equal, (1, 1), "assert_equal"),
        (copyreg.pickle, (int, int), "reg.pickle"),
        (touch, (), "touch"),
    ],
)
def test_a_call_is_refused_by_its_name_before_it_runs(
    protocol: int, call: Any, args: tuple[Any, ...], named: str, tmp_path: Path
) -> None:
    for value in (Reduced(call, *args), [1, [2, Reduced(call, *args)]], {"train": {"audio": Reduced(call, *args)}}):
        refused(tmp_path, pickle.dumps(value, protocol), "asks for", named)
    assert RAN == []


@pytest.mark.parametrize("protocol", range(6))
def test_instances_are_refused(protocol: int, tmp_path: Path) -> None:
    refused(tmp_path, pickle.dumps(Own(), protocol), "asks for")
    refused(tmp_path, pickle.dumps(WithState(), protocol), "asks for")


def test_a_hostile_object_inside_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    array = np.empty(2, dtype=object)
    array[:] = ["a", Reduced(os.system, "true")]
    refused(tmp_path, pickle.dumps({"id": array}, 4), "asks for", "system")
    array[1] = {"a": 1}
    refused(tmp_path, pickle.dumps({"id": array}, 4), "array of objects")


@pytest.mark.parametrize(
    ("ops", "word"),
    [
        (b"(S'true'\nios\nsystem\n.", "os.system"),  # INST
        (b"(cos\nsystem\nS'true'\no.", "os.system"),  # OBJ
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"Pabc\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
        # The module's name comes out of a call, or out of a tuple, not as a text of its own.
        (b"\x80\x04c_codecs\nencode\n\x8c\x02os\x8c\x06latin1\x86R\x8c\x06system\x93.", "computes a global's name"),
        (b"\x80\x04\x8c\x02os\x8c\x06system2\x8c\x01x0\x93.", "computes a global's name"),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93.", "os.system"),  # through the memo
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "numpy.ndarray.__class__"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "__globals__"),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x04utf8\x86R.", "encodes text"),
        # BUILD on a name: would set attributes of a function that is shared.
        (b"\x80\x02c_codecs\nencode\n}b.", "state of a name"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "never writes"),
        (b"\x80\x04\x8c\x02os\x8c\x08sy\x1b[2J\ns\x93.", "os.sy?[2J?s"),
        (b"\x80\x02cbuiltins\nbytes\nJ\x00\x00\x00\x7f\x85R.", "makes bytes"),
        (b"\x80\x02cnumpy\nndarray\n.", "no array, container"),
        (b"\x80\x02N}b.", "cannot be loaded"),
        (b"\x80\x02}]Ns.", "cannot be loaded"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo entry"),
        (b"I1\np999999999\n.", "memo entry"),
        (b"\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x10abc.", "damaged or no pickle"),
        (b"\x80\x04N.rest", "goes on for 4 bytes"),
        (b"", "no bytes"),
        (b"PK\x03\x04not a pickle", "damaged or no pickle"),
    ],
)  # fmt: skip
def test_made_up_opcodes_are_refused(ops: bytes, word: str, tmp_path: Path) -> None:
    refused(tmp_path, ops, word)


@pytest.mark.parametrize("protocol", (0, 2, 4, 5))
def test_every_cut_of_a_file_is_refused(protocol: int, tmp_path: Path) -> None:
    whole = pickle.dumps({"train": {"audio": np.arange(3.0), "id": ["a", "b"]}}, protocol)
    for end in range(1, len(whole)):
        refused(tmp_path, whole[:end])


@pytest.mark.parametrize("protocol", (0, 2, 4))
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_gives_a_value_or_one_line(protocol: int, data: st.DataObject) -> None:
    import tempfile

    raw = bytearray(pickle.dumps({"a": np.arange(4.0), "b": ["x", (1, 2.5)]}, protocol))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "x.pkl", bytes(raw))
        try:
            load(path)
        except EvalsetError as e:
            assert "\n" not in str(e)


def test_nested_lists_circles_and_doubling_lists_end_quickly(tmp_path: Path) -> None:
    refused(tmp_path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "levels deep")
    refused(tmp_path, b"\x80\x02]q\x00h\x00a.", "levels deep")
    # Ten levels of two references each to the level below: 2^10 paths, 11 lists.
    ops = b"\x80\x04]\x94" + b"".join(b"](h%ch%ce\x94" % (i, i) for i in range(10)) + b"."
    found = load(write(tmp_path / "y.pkl", ops))
    assert found[0] is found[1]
    ops = b"\x80\x02" + b"N0" * 600 + b"N."
    with pytest.raises(EvalsetError, match="opcodes"):
        load(write(tmp_path / "y.pkl", ops), PickleLimits(opcodes=1000))


def test_sizes_are_limited(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pkl", pickle.dumps([np.zeros(1000), np.zeros(1000)], 4))
    assert len(load(path, PickleLimits(array_bytes=16_000))) == 2
    with pytest.raises(EvalsetError, match="more bytes of arrays"):
        load(path, PickleLimits(array_bytes=15_999))
    with pytest.raises(EvalsetError, match="more than the"):
        load(path, PickleLimits(file_bytes=1000))
    # One text of 8 bytes that 1,000 arrays claim: counted 1,000 times.
    state = b"(K\x01K\x01\x85h\x01\x89h\x02tb"
    head = b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87Rq\x010X\x08\x00\x00\x00abcdefghq\x020"
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R" + state
    path = write(tmp_path / "x.pkl", head + b"](" + make * 1000 + b"e.")
    assert len(load(path, PickleLimits(array_bytes=8000))) == 1000
    with pytest.raises(EvalsetError, match="more bytes of arrays"):
        load(path, PickleLimits(array_bytes=7999))


def crafted(shape: Any, code: str, data: Any, state: Any = None) -> bytes:
    """numpy's spelling of an array whose parts do not fit."""
    take = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    dtype = b"cnumpy\ndtype\n" + pickle.dumps(code, 2)[2:-1].split(b"q\x00")[0] + b"K\x00K\x01\x87R"
    if state is not None:
        dtype += pickle.dumps(state, 2)[2:-1] + b"b"
    body = pickle.dumps(shape, 2)[2:-1]
    return b"\x80\x02" + take + b"(K\x01" + body + dtype + b"\x89" + pickle.dumps(data, 3)[2:-1] + b"tb."


PLAIN = (3, "<", None, None, None, -1, -1, 0)


@pytest.mark.parametrize(
    ("shape", "code", "data", "state", "word"),
    [
        ((3,), "f8", b"\0" * 16, PLAIN, "16 bytes of data"),
        ((-1,), "f8", b"\0" * 8, PLAIN, "shape"),
        ((True,), "f8", b"\0" * 8, PLAIN, "shape"),
        ((2**40, 2**40), "f8", b"", PLAIN, "bytes of data"),
        ((1,) * 9, "f8", b"\0" * 8, PLAIN, "plain dtype and shape"),
        ((1,), "O8", b"\0" * 8, (3, "|", None, None, None, -1, -1, 63), "array of objects"),
        ((1,), "V8", b"\0" * 8, None, "dtype 'V8'"),
        ((1,), "M8", b"\0" * 8, None, "dtype 'M8'"),
        ((1,), "f8,f8", b"\0" * 16, None, "dtype 'f8,f8'"),
        ((1,), "S99999999", b"", None, "longer than any name"),
        ((1,), "f3", b"\0" * 3, None, "cannot be loaded"),
        ((1,), "f8", b"\0" * 8, (3, "<", None, ("a",), {"a": 1}, 8, 1, 0), "dtype with fields"),
        ((1,), "f8", b"\0" * 8, (3, "?", None, None, None, -1, -1, 0), "does not fit"),
        ((1,), "f8", b"\0" * 8, (3, "<", None, None, None, 4, -1, 0), "does not fit"),
        ((1,), "f8", [1.0], PLAIN, "bytes of data"),
    ],
)
def test_arrays_whose_parts_do_not_fit_are_refused(
    shape: Any, code: str, data: Any, state: Any, word: str, tmp_path: Path
) -> None:
    refused(tmp_path, crafted(shape, code, data, state), word)


def test_the_crafted_spelling_is_numpys(tmp_path: Path) -> None:
    raw = struct.pack("<2d", 1.5, -2.0)
    found = load(write(tmp_path / "x.pkl", crafted((2,), "f8", raw, PLAIN)))
    np.testing.assert_array_equal(found, [1.5, -2.0])


VALUE = {
    "f4": np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "big": np.arange(3, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "none": np.empty((0, 3)),
    "no width": np.zeros(3, "S1"),
    "bytes": np.array([b"ab", b"c"]),
    "text": np.array(["é", "long"]),
    "objects": np.array([["a", 1.5], ["b", 2]], dtype=object),
    "scalar": np.float32(2.5),
    "list": [1, 2.5, "x", None, True, (b"raw", -(2**70))],
    "bool": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("numpy_1", (False, True))
def test_honest_pickles_of_every_protocol_come_out_equal(protocol: int, numpy_1: bool, tmp_path: Path) -> None:
    raw = pickle.dumps(VALUE, protocol)
    if numpy_1:
        raw = as_numpy_1(raw)
    found = load(write(tmp_path / "x.pkl", raw))
    assert list(found) == list(VALUE)
    for key, wanted in VALUE.items():
        if isinstance(wanted, np.ndarray):
            assert found[key].dtype == wanted.dtype
            assert found[key].flags.f_contiguous == wanted.flags.f_contiguous
            np.testing.assert_array_equal(found[key], wanted)
        else:
            assert found[key] == wanted


def as_numpy_1(raw: bytes) -> bytes:
    """The spelling of numpy 1: numpy.core; only lengths before the names change."""
    for part in ("multiarray", "numeric"):
        new, old = f"numpy._core.{part}".encode(), f"numpy.core.{part}".encode()
        raw = raw.replace(b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old)
        raw = raw.replace(b"c" + new, b"c" + old)
    # Frames would have other lengths.
    at = [p for o, _, p in pickletools.genops(raw) if o.name == "FRAME"]
    for p in reversed([p for p in at if p is not None]):
        raw = raw[:p] + raw[p + 9 :]
    return raw


def test_pickles_of_python_2_are_read_as_latin_1(tmp_path: Path) -> None:
    raw = struct.pack("<2d", 1.5, -200.25)
    # As Python 2 and numpy 1.8 write {'audio': array([1.5, -200.25]), 'id': ['caf\xe9']}.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07"
        b"(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\x09U\x02f8q\x0aK\x00K\x01\x87q\x0bRq\x0c"
        b"(K\x03U\x01<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x10" + raw + b"q\x0ftq\x10b"
    )
    second = b"\x80\x02}q\x00(U\x05audioq\x01" + array + b"U\x02idq\x11]q\x12U\x04caf\xe9q\x13au."
    text = repr(raw)[2:-1].encode()
    zeroth = (
        b"(dp0\nS'audio'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\n"
        b"tp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\n"
        b"I0\ntp14\nbI00\nS'" + text + b"'\np15\ntp16\nbsS'id'\np17\n(lp18\nS'caf\\xe9'\np19\nas."
    )
    for data in (second, zeroth):
        assert pickle.loads(data, encoding="latin1")["id"] == ["café"]
        found = load(write(tmp_path / "x.pkl", data))
        np.testing.assert_array_equal(found["audio"], [1.5, -200.25])
        assert found["id"] == ["café"]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(sizes=(32, 64)), hnp.unicode_string_dtypes(max_len=5)),
        hnp.array_shapes(min_dims=0, min_side=0),
    ),
    st.integers(0, 5),
)
def test_any_plain_array_survives(array: np.ndarray[Any, Any], protocol: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = load(write(Path(folder) / "x.pkl", pickle.dumps({"x": array}, protocol)))["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_the_opcodes_are_pickles_own() -> None:
    known = {o.name for o in pickletools.opcodes}
    assert known >= OPCODES
    assert known - OPCODES == set(
        "PERSID BINPERSID EXT1 EXT2 EXT4 INST OBJ NEWOBJ NEWOBJ_EX NEXT_BUFFER READONLY_BUFFER EMPTY_SET ADDITEMS "
        "FROZENSET".split()
    )


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EvalsetError, match="cannot be read"):
        load(tmp_path / "none.pkl")
