"""AV-MNIST from MultiBench's .npy files, or made anew of MNIST's idx files and WAVs of spoken digits.

MultiBench's are memory-mapped, never unpickled: image/{train,test}_data.npy [60000|10000, 784] and
audio/{train,test}_data.npy [60000|10000, 112, 112], both to be divided by 255; train_labels.npy, test_labels.npy. The
last twelfth of train (5,000 of 60,000) is validation.

Made anew it is not MultiBench's file, and says so. Images are divided in the same way. Utterances (or whole speakers)
are dealt out to the three splits first, so that none is heard in two; then each image gets an utterance of its digit
from its own split, every utterance equally often. A spoken digit becomes 112 x 112 grey values by one short-time
Fourier transform, without a resize or a mel bank.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.core import files
from birdmml.core.pool import Progress
from birdmml.errors import EvalsetError, MediaError, UsageError
from birdmml.evalsets._annotations import is_fake
from birdmml.evalsets.arrays import SPLITS, Field, Gathered, SampleChange, Samples, SplitSource
from birdmml.media.audio import Sound, check_sound, cut

Array = NDArray[Any]
Ints = NDArray[np.int64]
CLASSES = 10
SHAPES = {"image": (28, 28), "audio": (112, 112)}
VALIDATION_IMAGES = 12  # One in so many of train's: 5,000 of 60,000.
# Split -> the provider's file that it lies in: MultiBench's name of it, and MNIST's.
_SIDE = {"train": "train", "validation": "train", "test": "test"}
_PREFIX = {"train": "train", "validation": "train", "test": "t10k"}
_BLOCK = 512  # Rows of the mapped files that are in memory at once.


def share(size: int, digit: int) -> int:
    """How many of `size` samples show `digit`: a tenth, and one of the remainder for the first digits."""
    return size // CLASSES + (digit < size % CLASSES)


def choose(labels: Ints, pool: Ints, size: int, limit: int, seed: Sequence[int], split: str) -> Ints:
    """The rows of `pool` to use, ascending; `labels` [N] are those of all rows.

    `size` 0 asks for the whole pool, `limit` 0 for no limit; a size of the whole pool takes it as it is, a smaller
    one every digit equally often. Raises UsageError where a digit has too few rows.
    """
    wanted = size or len(pool)
    wanted = min(wanted, limit or wanted)
    if wanted == len(pool):
        return pool
    drawn = []
    for digit in range(CLASSES):
        rows = pool[labels[pool] == digit]
        if len(rows) < share(wanted, digit):
            raise UsageError(
                f"{split}={wanted} needs {share(wanted, digit)} samples of the digit {digit}, {len(rows)} are there: "
                f"ask for fewer, or for all {len(pool)}"
            )
        rng = np.random.default_rng([*seed, digit])  # A stream of its own: another digit's rows change nothing here.
        drawn.append(rng.permutation(rows)[: share(wanted, digit)])
    return np.sort(np.concatenate(drawn))


def reuse(items: int, count: int, rng: np.random.Generator) -> Ints:
    """`count` indices into `items` things, each used equally often (give or take one), in random order."""
    rounds = -(-count // items)
    return np.concatenate([rng.permutation(items) for _ in range(rounds)])[:count].astype(np.int64)


def pools(train: int, test: int) -> dict[str, Ints]:
    """{split: its rows of the provider's file}, of files with so many rows."""
    cut_at = train - max(1, train // VALIDATION_IMAGES)
    return {"train": np.arange(cut_at), "validation": np.arange(cut_at, train), "test": np.arange(test)}


def has_npy(source: Path) -> bool:
    """Whether `source` looks like MultiBench's folder."""
    return any((source / m / f"{side}_data.npy").is_file() for m in SHAPES for side in ("train", "test"))


def gather_npy(
    source: Path, names: tuple[str, ...], sizes: Mapping[str, int], limit: int, seed: int, progress: Progress
) -> Gathered:
    """The set, or an equal share of each digit; raises EvalsetError for files that do not fit each other."""
    sides = ("train", "test")
    arrays = {side: {m: _open(source / m / f"{side}_data.npy", SHAPES[m]) for m in SHAPES} for side in sides}
    labels = {side: _labels(source / f"{side}_labels.npy", len(names)) for side in sides}
    for side in sides:
        rows = {m: len(array) for m, array in arrays[side].items()} | {"labels": len(labels[side])}
        if len(set(rows.values())) != 1:
            listed = ", ".join(f"{n:,} {what}" for what, n in rows.items())
            raise EvalsetError(f"{source}: {side} has {listed}: the files are not of one set; get them again")
    chosen = {
        split: choose(labels[_SIDE[split]], pool, sizes[split], limit, [seed, n], split)
        for n, (split, pool) in enumerate(pools(len(labels["train"]), len(labels["test"])).items())
    }
    notes: list[str] = []
    fields = tuple(_field(m, source, {s: arrays[_SIDE[s]][m] for s in chosen}, chosen, notes, progress) for m in SHAPES)
    return Gathered(
        class_names=names,
        fields=fields,
        splits={s: _npy_part(s, arrays[_SIDE[s]], labels[_SIDE[s]], rows, fields) for s, rows in chosen.items()},
        settings={"origin": "multibench", "sizes": dict(sizes), "limit": limit, "seed": seed},
        counts={"samples": {split: len(rows) for split, rows in chosen.items()}},
        notes=tuple(notes),
        demo=is_fake(source),
    )


def _open(path: Path, shape: tuple[int, ...]) -> Array:
    """The array in a .npy file, memory-mapped; raises EvalsetError unless it holds numbers of this shape."""
    try:
        array: Array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as e:
        raise EvalsetError(f"{path} is missing: AV-MNIST needs image, audio and labels of both sides") from e
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, OverflowError, RecursionError) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0][:200]
        raise EvalsetError(f"{path} is no .npy file of numbers ({reason}): get it again") from e
    size = int(np.prod(shape))
    if array.dtype.kind not in "fiu" or array.ndim < 1 or array.shape[1:] not in (shape, (size,), (1, *shape)):
        raise EvalsetError(f"{path} is {array.dtype} {array.shape}, expected numbers [N, {size}]: get it again")
    return array


def _labels(path: Path, classes: int) -> Ints:
    try:
        values = np.asarray(_open(path, ())).reshape(-1)
    except EvalsetError:  # Some copies have labels with axes of length 1 behind them.
        values = np.asarray(_open(path, (1,))).reshape(-1)
    if values.size == 0 or not np.isin(values, np.arange(classes)).all():
        bad = values[~np.isin(values, np.arange(classes))][:1]
        raise EvalsetError(
            f"{path} holds {f'the label {bad[0]}' if bad.size else 'no label'}, expected 0 to 9: get it again"
        )
    return values.astype(np.int64)


def _field(
    name: str, source: Path, arrays: Mapping[str, Array], chosen: Mapping[str, Ints], notes: list[str],
    progress: Progress,
) -> Field:  # fmt: skip
    """uint8 where that is exact in every sample that is used, else float32; notes values beyond 0 to 255."""
    exact, low, high = True, 0.0, 255.0
    for split, rows in chosen.items():
        for start in () if arrays[split].dtype == np.uint8 else range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            block = arrays[split][part]
            finite = np.isfinite(block).reshape(len(part), -1).all(axis=1)
            if not finite.all():
                path = source / name / f"{_SIDE[split]}_data.npy"
                raise EvalsetError(f"{path} holds NaN or infinity in row {part[~finite][0]}: get the file again")
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            exact = exact and bool((block == np.rint(block)).all())
        progress(f"check {name}", len(rows), len(rows))
    if (low, high) != (0.0, 255.0):
        exact = False
        notes.append(f"{name} has values from {low:g} to {high:g}, expected 0 to 255")
    return Field(name, SHAPES[name], "uint8" if exact else "float32", divisor=255)


def _npy_part(
    split: str, arrays: Mapping[str, Array], labels: Ints, chosen: Ints, fields: tuple[Field, ...]
) -> SplitSource:
    def read(start: int, stop: int) -> Samples:
        rows = chosen[start:stop]
        block = {f.name: arrays[f.name][rows].reshape(-1, *f.shape).astype(f.dtype) for f in fields}
        return Samples(tuple(f"{split}-{i:05d}" for i in rows), labels[rows], block)

    return SplitSource(len(chosen), read)


_MOST_BYTES = 256 << 20  # MNIST's largest file has 47 MB.


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """uint8 [N] or [N, H, W] of an idx file, gzipped or not: a big-endian header, then bytes.

    Raises EvalsetError unless it holds exactly what its header says.
    """
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as f:
            magic, *shape = struct.unpack(f">{1 + dimensions}I", f.read(4 + 4 * dimensions))
            size = int(np.prod(shape, dtype=object))
            # 08: unsigned bytes; then the number of dimensions.
            if magic != 0x0800 + dimensions or size > _MOST_BYTES:
                raise EvalsetError(
                    f"{path} begins with {magic:#010x} {shape}: not MNIST's bytes in {dimensions} dimensions"
                )
            data = f.read(size + 1)
    except (OSError, EOFError, zlib.error, struct.error) as e:
        raise EvalsetError(f"{path} cannot be read ({e}): get it again") from e
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data):,}"
        raise EvalsetError(f"{path} holds {more} bytes, its header says {size:,}: get it again")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


RATE_HZ = 8000
SECONDS = 1.0
SIZE = 112
WINDOW = 2 * (SIZE - 1)  # 222 samples, 27.75 ms: exactly 112 bins from 0 to 4,000 Hz.
HOP = 70  # 8.75 ms: 112 windows take 222 + 111 x 70 = 7,992 of the 8,000 samples.
FLOOR_DB = 80.0
RECIPE = (
    f"mono at {RATE_HZ} Hz; the first {SECONDS:g} s, filled with zeros; Hann window of {WINDOW} samples, hop {HOP};"
    f" magnitude of the real FFT, {SIZE} bins x {SIZE} windows, bin 0 (0 Hz) in row 0; dB below the loudest value,"
    f" floor -{FLOOR_DB:g} dB; (1 + dB / {FLOOR_DB:g}) * 255, rounded to uint8"
)


def spectrogram(samples: Sound) -> NDArray[np.uint8]:
    """Samples [8000] at 8 kHz -> [112 bins, 112 windows], 255 the loudest; they must not all be zero."""
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP][:SIZE]
    # Periodic, as for spectral analysis: one period of the cosine is WINDOW samples.
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(windows * hann, axis=1)).T
    db = 20.0 * np.log10(np.maximum(power / power.max(), 10.0 ** (-FLOOR_DB / 20.0)))
    return np.asarray(np.rint((1.0 + db / FLOOR_DB) * 255.0), dtype=np.uint8)


NOTE = "Made from raw files: this is not MultiBench's AV-MNIST file, and figures on the two do not compare."
CPU_SIZES = {"train": 6000, "validation": 1000, "test": 2000}
# Of the utterances (of a digit and speaker), or of the speakers.
TEST_SHARE, RAW_VALIDATION_SHARE = 0.2, 0.1
MOST_UTTERANCES = 20_000  # Their spectrograms are held in memory, 12.5 kB each.
MOST_BYTES = 4 << 20  # A second of a spoken digit has 16 kB at 8 kHz.
_NAME = re.compile(r"([0-9])_([A-Za-z0-9-]{1,40})_([0-9]{1,6})\.wav")
_IMAGE_FOLDERS = ("", "mnist", "MNIST/raw", "image")
_SOUND_FOLDERS = ("", "fsdd/recordings", "recordings", "fsdd", "audio")


@dataclass(frozen=True)
class Utterance:
    """One recording of a spoken digit; `spectrogram` [112, 112]."""

    name: str
    digit: int
    speaker: str
    spectrogram: NDArray[np.uint8]


def has_raw(source: Path) -> bool:
    """Whether `source` holds MNIST's test labels and some WAV."""
    return _find(source, "t10k-labels-idx1-ubyte") is not None and _sounds(source) is not None


def gather_raw(
    source: Path,
    names: tuple[str, ...],
    sizes: Mapping[str, int],
    limit: int,
    seed: int,
    group: str,
    progress: Progress,
) -> Gathered:
    """The set by the rule above; raises EvalsetError where files lack or a digit has no utterance on a side."""
    wanted = {split: sizes[split] or CPU_SIZES[split] for split in SPLITS}
    images, labels = _mnist(source)
    heard, rejects, changes, utterances = _utterances(source, progress)
    sides = deal(heard, group, seed)
    pairs = {split: _pair(split, labels, heard, sides[split], wanted[split], limit, seed) for split in SPLITS}
    counts = {
        "samples": {split: len(images_of) for split, (images_of, _) in pairs.items()},
        "images": {side: len(array) for side, array in images.items()},
        "utterances": utterances | {split: len(sides[split]) for split in SPLITS},
        "uses of an utterance": {split: _uses(pairs[split][1], len(sides[split])) for split in SPLITS},
    }
    reused = [
        f"{split}: {n['used']:,} utterances, each heard with {n['least']} to {n['most']} images"
        for split, n in counts["uses of an utterance"].items()
        if n["most"] > 1
    ]
    settings = {
        "origin": "raw", "note": NOTE, "sizes": wanted, "limit": limit, "seed": seed, "group": group,
        "shares": {"test": TEST_SHARE, "validation": RAW_VALIDATION_SHARE}, "spectrogram": RECIPE,
    }  # fmt: skip
    return Gathered(
        class_names=names,
        fields=tuple(Field(m, shape, "uint8", 255) for m, shape in SHAPES.items()),
        splits={s: _raw_part(s, images[_PREFIX[s]], labels[_PREFIX[s]], heard, *pairs[s]) for s in SPLITS},
        settings=settings,
        counts=counts,
        notes=(NOTE, *reused),
        rejects=tuple(rejects),
        changes=tuple(changes),
        demo=is_fake(source),
    )


def deal(heard: list[Utterance], group: str, seed: int) -> dict[str, Ints]:
    """{split: numbers of its utterances}, by utterance (within digit and speaker) or by whole speakers."""
    rng = np.random.default_rng([seed, 2])
    sides: dict[str, list[int]] = {split: [] for split in SPLITS}
    if group == "speaker":
        speakers = sorted({u.speaker for u in heard})
        side_of = dict(zip(rng.permutation(speakers).tolist(), _sides(len(speakers)), strict=True))
        for number, u in enumerate(heard):
            sides[side_of[u.speaker]].append(number)
    else:
        for key in sorted({(u.digit, u.speaker) for u in heard}):
            own = [n for n, u in enumerate(heard) if (u.digit, u.speaker) == key]
            for number, side in zip(rng.permutation(own).tolist(), _sides(len(own)), strict=True):
                sides[side].append(number)
    for split, numbers in sides.items():
        if lacking := set(range(CLASSES)) - {heard[n].digit for n in numbers}:
            raise EvalsetError(
                f"{split} gets no utterance of the digit {min(lacking)}: give more recordings a digit"
                f" (or more {'speakers' if group == 'speaker' else 'of each speaker'})"
            )
    return {split: np.array(sorted(numbers), dtype=np.int64) for split, numbers in sides.items()}


def _sides(n: int) -> list[str]:
    """The split of each of n things in their drawn order: 20 % test and 10 % validation, at least one of each."""
    test = max(1, round(TEST_SHARE * n)) if n >= 3 else 0
    validation = max(1, round(RAW_VALIDATION_SHARE * n)) if n >= 3 else 0
    return ["test"] * test + ["validation"] * validation + ["train"] * (n - test - validation)


def _pair(
    split: str, labels: Mapping[str, Ints], heard: list[Utterance], side: Ints, size: int, limit: int, seed: int
) -> tuple[Ints, Ints]:
    """The rows of the image file that the split uses, and for each the number of its utterance, [N] each."""
    own, at = labels[_PREFIX[split]], SPLITS.index(split)
    images = choose(own, pools(len(own), len(own))[split], size, limit, [seed, at], split)
    utterances = np.zeros(len(images), dtype=np.int64)
    for digit in range(CLASSES):
        rows = np.flatnonzero(own[images] == digit)
        matching = np.array([n for n in side if heard[n].digit == digit], dtype=np.int64)
        rng = np.random.default_rng([seed, 3, at, digit])
        if len(rows):
            utterances[rows] = matching[reuse(len(matching), len(rows), rng)]
    return images, utterances


def _raw_part(
    split: str, images: NDArray[np.uint8], labels: Ints, heard: list[Utterance], chosen: Ints, numbers: Ints
) -> SplitSource:
    def read(start: int, stop: int) -> Samples:
        rows, utterances = chosen[start:stop], numbers[start:stop]
        ids = tuple(f"{split}-{_PREFIX[split]}{i:05d}-{heard[u].name}" for i, u in zip(rows, utterances, strict=True))
        audio = np.stack([heard[u].spectrogram for u in utterances])
        return Samples(ids, labels[rows], {"image": images[rows], "audio": audio})

    return SplitSource(len(chosen), read)


def _uses(utterances: Ints, there: int) -> dict[str, int]:
    _, counts = np.unique(utterances, return_counts=True)
    return {"used": len(counts), "least": int(counts.min()) if len(counts) == there else 0, "most": int(counts.max())}


def _mnist(source: Path) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Ints]]:
    images, labels = {}, {}
    for side in ("train", "t10k"):
        for kind, dimensions in (("images", 3), ("labels", 1)):
            name = f"{side}-{kind}-idx{dimensions}-ubyte"
            if (path := _find(source, name)) is None:
                raise EvalsetError(f"{source} lacks {name} (or {name}.gz): get MNIST's four files")
            array = read_idx(path, dimensions)
            if kind == "images":
                images[side] = array
            else:
                labels[side] = array.astype(np.int64)
        rows, shape = len(labels[side]), images[side].shape
        if shape != (rows, *SHAPES["image"]) or rows < 2 or labels[side].max() >= CLASSES:
            raise EvalsetError(f"{source}: MNIST's {side} has images {shape} and {rows} labels: get them again")
    return images, labels


def _find(source: Path, name: str) -> Path | None:
    # Some copies write a dot before idx.
    spellings = [name, name.replace("-idx", ".idx")]
    paths = [source / f / (n + end) for f in _IMAGE_FOLDERS for n in spellings for end in ("", ".gz")]
    return next((p for p in paths if p.is_file()), None)


def _sounds(source: Path) -> Path | None:
    folders = [source / f for f in _SOUND_FOLDERS]
    return next((f for f in folders if f.is_dir() and any(f.glob("*.wav"))), None)


def _utterances(
    source: Path, progress: Progress
) -> tuple[list[Utterance], list[SampleChange], list[SampleChange], dict[str, Any]]:
    """(utterances in the order of their names, files left out, utterances cut, counts)."""
    if (folder := _sounds(source)) is None:
        raise EvalsetError(f"{source} holds no WAVs named DIGIT_SPEAKER_NUMBER.wav: get a set of spoken digits")
    paths = sorted(folder.glob("*.wav"))
    if len(paths) > MOST_UTTERANCES:
        raise EvalsetError(f"{folder} holds {len(paths):,} WAVs, more than {MOST_UTTERANCES:,}: give fewer")
    heard, rejects, changes = [], list[SampleChange](), list[SampleChange]()
    seen: dict[str, str] = {}
    for done, path in enumerate(paths, 1):
        try:
            utterance, over_s = _utterance(path, seen)
            heard.append(utterance)
            if over_s > 0:
                changes.append(SampleChange("", utterance.name, "cut", f"{over_s:.3f} s beyond {SECONDS:g} s"))
        except MediaError as e:
            rejects.append(SampleChange("", path.stem, e.reason, e.detail))
        progress("spectrograms", done, len(paths))
    counts = {"files": len(paths), "usable": len(heard), "speakers": len({u.speaker for u in heard})}
    return heard, rejects, changes, counts


def _utterance(path: Path, seen: dict[str, str]) -> tuple[Utterance, float]:
    """One recording and the seconds cut off it; the same bytes under two names could land on two sides."""
    if not (name := _NAME.fullmatch(path.name)):
        raise MediaError("name", "the file is not named DIGIT_SPEAKER_NUMBER.wav")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise MediaError("audio_too_long", f"{size:,} bytes are no spoken digit")
    sha256 = files.sha256_file(path)
    if sha256 in seen:
        raise MediaError("duplicate", f"the same bytes as {seen[sha256]}")
    clips = list(cut(path, SECONDS, RATE_HZ, max_seconds=60.0))
    check_sound(clips[0], RATE_HZ)
    seen[sha256] = path.name
    over_s = sum(c.valid_seconds for c in clips[1:])
    return Utterance(path.stem, int(name[1]), name[2], spectrogram(clips[0].samples)), over_s
