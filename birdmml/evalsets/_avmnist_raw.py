"""AV-MNIST made anew from MNIST's idx files and WAVs of spoken digits; not MultiBench's file, and it says so.

Images: the first 55,000 of MNIST's train set are train, the last 5,000 validation, its test set is test.
Utterances (or whole speakers) are dealt out to the three sides first, so that none is heard on two; then each image
gets an utterance of its digit from its own side, every utterance equally often.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml import files
from birdmml.arrays import SPLITS, Field, Gathered, Progress, SampleChange, Samples, SplitSource
from birdmml.errors import EvalsetError, MediaError
from birdmml.evalsets import _idx, _spectrogram
from birdmml.evalsets._digits import CLASSES, Ints, choose, reuse
from birdmml.evalsets._download import is_fake

NOTE = "Made from raw files: this is not MultiBench's AV-MNIST file, and figures on the two do not compare."
CPU_SIZES = {"train": 6000, "validation": 1000, "test": 2000}
# Of the utterances (of a digit and speaker), or of the speakers.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
VALIDATION_IMAGES = 12  # 5,000 of 60,000, as in MultiBench.
MOST_UTTERANCES = 20_000
MOST_BYTES = 4 << 20
_NAME = re.compile(r"([0-9])_([A-Za-z0-9-]{1,40})_([0-9]{1,6})\.wav")
_IMAGE_FOLDERS = ("", "mnist", "MNIST/raw", "image")
_SOUND_FOLDERS = ("", "fsdd/recordings", "recordings", "fsdd", "audio")
_PREFIX = {"train": "train", "validation": "train", "test": "t10k"}


@dataclass(frozen=True)
class Utterance:
    """One recording of a spoken digit; `spectrogram` [112, 112]."""

    name: str
    digit: int
    speaker: str
    spectrogram: NDArray[np.uint8]


@dataclass(frozen=True)
class Pairs:
    """One split: rows of the image file, and for each the number of its utterance, [N] each."""

    images: Ints
    utterances: Ints


def is_there(source: Path) -> bool:
    """Whether `source` holds MNIST's test labels and some WAV."""
    return _find(source, "t10k-labels-idx1-ubyte") is not None and _sounds(source) is not None


def gather(
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
        "samples": {split: len(p.images) for split, p in pairs.items()},
        "images": {side: len(array) for side, array in images.items()},
        "utterances": utterances | {split: len(sides[split]) for split in SPLITS},
        "uses of an utterance": {split: _uses(pairs[split], len(sides[split])) for split in SPLITS},
    }
    settings = {
        "origin": "raw", "note": NOTE, "sizes": wanted, "limit": limit, "seed": seed, "group": group,
        "shares": {"test": TEST_SHARE, "validation": VALIDATION_SHARE}, "spectrogram": _spectrogram.RECIPE,
    }  # fmt: skip
    return Gathered(
        class_names=names,
        fields=(Field("image", (28, 28), "uint8", 255), Field("audio", (112, 112), "uint8", 255)),
        splits={s: _part(s, images[_PREFIX[s]], labels[_PREFIX[s]], heard, pairs[s]) for s in SPLITS},
        settings=settings,
        found=counts,
        notes=(NOTE, *_reused(counts["uses of an utterance"])),
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
    validation = max(1, round(VALIDATION_SHARE * n)) if n >= 3 else 0
    return ["test"] * test + ["validation"] * validation + ["train"] * (n - test - validation)


def _pair(
    split: str,
    labels: Mapping[str, Ints],
    heard: list[Utterance],
    side: Ints,
    size: int,
    limit: int,
    seed: int,
) -> Pairs:
    own, at = labels[_PREFIX[split]], SPLITS.index(split)
    images = choose(own, _pool(split, len(own)), size, limit, [seed, at], split)
    utterances = np.zeros(len(images), dtype=np.int64)
    for digit in range(CLASSES):
        rows = np.flatnonzero(own[images] == digit)
        matching = np.array([n for n in side if heard[n].digit == digit], dtype=np.int64)
        rng = np.random.default_rng([seed, 3, at, digit])
        if len(rows):
            utterances[rows] = matching[reuse(len(matching), len(rows), rng)]
    return Pairs(images, utterances)


def _pool(split: str, rows: int) -> Ints:
    if split == "test":
        return np.arange(rows)
    cut = rows - max(1, rows // VALIDATION_IMAGES)
    return np.arange(cut) if split == "train" else np.arange(cut, rows)


def _part(
    split: str, images: NDArray[np.uint8], labels: Ints, heard: list[Utterance], pairs: Pairs
) -> SplitSource:
    def read(start: int, stop: int) -> Samples:
        rows, utterances = pairs.images[start:stop], pairs.utterances[start:stop]
        ids = tuple(
            f"{split}-{_PREFIX[split]}{i:05d}-{heard[u].name}" for i, u in zip(rows, utterances, strict=True)
        )
        audio = np.stack([heard[u].spectrogram for u in utterances])
        return Samples(ids, labels[rows], {"image": images[rows], "audio": audio})

    return SplitSource(len(pairs.images), read)


def _uses(pairs: Pairs, there: int) -> dict[str, int]:
    _, counts = np.unique(pairs.utterances, return_counts=True)
    return {
        "used": len(counts),
        "least": int(counts.min()) if len(counts) == there else 0,
        "most": int(counts.max()),
    }


def _reused(uses: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for split, n in uses.items():
        if n["most"] > 1:
            yield f"{split}: {n['used']:,} utterances, each heard with {n['least']} to {n['most']} images"


def _mnist(source: Path) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Ints]]:
    images, labels = {}, {}
    for side in ("train", "t10k"):
        for kind, dimensions in (("images", 3), ("labels", 1)):
            name = f"{side}-{kind}-idx{dimensions}-ubyte"
            if (path := _find(source, name)) is None:
                raise EvalsetError(f"{source} lacks {name} (or {name}.gz): get MNIST's four files")
            array = _idx.read(path, dimensions)
            if kind == "images":
                images[side] = array
            else:
                labels[side] = array.astype(np.int64)
        rows, shape = len(labels[side]), images[side].shape
        if shape != (rows, 28, 28) or rows < 2 or labels[side].max() >= CLASSES:
            raise EvalsetError(
                f"{source}: MNIST's {side} has images {shape} and {rows} labels: get them again"
            )
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
        raise EvalsetError(
            f"{source} holds no WAVs named DIGIT_SPEAKER_NUMBER.wav: get a set of spoken digits"
        )
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
                changes.append(
                    SampleChange(
                        "", utterance.name, "cut", f"{over_s:.3f} s beyond {_spectrogram.SECONDS:g} s"
                    )
                )
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
    spectrogram, over_s = _spectrogram.read(path)
    seen[sha256] = path.name
    return Utterance(path.stem, int(name[1]), name[2], spectrogram), over_s
