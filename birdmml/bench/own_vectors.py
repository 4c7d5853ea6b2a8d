"""Embeddings of any origin benchmarked without training: cosine of unit vectors, and the same files as any result.

A fused query ("image+audio") is the fused vector where one is given, else the sum of the two cosines.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from birdmml.bench import score as bench_score
from birdmml.bench.score import Pass
from birdmml.bench.suites._contract import Arrays, Material, Request, Scorer, Subject
from birdmml.core import files
from birdmml.errors import EvalsetError, UsageError
from birdmml.load import Built
from birdmml.results.result import Run, SeedScores
from birdmml.schema import MODALITIES, Result

NAMES = (*MODALITIES, *("+".join(pair) for pair in combinations(MODALITIES, 2)))
# Columns that may say what an item is, the first that is there; prompts are matched to any of them.
CLASS_COLUMNS = ("class_name", "species", "common_name")
MAX_ROWS, MAX_WIDTH, MAX_BYTES = 10_000_000, 16_384, 32 * 2**30
SHOWN = 3
LEAST = 1e-6  # of a mean of unit vectors, before it is brought to length 1 again


@dataclass(frozen=True)
class Vectors:
    """N items: unit vectors `arrays` [N, D] by name, NaN where `present` [N] is false; `classes` by column."""

    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """D."""
        return int(next(iter(self.arrays.values())).shape[1])


def read(path: Path, key: str = "id") -> Vectors:
    """The vectors of a file, normalised to length 1; `key` is the column that names a row.

    A null is a vector that is not there. Raises EvalsetError, one line, for a file that is none, ids that are missing
    or come twice, vectors of several lengths, or with NaN or nothing but zeros.
    """
    table = _table(path, key)
    ids = tuple(map(str, table[key].to_pylist()))
    if table[key].null_count:
        raise EvalsetError(f"{path}: {table[key].null_count} of {len(ids)} rows have no {key}: give every row one")
    names = [name for name in NAMES if name in table.column_names]
    columns = {name: _vectors(path, name, table[name].combine_chunks(), ids) for name in names}
    _check_width({name: array.shape[1] for name, (array, _) in columns.items()}, f"{path}: ")
    classes = {
        c: tuple("" if v is None else str(v) for v in table[c].to_pylist())
        for c in CLASS_COLUMNS
        if c in table.column_names and c != key
    }
    try:  # What `birdmml embed` says of the file; nothing where another program wrote it.
        facts = json.loads((table.schema.metadata or {}).get(b"birdmml", b"{}"))
    except (ValueError, RecursionError):
        facts = {}
    return Vectors(
        ids,
        {name: array for name, (array, _) in columns.items()},
        {name: there for name, (_, there) in columns.items() if name in MODALITIES},
        classes,
        facts if isinstance(facts, dict) else {},
    )


def unique(path: Path, ids: Sequence[str]) -> None:
    """Raise EvalsetError where an id comes twice, with counts and examples."""
    twice = [name for name, n in Counter(ids).items() if n > 1]
    if twice:
        raise EvalsetError(f"{path}: {len(twice)} ids come more than once ({examples(twice)}): keep one row of each")


def examples(names: Sequence[str]) -> str:
    """Some of the names, for a message."""
    return ", ".join(repr(n) for n in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _table(path: Path, key: str) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
        there, rows = file.schema_arrow.names, file.metadata.num_rows
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if rows > MAX_ROWS or size > MAX_BYTES:
            raise EvalsetError(f"{path} has {rows:,} rows of {size / 2**30:.1f} GiB: that is too much to score")
        if key not in there or not set(NAMES) & set(there):
            shown = ", ".join(there[:8])
            raise EvalsetError(f"{path} has the columns {shown}: it needs {key}, and vectors named {', '.join(NAMES)}")
        table = file.read(columns=[n for n in there if n in (key, *NAMES, *CLASS_COLUMNS)])
    except FileNotFoundError as e:
        raise EvalsetError(f"{path} not found: give a Parquet file, as `birdmml embed` writes it") from e
    except (OSError, ValueError, pa.ArrowException) as e:
        words = str(e).splitlines()[0]
        raise EvalsetError(f"{path} is not a readable Parquet file ({words}): write it again") from e
    if table.num_rows == 0:
        raise EvalsetError(f"{path} has no rows: embed some")
    return table


def _vectors(path: Path, name: str, column: Any, ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """[N, D] of unit vectors, and which of them are there."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)) or not (
        pa.types.is_floating(kind.value_type)
    ):
        raise EvalsetError(f"{path}: column {name} is {kind}: it must be a list of floats a row")
    there = ~np.asarray(column.is_null())
    kept = column.drop_null()
    sizes = Counter(kept.value_lengths().to_pylist()) if len(kept) else Counter()
    if not sizes:
        raise EvalsetError(f"{path}: column {name} is empty in every row: leave it out")
    (width, usual), *others = sizes.most_common()
    if others:
        lengths = np.asarray(kept.value_lengths())
        odd = [ids[i] for i in np.flatnonzero(there)[lengths != width]]
        raise EvalsetError(
            f"{path}: {len(odd)} vectors of {name} are not {width} wide as {usual} are ({examples(odd)})"
        )
    if not 1 <= width <= MAX_WIDTH:
        raise EvalsetError(f"{path}: vectors of {name} are {width} wide: give 1 to {MAX_WIDTH}")
    values = np.asarray(kept.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    values = values.reshape(len(kept), width)
    norms = np.linalg.norm(values, axis=1)
    bad = ~np.isfinite(values).all(axis=1) | (norms == 0)
    if bad.any():
        which = [ids[i] for i in np.flatnonzero(there)[bad]]
        raise EvalsetError(
            f"{path}: {len(which)} of {len(kept)} vectors of {name} hold NaN, infinity or only zeros"
            f" ({examples(which)}): embed these again, or leave them null to say that they are not there"
        )
    out = np.full((len(column), width), np.nan, dtype=np.float32)
    out[there] = values / norms[:, None]
    return out, there


SCORE = "cosine of unit vectors; fused: the fused vector where given, else the sum of the cosines"
SUMMED = "fused by the sum of cosines: no fused vector was given"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def cosine(names: Collection[str]) -> Scorer:
    """Cosine for every pair of the modalities among `names` ("image", "image+audio"), single and two to one.

    In float64; a fused query without a vector of its own is the sum over its modalities.
    """

    def score(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
        parts = (query,) if query in queries else tuple(query.split("+"))
        across = candidates[target].astype(np.float64).T
        return np.asarray(sum((queries[p].astype(np.float64) @ across for p in parts), np.zeros(())))

    there = [m for m in MODALITIES if m in names]
    pairs = list(permutations(there, 2))
    pairs += [("+".join(pair), m) for pair in combinations(there, 2) for m in there if m not in pair]
    return Scorer(score, tuple(pairs))


@dataclass(frozen=True)
class OwnVectors:
    """Embeddings to score: each split's, and the class prompts' (ids are class names). `subject` says what there is."""

    name: str
    splits: Mapping[str, Vectors]
    labels: Mapping[str, NDArray[np.int64]]
    class_names: tuple[str, ...]
    prompts: Arrays
    subject: Subject
    hashes: Mapping[str, str]
    dataset: Mapping[str, object]
    demo: bool

    def material(self, request: Request) -> Material:
        """What a suite asks for. Raises UsageError for a split that was not given, or for corrupted items."""
        if request.corruption:
            raise UsageError(f"given embeddings cannot be corrupted ({request.corruption}): leave the suite out")
        if request.split not in self.splits:
            raise UsageError(
                f"embeddings of the split {request.split} are needed: add --embeddings {request.split}=FILE"
            )
        if request.templates and not self.prompts:
            raise UsageError("zero-shot needs the class prompts' embeddings: add --prompts FILE (class_name, text)")
        items = self.splits[request.split]
        label = self.subject.label_of(request)
        labels = self.labels.get(request.split)
        return Material(label, items.ids, items.arrays, items.present, labels, self.class_names, self.prompts)


def read_vectors(
    paths: Mapping[str, Path], prompts: Path | None = None, data: Path | None = None, name: str = ""
) -> OwnVectors:
    """Read and check the files of each split. Raises EvalsetError or UsageError, one line each."""
    label = name or next(iter(paths.values())).stem
    if not _NAME.fullmatch(label):
        raise UsageError(f"--name {label!r}: use up to 64 letters, digits, dots, dashes and underscores")
    built = None if data is None else Built.open(data)
    splits = {split: _split(path, split, built) for split, path in paths.items()}
    texts = None if prompts is None else read(prompts, "class_name")
    widths = {str(paths[s]): v.width for s, v in splits.items()}
    _check_width(widths | ({str(prompts): texts.width} if texts else {}))
    names, class_vectors = _classes(prompts, texts, splits)
    labels = {s: _labels(paths[s], v, names) for s, v in splits.items()} if names else {}
    modalities = tuple(m for m in MODALITIES if any(m in v.arrays for v in splits.values()))
    seen = len({int(i) for classes in labels.values() for i in classes})
    if texts is not None and seen < 2:
        raise EvalsetError(f"{prompts}: the items are of {seen} class: naming classes needs two at least")
    subject = Subject(
        "dataset", "{split}-split", "rows", tuple(splits), modalities, len(names), captions="text" in modalities
    )
    hashes = {s: files.sha256_file(p) for s, p in paths.items()}
    hashes |= {} if prompts is None else {"prompts": files.sha256_file(prompts)}
    demo = (built is not None and built.demo) or any(bool(v.facts.get("demo")) for v in splits.values())
    return OwnVectors(label, splits, labels, names, class_vectors, subject, hashes, _dataset(built, splits), demo)


def run(vectors: OwnVectors, chosen: Sequence[Pass], out: Path) -> tuple[Result, Path]:
    """Score the passes and write a result below `out`, as `birdmml bench` does."""
    settings = {
        "suites": bench_score.stated(chosen),
        "embeddings": dict(vectors.hashes),
        "score": SCORE,
        "weights": "unknown: embeddings were given",
        "limit": None,
        "trained_here": False,
    }
    names = {name for split in vectors.splits.values() for name in split.arrays}
    job = Run(
        folder=out / f"{vectors.name}-embeddings-{files.digest(settings)[:8]}",
        method=vectors.name,
        preset="embeddings",
        settings=settings,
        dataset=vectors.dataset,
        demo=vectors.demo,
    )

    def score(seed: int) -> SeedScores:
        del seed
        return SeedScores(bench_score.score(chosen, (vectors,), OwnVectors.material, cosine(names)))

    result = job.carry_out(score, lambda suite, evalset, query: (None, summed(query, names)))
    return result, job.folder


def summed(query: str, names: Collection[str]) -> str:
    """A note where a fused query has no vector of its own."""
    return SUMMED if "+" in query and query not in names else ""


def _split(path: Path, split: str, built: Built | None) -> Vectors:
    items = read(path)
    unique(path, items.ids)
    if len(items.ids) < 2:
        raise EvalsetError(f"{path} has one item: scoring needs two at least")
    return items if built is None else _of_dataset(path, items, split, built)


def _of_dataset(path: Path, items: Vectors, split: str, built: Built) -> Vectors:
    """The same with the dataset's own classes; raises EvalsetError unless the ids are exactly those of the split."""
    rows = built.split(split)
    place = {str(name): i for i, name in enumerate(rows.column("id"))}
    mine = set(items.ids)
    differences = []
    if missing := [i for i in place if i not in mine]:
        differences.append(
            f"{len(missing)} of the dataset's {len(place)} {split} rows are missing ({examples(missing)})"
        )
    if extra := [i for i in items.ids if i not in place]:
        differences.append(f"{len(extra)} ids are not of the split ({examples(extra)})")
    if differences:
        raise EvalsetError(f"{path}: {'; '.join(differences)}: embed every {split} row of {built.root}, and no other")
    columns = {column: rows.column(column) for column in ("species", "common_name")}
    classes = {c: tuple(str(values[place[i]]) for i in items.ids) for c, values in columns.items()}
    return Vectors(items.ids, items.arrays, items.present, classes, items.facts)


def _check_width(widths: Mapping[str, int], where: str = "") -> None:
    if len(set(widths.values())) > 1:
        words = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise EvalsetError(f"{where}vectors must have one width to be compared, found {words}")


def _classes(
    path: Path | None, texts: Vectors | None, splits: Mapping[str, Vectors]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.float32]]]:
    """The classes' names, and their prompts {"text": [C, D]}: several rows of a class are averaged, renormalised.

    Without prompts the classes are those of the items, in order of name, if the files say them.
    """
    if texts is None:
        columns = [next(iter(v.classes.values()), ()) for v in splits.values()]
        return (tuple(sorted({n for c in columns for n in c if n})) if all(columns) else ()), {}
    if "text" not in texts.arrays or not texts.present["text"].all():
        raise EvalsetError(f"{path}: every class needs a vector in the column text")
    names = tuple(dict.fromkeys(texts.ids))
    place = {name: i for i, name in enumerate(names)}
    total = np.zeros((len(names), texts.width))
    # Not `total[...] +=`, which counts a class's repeated rows once.
    np.add.at(total, [place[i] for i in texts.ids], texts.arrays["text"])
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    if (norms < LEAST).any():
        raise EvalsetError(f"{path}: the prompts of {names[int(norms.argmin())]!r} cancel out: give others")
    return names, {"text": (total / norms).astype(np.float32)}


def _labels(path: Path, items: Vectors, names: Sequence[str]) -> NDArray[np.int64]:
    """Each item's class, by whichever of its names the prompts know. Raises EvalsetError where none is known."""
    place = {name.casefold(): i for i, name in enumerate(names)}
    rows = list(zip(*items.classes.values(), strict=True))
    if not rows:
        raise EvalsetError(f"{path} does not say what its items are: add a column class_name, or give --data")
    labels = [next((place[n.casefold()] for n in row if n.casefold() in place), -1) for row in rows]
    if unknown := sorted({row[0] for row, label in zip(rows, labels, strict=True) if label < 0}):
        count = labels.count(-1)
        raise EvalsetError(
            f"{path}: {count} items are of {len(unknown)} classes without a prompt ({examples(unknown)})"
        )
    return np.asarray(labels, dtype=np.int64)


def _dataset(built: Built | None, splits: Mapping[str, Vectors]) -> dict[str, object]:
    """What the result says of the data: the dataset's name and digest, or that it was not given."""
    rows = {split: len(items.ids) for split, items in splits.items()}
    if built is None:
        digests = {str(v.facts.get("dataset", "")) for v in splits.values()}
        digest = digests.pop() if len(digests) == 1 else ""  # Files of two datasets are of neither.
        return {
            "name": "not given",
            "digest": digest or files.digest(sorted(i for v in splits.values() for i in v.ids)),
            "rows": rows,
        }
    return {"name": built.manifest.get("name", ""), "digest": built.digest, "demo": built.demo, "rows": rows}
