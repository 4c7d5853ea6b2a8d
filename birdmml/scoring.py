"""Embeddings of any origin benchmarked without training: cosine of unit vectors, and the same files as any result.

A fused query ("image+audio") is the fused vector where one is given, else the sum of the two cosines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdmml import files, passes, provenance, vectors
from birdmml.errors import EvalsetError, UsageError
from birdmml.load import Built
from birdmml.passes import Pass
from birdmml.record import opened, record
from birdmml.schema import MODALITIES, RESULT_SCHEMA_VERSION, Result
from birdmml.suites._material import Arrays, Material, Request, Scorer, Subject
from birdmml.vectors import Vectors, examples

SCORE = "cosine of unit vectors; fused: the fused vector where given, else the sum of the cosines"
SUMMED = "fused by the sum of cosines: no fused vector was given"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def cosine(names: Collection[str]) -> Scorer:
    """Cosine for every pair of the modalities among `names` ("image", "image+audio"), single and two to one."""
    there = [m for m in MODALITIES if m in names]
    pairs = list(permutations(there, 2))
    pairs += [("+".join(pair), m) for pair in combinations(there, 2) for m in there if m not in pair]
    return Scorer(_cosine, tuple(pairs))


def _cosine(query: str, target: str, queries: Arrays, candidates: Arrays) -> NDArray[np.floating]:
    """[Q, C] in float64; a fused query without a vector of its own is the sum over its modalities."""
    parts = (query,) if query in queries else tuple(query.split("+"))
    across = candidates[target].astype(np.float64).T
    scores: NDArray[np.floating] = sum((queries[p].astype(np.float64) @ across for p in parts), np.zeros(()))
    return scores


@dataclass(frozen=True)
class Given:
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
            raise UsageError(
                f"given embeddings cannot be corrupted ({request.corruption}): leave the suite out"
            )
        if request.split not in self.splits:
            raise UsageError(
                f"embeddings of the split {request.split} are needed: add --embeddings {request.split}=FILE"
            )
        if request.templates and not self.prompts:
            raise UsageError(
                "zero-shot needs the class prompts' embeddings: add --prompts FILE (class_name, text)"
            )
        found = self.splits[request.split]
        label = self.subject.label_of(request)
        labels = self.labels.get(request.split)
        return Material(label, found.ids, found.arrays, found.present, labels, self.class_names, self.prompts)


def given(
    paths: Mapping[str, Path], prompts: Path | None = None, data: Path | None = None, name: str = ""
) -> Given:
    """Read and check the files of each split. Raises EvalsetError or UsageError, one line each."""
    label = name or next(iter(paths.values())).stem
    if not _NAME.fullmatch(label):
        raise UsageError(f"--name {label!r}: use up to 64 letters, digits, dots, dashes and underscores")
    built = None if data is None else Built.open(data)
    splits = {split: _split(path, split, built) for split, path in paths.items()}
    asked = None if prompts is None else vectors.read(prompts, "class_name")
    _one_width({str(paths[s]): v for s, v in splits.items()} | ({str(prompts): asked} if asked else {}))
    names, vectors_of = _classes(prompts, asked, splits)
    labels = {s: _labels(paths[s], v, names) for s, v in splits.items()} if names else {}
    modalities = tuple(m for m in MODALITIES if any(m in v.arrays for v in splits.values()))
    seen = len({int(i) for found in labels.values() for i in found})
    if asked is not None and seen < 2:
        raise EvalsetError(f"{prompts}: the items are of {seen} class: naming classes needs two at least")
    subject = Subject(
        "dataset",
        "{split}-split",
        "rows",
        tuple(splits),
        modalities,
        len(names),
        captions="text" in modalities,
    )
    hashes = {s: files.sha256_file(p) for s, p in paths.items()}
    hashes |= {} if prompts is None else {"prompts": files.sha256_file(prompts)}
    demo = (built is not None and built.demo) or any(bool(v.facts.get("demo")) for v in splits.values())
    return Given(label, splits, labels, names, vectors_of, subject, hashes, _dataset(built, splits), demo)


def run(what: Given, asked: Sequence[Pass], out: Path) -> tuple[Result, Path]:
    """Score the passes and write a result below `out`, as `birdmml bench` does."""
    started = time.perf_counter()
    settings = {
        "suites": passes.stated(asked),
        "embeddings": dict(what.hashes),
        "score": SCORE,
        "weights": "unknown: embeddings were given",
        "limit": None,
        "trained_here": False,
    }
    folder = out / f"{what.name}-embeddings-{files.digest(settings)[:8]}"
    names = {name for found in what.splits.values() for name in found.arrays}
    found = passes.score(asked, (what,), Given.material, cosine(names))
    source = provenance.collect()
    spent = round(time.perf_counter() - started, 2)
    head = Result(
        schema_version=RESULT_SCHEMA_VERSION,
        demo=what.demo,
        method=what.name,
        preset="embeddings",
        seeds=(0,),
        settings=settings,
        dataset=what.dataset,
        provenance=source,
        figures=(),
        seconds={"train": 0.0, "embed_and_score": spent, "total": spent},
    )
    return record(
        opened(folder), head, [found], lambda suite, evalset, query: (None, summed(query, names))
    ), folder


def summed(query: str, names: Collection[str]) -> str:
    """A note where a fused query has no vector of its own."""
    return SUMMED if "+" in query and query not in names else ""


def _split(path: Path, split: str, built: Built | None) -> Vectors:
    found = vectors.read(path)
    vectors.unique(path, found.ids)
    if len(found.ids) < 2:
        raise EvalsetError(f"{path} has one item: scoring needs two at least")
    return found if built is None else _of_dataset(path, found, split, built)


def _of_dataset(path: Path, found: Vectors, split: str, built: Built) -> Vectors:
    """The same with the dataset's own classes; raises EvalsetError unless the ids are exactly those of the split."""
    rows = built.split(split)
    theirs = list(map(str, rows.column("id")))
    mine, other = set(found.ids), set(theirs)
    told = []
    if missing := [i for i in theirs if i not in mine]:
        told.append(
            f"{len(missing)} of the dataset's {len(theirs)} {split} rows are missing ({examples(missing)})"
        )
    if extra := [i for i in found.ids if i not in other]:
        told.append(f"{len(extra)} ids are not of the split ({examples(extra)})")
    if told:
        raise EvalsetError(
            f"{path}: {'; '.join(told)}: embed every {split} row of {built.root}, and no other"
        )
    place = {name: i for i, name in enumerate(theirs)}
    order = [place[i] for i in found.ids]
    classes = {}
    for column in ("species", "common_name"):
        values = rows.column(column)
        classes[column] = tuple(str(values[i]) for i in order)
    return Vectors(found.ids, found.arrays, found.present, classes, found.facts)


def _one_width(found: Mapping[str, Vectors]) -> None:
    if len({v.width for v in found.values()}) > 1:
        told = ", ".join(f"{name} {v.width}" for name, v in found.items())
        raise EvalsetError(f"vectors must have one width to be compared, found {told}")


def _classes(
    path: Path | None, asked: Vectors | None, splits: Mapping[str, Vectors]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.float32]]]:
    """The classes' names, and their prompts {"text": [C, D]}: several rows of a class are averaged, renormalised.

    Without prompts the classes are those of the items, in order of name, if the files say them.
    """
    if asked is None:
        columns = [next(iter(v.classes.values()), ()) for v in splits.values()]
        return (tuple(sorted({n for c in columns for n in c if n})) if all(columns) else ()), {}
    if "text" not in asked.arrays or not asked.present["text"].all():
        raise EvalsetError(f"{path}: every class needs a vector in the column text")
    names = tuple(dict.fromkeys(asked.ids))
    place = {name: i for i, name in enumerate(names)}
    total = np.zeros((len(names), asked.width))
    np.add.at(total, [place[i] for i in asked.ids], asked.arrays["text"])
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    if (norms < vectors.LEAST).any():
        raise EvalsetError(f"{path}: the prompts of {names[int(norms.argmin())]!r} cancel out: give others")
    return names, {"text": (total / norms).astype(np.float32)}


def _labels(path: Path, found: Vectors, names: Sequence[str]) -> NDArray[np.int64]:
    """Each item's class, by whichever of its names the prompts know. Raises EvalsetError where none is known."""
    place = {name.casefold(): i for i, name in enumerate(names)}
    rows = list(zip(*found.classes.values(), strict=True))
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
    rows = {split: len(found.ids) for split, found in splits.items()}
    if built is None:
        digests = {str(v.facts.get("dataset", "")) for v in splits.values()}
        told = digests.pop() if len(digests) == 1 else ""
        return {
            "name": "not given",
            "digest": told or files.digest(sorted(i for v in splits.values() for i in v.ids)),
            "rows": rows,
        }
    return {"name": built.manifest.get("name", ""), "digest": built.digest, "demo": built.demo, "rows": rows}
