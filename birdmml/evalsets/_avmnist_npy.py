"""AV-MNIST as MultiBench packs it: image/, audio/ and labels as .npy, memory-mapped, never unpickled.

image/{train,test}_data.npy [60000|10000, 784] and audio/{train,test}_data.npy [60000|10000, 112, 112], both to be
divided by 255; train_labels.npy, test_labels.npy. The last twelfth of train (5,000 of 60,000) is validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdmml.arrays import Field, Gathered, Progress, Samples, SplitSource
from birdmml.errors import EvalsetError
from birdmml.evalsets._digits import Ints, choose
from birdmml.evalsets._download import is_fake

SHAPES = {"image": (28, 28), "audio": (112, 112)}
VALIDATION_SHARE = 12
_BLOCK = 512

Array = NDArray[Any]
Arrays = Mapping[str, Mapping[str, Array]]  # {"train" | "test": {"image" | "audio": [N, ...]}}


def is_there(source: Path) -> bool:
    """Whether `source` looks like MultiBench's folder."""
    return any((source / m / f"{side}_data.npy").is_file() for m in SHAPES for side in ("train", "test"))


def gather(
    source: Path, names: tuple[str, ...], sizes: Mapping[str, int], limit: int, seed: int, progress: Progress
) -> Gathered:
    """The set, or an equal share of each digit; raises EvalsetError for files that do not fit each other."""
    arrays = {side: {m: _open(source / m / f"{side}_data.npy", SHAPES[m]) for m in SHAPES} for side in _SIDES}
    labels = {side: _labels(source / f"{side}_labels.npy", len(names)) for side in _SIDES}
    for side in _SIDES:
        _check_rows(source, side, arrays[side], labels[side])
    pools = _pools(labels)
    chosen = {
        split: choose(labels[side], pool, sizes[split], limit, [seed, n], split)
        for n, (split, (side, pool)) in enumerate(pools.items())
    }
    notes: list[str] = []
    fields = tuple(_field(m, source, arrays, pools, chosen, notes, progress) for m in SHAPES)
    return Gathered(
        class_names=names,
        fields=fields,
        splits={s: _part(s, arrays[side], labels[side], chosen[s], fields) for s, (side, _) in pools.items()},
        settings={"origin": "multibench", "sizes": dict(sizes), "limit": limit, "seed": seed},
        found={"samples": {split: len(rows) for split, rows in chosen.items()}},
        notes=tuple(notes),
        demo=is_fake(source),
    )


_SIDES = ("train", "test")


def _pools(labels: Mapping[str, Ints]) -> dict[str, tuple[str, Ints]]:
    """{split: (file's side, its rows)}."""
    rows = len(labels["train"])
    cut = rows - max(1, rows // VALIDATION_SHARE)
    return {
        "train": ("train", np.arange(cut)),
        "validation": ("train", np.arange(cut, rows)),
        "test": ("test", np.arange(len(labels["test"]))),
    }


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
    if (
        array.dtype.kind not in "fiu"
        or array.ndim < 1
        or array.shape[1:] not in (shape, (size,), (1, *shape))
    ):
        raise EvalsetError(
            f"{path} is {array.dtype} {array.shape}, expected numbers [N, {size}]: get it again"
        )
    return array


def _labels(path: Path, classes: int) -> Ints:
    values = np.asarray(_open_labels(path)).reshape(-1)
    if values.size == 0 or not np.isin(values, np.arange(classes)).all():
        bad = values[~np.isin(values, np.arange(classes))][:1]
        raise EvalsetError(
            f"{path} holds {f'the label {bad[0]}' if bad.size else 'no label'}, expected 0 to 9: get it again"
        )
    return values.astype(np.int64)


def _open_labels(path: Path) -> Array:
    try:
        return _open(path, ())
    except EvalsetError:
        return _open(path, (1,))


def _check_rows(source: Path, side: str, arrays: Mapping[str, Array], labels: Ints) -> None:
    rows = {m: len(array) for m, array in arrays.items()} | {"labels": len(labels)}
    if len(set(rows.values())) != 1:
        listed = ", ".join(f"{n:,} {what}" for what, n in rows.items())
        raise EvalsetError(f"{source}: {side} has {listed}: the files are not of one set; get them again")


def _field(
    name: str,
    source: Path,
    arrays: Arrays,
    pools: Mapping[str, tuple[str, Ints]],
    chosen: Mapping[str, Ints],
    notes: list[str],
    progress: Progress,
) -> Field:
    """uint8 where that is exact in every sample that is used, else float32; notes values beyond 0 to 255."""
    exact, low, high = True, 0.0, 255.0
    for split, (side, _) in pools.items():
        for rows in () if arrays[side][name].dtype == np.uint8 else _blocks(chosen[split]):
            block = arrays[side][name][rows]
            _check_finite(block, rows, source / name / f"{side}_data.npy")
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            exact = exact and bool((block == np.rint(block)).all())
        progress(f"check {name}", len(chosen[split]), len(chosen[split]))
    if (low, high) != (0.0, 255.0):
        exact = False
        notes.append(f"{name} has values from {low:g} to {high:g}, expected 0 to 255")
    return Field(name, SHAPES[name], "uint8" if exact else "float32", divisor=255)


def _check_finite(block: Array, rows: Ints, path: Path) -> None:
    finite = np.isfinite(block).reshape(len(rows), -1).all(axis=1)
    if not finite.all():
        raise EvalsetError(f"{path} holds NaN or infinity in row {rows[~finite][0]}: get the file again")


def _blocks(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]


def _part(
    split: str, arrays: Mapping[str, Array], labels: Ints, chosen: Ints, fields: tuple[Field, ...]
) -> SplitSource:
    def read(start: int, stop: int) -> Samples:
        rows = chosen[start:stop]
        block = {f.name: arrays[f.name][rows].reshape(-1, *f.shape).astype(f.dtype) for f in fields}
        return Samples(tuple(f"{split}-{i:05d}" for i in rows), labels[rows], block)

    return SplitSource(len(chosen), read)
