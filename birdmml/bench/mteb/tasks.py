"""Built datasets and SSW60 as MTEB tasks. Imports MTEB: come here through `birdmml.bench.mteb`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

from birdmml.bench.subjects import OwnRows
from birdmml.bench.suites import retrieval
from birdmml.bench.suites._contract import Request
from birdmml.bench.suites.zero_shot import TASKS as ZERO_SHOT
from birdmml.core import discover
from birdmml.errors import EvalsetError
from birdmml.evalsets.read import Prepared
from birdmml.load import Built
from birdmml.media.audio import decode_clip
from birdmml.schema import MODALITIES, RATE_HZ

# Up to this many documents, every one is ranked, so that mAP is exact; MTEB's own tasks stop at 1,000.
MAX_RANKED = 4000
LANGUAGES = ["eng-Latn"]
SSW60 = "ssw60"
PHOTOS = ("images_inat", "images_nabirds")  # In the order of MTEB's corpus.
Relevant = dict[str, dict[str, int]]


@dataclass
class MtebSound(datasets.Audio):
    """Stored sound that comes as MTEB's collators read it, {"array": float32 [T], "sampling_rate"}; no torchcodec."""

    def decode_example(self, value: Mapping[str, Any], token_per_repo_id: Any = None) -> dict[str, Any]:
        """The clip at 22,050 Hz; raises MediaError."""
        del token_per_repo_id
        return {"array": decode_clip(value["bytes"] or b""), "sampling_rate": RATE_HZ}


class Metadata(TaskMetadata):
    """MTEB's metadata; the category may be one that MTEB has no name for, "ia2t"."""

    category: str | None = None


class Retrieval(AbsTaskRetrieval):
    """Queries, corpus and what is relevant, made when MTEB asks for them.

    Beside MTEB's scores, which are rounded to 5 digits, there are "recall@1", "recall@5", "recall@10" (a relevant
    document among the first k) and "mAP" as `birdmml bench` has them, unrounded.
    """

    data_loaded: bool

    def __init__(self, load: Callable[[], dict[str, Any]], documents: int, own: bool) -> None:
        self._load = load
        self.k_values = tuple(sorted({*AbsTaskRetrieval.k_values, *([documents] if documents <= MAX_RANKED else [])}))
        self.ignore_identical_ids = own
        self._whole = max(self.k_values) >= documents
        super().__init__()

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Open the files; media are decoded one batch at a time."""
        del num_proc, kwargs
        if not self.data_loaded:
            self.dataset = {"default": {split: self._load() for split in self.metadata.eval_splits}}
            self.data_loaded = True

    def task_specific_scores(self, scores: Mapping[str, Any], *args: Any, **kwargs: Any) -> dict[str, float]:
        """Means over queries, unrounded."""
        del args, kwargs
        wanted = {f"recall@{k}": f"success_{k}" for k in (1, 5, 10)}
        if self._whole:
            wanted["mAP"] = f"map_cut_{max(self.k_values)}"
        return {name: float(np.mean([one[key] for one in scores.values()])) for name, key in wanted.items()}


class ZeroShot(AbsTaskZeroShotClassification):
    """Items against one prompt a class, the bare common name."""

    data_loaded: bool

    def __init__(self, load: Callable[[], Any], inputs: Sequence[str], label: str, names: Sequence[str]) -> None:
        self._load, self._names = load, list(names)
        self.input_column_name = inputs[0] if len(inputs) == 1 else tuple(inputs)
        self.label_column_name = label
        super().__init__()

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Open the files; media are decoded one batch at a time."""
        del num_proc, kwargs
        if not self.data_loaded:
            splits = {split: self._load() for split in self.metadata.eval_splits}
            self.dataset = datasets.DatasetDict(splits)
            self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        """The class names."""
        return self._names


def _task(metadata: Metadata, kind: type, *args: Any) -> Any:
    """A task of a class of its own: MTEB keeps the metadata there, and reads them again once the data are unloaded."""
    return type(kind.__name__, (kind,), {"metadata": metadata, "__doc__": kind.__doc__})(*args)


def of_dataset(data: Path, split: str) -> dict[str, Any]:
    """Retrieval by instance and by species for every pair, and zero-shot with A, V and A+V."""
    built = Built.open(data)
    rows = built.split(split)
    if len(rows) < 2:
        raise EvalsetError(f"{built.root} has {len(rows)} {split} rows: retrieval needs two at least")
    ids, labels = [str(i) for i in rows.column("id")], rows.column("label")
    about = _About("BirdMML-Demo" if built.demo else "BirdMML", built.digest, split, f"{len(ids)} {split} rows")
    kinds = {retrieval.INSTANCE: {i: {i: 1} for i in ids}, retrieval.SPECIES: _same(ids, labels, ids, labels)}
    tasks: dict[str, Any] = {}
    joint = [("+".join(two), m) for two in combinations(MODALITIES, 2) for m in MODALITIES if m not in two]
    for query, target in [*permutations(MODALITIES, 2), *joint]:
        for kind, relevant in kinds.items():
            key = f"{query}->{target}" + (" by species" if kind == retrieval.SPECIES else "")
            paths = dict.fromkeys((query, target), built.paths(split))
            load = partial(_two_sides, paths, query, target, relevant, built.caption)
            own = kind == retrieval.SPECIES
            tasks[key] = _task(about.retrieval(key, query, target), Retrieval, load, len(ids), own)
    _, names = OwnRows(built).classes(Request("dataset", split), None)
    for task, query in ZERO_SHOT.items():
        inputs = query.split("+")
        load_rows = partial(_with_names, built, split, inputs)
        metadata = about.zero_shot(task, inputs)
        tasks[f"zero-shot {task}"] = _task(metadata, ZeroShot, load_rows, inputs, "label", names)
    return tasks


def of_ssw60(root: Path, split: str) -> dict[str, Any]:
    """Sounds ask for photos of their species and back, and both for the species' name."""
    prepared = Prepared.open(root)
    if prepared.name != SSW60:
        raise EvalsetError(f"{root} holds the set {prepared.name}: give a folder of `birdmml prepare {SSW60}`")
    sounds, photos = prepared.paths("audio", split), [p for c in PHOTOS for p in prepared.paths(c, split)]
    light = {"audio": _light(prepared, ("audio",), split), "image": _light(prepared, PHOTOS, split)}
    files = {"audio": sounds, "image": photos}
    # Beside what was published: a set may lack what could not be decoded.
    published = discover.load("evaluation set", SSW60).PUBLISHED
    totals = {"audio": published["audio"][split], "image": sum(published[c][split] for c in PHOTOS)}
    counts = ", ".join(f"{len(light[m][0])} of {totals[m]} published {m} items" for m in light)
    words = f"{split}: {counts}" + (" (a fake)" if prepared.demo else "")
    about = _About("SSW60-Fake" if prepared.demo else "SSW60", prepared.digest, split, words)
    tasks: dict[str, Any] = {}
    for query, target in (("audio", "image"), ("image", "audio")):
        key = f"{query}->{target}"
        load = partial(_two_sides, files, query, target, _same(*light[query], *light[target]))
        tasks[key] = _task(about.retrieval(key, query, target), Retrieval, load, len(light[target][0]), False)
    for task, query in (("A", "audio"), ("V", "image")):
        columns = partial(_columns, files[query], {query: query, "label": "label"})
        metadata = about.zero_shot(task, [query])
        tasks[f"zero-shot {task}"] = _task(metadata, ZeroShot, columns, [query], "label", prepared.class_names)
    return tasks


@dataclass(frozen=True)
class _About:
    """What the tasks of one set have in common. MTEB keeps results by task name: it holds the data's digest."""

    name: str
    digest: str
    split: str
    counts: str

    def retrieval(self, key: str, query: str, target: str) -> Metadata:
        kind = "species" if key.endswith("species") else "instance"
        letters = ["".join(m[0] for m in side.split("+")) for side in (query, target)]
        species = "Species" if kind == "species" else ""
        name = f"{self.name}-{self.digest[:8]}-{letters[0].upper()}2{letters[1].upper()}{species}Retrieval"
        return self._metadata(
            name,
            f"{key}, {self.counts}",
            type="Any2AnyRetrieval",
            category="2".join(letters),
            modalities=[m for m in MODALITIES if m in (*query.split("+"), target)],
            main_score="ndcg_at_10",
        )

    def zero_shot(self, task: str, inputs: Sequence[str]) -> Metadata:
        sound = list(inputs) == ["audio"]
        return self._metadata(
            f"{self.name}-{self.digest[:8]}-{task}-ZeroShot",
            f"zero-shot {task}, {self.counts}",
            type="AudioZeroshotClassification" if sound else "ZeroShotClassification",
            modalities=[*inputs, "text"],
            main_score="accuracy",
        )

    def _metadata(self, name: str, description: str, **more: Any) -> Metadata:
        return Metadata(
            name=name,
            description=description,
            dataset={"path": f"birdmml/{self.name}", "revision": self.digest},
            eval_splits=[self.split],
            eval_langs=LANGUAGES,
            domains=["Bioacoustics", "Nature"],
            **more,
        )


def _same(ids: Sequence[str], labels: Sequence[int], documents: Sequence[str], theirs: Sequence[int]) -> Relevant:
    """Each query's documents of the same label, but for the document with its own id where the two are one set."""
    members: dict[int, list[str]] = defaultdict(list)
    for document, label in zip(documents, theirs, strict=True):
        members[int(label)].append(document)
    one = ids is documents
    return {
        i: {d: 1 for d in members[int(label)] if not (one and d == i)} for i, label in zip(ids, labels, strict=True)
    }


def _two_sides(
    files: Mapping[str, Sequence[Path]], query: str, target: str, relevant: Relevant, caption: str = "caption"
) -> dict[str, Any]:
    """MTEB's form of what asks and what answers: two collections, or one split of a dataset twice."""
    queries, corpus = (
        _columns(files[side], {"id": "id", **{m: caption if m == "text" else m for m in side.split("+")}})
        for side in (query, target)
    )
    return {"queries": queries, "corpus": corpus, "relevant_docs": relevant, "top_ranked": None}


def _with_names(built: Built, split: str, inputs: Sequence[str]) -> Any:
    """MTEB's form of a split for zero-shot: the label is the common name, or the scientific where there is none."""
    rows = _columns(built.paths(split), {**dict(zip(inputs, inputs, strict=True)), "label": "common_name"})
    if all(rows["label"]):
        return rows
    return rows.remove_columns("label").add_column("label", built.split(split).called())


def _columns(paths: Sequence[Path], wanted: Mapping[str, str]) -> Any:
    """Columns of Parquet files under the names that MTEB has for them: {MTEB's: stored}; mapped, not held."""
    rows = datasets.Dataset.from_parquet([str(p) for p in paths], columns=list(wanted.values()))
    rows = rows.rename_columns({stored: name for name, stored in wanted.items() if stored != name})
    kinds = {"image": datasets.Image(), "audio": MtebSound()}
    for name in kinds.keys() & wanted.keys():
        rows = rows.cast_column(name, kinds[name])
    return rows.select_columns(list(wanted))


def _light(prepared: Prepared, collections: Sequence[str], split: str) -> tuple[list[str], list[int]]:
    """Ids and labels of collections, one after the other."""
    rows = [prepared.rows(c, split) for c in collections]
    return [i for r in rows for i in r.ids], [int(n) for r in rows for n in r.labels]
