"""AV-MNIST from MultiBench's arrays and from raw files: values, pairs, and files that do not fit."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from fakes import evalsets
from hypothesis import given, settings
from hypothesis import strategies as st

from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets import _avmnist, av_mnist
from birdmml.evalsets.arrays import ArraySet
from birdmml.evalsets.check import check
from birdmml.evalsets.prepare import prepare_arrays

# Where the real MNIST and spoken digits lie; without it those tests are skipped.
REAL = os.environ.get("BIRDMML_AVMNIST_RAW", "")
SMALL = {"train": "30", "validation": "4", "test": "20"}


def ready(source: Path, out: Path, **options: str) -> ArraySet:
    prepare_arrays(av_mnist, source, out, options)
    return ArraySet.open(out)


def test_multibench_files_are_read_as_the_protocol_says(tmp_path: Path) -> None:
    evalsets.av_mnist(tmp_path / "fake", 2)
    found = ready(tmp_path / "fake", tmp_path / "out")
    assert found.demo
    assert found.class_names[7] == "seven"
    assert {s: found.rows(s) for s in found.splits} == {"train": 22, "validation": 2, "test": 10}
    for split, side, rows in (("train", "train", slice(22)), ("validation", "train", slice(22, 24)),
                              ("test", "test", slice(None))):  # fmt: skip
        arrays = found.read(split).arrays
        for name, shape in (("image", (28, 28)), ("audio", (112, 112))):
            given_ = np.load(tmp_path / "fake" / name / f"{side}_data.npy")[rows]
            np.testing.assert_array_equal(arrays[name], given_.reshape(-1, *shape).astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(found.labels(split), np.load(tmp_path / "fake" / f"{side}_labels.npy")[rows])
    assert [f.dtype for f in found.fields] == ["uint8", "uint8"]
    assert found.lengths("test") == {}
    assert av_mnist.PROMPT.format(common_name=found.class_names[3]) == "an image of a three"


@pytest.mark.parametrize(
    ("dtype", "change", "stored"), [("float64", 0.0, "uint8"), ("float32", 0.5, "float32"), ("int64", 0, "uint8")]
)  # fmt: skip
def test_bytes_are_stored_where_they_are_exact(dtype: str, change: float, stored: str, tmp_path: Path) -> None:
    evalsets.av_mnist(tmp_path, 2)
    path = tmp_path / "audio" / "test_data.npy"
    array = np.load(path).astype(dtype)
    array[3, 4, 5] += change
    np.save(path, array)
    found = ready(tmp_path, tmp_path / "out")
    assert found.fields[1].dtype == stored
    np.testing.assert_array_equal(found.read("test").arrays["audio"], array.astype(np.float32) / np.float32(255))


def test_values_beyond_255_are_kept_and_noted(tmp_path: Path) -> None:
    evalsets.av_mnist(tmp_path, 2)
    array = np.load(tmp_path / "audio" / "test_data.npy").astype(np.int32)
    array[0, 0, 0] = 300
    np.save(tmp_path / "audio" / "test_data.npy", array)
    found = ready(tmp_path, tmp_path / "out")
    assert found.read("test").arrays["audio"][0, 0, 0] == np.float32(300) / np.float32(255)
    assert any("to 300" in d for d in found.manifest["differences"])


@pytest.mark.parametrize(
    ("file", "array", "word"),
    [
        ("image/test_data.npy", np.zeros((10, 783)), "expected numbers [N, 784]"),
        ("image/test_data.npy", np.zeros((9, 784)), "9 image"),
        ("audio/train_data.npy", np.full((24, 112, 112), np.nan), "NaN or infinity in row 0"),
        ("audio/train_data.npy", np.array([["a"]], dtype=object), "no .npy file of numbers"),
        ("test_labels.npy", np.full(10, 11), "label 11"),
        ("test_labels.npy", np.array(["a"] * 10), "expected numbers"),
        ("test_labels.npy", np.array([]), "no label"),
        ("test_labels.npy", None, "is missing"),
        ("image/train_data.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'", "no .npy file"),
        ("image/train_data.npy", b"cos\nsystem\n(S'true'\ntR.", "no .npy file"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_one_line(
    file: str, array: np.ndarray | bytes | None, word: str, tmp_path: Path
) -> None:
    evalsets.av_mnist(tmp_path, 2)
    path = tmp_path / file
    if array is None:
        path.unlink()
    elif isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(EvalsetError) as caught:
        ready(tmp_path, tmp_path / "out")
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_truncated_array_is_one_line(tmp_path: Path) -> None:
    evalsets.av_mnist(tmp_path, 2)
    path = tmp_path / "audio" / "test_data.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EvalsetError, match="no .npy file of numbers"):
        ready(tmp_path, tmp_path / "out")


def test_a_subset_has_every_digit_equally_often(tmp_path: Path) -> None:
    evalsets.av_mnist(tmp_path, 2)
    found = ready(tmp_path, tmp_path / "out", train="12", limit="12")
    assert Counter(found.labels("train").tolist()) == Counter([*range(10), 0, 1])
    other = ready(tmp_path, tmp_path / "other", train="12", seed="1")
    assert set(found.ids("train")) != set(other.ids("train"))
    assert found.rows("test") == 10
    assert found.manifest["settings"]["sizes"]["train"] == 12
    for options, word in (
        ({"train": "25"}, "digit 2"), ({"limit": "-1"}, "below zero"), ({"group": "speaker"}, "raw recordings"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=word):
            ready(tmp_path, tmp_path / "no", **options)


def test_raw_files_make_pairs_of_one_digit_and_no_utterance_on_two_sides(tmp_path: Path) -> None:
    evalsets.av_mnist_raw(tmp_path / "fake", 2)
    found = ready(tmp_path / "fake", tmp_path / "out", **SMALL)
    heard: dict[str, set[str]] = {}
    images = {
        s: _avmnist.read_idx(_avmnist._find(tmp_path / "fake", f"{s}-images-idx3-ubyte"), 3) for s in ("train", "t10k")
    }  # type: ignore[arg-type]
    for split in found.splits:
        rows = found.read(split)
        for name, label, image in zip(rows.ids, rows.labels, rows.arrays["image"], strict=True):
            _, photo, utterance = name.split("-")
            assert utterance.startswith(f"{label}_")
            side, number = ("t10k", photo[4:]) if split == "test" else ("train", photo[5:])
            np.testing.assert_array_equal(image, images[side][int(number)].astype(np.float32) / np.float32(255))
            assert (int(number) >= 44) == (split == "validation") or split == "test"
            heard.setdefault(split, set()).add(utterance)
        uses = Counter(n.split("-")[2] for n in rows.ids)
        for digit in range(10):
            counts = [n for u, n in uses.items() if u[0] == str(digit)]
            assert not counts or max(counts) - min(counts) <= 1
    assert not heard["train"] & heard["test"] and not heard["train"] & heard["validation"]
    assert not heard["validation"] & heard["test"]
    settings_ = found.manifest["settings"]
    assert settings_["origin"] == "raw"
    assert "not MultiBench" in settings_["note"]
    assert _avmnist.NOTE in (tmp_path / "out/report/report.md").read_text()
    assert found.manifest["found"]["utterances"] == {
        "files": 90, "usable": 90, "speakers": 3, "train": 30, "validation": 30, "test": 30
    }  # fmt: skip


def test_whole_speakers_can_be_kept_on_one_side(tmp_path: Path) -> None:
    evalsets.av_mnist_raw(tmp_path / "fake", 2)
    found = ready(tmp_path / "fake", tmp_path / "out", group="speaker", **SMALL)
    speakers = {s: {n.split("-")[2].split("_")[1] for n in found.ids(s)} for s in found.splits}
    assert sorted(v for s in speakers.values() for v in s) == ["a", "b", "c"]
    assert found.manifest["settings"]["group"] == "speaker"


def test_recordings_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    evalsets.av_mnist_raw(tmp_path / "fake", 2)
    folder = tmp_path / "fake" / "fsdd" / "recordings"
    (folder / "0_a_1.wav").write_bytes((folder / "0_a_0.wav").read_bytes())
    (folder / "1_a_0.wav").write_bytes(b"RIFF")
    (folder / "2_a_0.wav").write_bytes((folder / "2_a_0.wav").read_bytes()[:-2000])
    soundfile.write(folder / "3_a_0.wav", np.zeros(1600), 8000)
    (folder / "notes.wav").write_bytes(b"x")
    soundfile.write(folder / "4_a_0.wav", np.sin(np.arange(12000) / 3), 8000)
    found = ready(tmp_path / "fake", tmp_path / "out", **SMALL)
    lines = (tmp_path / "out/report/rejects.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines[1:]] == [
        ["0_a_1", "duplicate"], ["1_a_0", "not_audio"], ["2_a_0", "audio_truncated"], ["3_a_0", "audio_constant"],
        ["notes", "name"],
    ]  # fmt: skip
    assert found.manifest["changed"] == {"cut": 1}
    assert "4_a_0,cut,0.500 s" in (tmp_path / "out/report/changes.csv").read_text()


def test_raw_files_that_lack_something_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(EvalsetError, match=r"holds neither .* download avmnist"):
        ready(tmp_path, tmp_path / "out")
    evalsets.av_mnist_raw(tmp_path / "fake", 2)
    for path in (tmp_path / "fake/fsdd/recordings").glob("5_*_[12].wav"):
        path.unlink()
    with pytest.raises(EvalsetError, match="no utterance of the digit 5"):
        ready(tmp_path / "fake", tmp_path / "out", **SMALL)
    (tmp_path / "fake/mnist/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(EvalsetError, match="lacks train-labels-idx1-ubyte"):
        ready(tmp_path / "fake", tmp_path / "out", **SMALL)
    with pytest.raises(UsageError, match="digit"):
        evalsets.av_mnist_raw(tmp_path / "again", 2)
        ready(tmp_path / "again", tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (struct.pack(">2I", 0x0801, 3) + b"abcd", "holds more bytes"),
        (struct.pack(">2I", 0x0801, 3) + b"ab", "holds 2 bytes"),
        (struct.pack(">2I", 0x0803, 3) + b"abc", "begins with"),
        (struct.pack(">2I", 0x0801, 2**32 - 1), "begins with"),
        (b"\0\0", "cannot be read"),
    ],
)
@pytest.mark.parametrize("packed", (False, True))
def test_idx_files_hold_what_their_header_says(data: bytes, word: str, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(EvalsetError, match=word):
        _avmnist.read_idx(path, 1)
    path.write_bytes(gzip.compress(data)[:-9] if packed else b"")
    with pytest.raises(EvalsetError):
        _avmnist.read_idx(path, 1)


def test_idx_files_survive_a_round_trip(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("a", "a.gz"):
        evalsets.write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(_avmnist.read_idx(tmp_path / name, 3), array)


def test_the_spectrogram_is_scipys() -> None:
    samples = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    samples[5000:] = 0
    window = scipy.signal.get_window("hann", 222)
    _, _, magnitude = scipy.signal.spectrogram(
        samples.astype(np.float64), 8000, window, noverlap=222 - 70, detrend=False, mode="magnitude"
    )
    magnitude = magnitude[:, :112]
    db = np.clip(20 * np.log10(magnitude / magnitude.max() + 1e-30), -80, 0)
    found = _avmnist.spectrogram(samples)
    assert found.shape == (112, 112)
    assert found.max() == 255
    assert np.abs(found - (db / 80 + 1) * 255).max() <= 0.5 + 1e-6
    assert (found[:, 73:] == 0).all()


@pytest.mark.parametrize("hz", (500, 1000, 3000))
def test_a_tone_lies_in_its_bin(hz: int) -> None:
    found = _avmnist.spectrogram(np.sin(2 * np.pi * hz * np.arange(8000) / 8000).astype(np.float32))
    # 111 steps from bin 0 to 4,000 Hz.
    assert (found.argmax(axis=0) == round(hz * 111 / 4000)).all()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 5))
def test_things_are_reused_evenly(items: int, count: int, seed: int) -> None:
    found = np.bincount(
        _avmnist.reuse(items, count, np.random.default_rng(seed)) if count else np.zeros(0, int), minlength=items
    )
    assert found.sum() == count
    assert found.max() - found.min() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.integers(0, 3))
def test_shares_add_up(size: int, seed: int) -> None:
    labels = np.tile(np.arange(10), 20)
    assert sum(_avmnist.share(size, d) for d in range(10)) == size
    rows = _avmnist.choose(labels, np.arange(150), size, 0, [seed], "train")
    assert len(set(rows.tolist())) == len(rows) == size
    assert rows.max() < 150
    counts = np.bincount(labels[rows], minlength=10)
    assert counts.max() - counts.min() <= 1


@pytest.mark.drill
@pytest.mark.skipif(not REAL, reason="BIRDMML_AVMNIST_RAW does not name the real raw files")
def test_the_real_raw_files(tmp_path: Path) -> None:
    found = ready(Path(REAL), tmp_path / "out")
    assert check(tmp_path / "out").problems == ()
    assert found.manifest["found"]["utterances"] == {
        "files": 3000, "usable": 3000, "speakers": 6, "train": 2100, "validation": 300, "test": 600
    }  # fmt: skip
    for split, size in _avmnist.CPU_SIZES.items():
        assert np.bincount(found.labels(split)).tolist() == [size // 10] * 10
    assert found.manifest["left_out"] == {}


@pytest.mark.drill
def test_sixty_thousand_pairs_take_bounded_memory(tmp_path: Path) -> None:
    for side, n in (("train", 60_000), ("test", 10_000)):
        for name, shape in (("image", (784,)), ("audio", (112, 112))):
            path = tmp_path / "source" / name / f"{side}_data.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            # float32: 3 GB that take no room on the disk.
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, *shape))
        np.save(tmp_path / "source" / f"{side}_labels.npy", np.arange(n) % 10)
    found = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path / "source"), str(tmp_path / "out")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(found.stdout) < 700
    assert ArraySet.open(tmp_path / "out").rows("train") == 55_000


WATCHED = """
import sys, threading, time
from pathlib import Path
from birdmml.evalsets import av_mnist
from birdmml.evalsets.prepare import prepare_arrays as prepare
peak = 0
def watch():
    global peak
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        # Memory of its own; pages of mapped files are the system's to take back.
        peak = max(peak, int(next(x for x in lines if x.startswith("RssAnon")).split()[1]) // 1024)
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
prepare(av_mnist, Path(sys.argv[1]), Path(sys.argv[2]), {})
print(peak)
"""
