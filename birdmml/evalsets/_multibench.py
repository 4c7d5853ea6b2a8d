"""MultiBench's pickles of affect: vision, audio and text of one speaker, step by step; their loading rules.

{"train", "valid", "test"} -> {"vision", "audio", "text", "labels", "id"}; the arrays are [N, T, F]. The rules are
those of the authors' loaders: a sample whose text sums to 0 is left out; -inf in audio becomes 0; the rows before
the first row of text that is not zero go, in all three; 50 steps stay; fewer are filled up with zeros at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from birdmml.core.pool import Progress
from birdmml.errors import EvalsetError, UsageError
from birdmml.evalsets import _pickles
from birdmml.evalsets._annotations import Download, is_fake
from birdmml.evalsets.arrays import Field, Gathered, SampleChange, Samples, SplitSource

MODALITIES = ("vision", "audio", "text")
KEYS = (*MODALITIES, "labels", "id")
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
STEPS = 50
RULES = (
    "samples whose text sums to 0 left out; audio -inf -> 0; rows before the first row of text that is not zero"
    " left out in all three; cut to 50 steps; zeros at the end; float32"
)
URL = "https://github.com/pliang279/MultiBench"
_LONGEST_ID = 80  # A stranger's id becomes a line of a report.

Array = NDArray[Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MultibenchOptions:
    """`not_finite`: what to do with samples that hold NaN or infinity: refuse the file, or leave them out, listed.

    `limit` takes the first samples of each split, for a trial; 0 takes all.
    """

    not_finite: Literal["refuse", "drop"] = "refuse"
    limit: int = 0


@dataclass(frozen=True)
class PickleLayout:
    """One pickle: its name, its features by modality, its classes, and the class of a label as written.

    `label` gives None for a value that the provider never writes.
    """

    file: str
    features: Mapping[str, int]
    classes: tuple[str, ...]
    label: Callable[[float], int | None]

    def download(self) -> Download:
        """What the user gets; the publisher states neither size nor hash."""
        return Download(self.file, "size not published", "", URL, "for research, see the dataset's own terms")


def two_classes(value: float) -> int | None:
    """UR-FUNNY's and MUStARD's labels: -1 is written where 0 is meant."""
    return {-1.0: 0, 0.0: 0, 1.0: 1}.get(value)


def sentiment(value: float) -> int | None:
    """MOSI's labels, -3 to 3: 0 below zero, else 1."""
    return int(value >= 0) if np.isfinite(value) else None


@dataclass(frozen=True)
class Sample:
    """Where a kept sample lies in its split, and its first row that is used."""

    index: int
    id: str
    start: int
    label: int


@dataclass(frozen=True)
class _Split:
    name: str
    arrays: Mapping[str, Array]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]


def gather(layout: PickleLayout, source: Path, options: MultibenchOptions, progress: Progress) -> Gathered:
    """The set in a pickle, or in a folder that holds it; raises EvalsetError for what is not as described above."""
    if options.limit < 0:
        raise UsageError(f"limit={options.limit} is below zero: give a number of samples, or 0")
    path = source / layout.file if source.is_dir() else source
    if not path.is_file():
        raise EvalsetError(f"{path} is missing: {layout.download().words()}")
    progress("read", 0, 1)
    content = _pickles.load(path)
    progress("read", 1, 1)
    splits, notes = _splits(content, layout, path)
    widths = {m: {split.arrays[m].shape[2] for split in splits} for m in MODALITIES}
    for m, sizes in widths.items():
        if len(sizes) != 1 or 0 in sizes:
            raise EvalsetError(f"{path}: {m} has {sorted(sizes)} features in its splits: get the file again")
    features = {m: sizes.pop() for m, sizes in widths.items()}
    parts, rejects, changes = {}, list[SampleChange](), list[SampleChange]()
    for split in splits:
        kept, lost, altered = plan(split.name, split.arrays, split.labels, split.ids)
        parts[split.name] = _part(split, kept[: options.limit or None])
        rejects, changes = rejects + lost, changes + altered
        progress("check", len(parts), len(splits))
    if (bad := [r for r in rejects if r.reason == "not_finite"]) and options.not_finite == "refuse":
        first = "; ".join(f"{r.id}: {r.detail}" for r in bad[:3])
        raise EvalsetError(
            f"{path}: {len(bad)} samples hold NaN or infinity ({first}{'; ...' if len(bad) > 3 else ''}): get the "
            "file again, or leave them out, listed, with the option not_finite=drop"
        )
    samples = {s.name: len(s.ids) for s in splits}
    if options.limit:
        notes.append(f"only the first {options.limit:,} samples of each split are taken (limit): a trial")
    return Gathered(
        class_names=layout.classes,
        fields=tuple(Field(m, (STEPS, features[m]), steps=True) for m in MODALITIES),
        splits=parts,
        settings={"origin": "multibench", "rules": RULES, "steps": STEPS, **asdict(options)},
        counts={"samples": samples, "total": sum(samples.values()), "features": features},
        notes=tuple(notes),
        rejects=tuple(rejects),
        changes=tuple(changes),
        demo=is_fake(path),
    )


def plan(
    split: str, arrays: Mapping[str, Array], labels: NDArray[np.int64], ids: tuple[str, ...]
) -> tuple[list[Sample], list[SampleChange], list[SampleChange]]:
    """(samples kept, samples left out, what is changed) of one split."""
    kept, lost, altered = [], list[SampleChange](), list[SampleChange]()
    for i, name in enumerate(ids):
        text = arrays["text"][i]
        with np.errstate(all="ignore"):  # Infinities in a sum are listed below, not warned of.
            total = text.sum()
        if total == 0:
            how = "all its rows are zero" if not text.any() else "its rows cancel out"
            lost.append(SampleChange(split, name, "empty_text", f"the text sums to 0: {how}"))
            continue
        sample = Sample(i, name, int(text.any(axis=1).argmax()), int(labels[i]))
        if bad := [m for m in MODALITIES if not np.isfinite(steps(arrays[m][i], m, sample.start)).all()]:
            lost.append(SampleChange(split, name, "not_finite", f"NaN or infinity in {', '.join(bad)}"))
            continue
        if sample.start:
            detail = f"{sample.start} of {len(text)} rows come before the text"
            altered.append(SampleChange(split, name, "leading_rows", detail))
        if (over := len(text) - sample.start - STEPS) > 0:
            altered.append(SampleChange(split, name, "cut", f"{over} rows beyond {STEPS} steps"))
        rows = arrays["audio"][i][sample.start : sample.start + STEPS]
        if infinite := int(np.isneginf(rows).sum()):
            altered.append(SampleChange(split, name, "audio_minus_infinity", f"{infinite} values became 0"))
        kept.append(sample)
    return kept, lost, altered


def steps(array: Array, modality: str, start: int) -> Floats:
    """Samples [T, F] of one sample as they are stored [50, F]: from `start` on, cut or filled with zeros."""
    out = np.zeros((STEPS, array.shape[1]), dtype=np.float32)
    rows = array[start : start + STEPS]
    with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinity, and is listed as such.
        out[: len(rows)] = rows
    if modality == "audio":
        out[: len(rows)][np.isneginf(rows)] = 0.0
    return out


def real_steps(array: Floats) -> int:
    """How many steps of [T, F] come before the zeros at its end: what anyone can see in this modality alone."""
    real = np.flatnonzero(np.any(array, axis=1))
    return int(real[-1]) + 1 if len(real) else 0


def _part(split: _Split, kept: list[Sample]) -> SplitSource:
    def read(start: int, stop: int) -> Samples:
        chosen = kept[start:stop]
        block = {m: np.stack([steps(split.arrays[m][s.index], m, s.start) for s in chosen]) for m in MODALITIES}
        lengths = {m: np.array([real_steps(x) for x in array], np.int32) for m, array in block.items()}
        labels = np.array([s.label for s in chosen], dtype=np.int64)
        return Samples(tuple(s.id for s in chosen), labels, block, lengths)

    return SplitSource(len(kept), read)


def _splits(content: Any, layout: PickleLayout, path: Path) -> tuple[list[_Split], list[str]]:
    """The three splits with checked shapes, and notes on what else the file holds."""
    if not isinstance(content, dict) or (missing := set(SPLITS) - set(content)):
        have = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        lacks = f"lacks {', '.join(sorted(missing))}" if isinstance(content, dict) else "is no dictionary"
        raise EvalsetError(f"{path} {lacks} (found: {have}): expected train, valid and test; get {layout.file}")
    notes = [f"the key {key!r} is not used" for key in content if key not in SPLITS]
    for split_key in SPLITS:
        keys = content[split_key].keys() if isinstance(content[split_key], dict) else ()
        if lacking := [k for k in KEYS if k not in keys]:
            raise EvalsetError(f"{path}: {split_key} lacks {', '.join(lacking)}: get {layout.file} again")
        notes += [f"the key {key!r} of {split_key} is not used" for key in keys if key not in KEYS]
    return [_split(split_key, name, content[split_key], layout, path) for split_key, name in SPLITS.items()], notes


def _split(key: str, name: str, content: Mapping[str, Any], layout: PickleLayout, path: Path) -> _Split:
    where = f"{path}: {key}"
    arrays = {m: content[m] for m in MODALITIES}
    for m, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
            shape = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise EvalsetError(f"{where}.{m} is {shape}, expected numbers [N, T, F]: get {layout.file} again")
    if len(shapes := {array.shape[:2] for array in arrays.values()}) != 1:
        listed = ", ".join(f"{m} {array.shape}" for m, array in arrays.items())
        raise EvalsetError(f"{where} has unequal samples or steps ({listed}), {len(shapes)} kinds: "
                           f"get the aligned {layout.file}")  # fmt: skip
    n = len(arrays["text"])
    return _Split(name, arrays, _labels(content["labels"], n, layout, where), _ids(content["id"], n, name, where))


def _labels(raw: Any, n: int, layout: PickleLayout, where: str) -> NDArray[np.int64]:
    try:
        values = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise EvalsetError(f"{where}.labels are no numbers ({e}): get {layout.file} again") from e
    if values.size != n or values.shape[:1] != (n,):
        raise EvalsetError(f"{where}.labels have the shape {values.shape} for {n} samples: get {layout.file} again")
    out = [layout.label(float(v)) for v in values.reshape(-1)]
    if None in out:
        bad = out.index(None)
        raise EvalsetError(f"{where}.labels[{bad}] is {values.reshape(-1)[bad]}: get {layout.file} again")
    return np.array(out, dtype=np.int64)


def _ids(values: Any, n: int, split: str, where: str) -> tuple[str, ...]:
    """Unique ids: the split, the place in it, and what the file calls the sample."""
    if not isinstance(values, np.ndarray | list | tuple) or len(values) != n:
        have = len(values) if isinstance(values, np.ndarray | list | tuple) else type(values).__name__
        raise EvalsetError(f"{where}.id has {have} entries for {n} samples: get the file again")
    ids = []
    for i, value in enumerate(values):
        # A video's name, or with the times of its part beside it.
        parts = value if isinstance(value, list | tuple) else np.atleast_1d(np.asarray(value, dtype=object)).ravel()
        word = "_".join(p.decode("latin1") if isinstance(p, bytes) else str(p) for p in parts)[:_LONGEST_ID]
        ids.append(f"{split}-{i:05d}-" + "".join(c if c.isprintable() else "?" for c in word))
    return tuple(ids)
